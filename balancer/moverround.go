package balancer

import (
	"iter"
	"slices"
)

// A lane holds the moves of a plan that wait for the same bucket, as positions in the plan.
type lane struct {
	why     Purpose
	from    int // position in the snapshot
	pending []int32
	read    int // in this round: up to here they were looked at …
	write   int // … and so many of them are still to be moved
}

// maxVain bounds how many moves of a lane are looked at in a round although something is in their way.
const maxVain = 256

// replan makes a new plan for the next minute.
func (m *Mover) replan(need *Need, sessions iter.Seq[Session], now int64) {
	wait := m.wait
	m.drop()
	m.wait = wait
	o := m.o.Plan
	minute := int(m.budget.share(m.o.Rate)*float64(planFor)/float64(second)) + 1
	m.work.most = m.work.most[:0]
	for i := range m.b.snapshot.Backends {
		most := m.budget.perMinute(m.b.snapshot.Backends[i].Name)
		m.work.most = append(m.work.most, most)
		if m.budget.orders[m.b.snapshot.Backends[i].Name] > 0 {
			minute += most
		}
	}
	whole := o.Limit > 0 && o.Limit <= minute
	if !whole {
		o.Limit = minute
	}
	m.work.reset(m.b, o, now)
	m.plan = m.work.plan(need, sessions)
	m.planned(len(m.plan), now)
	if !whole && len(m.plan) == minute || m.work.cut {
		m.again = now // there is more
	}
	clear(m.held)
	for i, n := range m.work.held {
		if n > 0 {
			m.held[m.b.snapshot.Backends[i].Name] = n
		}
	}
	for i := range m.plan {
		m.enqueue(int32(i))
	}
}

// enqueue puts a move of the plan into its lane. Plans come sorted by purpose.
func (m *Mover) enqueue(i int32) {
	mv := &m.plan[i]
	from := m.b.snapshot.Index(mv.From)
	at := slices.IndexFunc(m.lanes, func(l lane) bool { return l.why == mv.Why && l.from == from })
	if at < 0 {
		at = len(m.lanes)
		m.lanes = append(m.lanes, lane{why: mv.Why, from: from})
	}
	m.lanes[at].pending = append(m.lanes[at].pending, i)
	if mv.Client.ID != "" {
		m.b.moved.planned[mv.Client.ID] = struct{}{}
	}
}

// round begins as many moves as the budget allows: by purpose, and within a purpose one from each backend in turn.
func (m *Mover) round(now int64) {
	m.work.reset(m.b, m.o.Plan, now)
	m.budget.refill(m.work.seats.Total, m.b.moved.outstanding, now)
	if !m.budget.open() {
		return
	}
	balanceOf(&m.work.even, m.work.s, &m.work.seats, m.o.Plan.Goal)
	for rest := m.lanes; len(rest) > 0 && m.budget.open(); {
		n := 1
		for n < len(rest) && rest[n].why == rest[0].why {
			n++
		}
		m.inTurn(rest[:n], now)
		rest = rest[n:]
	}
	m.lanes = slices.DeleteFunc(m.lanes, func(l lane) bool { return len(l.pending) == 0 })
}

// inTurn works on the lanes of one purpose. Rounds begin with different ones.
func (m *Mover) inTurn(lanes []lane, now int64) {
	for open := true; open; {
		open = false
		for i := range lanes {
			open = m.step(&lanes[(i+m.turn)%len(lanes)], now) || open
		}
	}
	m.turn++
	for i := range lanes {
		lanes[i].close()
	}
}

// step begins the next move of a lane that may begin now, if there is any.
func (m *Mover) step(l *lane, now int64) bool {
	for l.read < len(l.pending) && l.write < maxVain && m.budget.may(l.why, m.work.s.Backends[l.from].Name, now) {
		i := l.pending[l.read]
		l.read++
		switch m.try(&m.plan[i], l.from, now) {
		case begun:
			return true
		case later:
			l.pending[l.write] = i
			l.write++
		case never:
		}
	}
	return false
}

// close ends a round of a lane: what was looked at and is still to be moved stays first, unless it was so much that
// those behind it would never have their turn.
func (l *lane) close() {
	if l.write < maxVain {
		l.pending = append(l.pending[:l.write], l.pending[l.read:]...)
	} else {
		l.pending = slices.Concat(l.pending[l.read:], l.pending[:l.write])
	}
	l.read, l.write = 0, 0
}

// A verdict is what becomes of a planned move when its turn comes.
type verdict uint8

const (
	begun verdict = iota
	later         // something is in the way
	never         // it is pointless by now
)

// try begins a move if it still makes sense and nothing is in the way.
func (m *Mover) try(mv *Move, from int, now int64) verdict {
	p, id := &m.work, mv.Client.ID
	if _, there := m.b.moved.planned[id]; !there && id != "" {
		return never // its connection has ended, or another move of it has begun
	}
	if m.b.o.Placement.NodeScope && mv.Client.Persistent {
		return never // that was configured meanwhile
	}
	if !m.spares(mv, now) {
		return later
	}
	to, v := m.aim(mv, from)
	if v != begun {
		return v
	}
	mv.To = ""
	if to >= 0 {
		name := p.s.Backends[to].Name
		if m.slow[name] {
			m.hindrance = name + " is slow"
			return later
		}
		if id != "" {
			mv.To = name
		}
	}
	m.b.depart(mv.Client, mv.From, mv.To, mv.Rate, now)
	p.shift(from, to, mv.Rate)
	m.budget.spend(mv, now)
	m.out = append(m.out, *mv)
	m.begun, m.hindrance = now, ""
	switch mv.Why {
	case Levelling:
		m.b.changed = now
	case Cooling:
		m.b.groups.cooled[mv.From] = now
	case Emptying, Spreading:
	}
	return begun
}

// spares tells whether the group of a client can do without one more member: one in twenty may be away, at least
// one, and only one while there is no hurry (algorithms.md, 3.4 and 6).
func (m *Mover) spares(mv *Move, now int64) bool {
	group := mv.Client.Group
	if group == "" {
		return true
	}
	limit := 1
	if at := m.b.groups.book.groups[group]; at != nil && (mv.Why != Spreading || m.b.state.Cluster != Balanced) {
		limit = max(1, at.seats/20)
	}
	return m.b.moved.away(group, now) < limit
}

// aim decides anew where a client goes.
func (m *Mover) aim(mv *Move, from int) (to int, v verdict) {
	p := &m.work
	switch mv.Why {
	case Emptying:
		to, ok := p.destination(mv.Client, from)
		switch {
		case !ok:
			m.hindrance = "no other backend takes clients"
			return to, later
		case p.makeshift && m.coming():
			m.hindrance = "an updated backend is about to take clients"
			return to, later
		}
		return to, begun
	case Cooling:
		to, ok := p.cooler(mv.Client, from)
		if !ok {
			m.hindrance = "no other backend takes clients"
			return to, later
		}
		return to, begun
	case Spreading:
		if !p.surplus(mv.Client, from) {
			return -1, never
		}
		if to = p.seat(mv.Client, from, Spreading); !p.suits(to, from) {
			return to, never
		}
		return to, begun
	case Levelling:
		to = p.s.Index(mv.To)
		if to < 0 || !p.even.helps(from, to, &p.seats) {
			return to, never
		}
		return to, begun
	}
	return -1, never
}

// coming tells whether an updated backend is about to take clients. To wait for it spares them a stay on an old one:
// an orchestrator goes on as soon as a broker is up, and that is some time before it has settled.
func (m *Mover) coming() bool {
	b := m.b
	for i := range b.snapshot.Backends {
		at := &b.snapshot.Backends[i]
		if at.Phase == Joining && at.Labels[VersionLabel] == b.state.Target && m.last-b.order[i].life.Since < b.o.Phases.Settle*3/2 {
			return true
		}
	}
	return false
}
