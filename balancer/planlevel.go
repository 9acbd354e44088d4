package balancer

import (
	"math"
	"slices"
)

// A balance says how many connections each backend should hold, by position in the snapshot.
type balance struct {
	serving   []bool // has a share
	fit       []bool // may be given more
	gives     []bool // may have to give: whoever ramps up keeps what it has, its share will be larger soon
	fair      []float64
	low, high []int
}

// balanceOf shares the connections of the serving backends out among them by weight, give or take the goal. One
// connection more or less than the fair share is as even as it gets.
func balanceOf(b *balance, s *Snapshot, seats *Seats, goal float64) {
	*b = balance{serving: b.serving[:0], fit: b.fit[:0], gives: b.gives[:0], fair: b.fair[:0], low: b.low[:0], high: b.high[:0]}
	total, weight := 0, 0.0
	for i := range s.Backends {
		if s.Backends[i].Phase.Serves() {
			total += seats.Live[i]
			weight += s.weights[i]
		}
	}
	for i := range s.Backends {
		fair := 0.0
		serving := s.Backends[i].Phase.Serves()
		if serving {
			fair = float64(total) * s.weights[i] / weight
		}
		b.serving = append(b.serving, serving)
		b.fit = append(b.fit, s.Backends[i].fit())
		b.gives = append(b.gives, serving && s.Backends[i].Phase != Ramping)
		b.fair = append(b.fair, fair)
		b.low = append(b.low, int(math.Min(math.Ceil((1-goal)*fair), math.Floor(fair))))
		b.high = append(b.high, int(math.Max(math.Floor((1+goal)*fair), math.Ceil(fair))))
	}
}

// level tells whether all serving backends are within their limits.
func (b *balance) level(seats *Seats) bool {
	for i, serving := range b.serving {
		if serving && (seats.Live[i] < b.low[i] || b.over(i, seats)) {
			return false
		}
	}
	return true
}

// needy and over tell whether a backend has too few or too many.
func (b *balance) needy(i int, seats *Seats) bool { return b.serving[i] && seats.Live[i] < b.low[i] }

func (b *balance) over(i int, seats *Seats) bool { return b.gives[i] && seats.Live[i] > b.high[i] }

// load is the connections in terms of the fair share.
func (b *balance) load(i int, seats *Seats) float64 {
	return float64(seats.Live[i]) / math.Max(b.fair[i], math.SmallestNonzeroFloat64)
}

// helps tells whether a move brings the cluster nearer to its limits: one of the two is beyond its own, and the
// other does not leave them.
func (b *balance) helps(from, to int, seats *Seats) bool {
	if !b.gives[from] || !b.fit[to] || b.load(to, seats) >= b.load(from, seats) {
		return false
	}
	if b.over(from, seats) {
		return seats.Live[to] < b.high[to]
	}
	return b.needy(to, seats) && seats.Live[from] > b.low[from]
}

// unlevel finds out who would give, false if all is level or the strategy gives clients no home to be moved to.
func (b *Brain) unlevel(n *Need, o PlanOptions) bool {
	switch b.strategy.(type) {
	case *Adaptive, *clientHash:
		n.homes = true
	case *maglev:
	default:
		return false
	}
	var seats Seats
	var even balance
	b.expected(&seats)
	balanceOf(&even, b.snapshot, &seats, o.Goal)
	if even.level(&seats) {
		return false
	}
	needy := false
	for i := range even.serving {
		needy = needy || even.needy(i, &seats)
	}
	for i, gives := range even.gives {
		n.gives = append(n.gives, gives && (even.over(i, &seats) || needy && seats.Live[i] > even.low[i]))
	}
	return true
}

// level chooses the fewest moves that bring all backends within their limits. Those with too many give to the needy;
// the needy take what is still missing from whoever has it to give, the least harm first; and if nobody is needy
// any more, those with too many give to the others. Clients are moved to their homes, which is where they always
// come back to.
//
// After a rolling update that does not do: hardly anybody is at home, and the clients of the last backend all sit
// on the one before it. So then clients that are not at home are moved to wherever they are needed.
func (p *planner) level() {
	if len(p.keys[Levelling]) == 0 {
		return
	}
	balanceOf(&p.even, p.s, &p.seats, p.o.Goal)
	l := leveller{planner: p, n: len(p.s.Backends)}
	l.cells = make([]cell, l.n*l.n)
	for _, key := range p.sorted(Levelling) {
		x := &p.candidates[uint32(key)]
		c := l.cell(x.from, x.home)
		c.keys = append(c.keys, key)
	}
	sources := []cellOf{l.homes}
	if p.b.updated {
		sources = append(sources, l.strays)
	}
	for _, of := range sources {
		for l.give(of, true) || l.short() && l.take(of) { // one client each time
			continue
		}
	}
	for _, of := range sources {
		for l.give(of, false) {
			continue
		}
	}
	slices.Sort(l.chosen)
	for _, key := range l.chosen {
		x := &p.candidates[uint32(key)]
		if p.full() {
			return
		}
		p.add(&x.session, Levelling, x.from, x.home)
	}
}

// A leveller plays the moves through on the seats of the plan.
type leveller struct {
	*planner
	n      int
	cells  []cell // by where clients are and where their home is
	chosen []uint64
}

// A cell holds the clients on one backend whose home is one other, the least harm first.
type cell struct {
	keys []uint64
	next int
}

func (l *leveller) cell(from, home int) *cell { return &l.cells[from*l.n+home] }

// homes is the cell of the clients on one backend whose home is the other, nil if there is none left.
func (l *leveller) homes(from, to int) *cell {
	if c := l.cell(from, to); c.next < len(c.keys) {
		return c
	}
	return nil
}

// strays is the cell with the least harm of the clients on one backend that are not at home, nil if there is none.
func (l *leveller) strays(from, _ int) (best *cell) {
	for home := range l.n {
		if c := l.homes(from, home); c != nil && (best == nil || c.harm() < best.harm()) {
			best = c
		}
	}
	return best
}

func (c *cell) harm() uint64 { return c.keys[c.next] >> harmShift }

// A cellOf chooses the cell to move a client from one backend to another.
type cellOf func(from, to int) *cell

// give moves one client away from the fullest of the backends that have too many, to one that is needy if it must
// be; false if none can.
func (l *leveller) give(of cellOf, needy bool) bool {
	from, to, most := -1, -1, 0.0
	for i := range l.n {
		if load := l.even.load(i, &l.seats); l.even.over(i, &l.seats) && load > most {
			if j := l.taker(of, i, needy); j >= 0 {
				from, to, most = i, j, load
			}
		}
	}
	return l.choose(of, from, to)
}

// taker is who would get a client of a backend that has too many: the one with the least.
func (l *leveller) taker(of cellOf, from int, needy bool) int {
	best, least := -1, 0.0
	for i := range l.n {
		if needy && !l.even.needy(i, &l.seats) || !l.even.helps(from, i, &l.seats) || of(from, i) == nil {
			continue
		}
		if load := l.even.load(i, &l.seats); best < 0 || load < least {
			best, least = i, load
		}
	}
	return best
}

// short tells whether those with too many have less to give than the needy need: then the others have to give too. If
// they have enough, but none that may be moved yet, the needy wait for it, or clients would be moved who need not.
func (l *leveller) short() bool {
	if l.now-l.b.changed > restFor {
		return true // nothing has come of it
	}
	need := 0
	for i := range l.n {
		if l.even.needy(i, &l.seats) {
			need += l.even.low[i] - l.seats.Live[i]
		}
		if l.even.over(i, &l.seats) {
			need -= l.seats.Live[i] - l.even.high[i]
		}
	}
	return need > 0
}

// take moves one client to a needy backend; false if there is none to move.
func (l *leveller) take(of cellOf) bool {
	from, to, least, most := -1, -1, uint64(0), 0.0
	for i := range l.n {
		if !l.even.needy(i, &l.seats) {
			continue
		}
		for j := range l.n {
			if !l.even.helps(j, i, &l.seats) {
				continue
			}
			c, load := of(j, i), l.even.load(j, &l.seats)
			if c == nil {
				continue
			}
			if harm := c.harm(); from < 0 || harm < least || harm == least && load > most {
				from, to, least, most = j, i, harm, load
			}
		}
	}
	return l.choose(of, from, to)
}

// choose moves a client.
func (l *leveller) choose(of cellOf, from, to int) bool {
	if from < 0 {
		return false
	}
	c := of(from, to)
	key := c.keys[c.next]
	c.next++
	l.candidates[uint32(key)].home = to
	l.chosen = append(l.chosen, key)
	l.seats.Live[from]--
	l.seats.Live[to]++
	return true
}
