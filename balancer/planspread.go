package balancer

import (
	"maps"
	"slices"
)

// unevenGroups are the groups that Repair would move members of, nil if there are none.
func (b *Brain) unevenGroups(now int64) map[string]struct{} {
	var uneven map[string]struct{}
	for _, m := range b.groups.Repair(b.snapshot, b.seats, now) {
		if uneven == nil {
			uneven = make(map[string]struct{})
		}
		uneven[m.Group] = struct{}{}
	}
	return uneven
}

// spread plans what Groups.Repair does, with the members that may be moved now.
func (p *planner) spread(need *Need) {
	if len(need.groups) == 0 {
		return
	}
	type seat struct {
		member, group string
		from          int
	}
	sessions := make(map[seat][]uint64) // more than one only of members without an id
	for _, key := range p.sorted(Spreading) {
		x := &p.candidates[uint32(key)]
		at := seat{x.session.Client.ID, x.session.Client.Group, x.from}
		sessions[at] = append(sessions[at], key)
	}
	g := p.b.groups
	for _, name := range slices.Sorted(maps.Keys(need.groups)) {
		at := g.book.lapse(name, p.now)
		if at == nil {
			continue
		}
		p.survey(at)
		if g.deal.best != rankFit {
			return
		}
		g.spareCooled(p.now)
		asked := make([]int, len(p.s.Backends)) // for members without an id
		plan := groupPlan{groups: g, s: p.s, may: func(member string, from int) bool {
			if p.s.Backends[from].Phase == Ramping {
				return false // its share will be larger soon
			}
			have := len(sessions[seat{member, name, from}])
			if member == "" {
				asked[from]++
				return asked[from] <= have
			}
			return have > 0
		}}
		plan.repair(at)
		for _, m := range plan.moves {
			if p.full() {
				return
			}
			from, to := p.s.Index(m.From), p.s.Index(m.To)
			key := seat{m.Member, name, from}
			x := &p.candidates[uint32(sessions[key][0])]
			sessions[key] = sessions[key][1:]
			p.add(&x.session, Spreading, from, to)
			// The seats of the plan have been changed by the repair.
		}
	}
}

// survey makes the deal of Groups that of a group, with the seats that the plan has moved.
func (p *planner) survey(at *group) {
	d := &p.b.groups.deal
	d.survey(p.s, &p.seats, at, p.b.groups.book.slotAt)
	for i, by := range p.shifted[at.name] {
		d.occupied[i] += by
		if d.ranks[i] == d.best {
			d.seats += by
		}
	}
}

// seat is where Groups would place a member that leaves a backend, -1 if no backend can take it. Repair is more choosy.
func (p *planner) seat(c Client, from int, why Purpose) int {
	g := p.b.groups
	g.book.lapse(c.Group, p.now)
	at, d := g.group(c.Group), &g.deal
	p.survey(at)
	if d.best == rankNone {
		return -1
	}
	if why == Spreading {
		g.spareCooled(p.now)
	}
	if now, _ := g.seatOf(c); now >= 0 && now != from && d.ranks[now] == d.best {
		return now // it has come again by itself
	}
	// A seat on a backend that is left because of its phase does not count anyway, whether the member has it or was
	// placed there before its group was known.
	d.free(from)
	to := g.owner(at, p.s, c.Ordinal)
	switch {
	case to < 0:
		to = g.emptiest(p.s, c.ID, c.Group)
	case d.ranks[to] != d.best:
		to = g.standIn(at, p.s, to, c.Ordinal)
	}
	p.seats.Live[from]++ // free has counted there
	return to
}

// seated tells whether a member has a seat of its group on a backend, or if it has no id, somebody has.
func (p *planner) seated(at *group, c Client, from int) bool {
	book := &p.b.groups.book
	if c.ID == "" {
		slot := book.slotAt[from]
		return slot < len(at.tallies) && at.tallies[slot].nameless > 0
	}
	m := book.members[c.ID]
	return m != nil && m.group == at && book.slots[m.slot].index == from
}

// reseat moves the seat of a member in the plan.
func (p *planner) reseat(c Client, from, to int) {
	if !p.b.groups.seatsFor(c) {
		return
	}
	if p.shifted == nil {
		p.shifted = make(map[string][]int)
	}
	by := p.shifted[c.Group]
	if by == nil {
		by = make([]int, len(p.s.Backends))
		p.shifted[c.Group] = by
	}
	by[from]--
	by[to]++
}

// surplus tells whether a group has a member too many on a backend, or this one sits on another than its number
// says: what a move to spread it must still find.
func (p *planner) surplus(c Client, from int) bool {
	g := p.b.groups
	at := g.book.lapse(c.Group, p.now)
	if at == nil || !p.seated(at, c, from) {
		return false
	}
	p.survey(at)
	d := &g.deal
	if d.best == rankFit {
		g.spareCooled(p.now)
	}
	if d.best != rankFit || d.ranks[from] != d.best || p.s.Backends[from].Phase == Ramping {
		return false
	}
	if owner := g.owner(at, p.s, c.Ordinal); owner >= 0 {
		return owner != from && !g.sparesCooled(p.s, owner)
	}
	return d.excess(nil)[from] > 0
}
