package balancer

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// A GroupMove is one member of a group that should change its backend.
type GroupMove struct {
	Group string
	// Member is the client id; empty means any one member of the group on From that has none.
	Member string
	// From and To are names of backends. To is where Place puts the member if the moves before it in
	// the plan were carried out and nothing else has happened.
	From, To string
}

// Repair plans the moves that bring every group within its quota again, after backends have joined or
// many members have left for good. The plan is minimal: no other set of moves that ends within quota
// is smaller (algorithms.md, 3.4). Groups are in the order of their names.
//
// To carry out a move, Reseat the member and close its connection, or Release it as Moved: then the rules of
// placement do the rest. Move one member of a group at a time, or few, and ask again after a while: whatever
// has happened meanwhile, the next plan starts from it and is no longer than what is left.
//
// Repair moves members only between backends that may take them. Members on a backend that is hot,
// draining or gone are the business of whoever decided that; they are counted again when they come.
// A leased seat counts but cannot be moved. A member with an ordinal moves only to its own seat. While very many leases
// have just ended and are being cleared away, some with every call, the plan is empty.
func (g *Groups) Repair(s *Snapshot, seats *Seats, now int64) []GroupMove {
	g.book.expire(now, "")
	g.book.adopt(s)
	if g.book.behind(now) {
		return nil
	}
	// A copy, because the plan counts its own moves; and what one client has tried is not our concern.
	own := &Seats{Live: slices.Clone(seats.Live), Total: seats.Total}
	p := groupPlan{groups: g, s: s}
	for _, name := range slices.Sorted(maps.Keys(g.book.groups)) {
		at := g.book.groups[name]
		g.deal.survey(s, own, at, g.book.slotAt)
		if g.deal.best != rankFit {
			break // there is nobody to move to
		}
		g.spareCooled(now)
		p.repair(at)
	}
	return p.moves
}

// spareCooled takes backends out of the deal that members were moved away from lately because they were hot: to even
// out the group would take the members back.
func (g *Groups) spareCooled(now int64) {
	d := &g.deal
	for name, at := range g.cooled {
		if now-at >= restFor {
			delete(g.cooled, name)
			continue
		}
		if i := d.s.Index(name); i >= 0 && d.ranks[i] == d.best && d.n > 1 {
			d.n--
			d.seats -= d.occupied[i]
			d.load -= d.live[i]
			d.weight -= d.s.weights[i]
			d.ranks[i] = rankFull
		}
	}
}

// Reseat begins a planned move of a member: its seat on the backend from is free at once, and one on the backend
// to is kept for it for as long as a lease. So it finds its place where the plan said, however many others come
// and go meanwhile. A member without an id, or one that sits elsewhere by now, keeps what it has.
func (g *Groups) Reseat(c Client, from, to string, s *Snapshot, now int64) {
	g.book.expire(now, c.Group)
	g.book.adopt(s)
	i := s.Index(to)
	if c.ID == "" || !g.seatsFor(c) {
		return
	}
	if m := g.book.members[c.ID]; m != nil && m.group.name == c.Group {
		if g.book.slots[m.slot].name != from {
			return
		}
		g.book.vacate(m)
	}
	if i < 0 || g.full(c) {
		return // it comes like one that was Released as Moved
	}
	g.book.seat(c, i)
	hold := g.options.Hold
	if hold <= 0 {
		hold = defaultHold
	}
	g.book.leave(c, to, now, hold)
}

// unseat takes a Reseat back: the member is still connected to the backend from.
func (g *Groups) unseat(c Client, from, to string, s *Snapshot, now int64) {
	g.book.expire(now, c.Group)
	g.book.adopt(s)
	i, m := s.Index(from), g.book.members[c.ID]
	if i < 0 || m == nil || m.group.name != c.Group || g.book.slots[m.slot].name != to || m.connections > 0 {
		return
	}
	g.book.vacate(m)
	g.book.seat(c, i)
}

// sparesCooled tells whether spareCooled takes a backend out.
func (g *Groups) sparesCooled(s *Snapshot, i int) bool {
	_, cooled := g.cooled[s.Backends[i].Name]
	return cooled
}

// groupPlan grows a plan by playing it through on the deal of groups.
type groupPlan struct {
	groups *Groups
	s      *Snapshot
	moves  []GroupMove
	may    func(member string, from int) bool // nil: everybody may be moved
	excess []int                              // memory
}

// repair plans for the group that the deal is of.
func (p *groupPlan) repair(at *group) {
	p.renumber(at)
	p.level(at)
}

// renumber moves the members with an ordinal to the seats of their numbers.
func (p *groupPlan) renumber(at *group) {
	if !p.groups.options.Ordinals {
		return
	}
	d := &p.groups.deal
	for m := at.members.first; m != nil; m = m.links[byArrival].next {
		from := p.groups.book.slots[m.slot].index
		if m.connections == 0 || from < 0 || d.ranks[from] != d.best || p.may != nil && !p.may(m.id, from) {
			continue
		}
		to := p.groups.owner(at, p.s, m.ordinal)
		if to >= 0 && p.groups.sparesCooled(p.s, to) {
			continue
		}
		if to >= 0 && d.ranks[to] != d.best {
			to = p.groups.standIn(at, p.s, to, m.ordinal)
		}
		if to >= 0 && to != from {
			d.free(from)
			d.take(to)
			p.add(at, m.id, from, to)
		}
	}
}

// level moves members from backends above their target, always from the one that has most too many.
func (p *groupPlan) level(at *group) {
	d := &p.groups.deal
	p.excess = d.excess(p.excess)
	if slices.Max(p.excess) == 0 {
		return
	}
	movable := p.movable(at)
	for {
		from := -1
		for i, k := range p.excess {
			if len(movable[i]) > 0 && k > 0 && (from < 0 || k > p.excess[from]) {
				from = i
			}
		}
		if from < 0 {
			return
		}
		id := movable[from][0]
		d.free(from)
		to := p.groups.emptiest(p.s, id, at.name)
		d.take(to)
		if to == from {
			return // not reached, see TestRepairIsMinimal; a plan that does nothing must end all the same
		}
		movable[from] = movable[from][1:]
		p.add(at, id, from, to)
		p.excess = d.excess(p.excess)
	}
}

// movable lists the ids of the members that may be asked to go, by backend. Those who have sat longest
// come first: a member that was moved sits last, so nobody moves twice while others never did.
func (p *groupPlan) movable(at *group) [][]string {
	g := p.groups
	ids := make([][]string, len(p.s.Backends))
	for m := at.members.first; m != nil; m = m.links[byArrival].next {
		i := g.book.slots[m.slot].index
		if m.connections > 0 && i >= 0 && g.owner(at, p.s, m.ordinal) < 0 && (p.may == nil || p.may(m.id, i)) {
			ids[i] = append(ids[i], m.id)
		}
	}
	for i, slot := range g.book.slotAt {
		if slot < len(at.tallies) {
			for range at.tallies[slot].nameless {
				if p.may == nil || p.may("", i) {
					ids[i] = append(ids[i], "")
				}
			}
		}
	}
	return ids
}

func (p *groupPlan) add(at *group, id string, from, to int) {
	p.moves = append(p.moves, GroupMove{
		Group: at.name, Member: id, From: p.s.Backends[from].Name, To: p.s.Backends[to].Name,
	})
}

// excess tells how many seats each backend has above its target. Everybody's target is the share
// rounded down, and the seats left over go where members already sit, so that they need not move: first
// to backends above their share, then to the largest fractions.
func (d *deal) excess(above []int) []int {
	above = above[:0]
	left := d.seats
	d.order = d.order[:0]
	for i, r := range d.ranks {
		if r != d.best {
			above = append(above, 0)
			continue
		}
		floor := d.floor(i)
		left -= floor
		above = append(above, d.occupied[i]-floor)
		if d.fraction(i) > quotaTolerance {
			d.order = append(d.order, i)
		}
	}
	slices.SortFunc(d.order, func(a, b int) int {
		if over := above[a] > 0; over != (above[b] > 0) {
			if over {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(d.fraction(b), d.fraction(a)), cmp.Compare(a, b))
	})
	for _, i := range d.order[:min(left, len(d.order))] {
		above[i]--
	}
	for i := range above {
		above[i] = max(above[i], 0)
	}
	return above
}

func (d *deal) floor(i int) int { return int(math.Floor(d.share(i, d.seats) + quotaTolerance)) }

func (d *deal) fraction(i int) float64 { return d.share(i, d.seats) - float64(d.floor(i)) }
