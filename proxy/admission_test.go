package proxy

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// expectEnd waits until the connection has ended, with nothing more to read.
func expectEnd(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 64)); n > 0 || err == nil || isTimeout(err) {
		t.Fatalf("got %d bytes and %v, want the end", n, err)
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // the error of a Read is never wrapped
	return ok && e.Timeout()
}

// hello5 is the CONNECT of an MQTT 5 client.
func hello5(id string) []byte {
	b := []byte{0x10, byte(13 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, byte(len(id))}
	return append(b, id...)
}

// TestClientsWaitForTheirTurn: the first goes on at once, the others one after the other, and each broker gets what
// its client has sent, also behind CONNECT and while it waited.
func TestClientsWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	const rate, clients = 20, 6
	r := newRig(t, rigOptions{listener: Listener{Connects: rate}, loops: 2})
	write(t, r.dial(), connect("first"))
	expect(t, r.accept(0), connect("first"))
	var list [clients]net.Conn
	began := time.Now()
	for i := range list {
		list[i] = r.dial()
		write(t, list[i], append(connect(strconv.Itoa(i)), 0xc0, 0))
	}
	eventually(t, func() bool { return r.proxy.Waiting()["test"] > 0 })
	for i := range list {
		write(t, list[i], []byte{0xc0, 0})
	}
	seen := make(map[string]bool)
	for range clients {
		broker := r.accept(0)
		size := len(connect("0"))
		got := make([]byte, size+4)
		if n, err := readFull(broker, got); err != nil {
			t.Fatalf("got %q and %v, want CONNECT and two PINGREQ", got[:n], err)
		}
		if string(got[size:]) != "\xc0\x00\xc0\x00" || seen[string(got[size-1])] {
			t.Errorf("got %q, want the CONNECT of another client and two PINGREQ", got)
		}
		seen[string(got[size-1])] = true
	}
	if took := time.Since(began); took < (clients-2)*time.Second/rate {
		t.Errorf("all were let in within %v, want %d per second", took, rate)
	}
	if n := r.proxy.Waiting()["test"]; n != 0 {
		t.Errorf("got %d still waiting, want 0", n)
	}
}

// TestWhoWaitsTooLongIsRefused, and who leaves meanwhile is not missed.
func TestWhoWaitsTooLongIsRefused(t *testing.T) {
	t.Parallel()
	const wait = 300 * time.Millisecond
	r := newRig(t, rigOptions{listener: Listener{Connects: 0.01, ConnectWait: wait, RefuseWithConnack: true}})
	write(t, r.dial(), connect("first"))
	expect(t, r.accept(0), connect("first"))

	began := time.Now()
	late, late5, gone := r.dial(), r.dial(), r.dial()
	write(t, late, connect("late"))
	write(t, late5, hello5("late5"))
	write(t, gone, connect("gone"))
	_ = gone.Close()
	if rec := r.record(); rec.ClientID != "gone" || rec.Refusal != "" || rec.End != EndClient {
		t.Errorf("got %q, %v, %q first, want gone, client, no refusal", rec.ClientID, rec.End, rec.Refusal)
	}
	expect(t, late, []byte{0x20, 2, 0, 3})
	expectEnd(t, late)
	expect(t, late5, []byte{0x20, 3, 0, 0x9f, 0})
	expectEnd(t, late5)
	if took := time.Since(began); took < wait || took > wait+2*time.Second {
		t.Errorf("refused after %v, want %v", took, wait)
	}
	for range 2 {
		if rec := r.record(); rec.Refusal != RefusedConnectRate || rec.End != EndLimit || rec.ClientID == "" || rec.Target.Backend != nil {
			t.Errorf("got %q, %v, client %q, want %q, limit, its id", rec.Refusal, rec.End, rec.ClientID, RefusedConnectRate)
		}
	}
	if n := r.proxy.Waiting()["test"]; n != 0 {
		t.Errorf("got %d still waiting, want 0", n)
	}
}

// TestStopWhileClientsWait ends them, and gives back all they hold.
func TestStopWhileClientsWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{Connects: 0.01}, loops: 2})
	for i := range 10 {
		write(t, r.dial(), connect(strconv.Itoa(i)))
	}
	eventually(t, func() bool { return r.proxy.Waiting()["test"] == 9 })
	r.proxy.Close()
	for _, l := range r.proxy.loops {
		if l.held != 0 || l.reading != 0 || len(l.waiting) != 0 {
			t.Errorf("got %d bytes held, %d reading, %d queues, want none", l.held, l.reading, len(l.waiting))
		}
	}
	if n := r.proxy.Waiting()["test"]; n != 0 {
		t.Errorf("got %d still waiting, want 0", n)
	}
}

// TestReloadLetsWaitingClientsIn: they are still the listener's, whatever it is by now.
func TestReloadLetsWaitingClientsIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{Connects: 0.01, ConnectWait: patience}})
	for i := range 5 {
		write(t, r.dial(), connect(strconv.Itoa(i)))
	}
	eventually(t, func() bool { return r.proxy.Waiting()["test"] == 4 })
	err := r.proxy.Reconfigure([]Listener{{Name: "test", Address: "127.0.0.1:0", Placer: r.placer, Connects: 10_000}})
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		r.accept(0)
	}
}

// TestClientIDIsHeldToItsLimits, and others are not.
func TestClientIDIsHeldToItsLimits(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		listener Listener
		want     Refusal
		code     byte
	}{
		{"rate", Listener{ClientConnects: 0.01}, RefusedClientRate, 0x9f},
		{"connections", Listener{ClientConnections: clientBurst}, RefusedClientConnections, 0x97},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.listener.RefuseWithConnack = true
			r := newRig(t, rigOptions{listener: c.listener})
			var first net.Conn
			for range clientBurst {
				first = r.dial()
				write(t, first, hello5("loop"))
				expect(t, r.accept(0), hello5("loop"))
			}
			refused := r.dial()
			write(t, refused, hello5("loop"))
			expect(t, refused, []byte{0x20, 3, 0, c.code, 0})
			expectEnd(t, refused)
			if rec := r.record(); rec.Refusal != c.want || rec.End != EndLimit || rec.ClientID != "loop" {
				t.Errorf("got %q, %v, %q, want %q, limit, loop", rec.Refusal, rec.End, rec.ClientID, c.want)
			}
			for _, id := range []string{"another", "", "", ""} { // without an id there is nothing to count
				write(t, r.dial(), hello5(id))
				expect(t, r.accept(0), hello5(id))
			}
			_ = first.Close()
			r.record()
			again := r.dial()
			write(t, again, hello5("loop"))
			if c.want == RefusedClientConnections {
				expect(t, r.accept(0), hello5("loop"))
				return
			}
			expect(t, again, []byte{0x20, 3, 0, c.code, 0})
		})
	}
}

// TestTwoDevicesWithOneClientIDAreReported. They come from two addresses of the loopback network.
func TestTwoDevicesWithOneClientIDAreReported(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for i := range contestMoves + 1 {
		if n := len(r.told.contests); n > 0 {
			t.Fatalf("reported after %d", i)
		}
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%2))}}
		c, err := d.DialContext(t.Context(), "tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		write(t, c, connect("shared"))
		expect(t, r.accept(0), connect("shared"))
	}
	if c := <-r.told.contests; c.ClientID != "shared" || c.Listener != "test" || !c.Remote.IsValid() {
		t.Errorf("got %+v, want shared at test", c)
	}
}

// TestTheOldestSilentConnectionGivesWay, so that silent ones keep nobody out.
func TestTheOldestSilentConnectionGivesWay(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const most = 8
	r.proxy.on(r.proxy.loops[0], func(l *loop) { l.proxy.pendingPerLoop = most })
	var silent []net.Conn
	for range 3 * most {
		c := r.dial()
		write(t, c, connect("silent")[:3]) // without any byte, the kernel would keep it for a while
		silent = append(silent, c)
	}
	for i, c := range silent[:2*most] {
		expectEnd(t, c)
		if rec := r.record(); rec.Refusal != RefusedPendingConnections || rec.End != EndLimit {
			t.Fatalf("got %q, %v for number %d, want %q, limit", rec.Refusal, rec.End, i, RefusedPendingConnections)
		}
	}
	r.session() // takes the place of one more, and gives it back
	expectEnd(t, silent[2*most])
	for _, c := range silent[2*most+1:] {
		write(t, c, connect("silent")[3:])
		expect(t, r.accept(0), connect("silent"))
	}
	r.proxy.on(r.proxy.loops[0], func(l *loop) {
		if l.reading != 0 || l.held != 0 {
			t.Errorf("got %d reading and %d bytes held, want 0", l.reading, l.held)
		}
	})
}

// TestPendingNamesAreForgotten: what is remembered of connections without a CONNECT goes with them.
func TestPendingNamesAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	stays := r.dial()
	write(t, stays, connect("stays")[:3])
	for range 500 {
		c := r.dial()
		write(t, c, []byte("GET / HTTP/1.1\r\n\r\n"))
		expectEnd(t, c)
		_ = c.Close()
	}
	r.proxy.on(r.proxy.loops[0], func(l *loop) {
		if n := len(l.pending); n > pendingLeast+4 || l.reading != 1 {
			t.Errorf("got %d names and %d reading, want at most %d and 1", n, l.reading, pendingLeast+4)
		}
	})
	write(t, stays, connect("stays")[3:])
	expect(t, r.accept(0), connect("stays"))
}

// TestIncompleteConnectsHaveABound in memory: the oldest go.
func TestIncompleteConnectsHaveABound(t *testing.T) {
	t.Parallel()
	const size = 8 << 20
	r := newRig(t, rigOptions{listener: Listener{ConnectSize: 16 << 20}})
	head := []byte{0x10, 0xff, 0xff, 0xff, 0x06, 0, 4, 'M', 'Q', 'T', 'T', 4, 4, 0, 60, 0, 1, 'x', 0, 1, 't'}
	body := make([]byte, size)
	for range 3 * pendingBytes / size {
		c := r.dial()
		write(t, c, head)
		_, _ = c.Write(body) // who is closed while it writes notices
		r.proxy.on(r.proxy.loops[0], func(l *loop) {
			if l.held > pendingBytes {
				t.Errorf("got %d bytes held, want at most %d", l.held, pendingBytes)
			}
		})
	}
	if rec := r.record(); rec.Refusal != RefusedPendingBytes || rec.End != EndLimit {
		t.Errorf("got %q, %v, want %q, limit", rec.Refusal, rec.End, RefusedPendingBytes)
	}
	r.session()
}

func TestConnackForEachRefusal(t *testing.T) {
	t.Parallel()
	for why, want := range map[Refusal][2]byte{ // MQTT 3.1.1, MQTT 5; 0 is none
		RefusedConnectRate:       {3, 0x9f},
		RefusedClientRate:        {3, 0x9f},
		RefusedClientConnections: {3, 0x97},
		RefusedPacketSize:        {0, 0x95},
		RefusedNoBackend:         {3, 0x88},
	} {
		for i, version := range []byte{4, 5} {
			var code byte
			if b := mqttparse.AppendConnack(nil, version, connackFor(why)); len(b) > 0 {
				code = b[3]
			}
			if code != want[i] {
				t.Errorf("%s, version %d: got code 0x%02x, want 0x%02x", why, version, code, want[i])
			}
		}
	}
}
