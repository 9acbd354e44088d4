//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A client of every kind that the world uses connects, subscribes, publishes and receives with QoS 0, 1
// and 2. The mosquittos are not a cluster: whoever publishes and whoever subscribes must be sent to the
// same one, which is itself part of the test.
func TestRealClientsWork(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{
		{"a", startMosquitto(t).address}, {"b", startMosquitto(t).address}, {"c", startMosquitto(t).address},
	}, cluster: "placement: {bounded_load: 0}"})
	host, port, _ := net.SplitHostPort(l.address)
	neighbours := settlers(t, l, "b", 6)
	for i, version := range []string{"mqttv31", "mqttv311", "mqttv5"} {
		t.Run("mosquitto_pub_and_sub_"+version, func(t *testing.T) {
			t.Parallel()
			runMosquittoClients(t, host, port, version, neighbours[2*i], neighbours[2*i+1])
		})
	}
	for _, level := range []string{"3", "4", "5"} {
		t.Run("MQTT.js_level_"+level, func(t *testing.T) {
			t.Parallel()
			runMQTTJS(t, host, port, level)
		})
	}
	for _, level := range []uint{v31, v311} {
		t.Run(fmt.Sprint("paho.mqtt.golang_level_", level), func(t *testing.T) {
			t.Parallel()
			runPahoV3(t, "tcp://"+l.address, level)
		})
	}
	t.Run("paho.golang", func(t *testing.T) {
		t.Parallel()
		runPahoV5(t, l.address)
	})
	t.Run("autopaho", func(t *testing.T) {
		t.Parallel()
		runAutopaho(t, "mqtt://"+l.address)
	})
}

func runMosquittoClients(t *testing.T, host, port, version, subscriber, publisher string) {
	t.Helper()
	need(t, "mosquitto_pub", "mosquitto_sub")
	topic := "e2e/" + version
	common := []string{"-V", version, "-h", host, "-p", port, "-t", topic}
	out := newLogBook()
	sub := start(t, out, exec.Command("stdbuf", slices.Concat([]string{"-oL", "mosquitto_sub"}, common,
		[]string{"-i", subscriber, "-q", "2", "-C", "3", "-W", "20", "-d", "-F", "received %p with QoS %q"})...))
	out.wait(t, 0, patience, "mosquitto_sub has subscribed", func(line string) bool { return strings.HasPrefix(line, "Subscribed") })
	for _, qos := range []string{"0", "1", "2"} {
		cmd := exec.Command("mosquitto_pub", slices.Concat(common, []string{"-i", publisher, "-q", qos, "-m", qos})...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
		want := fmt.Sprintf("received %s with QoS %s", qos, qos)
		out.wait(t, 0, patience, want, func(line string) bool { return strings.TrimSpace(line) == want })
	}
	if status := sub.exit(t, patience); status != 0 {
		t.Errorf("mosquitto_sub ended with status %d:\n%s", status, out)
	}
}

func runMQTTJS(t *testing.T, host, port, level string) {
	t.Helper()
	out := newLogBook()
	if status := start(t, out, nodeScript(t, "testdata/mqttjs.js", host, port, level, "mqttjs-"+level)).exit(t, patience); status != 0 {
		t.Errorf("node ended with status %d:\n%s", status, out)
	}
}

// nodeScript is a command that runs a script which uses MQTT.js.
func nodeScript(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	need(t, "node")
	cmd := exec.Command("node", args...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+filepath.Dir(mqttJSFolder(t)))
	return cmd
}

// mqttJSFolder is where the package MQTT.js is.
func mqttJSFolder(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("E2E_CACHE")
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(user, "mqttlb-e2e")
	}
	folder := filepath.Join(cache, "node_modules", "mqtt")
	if _, err := os.Stat(folder); err != nil {
		lacks(t, "MQTT.js")
	}
	return folder
}

// await collects messages until all three have come, each with the QoS that it names.
func await(t *testing.T, received <-chan string) {
	t.Helper()
	missing := map[string]bool{"0 with QoS 0": true, "1 with QoS 1": true, "2 with QoS 2": true}
	for len(missing) > 0 {
		select {
		case m := <-received:
			if !missing[m] {
				t.Fatalf("received %s, which was not sent or came twice", m)
			}
			delete(missing, m)
		case <-time.After(patience):
			t.Fatalf("not received: %v", missing)
		}
	}
}

func runPahoV3(t *testing.T, server string, level uint) {
	t.Helper()
	received := make(chan string, 10)
	id := fmt.Sprint("paho-v3-", level)
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(server).SetClientID(id).SetProtocolVersion(level).SetConnectRetry(false))
	done := func(what string, token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	done("connect", client.Connect())
	defer client.Disconnect(100)
	done("subscribe", client.Subscribe("e2e/"+id, 2, func(_ mqtt.Client, m mqtt.Message) {
		received <- fmt.Sprintf("%s with QoS %d", m.Payload(), m.Qos())
	}))
	for qos := range byte(3) {
		done("publish", client.Publish("e2e/"+id, qos, false, fmt.Sprint(qos)))
	}
	await(t, received)
}

func runPahoV5(t *testing.T, address string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	received := make(chan string, 10)
	client := paho.NewClient(paho.ClientConfig{
		Conn: dial(t, address, ""),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			received <- fmt.Sprintf("%s with QoS %d", p.Packet.Payload, p.Packet.QoS)
			return true, nil
		}},
	})
	if _, err := client.Connect(ctx, &paho.Connect{ClientID: "paho-v5", CleanStart: true, KeepAlive: 30}); err != nil {
		t.Fatalf("connect: %v", err)
	}
	subscription := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "e2e/paho-v5", QoS: 2}}}
	if _, err := client.Subscribe(ctx, subscription); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	for qos := range byte(3) {
		if _, err := client.Publish(ctx, &paho.Publish{Topic: "e2e/paho-v5", QoS: qos, Payload: fmt.Append(nil, qos)}); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
	await(t, received)
	if err := client.Disconnect(&paho.Disconnect{}); err != nil {
		t.Errorf("disconnect: %v", err)
	}
}

func runAutopaho(t *testing.T, server string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	at, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 10)
	client, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls: []*url.URL{at}, KeepAlive: 30, CleanStartOnInitialConnection: true,
		ClientConfig: paho.ClientConfig{
			ClientID: "autopaho",
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				received <- fmt.Sprintf("%s with QoS %d", p.Packet.Payload, p.Packet.QoS)
				return true, nil
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.AwaitConnection(ctx); err != nil {
		t.Fatalf("connect: %v", err)
	}
	subscription := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "e2e/autopaho", QoS: 2}}}
	if _, err := client.Subscribe(ctx, subscription); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	for qos := range byte(3) {
		if _, err := client.Publish(ctx, &paho.Publish{Topic: "e2e/autopaho", QoS: qos, Payload: fmt.Append(nil, qos)}); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
	await(t, received)
	if err := client.Disconnect(ctx); err != nil {
		t.Errorf("disconnect: %v", err)
	}
}
