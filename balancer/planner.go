package balancer

import (
	"iter"
	"slices"
)

// A planner makes one plan by playing it through: it has seats of its own, on which every move that it plans is
// carried out at once, so that the next one sees a world in which this one is done.
type planner struct {
	b   *Brain
	o   PlanOptions
	now int64
	s   *Snapshot

	seats   Seats            // connections when all are back that are away
	bare    *Seats           // nobody is anywhere, so that no backend is over its bound; nil until needed
	shifted map[string][]int // by group and position: seats that the plan has moved
	loads   []float64        // of heavy clients' backends, see Heavy; empty until needed
	even    balance
	// makeshift tells that the last destination was chosen for want of an updated backend with room.
	makeshift bool

	candidates []candidate
	keys       [Levelling + 1][]uint64 // the candidates for each purpose
	members    map[memberOf]int        // how many of a group were seen on a backend
	held       []int                   // by position: sessions that stay because of their wills
	most       []int                   // by position: how many may leave a backend that is emptied; nil for all
	cut        bool                    // most has kept moves out of the plan
	moves      []Move
}

// A candidate is a session that may be moved. home is a position if the purpose is Levelling.
type candidate struct {
	session    Session
	from, home int
}

// memberOf is a group on a backend.
type memberOf struct {
	group string
	from  int
}

// A key of a candidate sorts by harm and then by position: its low half is the position among the candidates, the
// bits from harmShift on are the harm, and between them is what turn a member of a group has, so that members of
// different groups alternate.
const (
	turnShift = 32
	maxTurn   = 1<<16 - 1
	harmShift = 48
)

// reset begins a plan, in the memory of the last one.
func (p *planner) reset(b *Brain, o PlanOptions, now int64) {
	p.b, p.o, p.now, p.s = b, o, now, b.snapshot
	b.expected(&p.seats)
	clear(p.shifted)
	p.loads = p.loads[:0]
	b.groups.book.expire(now, "")
	b.groups.book.adopt(p.s)
}

// plan makes the plan.
func (p *planner) plan(need *Need, sessions iter.Seq[Session]) []Move {
	p.members, p.moves, p.cut = make(map[memberOf]int), p.moves[:0], false
	p.held = append(p.held[:0], make([]int, len(p.s.Backends))...)
	for s := range sessions {
		p.look(need, &s)
	}
	p.empty()
	p.cool(need)
	if !slices.ContainsFunc(p.moves, func(m Move) bool { return m.Why == Emptying }) {
		p.spread(need)
		p.level()
	}
	p.candidates, p.members, p.keys, p.bare = nil, nil, [Levelling + 1][]uint64{}, nil // large, and rarely needed
	return p.moves
}

// look sorts a session in.
func (p *planner) look(need *Need, s *Session) {
	if at, held := need.held(s); held {
		p.held[at]++
		return
	}
	why, from, home, ok := need.sort(s)
	if !ok || p.b.moved.leavingFrom(s.Client.ID, s.Backend) {
		return
	}
	resting := p.b.moved.resting(s.Client.ID, p.now)
	if resting && why != Emptying {
		return
	}
	if why == Levelling {
		if p.b.adaptive != nil && p.b.heavy.isHeavy(s.Client.ID) {
			return // placed by load
		}
		if home < 0 {
			if p.bare == nil {
				p.bare = NewSeats(p.s)
			}
			if home, _ = Preview(p.b.strategy, s.Client, p.s, p.bare); home < 0 || home == from {
				return
			}
		}
	}
	turn := 0
	if s.Client.Group != "" {
		of := memberOf{s.Client.Group, from}
		turn = min(p.members[of], maxTurn)
		p.members[of]++
	}
	key := harm(s, resting)<<harmShift | uint64(turn)<<turnShift | uint64(uint32(len(p.candidates)))
	p.candidates = append(p.candidates, candidate{*s, from, home})
	p.keys[why] = append(p.keys[why], key)
}

// harm ranks sessions by what it costs to end them (protocol.md, 4.5 and 4.7): a will that is published, then a
// subscription that nobody else serves meanwhile, then a session that does not outlive its connection. Somebody
// who has been moved lately comes last.
func harm(s *Session, resting bool) uint64 {
	h := uint64(s.Will) << 2
	if !s.Shared && s.Client.Group == "" {
		h |= 2
	}
	if !s.Client.Persistent {
		h |= 1
	}
	if resting {
		h |= 1 << 4
	}
	return h
}

// sorted are the candidates for a purpose, the least harm first.
func (p *planner) sorted(why Purpose) []uint64 {
	slices.Sort(p.keys[why])
	return p.keys[why]
}

// full tells whether the plan has as many moves as it may have.
func (p *planner) full() bool { return p.o.Limit > 0 && len(p.moves) >= p.o.Limit }

// empty sends everybody away from draining backends.
func (p *planner) empty() {
	for _, key := range p.sorted(Emptying) {
		if p.full() {
			return
		}
		x := &p.candidates[uint32(key)]
		if p.most != nil && p.most[x.from] == 0 {
			p.cut = true
			continue
		}
		if to, ok := p.destination(x.session.Client, x.from); ok {
			p.move(&x.session, Emptying, x.from, to)
			if p.most != nil {
				p.most[x.from]--
			}
		}
	}
}

// move adds a move and carries it out on the seats of the plan. to is below 0 if nobody knows.
func (p *planner) move(s *Session, why Purpose, from, to int) {
	p.add(s, why, from, to)
	p.carryOut(s.Client, from, to, s.Rate)
}

// add adds a move to the list.
func (p *planner) add(s *Session, why Purpose, from, to int) {
	m := Move{Client: s.Client, From: p.s.Backends[from].Name, Why: why, Handle: s.Handle, Rate: s.Rate}
	if to >= 0 && s.Client.ID != "" {
		m.To = p.s.Backends[to].Name
	}
	m.Forced = why == Emptying && p.b.overdue[m.From]
	p.moves = append(p.moves, m)
}

// carryOut changes the seats of the plan.
func (p *planner) carryOut(c Client, from, to int, rate float64) {
	p.shift(from, to, rate)
	if c = p.b.known(c); c.Group != "" && to >= 0 {
		p.reseat(c, from, to)
	}
}

// shift counts a move in the connections and the traffic of the plan.
func (p *planner) shift(from, to int, rate float64) {
	p.seats.Live[from]--
	if to < 0 {
		p.seats.Total--
		return
	}
	p.seats.Live[to]++
	if len(p.loads) > 0 {
		p.load(from, -rate)
		p.load(to, rate)
	}
}

// destination is where Place would put a client that leaves a backend now. to is -1 if that cannot be told: then
// any fit backend may get it. It is not ok if no fit backend would.
func (p *planner) destination(c Client, from int) (to int, ok bool) {
	c, p.makeshift = p.b.known(c), false
	if c.Group != "" && p.b.groups.seatsFor(c) {
		to = p.seat(c, from, Emptying)
		return to, p.suits(to, from)
	}
	strategy := p.b.strategy
	if p.b.adaptive != nil {
		strategy = p.b.adaptive.choose(c)
	}
	p.seats.Live[from]--
	p.seats.Total--
	defer func() {
		p.seats.Live[from]++
		p.seats.Total++
	}()
	switch st := strategy.(type) {
	case *fatAware:
		if last, heavy := st.heavy.heavy(c.ID); heavy {
			to = p.lightest(last, st.bound)
			break
		}
		to, _ = st.Preview(c, p.s, &p.seats)
	case *clientHash, *maglev:
		if c.ID == "" {
			return -1, p.anyFit()
		}
		if to, _ = Preview(st, c, p.s, &p.seats); !p.s.Backends[from].Phase.Serves() {
			to = p.shelter(c, to)
		}
	case *versionAware:
		var why Reason
		to, why = st.Pick(c, p.s, &p.seats)
		p.makeshift = why.Cause != Newest
	case leastConnections:
		to, _ = st.Pick(c, p.s, &p.seats)
	default: // it takes turns, or chances
		return -1, p.anyFit()
	}
	return to, p.suits(to, from)
}

// shelter is where a client goes whose backend is emptied: where its strategy wants it, to, or else to the first in its own
// order that is within the goal of its fair share. With the looser bound of its strategy a rolling update would end with
// most clients on one backend, as those that have come back are empty. Without such a backend it stays at to.
func (p *planner) shelter(c Client, to int) int {
	even := clientHash{bound: 1 + p.o.Goal}
	within := func(i int) bool { return i >= 0 && even.rank(c, i, p.s, &p.seats) == rankFit }
	if within(to) {
		return to
	}
	if best, _ := even.walk(c, p.s, &p.seats); within(best) {
		return best
	}
	return to
}

// suits tells whether a client may be moved there.
func (p *planner) suits(to, from int) bool { return to >= 0 && to != from && p.s.Backends[to].fit() }

func (p *planner) anyFit() bool {
	return slices.ContainsFunc(p.s.Backends, func(b Backend) bool { return b.fit() })
}

// lightest is where fat-aware puts a heavy client, by the loads of the plan.
func (p *planner) lightest(last string, bound float64) int {
	p.weigh()
	best, bestRank := -1, rankNone
	for i := range p.s.Backends {
		k := p.s.rank(i, &p.seats, bound)
		if k < bestRank || k == bestRank && k != rankNone && p.loads[i] < p.loads[best] {
			best, bestRank = i, k
		}
	}
	if i := p.s.Index(last); i >= 0 && best >= 0 && p.s.rank(i, &p.seats, bound) == bestRank &&
		p.loads[i] <= p.b.heavy.o.Keep*p.loads[best] {
		return i
	}
	return best
}

// weigh fills in the loads: those of Heavy, and what is on its way. There is a forecast.
func (p *planner) weigh() {
	if len(p.loads) > 0 {
		return
	}
	p.b.heavy.adopt(p.s)
	p.loads = append(p.loads, p.b.heavy.loads...)
	for i := range p.s.Backends {
		p.load(i, p.b.moved.at(p.s.Backends[i].Name).rate)
	}
}

// load counts traffic on a backend for lightest.
func (p *planner) load(i int, rate float64) {
	if !p.s.Backends[i].Left {
		p.loads[i] += rate * p.b.forecast.Cost / p.s.weights[i]
	}
}
