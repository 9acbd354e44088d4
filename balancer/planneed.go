package balancer

import (
	"slices"
)

// A Need says which sessions a plan has to look at. It is immutable and may be asked by anyone: whoever has very
// many sessions in many places leaves out the others where they are, without holding any lock.
type Need struct {
	snapshot  *Snapshot
	positions map[string]int
	cutoff    int64 // sessions placed later are too young
	node      bool
	moveWills bool
	keepWills bool

	draining []bool              // by position: to be emptied
	overdue  []bool              // by position: to be empty by now
	excess   []float64           // by position: traffic that a hot backend has too much
	groups   map[string]struct{} // to be spread
	gives    []bool              // by position: may lose clients to level
	level    bool
	homes    bool // the home of a client follows from its id and the snapshot alone
}

// Need is what a plan with these options would look at, nil if there is nothing to plan. It is cheap, except that
// it looks at every group.
func (b *Brain) Need(o PlanOptions, now int64) *Need {
	o = o.withDefaults()
	s, n := b.snapshot, len(b.snapshot.Backends)
	allowed := purposes(b.state.Cluster)
	need := &Need{
		snapshot: s, positions: make(map[string]int, n), cutoff: now - o.MinAge, node: b.o.Placement.NodeScope,
		moveWills: o.MoveWills, keepWills: o.KeepWills, draining: make([]bool, n), overdue: make([]bool, n), excess: make([]float64, n),
	}
	wanted := false
	for i := range s.Backends {
		need.positions[s.Backends[i].Name] = i
		if allowed[Emptying] && b.emptying(i, o, now) && b.seats.Live[i] > b.moved.at(s.Backends[i].Name).leaving {
			need.draining[i], need.overdue[i], wanted = true, b.overdue[s.Backends[i].Name], true
		}
	}
	if allowed[Cooling] && !o.Manual && b.overheated(need.excess) {
		wanted = true
	}
	if allowed[Spreading] && (!o.Manual || o.Level || b.wished) {
		need.groups = b.unevenGroups(now)
		wanted = wanted || len(need.groups) > 0
	}
	if allowed[Levelling] && (o.Level || b.wished || !o.Manual && b.uneven) {
		need.level = b.unlevel(need, o)
		wanted = wanted || need.level
	}
	if !wanted {
		return nil
	}
	return need
}

// emptying tells whether a backend is to be emptied now.
func (b *Brain) emptying(i int, o PlanOptions, now int64) bool {
	m := b.order[i]
	absent := m.left && m.leftAt != 0 && now-m.leftAt < o.Absence
	return b.snapshot.Backends[i].Phase == Draining && !absent
}

// Of tells whether the plan has to look at a session, be it only to count it.
func (n *Need) Of(s *Session) bool {
	if _, held := n.held(s); held {
		return true
	}
	_, _, _, ok := n.sort(s)
	return ok
}

// held tells whether a session stays on a backend that is being emptied because of its will, and where that is.
func (n *Need) held(s *Session) (from int, held bool) {
	if !n.keepWills || s.Will != PromptWill || n.node && s.Client.Persistent {
		return 0, false
	}
	from, known := n.positions[s.Backend]
	return from, known && n.draining[from] && !n.overdue[from]
}

// sort tells what a session may be moved for, where it is, and where its home is if that is the purpose: -1 if
// that is for the strategy to say.
func (n *Need) sort(s *Session) (why Purpose, from, home int, ok bool) {
	from, known := n.positions[s.Backend]
	if !known || s.Since > n.cutoff && !n.overdue[from] || n.node && s.Client.Persistent {
		return 0, 0, 0, false
	}
	c := &s.Client
	switch {
	case n.draining[from]:
		return Emptying, from, -1, s.Will != PromptWill || !n.keepWills || n.overdue[from]
	case s.Will == PromptWill && (n.keepWills || !n.moveWills):
		return 0, 0, 0, false
	case n.excess[from] > 0:
		return Cooling, from, -1, s.Rate > 0
	case c.Group != "":
		_, ok = n.groups[c.Group]
		return Spreading, from, -1, ok
	case !n.level || c.ID == "" || !n.gives[from]:
		return 0, 0, 0, false
	case !n.homes:
		return Levelling, from, -1, true
	}
	home = n.snapshot.home(c.ID)
	return Levelling, from, home, home >= 0 && home != from
}

// home is the first of the fit backends in the rendezvous order of a client, -1 if none is fit: where client-hash
// puts it while no backend is over its bound. A plan asks this of every session, so it takes logarithms only to
// compare backends of different weight.
func (s *Snapshot) home(id string) int {
	client := keyedHash(s.seed, id)
	best, bestDraw, bestScore := -1, uint64(0), 0.0 // a score of 0 is not computed yet
	for i := range s.Backends {
		if !s.Backends[i].fit() {
			continue
		}
		draw, score := mix(client^s.hashes[i])>>11, 0.0
		switch {
		case best < 0:
		case s.weights[i] == s.weights[best]:
			if draw <= bestDraw {
				continue
			}
		default:
			if bestScore == 0 {
				bestScore = rendezvous(client, s.hashes[best], s.weights[best])
			}
			if score = rendezvous(client, s.hashes[i], s.weights[i]); score >= bestScore {
				continue
			}
		}
		best, bestDraw, bestScore = i, draw, score
	}
	return best
}

// fit tells whether clients may be moved to the backend.
func (b *Backend) fit() bool { return b.Phase == Ready || b.Phase == Ramping }

// expected are the connections as they will be when all are back that have been sent away.
func (b *Brain) expected(seats *Seats) {
	seats.Live, seats.Total, seats.Tried = slices.Grow(seats.Live[:0], len(b.seats.Live)), 0, seats.Tried[:0]
	seats.Most = b.seats.Most
	for i, live := range b.seats.Live {
		t := b.moved.at(b.snapshot.Backends[i].Name)
		live = max(0, live-t.leaving+t.expected)
		seats.Live = append(seats.Live, live)
		seats.Total += live
	}
}
