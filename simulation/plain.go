package simulation

import (
	"math"
	"slices"
)

// plain is a load balancer without a planner, and a person with a script who evicts random clients from the
// brokers with more than their share until all are even. Under the load of a hot broker "more" means load;
// otherwise it means connections.
type plain struct {
	w *world
	// pick chooses one of the open brokers that have not been tried, -1 if there is none.
	pick   func(i int32, tried []int) int
	credit float64 // evictions that are due
	out    []int32
}

func (p *plain) place(i int32, tried []int) int { return p.pick(i, tried) }
func (p *plain) gone(int32, int, ending)        {}
func (p *plain) tick()                          {}

func (p *plain) moves() []int32 {
	p.out = p.out[:0]
	w := p.w
	if !w.happened || !w.story.over() {
		return nil
	}
	loads := w.s.Event == Hot
	if w.even(loads) {
		p.credit = 0
		return nil
	}
	for p.credit += w.s.Rate * float64(step) / float64(second); p.credit >= 1; p.credit-- {
		if i := w.donor(loads); i >= 0 {
			p.out = append(p.out, i)
		}
	}
	return p.out
}

// donor is a random client on a broker that has more connections than the mean, or more load than it should; -1
// if none is found.
func (w *world) donor(loads bool) int32 {
	total, n := w.sum(loads)
	limit := total / float64(n) * 1.0001
	if loads {
		limit *= 1 + tolerance
	}
	for range 200 {
		i := int32(w.random.IntN(len(w.clients)))
		if b := w.clients[i].broker; b >= 0 && w.brokers[b].amount(loads) > limit {
			return i
		}
	}
	return -1
}

// usable tells whether a connect may go to broker b.
func (w *world) usable(b int, tried []int) bool {
	return !slices.Contains(tried, b) && w.brokers[b].open()
}

func newRoundRobin(w *world) *plain {
	next := 0
	return &plain{w: w, pick: func(_ int32, tried []int) int {
		for range w.brokers {
			next = (next + 1) % len(w.brokers)
			if w.usable(next, tried) {
				return next
			}
		}
		return -1
	}}
}

func newLeastConnections(w *world) *plain {
	return &plain{w: w, pick: func(_ int32, tried []int) int {
		return w.fewest(func(b int) bool { return w.usable(b, tried) })
	}}
}

// fewest is the broker with the fewest connections, a random one of several.
func (w *world) fewest(usable func(b int) bool) int {
	best, equal := -1, 0
	for b := range w.brokers {
		if !usable(b) {
			continue
		}
		n := -1
		if best >= 0 {
			n = len(w.brokers[best].clients)
		}
		switch k := len(w.brokers[b].clients); {
		case best < 0 || k < n:
			best, equal = b, 1
		case k == n:
			if equal++; w.random.IntN(equal) == 0 {
				best = b
			}
		}
	}
	return best
}

// newHash is rendezvous hashing over the open brokers, without bounds and without weights.
func newHash(w *world) *plain {
	keys := make([]uint64, len(w.clients))
	for i := range keys {
		keys[i] = fnv(w.clients[i].id) + w.s.Seed
	}
	var names []uint64
	return &plain{w: w, pick: func(i int32, tried []int) int {
		for len(names) < len(w.brokers) {
			names = append(names, fnv(w.brokers[len(names)].name))
		}
		best, most := -1, uint64(0)
		for b := range w.brokers {
			if score := scramble(keys[i] ^ names[b]); w.usable(b, tried) && (best < 0 || score > most) {
				best, most = b, score
			}
		}
		return best
	}}
}

// fnv is the FNV-1a hash.
func fnv(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// scramble is the finaliser of splitmix64.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// amount is the connections of a broker, or its load.
func (b *broker) amount(loads bool) float64 {
	if loads {
		return b.load
	}
	return float64(len(b.clients))
}

// sum is the amount of all open brokers, and their number.
func (w *world) sum(loads bool) (total float64, n int) {
	for b := range w.brokers {
		if w.brokers[b].open() {
			total += w.brokers[b].amount(loads)
			n++
		}
	}
	return total, n
}

// extremes are the least and the greatest amount of the open brokers in terms of their mean.
func (w *world) extremes(loads bool) (least, greatest float64) {
	total, n := w.sum(loads)
	if total == 0 {
		return 1, 1
	}
	least = math.Inf(1)
	for b := range w.brokers {
		if w.brokers[b].open() {
			part := w.brokers[b].amount(loads) * float64(n) / total
			least, greatest = min(least, part), max(greatest, part)
		}
	}
	return least, greatest
}

// even tells whether all is good: connections within the tolerance on both sides, or no load above it.
func (w *world) even(loads bool) bool {
	least, greatest := w.extremes(loads)
	return greatest <= 1+tolerance && (loads || least >= 1-tolerance)
}
