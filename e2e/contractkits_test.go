//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// A kit is a client library or program, speaking one version of MQTT. By hand there is no player.
type kit struct {
	name    string
	version byte
	player  player
	cannot  []ability
}

// A player is what a kit does in the scenarios.
type player interface {
	// listen connects and subscribes. What is received goes into the book, as report says it. What is returned
	// disconnects.
	listen(t *testing.T, address, id string, h hearing, book *logBook) (leave func(t *testing.T))
	// speak connects, publishes, and disconnects when the message has arrived.
	speak(t *testing.T, address, id string, s saying)
}

// String is the name of the kit's tests.
func (k kit) String() string {
	return fmt.Sprintf("%s_MQTT_%s", k.name, map[byte]string{v311: "3.1.1", v5: "5"}[k.version])
}

// kits are all kinds of clients. Their programs run until the end of this test.
func kits(t *testing.T) []kit {
	t.Helper()
	javaScript := &driver{until: t, program: func(t *testing.T) *exec.Cmd {
		t.Helper()
		return nodeScript(t, "testdata/mqttjs-contract.js")
	}}
	java := &driver{until: t, program: func(t *testing.T) *exec.Cmd {
		t.Helper()
		return javaProgram(t, "Client.java")
	}}
	return []kit{
		{"paho.mqtt.golang", v311, pahoV3Player{}, nil},
		{"autopaho", v5, autopahoPlayer{}, nil},
		{"mosquitto_pub_and_sub", v311, mosquittoPlayer(v311), nil},
		{"mosquitto_pub_and_sub", v5, mosquittoPlayer(v5), []ability{goodbyes, patient}}, // its DISCONNECT asks for the will; it comes again by itself
		{"MQTT.js", v311, drivenPlayer{javaScript, v311}, nil},
		{"MQTT.js", v5, drivenPlayer{javaScript, v5}, nil},
		{"hivemq-mqtt-client", v311, drivenPlayer{java, v311}, nil},
		{"hivemq-mqtt-client", v5, drivenPlayer{java, v5}, nil},
		{"by_hand", v311, nil, nil},
		{"by_hand", v5, nil, nil},
	}
}

// filter is what is subscribed to.
func (h hearing) filter() string {
	if h.group != "" {
		return "$share/" + h.group + "/" + h.topic
	}
	return h.topic
}

// expiry is that of the session, in seconds.
func (h hearing) expiry() uint32 {
	if h.keep {
		return 60
	}
	return 0
}

// mosquittoPlayer is mosquitto_sub and mosquitto_pub, with their version of MQTT.
type mosquittoPlayer byte

func (m mosquittoPlayer) args(address, id, topic string, qos byte) []string {
	host, port, _ := net.SplitHostPort(address)
	version := map[mosquittoPlayer]string{v311: "mqttv311", v5: "mqttv5"}[m]
	return []string{"-V", version, "-h", host, "-p", port, "-i", id, "-t", topic, "-q", fmt.Sprint(qos)}
}

func (m mosquittoPlayer) listen(t *testing.T, address, id string, h hearing, book *logBook) func(*testing.T) {
	t.Helper()
	need(t, "mosquitto_sub")
	args := append(m.args(address, id, h.filter(), h.qos), "-d", "-F", "received %p qos=%q retain=%r")
	if h.keep {
		args = append(args, "-c")
		if m == v5 {
			args = append(args, "-x", fmt.Sprint(h.expiry()))
		}
	}
	if h.will != "" {
		args = append(args, "--will-topic", h.will, "--will-payload", "will", "--will-qos", "1")
		if m == v5 {
			args = append(args, "-D", "will", "will-delay-interval", fmt.Sprint(h.delay))
		}
	}
	out := &lineWriter{line: func(line string) {
		if strings.HasPrefix(line, "received ") && len(line) > 1000 {
			payload, rest, _ := strings.Cut(strings.TrimPrefix(line, "received "), " ")
			line = strings.Replace(report([]byte(payload), 0, false), "qos=0 retain=0", rest, 1)
		}
		fmt.Fprintln(book, line)
	}}
	p := start(t, out, exec.Command("stdbuf", slices.Concat([]string{"-oL", "mosquitto_sub"}, args)...))
	book.wait(t, 0, patience, "mosquitto_sub has subscribed", func(line string) bool { return strings.HasPrefix(line, "Subscribed") })
	return func(t *testing.T) {
		t.Helper()
		p.signal(t, syscall.SIGTERM)
		p.exit(t, patience)
	}
}

func (m mosquittoPlayer) speak(t *testing.T, address, id string, s saying) {
	t.Helper()
	need(t, "mosquitto_pub")
	args := append(m.args(address, id, s.topic, s.qos), "-s")
	if s.retain {
		args = append(args, "-r")
	}
	cmd := exec.Command("mosquitto_pub", args...)
	cmd.Stdin = strings.NewReader(string(s.payload()))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}
