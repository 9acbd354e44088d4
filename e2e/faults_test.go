//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file are named after the faults of which mqttlb promises to survive each (protocol.md, 9.2).
// D1 to D3 are in discovery_test.go, M1 and M2 in load_test.go, T1 in clock_test.go.

// passive leaves finding out to what happens to clients: no check comes soon enough.
const passive = "health: {interval: 1m}\n"

// Fault B1: a broker refuses connections. Its clients are served by others at once, and after some of them
// nobody asks it any more.
func TestFaultB1AClosedPortCostsNobodyAnything(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: passive})
	id := settlers(t, l, "a", 1)[0]
	brokers[0].ln.Close()
	failures := `mqttlb_backend_connect_failures_total{backend="a",cluster="brokers",reason="refused"}`
	visit := func(attempts string) {
		t.Helper()
		offset, began := len(l.log.String()), time.Now()
		connect(t, l, opening{id: id}, "").Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("the client waited %v", took)
		}
		if r, _ := l.ended(t, id, offset); r["attempts"] != attempts || r["backend"] == "a" {
			t.Errorf("logged %v, want %s attempts", r, attempts)
		}
	}
	const enough = 5
	for i := range enough {
		visit("2")
		if n := l.metric(t, failures); n != float64(i+1) {
			t.Errorf("%v failures are counted after %d", n, i+1)
		}
	}
	l.reach(t, 5*time.Second, "down", "a")
	visit("1")
}

// Fault B2: a broker's host swallows every SYN. A client waits for half of the dial timeout, the other half is for
// the next broker, and after some of them nobody does.
func TestFaultB2ABlackHoleCostsADialTimeoutUntilItIsOut(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	hole := blackHole(t)
	l := startLB(t, settings{
		backends: append(behind(brokers[1:]), backend{"a", hole}),
		cluster:  passive + "limits: {dial_timeout: 300ms}",
	})
	var slow int
	for i := 0; l.phases(t)["a"] != "down"; i++ {
		began := time.Now()
		connect(t, l, opening{id: fmt.Sprint("patient-", i)}, "").Close()
		if took := time.Since(began); took > 140*time.Millisecond {
			slow++
			between(t, took, 140*time.Millisecond, 3*time.Second) // of 150 ms, on a machine that is busy
		}
		if slow > 12 {
			t.Fatalf("%d clients had to wait", slow)
		}
	}
	if slow < 3 {
		t.Errorf("%d clients had to wait before the broker was out", slow)
	}
	began := time.Now()
	gather(t, l, "late", 60)
	if took := time.Since(began); took > 3*time.Second { // 20 dials into the hole would take 6 s
		t.Errorf("60 clients took %v when the broker was out", took)
	}
}

// Fault B3: a broker is stopped. Who is connected notices nothing; who connects is closed after the first-byte
// timeout, and his CONNECT goes nowhere else; and it is down within two intervals.
func TestFaultB3AStoppedBroker(t *testing.T) {
	t.Parallel()
	stopped, other := startMosquitto(t), newGreeter(t, "b")
	l := startLB(t, settings{backends: []backend{{"a", stopped.address}, other.backend()}, cluster: quick})
	ids := settlers(t, l, "a", 2)
	c := connect(t, l, opening{id: ids[0]}, "")

	stopped.signal(t, unix.SIGSTOP)
	held := dial(t, l.address, "")
	send(t, held, opening{id: ids[1]}.bytes())
	began := time.Now()
	l.reach(t, 2*quickInterval, "down", "a")
	expectClosed(t, held, 2*time.Second)
	between(t, time.Since(began), 0, 2*quickInterval)
	l.refused(t, "first_byte_timeout")
	if n := other.visits(ids[1]); n != 0 {
		t.Errorf("the other broker got the CONNECT %d times", n)
	}
	connect(t, l, opening{id: ids[1]}, "").Close() // now it goes there
	if n := other.visits(ids[1]); n != 1 {
		t.Errorf("the other broker got the CONNECT %d times", n)
	}
	send(t, c, []byte{0xc0, 0})

	stopped.signal(t, unix.SIGCONT)
	expect(t, c, []byte{0xd0, 0})
	l.reach(t, patience, "ready", "a", "b")
	if home := homeOf(t, l, ids[1]); home != "a" {
		t.Errorf("the client is on broker %s", home)
	}
}

// Fault B9: all brokers are down. Clients are closed at once and without a CONNACK, and when the brokers come
// back so do the clients.
func TestFaultB9AllBrokersAreDown(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: quick})
	for _, b := range brokers {
		b.ln.Close()
	}
	l.reach(t, 2*quickInterval, "down", "a", "b", "c")
	began, used := time.Now(), l.cpu(t)
	for i := range 50 {
		c := dial(t, l.address, "")
		send(t, c, opening{id: fmt.Sprint("early-", i)}.bytes())
		expectFIN(t, c, time.Second)
		c.Close()
	}
	time.Sleep(max(0, time.Second-time.Since(began))) // a loop that spins uses all of this
	if share := float64(l.cpu(t)-used) / float64(time.Since(began)); share > 0.25 && !underRace {
		t.Errorf("mqttlb used %.0f %% of a processor", 100*share)
	}
	for _, b := range brokers {
		greeterOn(t, b.name, b.address)
	}
	began = time.Now()
	eventually(t, 2*quickInterval, "clients are served again", func() bool {
		c, ok := tryConnect(t, l, opening{id: "again"})
		c.Close()
		return ok
	})
	t.Logf("clients were served again after %v", time.Since(began))
	l.reach(t, patience, "ready", "a", "b", "c")
}

// Fault T2: mqttlb is stopped for longer than all of its deadlines, while a probe and some clients wait for an
// answer of a broker. When it goes on, all deadlines have passed at once, which is nobody's fault: no broker
// is blamed, and nobody who is connected is cut.
func TestFaultT2AfterAStandstillNothingHasHappened(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{
		backends: behind(brokers),
		listener: "limits: {connect_timeout: 5s}",
		cluster:  "health: {interval: 2s, timeout: 1900ms, fall: 1, rise: 1}\nsettle: 1s\nramp: 1s\nlimits: {first_byte_timeout: 2s}",
	})
	old := gather(t, l, "old", 300)
	l.reach(t, patience, "ready", "a", "b", "c")
	for _, b := range brokers {
		b.slow(100 * time.Millisecond)
	}
	offset := len(l.log.String())
	present, probed := brokers[0].present(), brokers[0].probed()
	eventually(t, patience, "a probe has come", func() bool { return brokers[0].probed() > probed })
	var waiting []*net.TCPConn
	send(t, dial(t, l.address, ""), opening{id: "half"}.bytes()[:5])
	for i := range 60 {
		c := dial(t, l.address, "")
		send(t, c, opening{id: fmt.Sprint("waiting-", i)}.bytes())
		waiting = append(waiting, c)
	}
	eventually(t, patience, "clients wait for their brokers", func() bool { return brokers[0].present() > present+8 })

	l.freeze(t)
	late := dial(t, l.address, "") // the kernel accepts it
	send(t, late, opening{id: "late"}.bytes())
	time.Sleep(8 * time.Second)
	l.signal(t, unix.SIGCONT)

	expect(t, late, connack(v311, 0))
	for _, c := range waiting {
		expect(t, c, connack(v311, 0)) // the answer lay in a socket all the time
	}
	l.stay(t, 2500*time.Millisecond, "ready", "a", "b", "c")
	if log := l.log.String()[offset:]; strings.Contains(log, "phase has changed") || strings.Contains(log, "state has changed") {
		t.Error("phases or states have changed")
	}
	old.unharmed(t)
	gather(t, l, "new", 30)
}

// Fault U4: a reload with an invalid file changes nothing; one that takes a broker away, or gives the listener
// another port, leaves the clients where they are.
func TestFaultU4Reload(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	set := settings{backends: behind(brokers), cluster: quick}
	l := startLB(t, set)
	l.reach(t, patience, "ready", "a", "b", "c")
	old := gather(t, l, "old", 60)

	set.discovery = "{static: [{name: d, address: nowhere}]}"
	reload(t, l, set, "the configuration is invalid; nothing has changed")
	l.reach(t, 0, "ready", "a", "b", "c")
	gather(t, l, "young", 10).leave()

	set.discovery, set.backends = "", behind(brokers[:2])
	reload(t, l, set, reloaded)
	l.reach(t, patience, "draining", "c")
	held := brokers[2].present()
	gather(t, l, "new", 40)
	if n := brokers[2].present(); n != held || held == 0 {
		t.Errorf("the broker that was taken away has %d clients, before %d", n, held)
	}
	old.unharmed(t)

	was := l.address
	l.address = loopback(t)
	reload(t, l, set, reloaded)
	gather(t, l, "newest", 10)
	eventually(t, time.Second, "the old port is closed", func() bool {
		c, err := net.DialTimeout("tcp", was, time.Second)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, unix.ECONNREFUSED)
	})
	old.unharmed(t)
}
