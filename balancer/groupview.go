package balancer

import (
	"iter"
	"math"
	"strings"
)

// A GroupView shows how the seats of one group are spread. Its slices are in the order of the backends of the
// Brain's Snapshot, and its numbers are those of one moment.
type GroupView struct {
	Name string
	// Live counts the members that are connected, Leased the seats that are kept for members that are away.
	Live, Leased []int
	// Elsewhere counts the members that are connected to backends that have left.
	Elsewhere int
	// Members counts all that are connected, Away all seats that are kept, on whatever backend.
	Members, Away int
	// Spread is the greatest difference of Live between two usable backends of equal weight: 0 or 1 is as even
	// as it gets. Backends of different weight are not compared. Usable are the backends that the next member
	// could be given.
	Spread int
}

// AllGroups yields every group that has a seat, in no order. The view belongs to the iteration and changes with
// the next step.
//
// With very many groups this takes milliseconds. The Brain may be put to other uses between two steps, so that
// whoever guards it with a mutex can let go of it now and then; a group that comes or goes meanwhile is yielded
// or not.
func (b *Brain) AllGroups(now int64) iter.Seq[*GroupView] {
	return func(yield func(*GroupView) bool) {
		b.groups.book.expire(now, "")
		v := viewer{brain: b}
		for name := range b.groups.book.groups {
			if at := b.groups.book.lapse(name, now); at != nil && !yield(v.look(at)) {
				return
			}
		}
	}
}

// Group shows one group; false if nobody of it has a seat.
func (b *Brain) Group(name string, now int64) (GroupView, bool) {
	b.groups.book.expire(now, name)
	at := b.groups.book.groups[name]
	if at == nil {
		return GroupView{Name: name}, false
	}
	v := viewer{brain: b}
	return *v.look(at), true
}

// FairShares are the parts of a group's members that the backends should hold, 0…1, in the order of the snapshot:
// the part of each in the weight of all usable backends.
func (b *Brain) FairShares() []float64 {
	v := viewer{brain: b}
	v.adopt(b.snapshot)
	shares, total := make([]float64, len(v.classes)), 0.0
	for i, class := range v.classes {
		if class != unusable {
			shares[i] = b.snapshot.weights[i]
			total += shares[i]
		}
	}
	for i := range shares {
		shares[i] /= max(total, minCapacity*minCapacity) // shares of nothing are 0
	}
	return shares
}

// Name is the name of a group as Groups keeps it, or a copy if there is no such group yet. Whoever takes names
// out of packets keeps one string for all members with it, and none of the packets.
func (g *Groups) Name(name string) string {
	if at := g.book.groups[name]; at != nil {
		return at.name
	}
	return strings.Clone(name)
}

// A viewer looks at one group after the other.
type viewer struct {
	brain    *Brain
	snapshot *Snapshot
	classes  []int // by position in the snapshot: backends of equal weight are in one class
	low      []int // by class
	high     []int
	view     GroupView
}

// unusable is the class of backends that no member would be given.
const unusable = -1

// adopt finds the classes of the backends.
func (v *viewer) adopt(s *Snapshot) {
	if v.snapshot == s {
		return
	}
	v.snapshot = s
	v.classes = v.classes[:0]
	nobody, best := &Seats{}, rankNone
	for i := range s.Backends {
		best = min(best, s.rank(i, nobody, 0))
	}
	known := make(map[float64]int)
	for i := range s.Backends {
		class := unusable
		if best != rankNone && s.rank(i, nobody, 0) == best {
			var found bool
			if class, found = known[s.weights[i]]; !found {
				class = len(known)
				known[s.weights[i]] = class
			}
		}
		v.classes = append(v.classes, class)
	}
	v.low, v.high = make([]int, len(known)), make([]int, len(known))
}

// look fills the view.
func (v *viewer) look(at *group) *GroupView {
	s, book := v.brain.snapshot, &v.brain.groups.book
	book.adopt(s)
	v.adopt(s)
	n := len(s.Backends)
	if len(v.view.Live) != n {
		v.view.Live, v.view.Leased = make([]int, n), make([]int, n)
	}
	clear(v.view.Live)
	clear(v.view.Leased)
	w := GroupView{Name: at.name, Live: v.view.Live, Leased: v.view.Leased}
	for slot, t := range at.tallies {
		w.Members += t.live + t.nameless
		w.Away += t.held
		switch i := book.slots[slot].index; {
		case i >= 0 && !s.Backends[i].Left:
			w.Live[i], w.Leased[i] = t.live+t.nameless, t.held
		default:
			w.Elsewhere += t.live + t.nameless
		}
	}
	w.Spread = v.spread(w.Live)
	v.view = w
	return &v.view
}

func (v *viewer) spread(live []int) int {
	for class := range v.low {
		v.low[class], v.high[class] = math.MaxInt, 0
	}
	for i, class := range v.classes {
		if class != unusable {
			v.low[class], v.high[class] = min(v.low[class], live[i]), max(v.high[class], live[i])
		}
	}
	spread := 0
	for class := range v.low {
		spread = max(spread, v.high[class]-v.low[class])
	}
	return spread
}
