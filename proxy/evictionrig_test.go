package proxy

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// brisk makes evictions give up sooner than usual, for tests that would take long otherwise.
func brisk() stageTimes {
	return stageTimes{
		awaitQuiet: 1200 * time.Millisecond, awaitBoundary: time.Second,
		stopUp: 2 * time.Second, drainDown: time.Second, endDown: 3 * time.Second, goodbye: time.Second,
	}
}

// A keeper collects the evictions that came to nothing.
type keeper chan keptEviction

type keptEviction struct {
	Eviction
	why Kept
}

func newKeeper() keeper { return make(keeper, 4096) }

func (k keeper) kept(e Eviction, why Kept) { k <- keptEviction{e, why} }

// wait waits for the next eviction that came to nothing.
func (k keeper) wait(t *testing.T) keptEviction {
	t.Helper()
	select {
	case e := <-k:
		return e
	case <-time.After(2 * patience):
		t.Fatal("no eviction was given up")
		return keptEviction{}
	}
}

// join connects a client that opens with these bytes and is answered so by broker 0.
func (r *rig) join(opening, answer []byte) (client, broker *net.TCPConn) {
	r.t.Helper()
	client = r.dial()
	write(r.t, client, opening)
	broker = r.accept(0)
	expect(r.t, broker, opening)
	write(r.t, broker, answer)
	expect(r.t, client, answer)
	for _, c := range []*net.TCPConn{client, broker} {
		_ = c.SetDeadline(time.Now().Add(3 * patience)) // an eviction takes its time
	}
	return client, broker
}

// handle finds the session of a client.
func (r *rig) handle(id string) Handle {
	r.t.Helper()
	found := r.proxy.Sittings(func(s *Sitting) bool { return s.ClientID == id })
	if len(found) != 1 {
		r.t.Fatalf("got %d sessions of %q, want 1", len(found), id)
	}
	return found[0].Handle
}

// evict asks to evict the client "c", and returns who hears if it comes to nothing.
func (r *rig) evict(e Eviction) keeper {
	r.t.Helper()
	k := newKeeper()
	e.Session, e.ClientID = r.handle("c"), "c"
	r.proxy.Evict([]Eviction{e}, k.kept)
	return k
}

// evicted waits until the session has ended, and checks that it has because of an eviction at this moment.
func (r *rig) evicted(at Moment) Record {
	r.t.Helper()
	rec := r.record()
	if rec.End != EndEvicted || rec.Moment != at {
		r.t.Errorf("got end %v at moment %q, want evicted at %q", rec.End, rec.Moment, at)
	}
	if told := r.placer.told(); !slices.Contains(told, Moved) {
		r.t.Errorf("got outcomes %v, want moved", told)
	}
	return rec
}

// read returns what comes until FIN.
func read(t *testing.T, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("got %d bytes and %v, want FIN behind them", len(b), err)
	}
	return b
}

// whole returns how many bytes of b are whole packets.
func whole(b []byte) int {
	for at := 0; ; {
		length, i := 0, at+1
		for shift := 0; ; shift += 7 {
			if i >= len(b) {
				return at
			}
			length |= int(b[i]&0x7f) << shift
			i++
			if b[i-1] < 0x80 {
				break
			}
		}
		if i+length > len(b) {
			return at
		}
		at = i + length
	}
}

// connect5 is a CONNECT of the client "c" with MQTT 5.
func connect5(o mqttparse.ConnectOptions) []byte {
	o.Version, o.ClientID = 5, "c"
	return mqttparse.AppendConnect(nil, &o)
}

func connack5() []byte { return []byte{0x20, 3, 0, 0, 0} }

// Packets written by hand from the standard.
var (
	bye       = []byte{0xe0, 0}
	subscribe = []byte{0x82, 6, 0, 1, 0, 1, 't', 0}
	suback    = []byte{0x90, 3, 0, 1, 0}
	pingreq   = []byte{0xc0, 0}
	pingresp  = []byte{0xd0, 0}
)
