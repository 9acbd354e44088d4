package balancer

import (
	"cmp"
	"slices"
)

// coolTo is how much above the average a hot backend may be left.
const coolTo = 1.05

// overheated fills in by how much traffic each hot backend is predicted to be above coolTo times the average load;
// false if none is. Clients that were sent away since the forecast count as gone.
func (b *Brain) overheated(excess []float64) bool {
	if b.forecast == nil || b.forecast.Cost <= 0 {
		return false // there is no telling what a client costs
	}
	load, capacity := 0.0, 0.0
	for i := range b.snapshot.Backends {
		at := &b.snapshot.Backends[i]
		if f, ok := b.forecast.Of(at.Name); ok && at.Phase.Serves() {
			load += f.Load * at.capacity()
			capacity += at.capacity()
		}
	}
	any := false
	for i := range b.snapshot.Backends {
		at := &b.snapshot.Backends[i]
		f, ok := b.forecast.Of(at.Name)
		if !ok || at.Phase != Hot {
			continue
		}
		above := (f.Load - coolTo*load/capacity) * at.capacity() / b.forecast.Cost
		if excess[i] = above - b.moved.at(at.Name).shed; excess[i] > 0 {
			any = true
		}
	}
	return any
}

// cool takes from each hot backend what it has too much (algorithms.md, 4.5): the cheapest clients to move first,
// and of those equally cheap the heaviest, except for clients that are heavier than what is left to take. Clients
// below the mean come last in any case: it takes too many of them to be cheap.
func (p *planner) cool(need *Need) {
	keys := p.keys[Cooling]
	if len(keys) == 0 {
		return
	}
	n := len(p.s.Backends)
	sum, count := make([]float64, n), make([]float64, n)
	for _, key := range keys {
		x := &p.candidates[uint32(key)]
		sum[x.from] += x.session.Rate
		count[x.from]++
	}
	light := func(x *candidate) bool { return x.session.Rate < (1-1e-9)*sum[x.from]/count[x.from] }
	slices.SortFunc(keys, func(a, b uint64) int {
		x, y := &p.candidates[uint32(a)], &p.candidates[uint32(b)]
		if light(x) != light(y) {
			if light(y) {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(coolness(&x.session), coolness(&y.session)),
			cmp.Compare(y.session.Rate, x.session.Rate), cmp.Compare(a, b))
	})
	excess := slices.Clone(need.excess)
	for _, key := range keys {
		if p.full() {
			return
		}
		x := &p.candidates[uint32(key)]
		if x.session.Rate > excess[x.from] {
			continue
		}
		if to, ok := p.cooler(x.session.Client, x.from); ok {
			excess[x.from] -= x.session.Rate
			p.move(&x.session, Cooling, x.from, to)
		}
	}
}

// cooler is where a client of a hot backend goes: where the predicted load is least, whether or not it is heavy by
// itself, as hashing might send it to the next backend that is about to become hot. Members of groups and clients
// that cannot be sent anywhere go where Place puts them.
func (p *planner) cooler(c Client, from int) (to int, ok bool) {
	to, ok = p.destination(c, from)
	if c = p.b.known(c); !ok || to < 0 || c.ID == "" || c.Group != "" && p.b.groups.seatsFor(c) {
		return to, ok
	}
	to = p.lightest("", p.b.o.Placement.BoundedLoad)
	return to, p.suits(to, from)
}

// coolness ranks sessions for cooling: members of shared subscriptions, then those without a will, then those
// whose session ends with the connection or whose will waits.
func coolness(s *Session) int {
	rank := 0
	if !s.Shared && s.Client.Group == "" {
		rank |= 4
	}
	if s.Will != NoWill {
		rank |= 2
	}
	if s.Client.Persistent && s.Will == PromptWill {
		rank |= 1
	}
	return rank
}
