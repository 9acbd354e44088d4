package balancer

// A bucket holds the permission to move so many clients: it fills at a rate, up to its size. It does not give them out
// on the beat: up to jitter of what comes in between two looks is held back until the next, so that several balancers
// do not stay in step. The rate in the long run is exact, and more than there is in the bucket never leaves it.
type bucket struct {
	rate, size, level float64 // tokens per second, tokens
	held              float64 // tokens that stay in it for now
	taken             bool    // something was taken since the last fill
	at                int64
}

const (
	jitter = 0.2 // protocol.md, 4.5
	// What comes in within so many seconds always fits in beside a token that is held back: a Begin that is due every
	// 100 ms may be late by half of that before the rate suffers.
	lateness = 0.15
)

// newBucket returns a full bucket.
func newBucket(rate, size float64, now int64) bucket {
	b := bucket{at: now}
	b.set(rate, size)
	b.level = b.size
	return b
}

// set changes the rate and the size of a bucket, which is larger if it has to be for that rate.
func (b *bucket) set(rate, size float64) {
	b.rate, b.size = rate, max(size, 1+jitter+lateness*rate)
	b.level, b.held = min(b.level, b.size), min(b.held, jitter)
}

func (b *bucket) fill(chance *chance, now int64) {
	if now <= b.at {
		return
	}
	in := b.rate * float64(now-b.at) / float64(second)
	b.level, b.at = min(b.size, b.level+in), now
	if b.taken {
		b.taken, b.held = false, jitter*chance.next()*max(1, min(in, lateness*b.rate))
	}
}

// has tells whether there is a token; rounding of what was filled in must not lose one.
func (b *bucket) has() bool { return b.level >= 1+b.held-1e-9 }

// take takes a token, or what is left of one.
func (b *bucket) take() { b.level, b.taken = max(0, b.level-1), true }

// A chance is a source of numbers in [0,1): the same seed gives the same ones.
type chance struct{ seed, drawn uint64 }

func (c *chance) next() float64 {
	c.drawn++
	return unit(mix(mix(c.seed) + c.drawn))
}

// budget is what limits a Mover, apart from the fitness of where clients go.
type budget struct {
	o        MoverOptions
	chance   chance
	cluster  bucket
	backends map[string]*bucket // by the backend that clients leave
	hot      map[string]*bucket // the same for cooling
	ordered  map[string]*bucket // the same for emptying at an ordered rate
	orders   map[string]float64 // these rates, of all instances together
	limit    int                // clients that may be away at once
	room     int                // … and how many more may go
}

func newBudget(o MoverOptions, now int64) budget {
	b := budget{
		o: o, chance: chance{seed: o.Seed}, backends: make(map[string]*bucket), hot: make(map[string]*bucket),
		ordered: make(map[string]*bucket), orders: make(map[string]float64),
	}
	rate := b.share(o.Rate)
	b.cluster = newBucket(rate, rate, now)
	return b
}

// share is the part of a rate of the whole cluster that this instance may use.
func (b *budget) share(rate float64) float64 { return rate / float64(b.o.Instances) }

// change takes over other options. Nobody gets a burst by that.
func (b *budget) change(o MoverOptions) {
	b.o, b.chance.seed = o, o.Seed
	b.cluster.set(b.share(o.Rate), b.share(o.Rate))
	for _, x := range b.backends {
		x.set(b.share(o.PerBackend), b.share(o.PerBackendBurst))
	}
	for _, x := range b.hot {
		x.set(b.share(o.Cooling), b.share(1))
	}
	for name, x := range b.ordered {
		x.set(b.share(b.orders[name]), b.share(b.orders[name]/burstPart))
	}
}

// burstPart is which part of the rate of one backend leaves it at once: a fifth (protocol.md, 4.5).
const burstPart = 5

// order sets the rate at which a backend is emptied; 0 is the usual one.
func (b *budget) order(backend string, rate float64) {
	if rate <= 0 {
		delete(b.orders, backend)
		delete(b.ordered, backend)
		return
	}
	b.orders[backend] = rate
	if x := b.ordered[backend]; x != nil {
		x.set(b.share(rate), b.share(rate/burstPart))
	}
}

// away is how many of so many sessions may be away at once.
func (b *budget) away(sessions int) int {
	if b.o.InFlight >= 1 {
		return max(1, int(b.share(b.o.InFlight)))
	}
	return max(b.o.InFlightLeast, 1, int(b.o.InFlight*float64(sessions)))
}

// refill begins a round. sessions is how many there are, away how many of them are away.
func (b *budget) refill(sessions, away int, now int64) {
	b.cluster.fill(&b.chance, now)
	b.limit = b.away(sessions)
	b.room = b.limit - away
}

// open tells whether anybody may be moved at all.
func (b *budget) open() bool { return b.room > 0 && (b.cluster.has() || len(b.orders) > 0) }

// of is a bucket for moves from a backend.
func (b *budget) of(backends map[string]*bucket, name string, rate, burst float64, now int64) *bucket {
	x := backends[name]
	if x == nil {
		made := newBucket(b.share(rate), b.share(burst), now)
		x = &made
		backends[name] = x
	}
	x.fill(&b.chance, now)
	return x
}

func (b *budget) leaving(name string, now int64) *bucket {
	return b.of(b.backends, name, b.o.PerBackend, b.o.PerBackendBurst, now)
}

func (b *budget) cooling(name string, now int64) *bucket {
	return b.of(b.hot, name, b.o.Cooling, 1, now)
}

// emptying is the bucket for emptying a backend at an ordered rate, nil if there is no order.
func (b *budget) emptying(why Purpose, name string, now int64) *bucket {
	rate := b.orders[name]
	if rate == 0 || why != Emptying {
		return nil
	}
	return b.of(b.ordered, name, rate, rate/burstPart, now)
}

// may tells whether one more client may leave a backend.
func (b *budget) may(why Purpose, from string, now int64) bool {
	if b.room <= 0 {
		return false
	}
	if x := b.emptying(why, from, now); x != nil {
		return x.has()
	}
	return b.cluster.has() && b.leaving(from, now).has() && (why != Cooling || b.cooling(from, now).has())
}

// spend takes the tokens of one move.
func (b *budget) spend(m *Move, now int64) {
	b.cluster.take()
	if x := b.emptying(m.Why, m.From, now); x != nil {
		x.take()
	} else {
		b.leaving(m.From, now).take()
	}
	if m.Why == Cooling {
		b.cooling(m.From, now).take()
	}
	if m.Client.ID != "" {
		b.room--
	}
}

// perMinute is how many clients may leave a backend that is being emptied within the time of a plan.
func (b *budget) perMinute(backend string) int {
	rate := b.orders[backend]
	if rate == 0 {
		rate = min(b.o.Rate, b.o.PerBackend)
	}
	return int(b.share(rate)*float64(planFor)/float64(second)) + 1
}

// prune forgets the backends that are not in the snapshot. Orders stay: who is ordered to be empty may come back.
func (b *budget) prune(s *Snapshot) {
	for _, backends := range []map[string]*bucket{b.backends, b.hot, b.ordered} {
		for name := range backends {
			if s.Index(name) < 0 {
				delete(backends, name)
			}
		}
	}
}
