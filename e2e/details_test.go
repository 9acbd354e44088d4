//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// answerTo connects, sends CONNECT and returns the connection with the broker's CONNACK.
func answerTo(t *testing.T, address string, o opening) (*net.TCPConn, []byte) {
	t.Helper()
	c := dial(t, address, "")
	send(t, c, o.bytes())
	b, err := readPacket(c)
	if err != nil || b[0] != 0x20 {
		t.Fatalf("client %q: got % x and %v, want CONNACK", o.id, b, err)
	}
	return c, b
}

// property is the value of a string property in a CONNACK of MQTT 5 with fewer than 128 bytes; empty if there is none.
// It knows how long those properties are that mosquitto sends.
func property(t *testing.T, connack []byte, wanted byte) string {
	t.Helper()
	for rest := connack[5:]; len(rest) > 0; {
		switch id := rest[0]; id {
		case 0x12, 0x1C, 0x1F:
			end := 3 + int(rest[1])<<8 + int(rest[2])
			if id == wanted {
				return string(rest[3:end])
			}
			rest = rest[end:]
		case 0x13, 0x21, 0x22:
			rest = rest[3:]
		case 0x11, 0x27:
			rest = rest[5:]
		case 0x24, 0x25, 0x28, 0x29, 0x2A:
			rest = rest[2:]
		default:
			t.Fatalf("got property %#x in % x", id, connack)
		}
	}
	return ""
}

// A client that can is sent to its broker and finds its place there; one that does not follow is relayed when it comes
// again, as mosquitto_pub does; and so is everybody else.
func TestRedirect(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto_pub")
	n1, n2 := startMosquitto(t), startMosquitto(t)
	_, port, _ := net.SplitHostPort(n2.address)
	n2.address = "localhost:" + port
	l := startLB(t, settings{
		discovery: fmt.Sprintf("{static: [{name: n1, address: %q}, {name: n2, address: \"127.0.0.1:%s\", labels: {advertise: %q}}]}", n1.address, port, n2.address),
		cluster:   "placement: {redirect: server-reference, strategy: client-hash}",
	})
	seen := make(map[string]int)
	const clients = 20
	for i := range clients {
		o := opening{id: fmt.Sprint("c", i), version: v5}
		c, answer := answerTo(t, l.address, o)
		if answer[3] != 0x9C {
			t.Fatalf("got code %#x, want 0x9c", answer[3])
		}
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("got %d bytes and %v behind CONNACK, want the end", n, err)
		}
		to := property(t, answer, 0x1C)
		seen[to]++
		if _, answer := answerTo(t, to, o); answer[3] != 0 {
			t.Errorf("client %s: got code %#x at %s, want 0", o.id, answer[3], to)
		}
	}
	if seen[n1.address] == 0 || seen[n2.address] == 0 || len(seen) != 2 {
		t.Errorf("got clients sent to %v, want them spread over %s and %s", seen, n1.address, n2.address)
	}
	r, _ := l.ended(t, "c0", 0)
	if r["end"] != "redirected" || r["connack"] != "156" || r["attempts"] != "0" {
		t.Errorf("got %v, want end=redirected connack=156 attempts=0", r)
	}
	if got := l.metric(t, `mqttlb_redirects_total{cluster="brokers"}`); got != clients {
		t.Errorf("got %v redirects in the metrics, want %d", got, clients)
	}

	if _, answer := answerTo(t, l.address, opening{id: "old"}); answer[3] != 0 {
		t.Errorf("MQTT 3.1.1: got code %d, want 0", answer[3])
	}
	if _, answer := answerTo(t, l.address, opening{id: "c0", version: v5}); answer[3] != 0 {
		t.Errorf("a client that has come back: got code %#x, want 0", answer[3])
	}
	host, lbPort, _ := net.SplitHostPort(l.address)
	publishes := func() error {
		return exec.Command("mosquitto_pub", "-V", "5", "-h", host, "-p", lbPort, "-i", "stubborn", "-t", "t", "-m", "hi").Run()
	}
	if publishes() == nil {
		t.Error("got mosquitto_pub to follow at its first try; this test is no longer about one that does not")
	}
	if err := publishes(); err != nil {
		t.Errorf("mosquitto_pub that comes again: %v", err)
	}
}

// Brokers that know nothing of each other give ids to clients without one. With those, each client finds its session.
func TestAssignedClientIDs(t *testing.T) {
	t.Parallel()
	n1, n2 := startMosquitto(t), startMosquitto(t)
	l := startLB(t, settings{
		backends: []backend{{"n1", n1.address}, {"n2", n2.address}},
		cluster:  "placement: {session_scope: node}",
	})
	var ids []string
	for range 16 {
		c, answer := answerTo(t, l.address, opening{version: v5, expiry: 60})
		id := property(t, answer, 0x12)
		if answer[3] != 0 || id == "" {
			t.Fatalf("got % x, want an id", answer)
		}
		if !slices.Contains(l.ids(t), id) {
			t.Errorf("the list of clients lacks %s", id)
		}
		ids = append(ids, id)
		c.Close()
		if r, _ := l.ended(t, id, 0); r["assigned"] != "true" {
			t.Errorf("got %v, want assigned=true", r)
		}
	}
	for range 2 { // at once, and again from the broker's own id
		for _, id := range ids {
			c, answer := answerTo(t, l.address, opening{id: id, version: v5, keep: true, expiry: 60})
			if answer[3] != 0 || answer[2] != 1 {
				t.Errorf("client %s: got session present %d, code %#x, want 1 and 0", id, answer[2], answer[3])
			}
			c.Close()
		}
	}
}

// ids are the clients that mqttlb lists.
func (l *lb) ids(t *testing.T) []string {
	t.Helper()
	var list struct {
		Clients []struct {
			ID string `json:"client_id"`
		} `json:"clients"`
	}
	l.get(t, "/api/v1/clients", nil, &list)
	var ids []string
	for _, c := range list.Clients {
		ids = append(ids, c.ID)
	}
	return ids
}

// A bridge marks itself in the level byte; the broker must see the mark, or it would send back what it has got from it.
func TestMosquittoBridge(t *testing.T) {
	t.Parallel()
	for version, level := range map[string]string{"mqttv31": "3", "mqttv311": "4"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			far := startMosquitto(t)
			l := startLB(t, settings{backends: []backend{{"far", far.address}}})
			near := startBridge(t, l.address, version)
			heard := hears(t, far.address, "news")
			echo := hears(t, near.address, "news")
			c, _ := answerTo(t, near.address, opening{id: "publisher"})
			eventually(t, patience, "the bridge is connected", func() bool { return slices.Contains(l.ids(t), "bridge-1") })
			eventually(t, patience, "a message has crossed the bridge", func() bool {
				send(t, c, publish("news", []byte("hello")))
				time.Sleep(50 * time.Millisecond)
				return len(heard()) > 0
			})
			if got := l.metric(t, `mqttlb_nonconforming_total{kind="bridge-level"}`); got < 1 {
				t.Errorf("got %v CONNECTs with the bridge's mark, want 1: the bridge did not try it", got)
			}
			// And the other way, once each: without the mark the message would come back over the bridge.
			before := len(echo())
			d, _ := answerTo(t, far.address, opening{id: "far-publisher"})
			send(t, d, publish("news", []byte("back")))
			eventually(t, patience, "a message has come back over the bridge", func() bool { return len(echo()) > before })
			near.kill(t)
			if r, _ := l.ended(t, "bridge-1", 0); r["version"] != level || r["connack"] != "0" {
				t.Errorf("got %v, want version=%s connack=0", r, level)
			}
		})
	}
}

// startBridge runs a mosquitto that is bridged to another broker, both ways.
func startBridge(t *testing.T, to, version string) *broker {
	t.Helper()
	need(t, "mosquitto")
	b := &broker{address: loopback(t), log: newLogBook()}
	host, port, _ := net.SplitHostPort(b.address)
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	text := fmt.Sprintf("allow_anonymous true\nuser root\nlog_dest stderr\nlistener %s %s\n", port, host) +
		fmt.Sprintf("connection one\naddress %s\nbridge_protocol_version %s\ntry_private true\nremote_clientid bridge-1\n", to, version) +
		"cleansession true\nnotifications false\nrestart_timeout 1\ntopic # both 0\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.process = start(t, b.log, exec.Command("mosquitto", "-c", file))
	b.waitUntilUp(t, patience)
	return b
}
