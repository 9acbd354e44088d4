package balancer

import (
	"slices"
	"strings"
	"testing"
)

// Why nobody is moved, in words; nothing while clients are moved, or if there is nobody to move.
func TestMoverPaused(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		what string
		act  func(w *planWorld)
		want string // a part of it; empty for none
	}{
		{"moving", func(w *planWorld) { w.run(2, nil) }, ""},
		{"degraded", func(w *planWorld) { w.b.Force(Force{State: Degraded, On: true}); w.b.Tick(w.now) }, "the cluster is degraded"},
		{"overloaded", func(w *planWorld) { w.b.Force(Force{State: Overloaded, On: true}); w.b.Tick(w.now) }, "the cluster is overloaded"},
		{"frozen", func(w *planWorld) { w.now += 10 * second; w.run(1, nil) }, "the process stood still, 30 s are left"},
		{"all slow", func(w *planWorld) { w.m.Slow("", true) }, "the backends are slow"},
		{"the others slow", func(w *planWorld) { w.m.Slow("n1", true); w.m.Slow("n2", true); w.run(10, nil) }, " is slow"},
		{"slow, and quick again", func(w *planWorld) {
			w.m.Slow("n1", true)
			w.m.Slow("n2", true)
			w.run(10, nil)
			w.m.Slow("n1", false)
			w.run(2, nil)
		}, ""},
		{"nowhere to go", func(w *planWorld) {
			for _, name := range []string{"n1", "n2"} {
				w.vitals[name] = Vitals{Passed: true, Drain: true}
			}
			w.run(5, nil)
		}, ""}, // and nothing is planned
		{"nobody comes back", func(w *planWorld) { w.stay = 1; w.run(20, nil) }, "60 clients are away, and no more than 60 may be"},
		{"done", func(w *planWorld) { w.run(100, nil) }, ""},
	} {
		w := draining(t, MoverOptions{}, 3000)
		test.act(w)
		if got := w.m.Paused(w.now); got != test.want && (test.want == "" || !strings.Contains(got, test.want)) {
			t.Errorf("%s: got %q, want %q", test.what, got, test.want)
		}
	}
}

// Clients that need long to come back stop the moves until that is a minute ago (protocol.md, 4.5).
func TestMoverPausesForSlowReturns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		slow, quick int
		pause       bool
	}{{19, 0, false}, {20, 0, true}, {1, 19, false}, {2, 19, true}, {5, 95, false}, {6, 94, true}, {20, 480, false}} {
		w := draining(t, MoverOptions{}, 3000)
		w.run(70, func() bool { return w.m.Outstanding() == 0 && w.b.Connections("n0") == 0 })
		r := &w.b.moved.returns
		*r = returns{}
		for range test.slow {
			r.add(slowReturn+1, w.now)
		}
		for range test.quick {
			r.add(slowReturn, w.now)
		}
		w.vitals["n0"], w.vitals["n1"] = Vitals{Passed: true}, Vitals{Passed: true, Drain: true}
		was := w.moves
		w.run(30, nil)
		if paused := w.moves == was; paused != test.pause {
			t.Errorf("%d slow, %d quick: got paused %v, want %v", test.slow, test.quick, paused, test.pause)
		}
		if got := w.m.Paused(w.now); test.pause && got != "clients take longer than 30 s to come back" {
			t.Errorf("%d slow, %d quick: got %q", test.slow, test.quick, got)
		}
		if w.run(32, nil); w.moves == was {
			t.Errorf("%d slow, %d quick: nobody is moved a minute later", test.slow, test.quick)
		}
	}
}

// What has happened to clients is counted, and told how long they were away.
func TestMoverCounts(t *testing.T) {
	t.Parallel()
	w := draining(t, MoverOptions{}, 3000)
	var after []int64
	w.each = func() { after = append(after, w.m.Returns()...) }
	w.run(20, nil)
	w.stay = 0.1
	w.run(500, nil)
	moved, returned := w.m.Counts()
	lost, _ := w.m.Lost()
	if int(moved) != w.moves || int(returned)+lost != w.moves || lost < 10 {
		t.Errorf("got %d moved, %d returned, %d lost after %d moves", moved, returned, lost, w.moves)
	}
	after = append(after, w.b.moved.returns.fresh...)
	if slices.Max(after) > 10*second || slices.Min(after) <= 0 || len(after) < int(returned)-200 || len(after) > int(returned) {
		t.Errorf("got %d times of %d to %d ms for %d returns", len(after), slices.Min(after)/1e6, slices.Max(after)/1e6, returned)
	}
}

// A client that is faster than its own eviction was away for no time; one that ends by itself was not evicted, nor was
// one whose eviction did not come about; clients without an id are counted as moved, and nobody knows more.
func TestMoverCountsTheUnusual(t *testing.T) {
	t.Parallel()
	c := Client{ID: "x", Ordinal: -1}
	for _, test := range []struct {
		what            string
		c               Client
		act             func(b *Brain, m *Mover)
		moved, returned uint64
		times           []int64
	}{
		{"usual", c, func(b *Brain, _ *Mover) { b.Release(c, "a", Moved, second); b.Place(c, nil, 3*second) }, 1, 1, []int64{2 * second}},
		{"not gone yet", c, func(*Brain, *Mover) {}, 0, 0, nil},
		{"away", c, func(b *Brain, _ *Mover) { b.Release(c, "a", Moved, second) }, 1, 0, nil},
		{"fast", c, func(b *Brain, _ *Mover) { b.Place(c, nil, second); b.Release(c, "a", Moved, 2*second) }, 1, 1, []int64{0}},
		{"by itself", c, func(b *Brain, _ *Mover) { b.Release(c, "a", Left, second); b.Place(c, nil, 3*second) }, 0, 0, nil},
		{"late", c, func(b *Brain, m *Mover) {
			b.Release(c, "a", Moved, second)
			m.Begin(nil, 400*second)
			b.Place(c, nil, 401*second)
		}, 1, 0, nil},
		{"taken back", c, func(_ *Brain, m *Mover) { m.Stay(Move{Client: c, From: "a", To: "b"}, second) }, 0, 0, nil},
		{"ended, and taken back", c, func(b *Brain, m *Mover) {
			b.Release(c, "a", Moved, second)
			m.Stay(Move{Client: c, From: "a", To: "b"}, second)
			b.Place(c, nil, 2*second)
		}, 0, 0, nil},
		{"nameless", Client{}, func(b *Brain, _ *Mover) { b.Release(Client{}, "a", Moved, second); b.Place(Client{}, nil, 2*second) }, 1, 0, nil},
		{"nameless, taken back", Client{}, func(_ *Brain, m *Mover) { m.Stay(Move{From: "a", To: "b"}, second) }, 0, 0, nil},
	} {
		b := newTestBrain(t, BrainOptions{}, 0, "a", "b")
		m := NewMover(b, MoverOptions{}, 0)
		b.Place(test.c, []string{"b"}, 0)
		b.Move(test.c, "a", "b", 0)
		test.act(b, m)
		moved, returned := m.Counts()
		if times := m.Returns(); moved != test.moved || returned != test.returned || !slices.Equal(times, test.times) {
			t.Errorf("%s: got %d moved, %d returned, times %d; want %d, %d, %d", test.what, moved, returned, times, test.moved, test.returned, test.times)
		}
		if len(m.Returns()) > 0 {
			t.Errorf("%s: times are told twice", test.what)
		}
	}
}
