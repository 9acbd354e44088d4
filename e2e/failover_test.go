//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// homeOf finds the broker that a client id belongs to, by visiting it.
func homeOf(t *testing.T, l *lb, id string) string {
	t.Helper()
	c := connect(t, l, opening{id: id}, "")
	offset := len(l.log.String())
	c.Close()
	r, _ := l.ended(t, id, offset)
	return r["backend"]
}

// settlers finds n client ids that belong to this broker.
func settlers(t *testing.T, l *lb, broker string, n int) []string {
	t.Helper()
	var ids []string
	for i := 0; len(ids) < n; i++ {
		if i > 100*n {
			t.Fatalf("hardly any client belongs to broker %s", broker)
		}
		if id := fmt.Sprintf("%s-settler-%d", broker, i); homeOf(t, l, id) == broker {
			ids = append(ids, id)
		}
	}
	return ids
}

func TestClientsOfAClosedPortGoToTheirSecondChoice(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	ids := settlers(t, l, "a", 20)
	brokers[0].ln.Close()
	seconds := make(map[string]string)
	used := make(map[string]int)
	for visit := range 3 {
		for _, id := range ids {
			second := homeOf(t, l, id)
			if visit == 0 {
				seconds[id] = second
				used[second]++
			}
			if second != seconds[id] || second == "a" {
				t.Errorf("visit %d: client %s went to %s, before to %s", visit, id, second, seconds[id])
			}
		}
	}
	if used["b"] < 3 || used["c"] < 3 {
		t.Errorf("the clients of the failed broker went to %v, want them spread", used)
	}
}

func TestFailedDialIsCountedAndExplained(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers)})
	id := settlers(t, l, "a", 1)[0]
	brokers[0].ln.Close()
	offset := len(l.log.String())
	connect(t, l, opening{id: id}, "").Close()
	r, _ := l.ended(t, id, offset)
	if r["attempts"] != "2" || r["backend"] != "b" || !strings.Contains(r["reason"], "a did not accept") {
		t.Errorf("logged %v", r)
	}
}

func TestWithoutAnyBrokerClientsAreClosedWithoutConnack(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", loopback(t)}, {"b", loopback(t)}}})
	for _, version := range []byte{v31, v311, v5} {
		c := dial(t, l.address, "")
		send(t, c, opening{id: "refused", version: version}.bytes())
		expectFIN(t, c, 2*time.Second)
	}
	if r := l.refused(t, "backend_unreachable"); r["end"] != "dial" || r["client"] != "refused" {
		t.Errorf("logged %v", r)
	}
}

func TestWithoutAnyBrokerClientsGetTheRightConnackIfConfigured(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", loopback(t)}, {"b", loopback(t)}}, listener: "refuse: connack"})
	for version, code := range map[byte]byte{v31: 3, v311: 3, v5: 0x88} {
		c := dial(t, l.address, "")
		// What is pipelined must not turn the answer into a reset.
		send(t, c, slices.Concat(opening{id: "refused", version: version}.bytes(), publish("e2e", make([]byte, 8<<10))))
		expect(t, c, connack(version, code))
		expectFIN(t, c, 2*time.Second)
	}
}

func TestABrokerThatReturnsGetsItsClientsBack(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers)})
	id := settlers(t, l, "a", 1)[0]
	for _, b := range brokers {
		b.ln.Close()
	}
	if _, ok := tryConnect(t, l, opening{id: id}); ok {
		t.Fatal("accepted while no broker was up")
	}
	back := greeterOn(t, "a", brokers[0].address)
	eventually(t, 10*time.Second, "the client is served again", func() bool {
		c, ok := tryConnect(t, l, opening{id: id})
		c.Close()
		return ok
	})
	if back.visits(id) != 1 {
		t.Error("the client was not served by its own broker")
	}
}

// blackHole is an address that answers SYN with silence: a listener whose queue is full, for which the
// kernel drops every further SYN. It needs no privilege, unlike a firewall's rule.
func blackHole(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	at := freePort(t)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: at}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	address := hostPort("127.0.0.1", at)
	for range 8 {
		c, err := net.DialTimeout("tcp", address, 300*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of the black hole does not fill")
	return ""
}

func TestASilentNetworkCostsHalfOfTheDialTimeout(t *testing.T) {
	t.Parallel()
	alive := newGreeter(t, "b")
	l := startLB(t, settings{
		backends: []backend{{"a", blackHole(t)}, alive.backend()},
		cluster:  "limits: {dial_timeout: 1s}", // for all attempts together
	})
	var lost int
	for i := range 8 { // about half of them belong to the black hole
		began := time.Now()
		id := fmt.Sprint("patient-", i)
		c := connect(t, l, opening{id: id}, "")
		took := time.Since(began)
		c.Close()
		r, _ := l.ended(t, id, 0)
		if r["attempts"] == "1" {
			continue
		}
		lost++
		between(t, took, 450*time.Millisecond, 1200*time.Millisecond)
	}
	if lost == 0 {
		t.Error("no client belonged to the black hole")
	}
}

func TestAClientThatLeavesDuringTheDialIsForgotten(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", blackHole(t)}}, cluster: "limits: {dial_timeout: 10s}"})
	idle := l.sockets(t) // files are opened for a moment now and then
	c := dial(t, l.address, "")
	send(t, c, opening{id: "hasty"}.bytes())
	eventually(t, patience, "the dial is under way", func() bool { return l.sockets(t) == idle+2 })
	reset(t, c)
	if r, _ := l.ended(t, "hasty", 0); r["end"] != "client" {
		t.Errorf("ended by %s, want client", r["end"])
	}
}

func TestAFrozenBrokerIsGivenUpAndNobodyElseGetsTheConnect(t *testing.T) {
	t.Parallel()
	frozen, other := startMosquitto(t), newGreeter(t, "b")
	l := startLB(t, settings{
		backends: []backend{{"a", frozen.address}, other.backend()},
		cluster:  "limits: {first_byte_timeout: 1s}",
	})
	id := settlers(t, l, "a", 1)[0]
	frozen.signal(t, unix.SIGSTOP)
	offset := len(l.log.String())
	began := time.Now()
	c := dial(t, l.address, "")
	send(t, c, opening{id: id}.bytes())
	expectClosed(t, c, 5*time.Second)
	between(t, time.Since(began), 900*time.Millisecond, 1600*time.Millisecond)
	r, _ := l.ended(t, id, offset)
	if r["refused"] != "first_byte_timeout" || r["attempts"] != "1" {
		t.Errorf("logged %v", r)
	}
	if n := other.visits(id); n != 0 {
		t.Errorf("the other broker got the CONNECT %d times", n)
	}
	frozen.signal(t, unix.SIGCONT)
	connect(t, l, opening{id: id}, "").Close()
}

func TestAnEstablishedSessionSurvivesAFrozenBroker(t *testing.T) {
	t.Parallel()
	frozen := startMosquitto(t)
	l := startLB(t, settings{
		backends: []backend{{"a", frozen.address}},
		cluster:  "limits: {first_byte_timeout: 500ms}",
	})
	c := connect(t, l, opening{id: "calm"}, "")
	frozen.signal(t, unix.SIGSTOP)
	send(t, c, []byte{0xc0, 0})
	_ = c.SetReadDeadline(time.Now().Add(1500 * time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v while the broker was frozen, want silence", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
	frozen.signal(t, unix.SIGCONT)
	expect(t, c, []byte{0xd0, 0})
}
