//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// sayNo makes a greeter answer every client with a code, by the version of MQTT; nil lets it accept them again.
func (g *greeter) sayNo(codes map[byte]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.codes = codes
}

// accepted is how often the brokers have accepted a client.
func accepted(brokers []*greeter, id string) int {
	n := 0
	for _, b := range brokers {
		b.mu.Lock()
		n += b.welcome[id]
		b.mu.Unlock()
	}
	return n
}

// One broker that answers "not now" costs no client anything, whatever version of MQTT it speaks: each gets in with its
// first connection, and one broker accepts it.
func TestABusyBrokerCostsNobodyAnything(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	brokers[0].sayNo(map[byte]byte{v31: 3, v311: 3, v5: 0x88})
	var clients []*net.TCPConn
	for i := range 60 {
		id := fmt.Sprint("calm-", i)
		version := []byte{v31, v311, v5}[i%3]
		c, ok := tryConnect(t, l, opening{id: id, version: version})
		if !ok {
			t.Errorf("client %d was not let in", i)
		}
		if n := accepted(brokers, id); n != 1 {
			t.Errorf("client %d was accepted by %d brokers, want 1", i, n)
		}
		clients = append(clients, c)
	}
	if n := brokers[0].seen("calm-"); n < 5 {
		t.Errorf("only %d clients came to the busy broker: nothing was tried", n)
	}
	if got := l.metric(t, `mqttlb_connects_total{listener="mqtt",result="accepted"}`); got != 60 {
		t.Errorf("got %v accepted clients in the metrics, want 60", got)
	}
	if got := l.metric(t, `mqttlb_backend_connect_failures_total{backend="a",cluster="brokers",reason="busy"}`); int(got) != brokers[0].seen("calm-") {
		t.Errorf("got %v busy answers in the metrics, want %d", got, brokers[0].seen("calm-"))
	}

	// After five clients in a row the others do not go there any more, and when it has calmed down they do again.
	if got := l.metric(t, `mqttlb_backend_circuit{backend="a",cluster="brokers",state="closed"}`); got != 0 {
		t.Error("the circuit of the busy broker is closed")
	}
	if out := l.backendsTable(t); !strings.Contains(out, "in a row found the broker busy") {
		t.Errorf("mqttlb backends does not say why:\n%s", out)
	}
	brokers[0].sayNo(nil)
	eventually(t, 30*time.Second, "the circuit is closed again", func() bool {
		c := connect(t, l, opening{id: fmt.Sprint("later-", time.Now().UnixNano())}, "")
		c.Close()
		return l.metric(t, `mqttlb_backend_circuit{backend="a",cluster="brokers",state="closed"}`) == 1
	})
	for _, c := range clients {
		c.Close()
	}
}

// A broker that refuses credentials has decided: its answer passes as it is, nobody else is asked, and it stays in
// the game.
func TestRefusedCredentialsPassAndOpenNoCircuit(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers)})
	codes := map[byte]byte{v31: 4, v311: 5, v5: 0x87}
	brokers[0].sayNo(codes)
	brokers[1].sayNo(codes)
	for i := range 60 {
		id, version := fmt.Sprint("stranger-", i), []byte{v31, v311, v5}[i%3]
		c := dial(t, l.address, "")
		send(t, c, opening{id: id, version: version}.bytes())
		expect(t, c, connack(version, codes[version]))
		expectClosed(t, c, patience)
		if n := brokers[0].visits(id) + brokers[1].visits(id); n != 1 {
			t.Errorf("client %d came to %d brokers, want 1", i, n)
		}
	}
	for _, name := range []string{"a", "b"} {
		if got := l.metric(t, `mqttlb_backend_circuit{backend="`+name+`",cluster="brokers",state="closed"}`); got != 1 {
			t.Errorf("the circuit of broker %s is not closed", name)
		}
	}
}

// When all brokers are busy the client hears it from the last one, in its own version.
func TestAllBrokersBusy(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	codes := map[byte]byte{v31: 3, v311: 3, v5: 0x9F}
	for _, b := range brokers {
		b.sayNo(codes)
	}
	for version, code := range codes {
		id := fmt.Sprint("unlucky-", version)
		c := dial(t, l.address, "")
		send(t, c, opening{id: id, version: version}.bytes())
		expect(t, c, connack(version, code))
		expectClosed(t, c, patience)
		if n := brokers[0].visits(id) + brokers[1].visits(id) + brokers[2].visits(id); n != 3 {
			t.Errorf("version %d: came to %d brokers, want 3", version, n)
		}
		if r, _ := l.ended(t, id, 0); r["connack"] != fmt.Sprint(code) || r["attempts"] != "3" || r["end"] != "backend" {
			t.Errorf("version %d: logged %v", version, r)
		}
	}
}

// A broker has no more connections than it may, and whoever has no place is told so in the metrics.
func TestConnectionsPerBackend(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: "limits: {connections_per_backend: 5}"})
	var last *net.TCPConn
	for i := range 15 {
		last = connect(t, l, opening{id: fmt.Sprint("seated-", i)}, "")
	}
	for _, b := range brokers {
		if n := b.present(); n != 5 {
			t.Errorf("broker %s has %d connections, want 5", b.name, n)
		}
	}
	c := dial(t, l.address, "")
	send(t, c, opening{id: "standing"}.bytes())
	expectClosed(t, c, patience)
	if r := l.refused(t, "backend_full"); r["client"] != "standing" {
		t.Errorf("logged %v", r)
	}
	if out := l.backendsTable(t); !strings.Contains(out, "full: it may have 5 connections") {
		t.Errorf("mqttlb backends does not say so:\n%s", out)
	}
	last.Close()
	eventually(t, patience, "the free place is given away", func() bool {
		_, ok := tryConnect(t, l, opening{id: "standing"})
		return ok
	})
}

// backendsTable is what mqttlb backends prints.
func (l *lb) backendsTable(t *testing.T) string {
	t.Helper()
	status, out := command(t, "backends", "--admin", l.socket)
	if status != 0 {
		t.Fatalf("mqttlb backends: exit status %d\n%s", status, out)
	}
	return out
}
