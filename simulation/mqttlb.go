package simulation

import (
	"cmp"
	"iter"
	"slices"
	"strconv"

	"github.com/mqttlb/mqttlb/balancer"
)

// brained is mqttlb: a Brain, a Mover, and what cluster feeds to them in production.
type brained struct {
	w     *world
	brain *balancer.Brain
	mover *balancer.Mover // nil: nobody is moved

	known    []brokerFacts
	snapshot *balancer.Snapshot // that at is for
	at       []int              // brokers by position in snapshot
	groups   []string           // names
	tried    []string           // memory of place
	busiest  []int32            // all clients, the greatest rate first
	rated    bool               // busiest is for the time after the event
	noted    int                // how many of them were heavy at the last look
	out      []int32            // memory of moves
}

// brokerFacts are what the Brain was told of a broker, and the memory of who checks it.
type brokerFacts struct {
	listed  bool
	version string
	failed  int     // checks in a row
	refused [10]int // connects, by second
	now     balancer.Vitals
}

// brainOptions are the settings of mqttlb with its defaults.
func brainOptions(w *world) balancer.BrainOptions {
	return balancer.BrainOptions{
		Key: strconv.FormatUint(w.s.Seed, 10), Watched: true,
		Placement: balancer.Options{BoundedLoad: 1.25, Seed: w.s.Seed},
	}
}

// newBrained returns mqttlb with a Mover.
func newBrained(w *world, o balancer.BrainOptions) (*brained, error) {
	b, err := newUnmoved(w, o)
	if err != nil {
		return nil, err
	}
	b.mover = balancer.NewMover(b.brain, balancer.MoverOptions{Rate: w.s.Rate}, w.now)
	return b, nil
}

// newUnmoved returns mqttlb without a Mover.
func newUnmoved(w *world, o balancer.BrainOptions) (*brained, error) {
	brain, err := balancer.NewBrain(o, w.now)
	if err != nil {
		return nil, err
	}
	b := &brained{w: w, brain: brain}
	for g := range w.groups {
		b.groups = append(b.groups, "group-"+strconv.Itoa(g))
	}
	return b, nil
}

// client is client i as a decision may know it.
func (b *brained) client(i int32) balancer.Client {
	c := &b.w.clients[i]
	known := balancer.Client{ID: c.id, Ordinal: int(c.ordinal), Persistent: c.persistent}
	if c.group >= 0 {
		known.Group = b.groups[c.group]
	}
	return known
}

func (b *brained) place(i int32, tried []int) int {
	b.tried = b.tried[:0]
	for _, t := range tried {
		b.tried = append(b.tried, b.w.brokers[t].name)
	}
	k, _ := b.brain.Place(b.client(i), b.tried, b.w.now)
	if k < 0 {
		return -1
	}
	return b.brokers()[k]
}

// brokers are the brokers of the world by position in the present snapshot.
func (b *brained) brokers() []int {
	s := b.brain.Snapshot()
	if b.snapshot == s {
		return b.at
	}
	b.snapshot, b.at = s, make([]int, len(s.Backends))
	for k := range b.w.brokers {
		if i := s.Index(b.w.brokers[k].name); i >= 0 {
			b.at[i] = k
		}
	}
	return b.at
}

func (b *brained) gone(i int32, from int, why ending) {
	how := balancer.Left
	if why != dropped {
		how = balancer.Moved
	}
	b.brain.Release(b.client(i), b.w.brokers[from].name, how, b.w.now)
}

func (b *brained) tick() {
	w := b.w
	b.discover()
	for k := range w.brokers {
		b.brain.Vital(w.brokers[k].name, b.vitals(k))
	}
	if w.now%scrapes == 0 && w.now > 0 {
		b.scrape()
	}
	b.brain.Tick(w.now)
}

// discover tells the Brain who belongs to the cluster, if that has changed.
func (b *brained) discover() {
	w, changed := b.w, len(b.known) < len(b.w.brokers)
	for len(b.known) < len(w.brokers) {
		b.known = append(b.known, brokerFacts{})
	}
	for k := range w.brokers {
		v, f := &w.brokers[k], &b.known[k]
		changed = changed || f.listed != v.listed || f.version != v.version
		f.listed, f.version = v.listed, v.version
	}
	if !changed {
		return
	}
	var list []balancer.Backend
	for k := range w.brokers {
		if v := &w.brokers[k]; v.listed {
			list = append(list, balancer.Backend{
				Name: v.name, Labels: map[string]string{balancer.VersionLabel: v.version},
			})
		}
	}
	b.brain.Join(list, w.now)
}

// vitals are what health knows of broker k: a check every five seconds, and the clients' own connects.
func (b *brained) vitals(k int) balancer.Vitals {
	w := b.w
	v, f := &w.brokers[k], &b.known[k]
	f.refused[w.now/second%10] = v.refused
	f.now.ConnectFailures = 0
	for _, n := range f.refused {
		f.now.ConnectFailures += n
	}
	if w.now%checks == 0 {
		f.now.Passed = v.up
		f.failed++
		if v.up {
			f.failed = 0
			f.now.Util = balancer.Figure{Value: v.busy, At: w.now}
		}
		f.now.FailedChecks = f.failed
	}
	f.now.Terminating = v.leaving
	return f.now
}

// scrape reads the brokers' load figures and what the connections carry.
func (b *brained) scrape() {
	w := b.w
	for k := range w.brokers {
		v := &w.brokers[k]
		if !v.listed {
			continue
		}
		if v.up {
			b.brain.Observe(v.name, balancer.Figure{Value: v.figure, At: w.now}, w.now)
		}
		b.brain.Traffic(v.name, v.traffic, w.now)
	}
	b.note()
	b.brain.Predict(w.now)
}

// note tells the Brain the rates of those who are heavy or may have been.
func (b *brained) note() {
	w := b.w
	if b.busiest == nil || b.rated != w.happened {
		b.rated = w.happened
		b.busiest = b.busiest[:0]
		for i := range w.clients {
			b.busiest = append(b.busiest, int32(i))
		}
		slices.SortStableFunc(b.busiest, func(x, y int32) int {
			return cmp.Compare(w.clients[y].rate, w.clients[x].rate)
		})
		if b.noted > 0 {
			b.noted = len(w.clients)
		}
	}
	floor, before := b.brain.HeavyFloor(), b.noted
	for n, i := range b.busiest {
		c := &w.clients[i]
		if c.rate >= floor {
			b.noted = n + 1
		} else if n >= before {
			break
		}
		if c.broker >= 0 {
			b.brain.Note(c.id, w.brokers[c.broker].name, c.rate)
		}
	}
}

func (b *brained) moves() []int32 {
	b.out = b.out[:0]
	if b.mover == nil {
		return nil
	}
	for _, m := range b.mover.Begin(b.sessions(), b.w.now) {
		b.out = append(b.out, int32(m.Handle))
	}
	return b.out
}

// sessions are all live connections.
func (b *brained) sessions() iter.Seq[balancer.Session] {
	return func(yield func(balancer.Session) bool) {
		w := b.w
		for i := range w.clients {
			c := &w.clients[i]
			if c.broker < 0 {
				continue
			}
			s := balancer.Session{
				Client: b.client(int32(i)), Backend: w.brokers[c.broker].name, Handle: uint64(i),
				Since: c.since, Rate: c.rate, Shared: c.group >= 0,
			}
			if c.will {
				s.Will = balancer.PromptWill
			}
			if !yield(s) {
				return
			}
		}
	}
}
