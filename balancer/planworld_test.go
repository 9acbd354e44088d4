package balancer

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// planWorld drives a Brain and its Mover as a cluster does, with clients that come again some seconds after they
// were sent away.
type planWorld struct {
	tb      testing.TB
	random  *rand.Rand
	b       *Brain
	m       *Mover
	now     int64
	backs   []Backend
	vitals  map[string]Vitals
	clients []planClient
	due     map[int64][]int // who comes again, by step
	delay   float64         // mean time away, in seconds
	stay    float64         // part of those sent away that never come again
	quiet   int64           // steps that pass until a connection that is to end has ended
	ending  map[int64][]int // who then ends, by step

	moves     int
	outside   int // most clients away at once
	surprises int // landed elsewhere than the plan said
	each      func()
}

// planClient is a client. Its connection is on backend, empty while it has none.
type planClient struct {
	c             Client
	will          Will
	shared        bool
	rate          float64
	backend, goal string
	since         int64
	moved         int // how often
	lastMoved     int64
}

const planStep = second / 10

func newPlanWorld(tb testing.TB, seed uint64, bo BrainOptions, mo MoverOptions, backends int) *planWorld {
	tb.Helper()
	w := &planWorld{
		tb: tb, random: rand.New(rand.NewPCG(seed, 7)), now: 1000 * second, delay: 2,
		vitals: make(map[string]Vitals), due: make(map[int64][]int), ending: make(map[int64][]int), each: func() {},
	}
	bo.Key = fmt.Sprint("key", seed)
	var err error
	if w.b, err = NewBrain(bo, w.now); err != nil {
		tb.Fatal(err)
	}
	w.m = NewMover(w.b, mo, w.now)
	for i := range backends {
		w.backs = append(w.backs, Backend{Name: fmt.Sprintf("n%d", i)})
	}
	w.join()
	return w
}

func (w *planWorld) join() {
	for _, b := range w.backs {
		if _, known := w.vitals[b.Name]; !known {
			w.vitals[b.Name] = Vitals{Passed: true}
		}
	}
	w.b.Join(w.backs, w.now)
}

// fill connects n clients, changed by edit, and lets two minutes pass.
func (w *planWorld) fill(n int, edit func(i int, p *planClient)) {
	w.clients = make([]planClient, n)
	for i := range w.clients {
		p := &w.clients[i]
		*p = planClient{c: Client{ID: fmt.Sprintf("client-%d", i), Ordinal: -1, Persistent: true}, lastMoved: math.MinInt64 / 2}
		if edit != nil {
			edit(i, p)
		}
	}
	for _, i := range w.random.Perm(n) {
		w.connect(i)
	}
	w.now += 120 * second
	w.m.last = w.now
}

func (w *planWorld) connect(i int) {
	p := &w.clients[i]
	at, _ := w.b.Place(p.c, nil, w.now)
	if at < 0 {
		w.due[w.now/planStep+10] = append(w.due[w.now/planStep+10], i)
		return
	}
	p.backend, p.since = w.b.Snapshot().Backends[at].Name, w.now
	if p.goal != "" && p.goal != p.backend {
		w.surprises++
	}
	p.goal = ""
}

// disconnect ends a connection; the client comes again.
func (w *planWorld) disconnect(i int, how Leave) {
	p := &w.clients[i]
	w.b.Release(p.c, p.backend, how, w.now)
	p.backend = ""
	if w.random.Float64() < w.stay {
		return
	}
	// Nobody is away for longer than a group waits: tests count on it.
	at := w.now/planStep + 1 + min(int64(w.random.ExpFloat64()*w.delay*10), 90)
	w.due[at] = append(w.due[at], i)
}

func (w *planWorld) sessions() iter.Seq[Session] {
	return func(yield func(Session) bool) {
		for i := range w.clients {
			p := &w.clients[i]
			if p.backend == "" {
				continue
			}
			if !yield(Session{
				Client: p.c, Backend: p.backend, Handle: uint64(i), Since: p.since, Rate: p.rate, Will: p.will, Shared: p.shared,
			}) {
				return
			}
		}
	}
}

// step lets 100 ms pass.
func (w *planWorld) step() {
	w.now += planStep
	tick := w.now / planStep
	back := w.due[tick]
	for _, i := range w.ending[tick] {
		w.disconnect(i, Moved)
	}
	delete(w.due, tick)
	delete(w.ending, tick)
	for _, i := range back {
		w.connect(i)
	}
	if tick%10 == 0 {
		for name, v := range w.vitals {
			w.b.Vital(name, v)
		}
		w.b.Tick(w.now)
	}
	for _, mv := range w.m.Begin(w.sessions(), w.now) {
		p := &w.clients[mv.Handle]
		if p.backend != mv.From || p.c != mv.Client {
			w.tb.Fatalf("told to move %v, which is on %q", mv, p.backend)
		}
		p.goal, p.lastMoved = mv.To, w.now
		p.moved++
		w.moves++
		if w.quiet > 0 {
			w.ending[tick+w.quiet] = append(w.ending[tick+w.quiet], int(mv.Handle))
			continue
		}
		w.disconnect(int(mv.Handle), Moved)
	}
	w.outside = max(w.outside, w.m.Outstanding())
	w.each()
}

// run lets so many seconds pass, or less if done says so; it returns how many passed.
func (w *planWorld) run(seconds int, done func() bool) int {
	for k := range seconds * 10 {
		if done != nil && k%10 == 0 && done() {
			return k / 10
		}
		w.step()
	}
	return seconds
}

// counts are the connections of the backends, in order.
func (w *planWorld) counts() []int {
	out := make([]int, len(w.backs))
	for i, b := range w.backs {
		out[i] = w.b.Connections(b.Name)
	}
	return out
}

// most is how often the client was moved that was moved most, and how many were moved twice or more.
func (w *planWorld) most() (times, twice int) {
	for i := range w.clients {
		times = max(times, w.clients[i].moved)
		if w.clients[i].moved > 1 {
			twice++
		}
	}
	return times, twice
}

// even tells whether all backends are within the goal.
func (w *planWorld) even() bool {
	counts := w.counts()
	total := 0
	for _, n := range counts {
		total += n
	}
	fair := float64(total) / float64(len(counts))
	return float64(slices.Max(counts)) <= 1.05*fair+1 && float64(slices.Min(counts)) >= 0.95*fair-1
}
