package balancer

// A bucket holds the permission to move so many clients: it fills at a rate, up to its size.
type bucket struct {
	rate, size, level float64 // tokens per second, tokens
	at                int64
}

// newBucket returns a full bucket of at least one token.
func newBucket(rate, size float64, now int64) bucket {
	size = max(size, 1)
	return bucket{rate: rate, size: size, level: size, at: now}
}

func (b *bucket) fill(now int64) {
	if now > b.at {
		b.level = min(b.size, b.level+b.rate*float64(now-b.at)/float64(second))
		b.at = now
	}
}

// has tells whether there is a token; rounding of what was filled in must not lose one.
func (b *bucket) has() bool { return b.level >= 1-1e-9 }

func (b *bucket) take() { b.level-- }

// budget is what limits a Mover, apart from the fitness of where clients go.
type budget struct {
	o        MoverOptions
	cluster  bucket
	backends map[string]*bucket // by the backend that clients leave
	hot      map[string]*bucket // the same for cooling
	room     int                // clients that may go before too many are away
}

func newBudget(o MoverOptions, now int64) budget {
	rate := o.Rate / float64(o.Instances)
	return budget{
		o: o, cluster: newBucket(rate, rate, now),
		backends: make(map[string]*bucket), hot: make(map[string]*bucket),
	}
}

// refill begins a round. sessions is how many there are, away how many of them are away.
func (b *budget) refill(sessions, away int, now int64) {
	b.cluster.fill(now)
	b.room = max(1, int(b.o.InFlight*float64(sessions))) - away
}

// open tells whether anybody may be moved at all.
func (b *budget) open() bool { return b.room > 0 && b.cluster.has() }

// of is the bucket for moves from a backend, for a purpose: cooling has one more.
func (b *budget) of(backends map[string]*bucket, name string, rate, burst float64, now int64) *bucket {
	x := backends[name]
	if x == nil {
		n := float64(b.o.Instances)
		made := newBucket(rate/n, burst/n, now)
		x = &made
		backends[name] = x
	}
	x.fill(now)
	return x
}

func (b *budget) leaving(name string, now int64) *bucket {
	return b.of(b.backends, name, b.o.PerBackend, b.o.PerBackendBurst, now)
}

func (b *budget) cooling(name string, now int64) *bucket {
	return b.of(b.hot, name, b.o.Cooling, 1, now)
}

// may tells whether one more client may leave a backend.
func (b *budget) may(why Purpose, from string, now int64) bool {
	return b.open() && b.leaving(from, now).has() && (why != Cooling || b.cooling(from, now).has())
}

// spend takes the tokens of one move.
func (b *budget) spend(m *Move, now int64) {
	b.cluster.take()
	b.leaving(m.From, now).take()
	if m.Why == Cooling {
		b.cooling(m.From, now).take()
	}
	if m.Client.ID != "" {
		b.room--
	}
}

// prune forgets the backends that are not in the snapshot.
func (b *budget) prune(s *Snapshot) {
	for _, backends := range []map[string]*bucket{b.backends, b.hot} {
		for name := range backends {
			if s.Index(name) < 0 {
				delete(backends, name)
			}
		}
	}
}
