package proxy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A session at rest is ended at once and on both sides in order, and the place is given back as moved.
func TestEvictSessionAtRest(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	kept := r.evict(Eviction{})
	if got := read(t, broker); len(got) != 0 {
		t.Errorf("got %x at the broker, want nothing but FIN", got)
	}
	write(t, broker, publish(300)) // the last words, after the client's end
	_ = broker.Close()
	if got := read(t, client); string(got) != string(publish(300)) {
		t.Errorf("got %d bytes at the client, want all that the broker had to say", len(got))
	}
	_ = client.Close()
	r.evicted(MomentQuiet)
	if len(kept) != 0 {
		t.Errorf("got an eviction kept: %v, want none", (<-kept).why)
	}
}

// Sittings shows who could move, and nobody else.
func TestSittings(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	all := func(*Sitting) bool { return true }
	half := r.dial()
	write(t, half, connect("half")[:5]) // reading
	waiting := r.dial()
	write(t, waiting, connect("waiting")) // relaying, not answered
	expect(t, r.accept(0), connect("waiting"))
	rejected := r.dial()
	write(t, rejected, connect("rejected"))
	write(t, r.accept(0), []byte{0x20, 2, 0, 5})
	expect(t, rejected, []byte{0x20, 2, 0, 5})
	if got := r.proxy.Sittings(all); len(got) != 0 {
		t.Errorf("got %v, want nobody", got)
	}
	_, _ = r.join(connect5(mqttparse.ConnectOptions{SessionExpiry: 60, WillTopic: "t", WillDelay: 5}), connack5())
	got := r.proxy.Sittings(all)
	if len(got) != 1 {
		t.Fatalf("got %v, want one", got)
	}
	s := got[0]
	if s.ClientID != "c" || s.Version != 5 || !s.Persistent || s.Will != balancer.DelayedWill || s.Target.Backend.Name != "a" || s.Age <= 0 || s.Handle == 0 {
		t.Errorf("got %+v", s)
	}
	if got := r.proxy.Sittings(func(*Sitting) bool { return false }); len(got) != 0 {
		t.Errorf("got %v, want nobody who is not wanted", got)
	}
	r.evict(Eviction{})
	for len(r.proxy.Sittings(all)) > 0 { // whoever is being evicted is none any more
		time.Sleep(time.Millisecond)
	}
}

func TestHandles(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 8))
	var b slab
	l := &loop{}
	for range 3 * slabSize {
		s := b.take()
		s.state = stateRelaying
		for range rng.IntN(3) {
			b.give(s)
			s = b.take()
			s.state = stateRelaying
		}
		l.id, l.sessions = rng.IntN(2000), b
		h := newHandle(l.id, s)
		if h == 0 || h.loop() != l.id || l.lookUp(h) != s {
			t.Fatalf("got handle %x of loop %d, which leads to loop %d and another session", h, l.id, h.loop())
		}
		if stale := newHandle(l.id, &session{index: s.index, generation: s.generation - 1}); l.lookUp(stale) != nil {
			t.Fatal("a stale handle finds the session that came after its own")
		}
	}
	if loop := Handle(0).loop(); loop >= 0 {
		t.Errorf("got loop %d for no handle", loop)
	}
}

// An eviction that is not for this very session and client touches nobody.
func TestEvictSomebodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, _ := r.session()
	stale := r.handle("c")
	_ = client.SetLinger(0)
	_ = client.Close()
	r.record()
	client, broker := r.session() // in the same slot
	h := r.handle("c")
	if s, o := uint32(stale>>handleGenerationBits), uint32(h>>handleGenerationBits); s != o {
		t.Fatalf("got slots %x and %x, want the same one", s, o)
	}
	k := newKeeper()
	var list []Eviction
	for _, e := range []Eviction{{Session: stale, ClientID: "c"}, {Session: h, ClientID: "d"}, {ClientID: "c"}, {Session: math.MaxUint64, ClientID: "c"}} {
		e.Force = true
		list = append(list, e)
	}
	r.proxy.Evict(list, k.kept)
	for range list {
		if got := k.wait(t); got.why != KeptGone {
			t.Errorf("%+v: got %v, want gone", got.Eviction, got.why)
		}
	}
	time.Sleep(2 * silence) // too early makes the test weaker, not red
	write(t, client, pingreq)
	expect(t, broker, pingreq)
	r.proxy.Close()
	r.proxy.Evict([]Eviction{{Session: h, ClientID: "c"}}, k.kept)
	if got := k.wait(t); got.why != KeptGone {
		t.Errorf("of a closed proxy: got %v, want gone", got.why)
	}
}

// Who has not got in yet, or not got out of something delicate, is not evicted, and goes on.
func TestProtectedSessions(t *testing.T) {
	t.Parallel()
	auth := []byte{0xf0, 2, 0x18, 0}
	reauth := []byte{0xf0, 2, 0x19, 0}
	with5, with5auth := connect5(mqttparse.ConnectOptions{}), connect5(mqttparse.ConnectOptions{AuthMethod: "m"})
	for _, c := range []struct {
		name     string
		opening  []byte
		up, down [][]byte // what is sent before
		force    bool
		answer   []byte // of the broker, afterwards
	}{
		{name: "before CONNACK", opening: with5, answer: connack5()},
		{name: "before CONNACK, by force", opening: with5, force: true, answer: connack5()},
		{name: "half of CONNACK", opening: with5, down: [][]byte{connack5()[:4]}, force: true, answer: connack5()[4:]},
		{name: "rejected", opening: with5, down: [][]byte{{0x20, 3, 0, 0x87, 0}}, force: true},
		{name: "during AUTH", opening: with5auth, down: [][]byte{auth}, force: true, answer: connack5()},
		{name: "during AUTH, the client has answered", opening: with5auth, down: [][]byte{auth}, up: [][]byte{auth}, force: true, answer: connack5()},
		{name: "SUBSCRIBE without SUBACK", opening: connect("c"), down: [][]byte{connack()}, up: [][]byte{subscribe}, answer: suback},
		{name: "authentication anew", opening: with5auth, down: [][]byte{connack5()}, up: [][]byte{reauth}, answer: auth},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{stages: brisk()})
			client, broker := r.join(c.opening, nil)
			for _, b := range c.down {
				write(t, broker, b)
				expect(t, client, b)
			}
			for _, b := range c.up {
				write(t, client, b)
				expect(t, broker, b)
			}
			k := newKeeper()
			var h Handle
			r.proxy.everywhere(func(l *loop) { h = newHandle(l.id, l.sessions.at(0)) }) // Sittings does not show all of them
			r.proxy.Evict([]Eviction{{Session: h, ClientID: "c", Notify: 0x98, Text: "rebalancing", Force: c.force}}, k.kept)
			if got := k.wait(t); got.why != KeptProtected {
				t.Errorf("got %v, want protected", got.why)
			}
			write(t, broker, c.answer)
			expect(t, client, c.answer)
			write(t, client, pingreq)
			expect(t, broker, pingreq)
		})
	}
}

// A SUBSCRIBE that is answered in time is no obstacle.
func TestEvictAfterSuback(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	closeWithPeer(broker)
	write(t, client, subscribe)
	r.evict(Eviction{})
	time.Sleep(3 * silence)
	if got := r.proxy.Stats().Sessions; got != 1 {
		t.Fatalf("got %d sessions, want the one that waits for SUBACK", got)
	}
	write(t, broker, suback)
	if got := read(t, client); string(got) != string(suback) {
		t.Errorf("got %x, want %x", got, suback)
	}
	_ = client.Close()
	r.evicted(MomentQuiet)
}

// What has ended by itself was not evicted, however it ended.
func TestSessionEndsWhileEvicted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		who   End
		reset bool
	}{{EndClient, false}, {EndClient, true}, {EndBackend, false}, {EndBackend, true}} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/reset=%t/held=%t", c.who, c.reset, held), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, rigOptions{stages: brisk()})
				near, far := r.session()
				if c.who == EndBackend {
					near, far = far, near
				}
				write(t, far, publish(100)[:50]) // so that the eviction does not find its moment
				expect(t, near, publish(100)[:50])
				kept := r.evict(Eviction{})
				if held {
					r.waitForStage(awaitBoundary)
				}
				write(t, near, publish(500))
				if c.reset {
					if !held {
						expect(t, far, publish(500))
					}
					_ = near.SetLinger(0)
				}
				_ = near.Close()
				if !c.reset {
					if got := read(t, far); string(got) != string(publish(500)) {
						t.Errorf("got %d bytes, want all of them", len(got))
					}
				}
				if got := kept.wait(t); got.why != KeptGone || got.ClientID != "c" {
					t.Errorf("got %v of %q, want gone", got.why, got.ClientID)
				}
				_ = far.Close()
				if rec := r.record(); rec.End != c.who || rec.Moment != MomentNone {
					t.Errorf("got end %v, moment %q, want %v and none", rec.End, rec.Moment, c.who)
				}
			})
		}
	}
}

// waitForStage waits until the eviction of the only session is so far.
func (r *rig) waitForStage(want stage) {
	r.t.Helper()
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		there := false
		r.proxy.everywhere(func(l *loop) {
			for i := range uint32(len(l.sessions.chunks) * slabSize) {
				if e := l.sessions.at(i).eviction; e != nil && e.stage == want {
					there = true
				}
			}
		})
		if there {
			return
		}
	}
	r.t.Fatalf("no eviction has come to stage %d", want)
}

// A session is evicted once: whoever else wants it is told so, and the first goes on.
func TestEvictTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	h := r.handle("c")
	first := r.evict(Eviction{})
	second := newKeeper()
	r.proxy.Evict([]Eviction{{Session: h, ClientID: "c", Force: true}}, second.kept)
	if got := second.wait(t); got.why != KeptBusy {
		t.Errorf("while it waits: got %v, want busy", got.why)
	}
	expectEOF(t, broker)
	r.proxy.Evict([]Eviction{{Session: h, ClientID: "c"}}, second.kept)
	if got := second.wait(t); got.why != KeptBusy {
		t.Errorf("while it ends: got %v, want busy", got.why)
	}
	_ = broker.Close()
	expectEOF(t, client)
	_ = client.Close()
	r.evicted(MomentQuiet)
	r.proxy.Evict([]Eviction{{Session: h, ClientID: "c"}}, second.kept)
	if got := second.wait(t); got.why != KeptGone || len(first) != 0 {
		t.Errorf("afterwards: got %v and %d kept of the first, want gone and 0", got.why, len(first))
	}
}

// Close ends evictions as well, at whatever stage, and everybody hears of it once.
func TestCloseWhileEvicting(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, _ := r.session()
	write(t, client, publish(100)[:50])
	waits := r.evict(Eviction{})
	r.proxy.Close()
	if got := waits.wait(t); got.why != KeptGone || len(waits) != 0 {
		t.Errorf("got %v and %d more, want gone once", got.why, len(waits))
	}
	if rec := r.record(); rec.End != EndShutdown {
		t.Errorf("got end %v, want shutdown", rec.End)
	}

	r = newRig(t, rigOptions{})
	_, broker := r.session()
	ends := r.evict(Eviction{})
	expectEOF(t, broker)
	r.proxy.Close()
	r.evicted(MomentQuiet)
	if len(ends) != 0 {
		t.Error("got an eviction kept that had begun to end the session")
	}
}
