package balancer

import (
	"cmp"
	"slices"
)

// A deal is what one placement in a group looks at: the backends that may be chosen, which are those
// of the best rank that any has, and how much of the group sits on each. Seats on other backends do
// not count: whoever sits there has to be seated anew, and the share of the others must not wait.
type deal struct {
	s        *Snapshot
	ranks    []rank
	occupied []int // seats of the group, live and leased, by backend
	live     []int // connections, by backend; belongs to Seats

	// Of the backends with the best rank:
	best   rank
	n      int     // how many they are
	seats  int     // Σ occupied
	load   int     // Σ live
	weight float64 // Σ weight

	order []int // memory for rotated
}

// Two tolerances keep rounding from deciding: 7 × 3/7 must be a quota of exactly 3, and 1/3 ties with
// 2/6. Shares of real weights are much further apart.
const (
	quotaTolerance = 1e-9
	scoreTolerance = 1e-12
)

// survey fills the deal. slotAt translates backends to the slots of the group's tallies.
func (d *deal) survey(s *Snapshot, seats *Seats, at *group, slotAt []int) {
	d.s, d.live = s, seats.Live
	d.ranks, d.occupied = d.ranks[:0], d.occupied[:0]
	d.best = rankNone
	for i := range s.Backends {
		r := s.rank(i, seats, 0)
		d.best = min(d.best, r)
		d.ranks = append(d.ranks, r)
		d.occupied = append(d.occupied, at.occupied(slotAt[i]))
	}
	d.n, d.seats, d.load, d.weight = 0, 0, 0, 0
	for i, r := range d.ranks {
		if r == d.best {
			d.n++
			d.seats += d.occupied[i]
			d.load += d.live[i]
			d.weight += s.weights[i]
		}
	}
}

// emptiest applies rules 3 to 5 of algorithms.md, 3.1. Rules 3 and 4 are the quota method of Balinski
// and Young: of the backends that the next member does not lift above their share rounded up, the one
// with the largest weight per seat. The score alone, which is D'Hondt's, misses the quota by up to 5
// seats with unequal weights; the quota alone does not say who is next.
//
// The result exists: the occupied seats are one fewer than the shares of seats+1 add up to.
func (d *deal) emptiest(key uint64, rotation int, bound float64) int {
	top := d.top()
	if rotation > 0 {
		return d.rotated(key, rotation, top, bound)
	}
	best, bestOver, bestOrder := -1, true, uint64(0)
	for i := range d.ranks {
		if !d.tied(i, top) {
			continue
		}
		over, order := d.over(i, bound), mix(key^d.s.hashes[i])
		if best < 0 || bestOver && !over || bestOver == over && order > bestOrder {
			best, bestOver, bestOrder = i, over, order
		}
	}
	return best
}

// top is the greatest score of those within quota.
func (d *deal) top() float64 {
	top := 0.0
	for i := range d.ranks {
		if d.withinQuota(i) {
			top = max(top, d.score(i))
		}
	}
	return top
}

// tied tells whether backend i is one of the emptiest.
func (d *deal) tied(i int, top float64) bool {
	return d.withinQuota(i) && d.score(i) >= top*(1-scoreTolerance)
}

// emptiestOf is who of the first 64 backends is one of the emptiest, a bit each, and how many all are.
func (d *deal) emptiestOf() (bits uint64, n int) {
	top := d.top()
	for i := range d.ranks {
		if d.tied(i, top) {
			bits |= 1 << i
			n++
		}
	}
	return bits, n
}

// rotated decides a tie in the hashed order, begun rotation places further on.
func (d *deal) rotated(key uint64, rotation int, top, bound float64) int {
	d.order = d.order[:0]
	for i, r := range d.ranks {
		if r == d.best {
			d.order = append(d.order, i)
		}
	}
	hashes := d.s.hashes
	slices.SortFunc(d.order, func(a, b int) int { return cmp.Compare(mix(key^hashes[b]), mix(key^hashes[a])) })
	best := -1
	for k := range d.order {
		i := d.order[(k+rotation)%len(d.order)]
		if !d.tied(i, top) {
			continue
		}
		if !d.over(i, bound) {
			return i
		}
		if best < 0 {
			best = i
		}
	}
	return best
}

// withinQuota is rule 3.
func (d *deal) withinQuota(i int) bool {
	return d.ranks[i] == d.best && float64(d.occupied[i]) < d.share(i, d.seats+1)-quotaTolerance
}

// score is what rule 4 maximises.
func (d *deal) score(i int) float64 { return d.s.weights[i] / float64(d.occupied[i]+1) }

// share is the fair part of backend i of that many seats.
func (d *deal) share(i, seats int) float64 { return float64(seats) * d.s.weights[i] / d.weight }

// over is rule 5a: one more connection would lift the backend above bound times its average. The left-over
// seats of a thousand small groups are a load of their own (algorithms.md, 3.3).
func (d *deal) over(i int, bound float64) bool {
	return float64(d.live[i]+1) > bound*d.share(i, d.load+1)
}

// take and free keep the sums right while a plan plays placements through. They count a connection as
// well, so live must be the plan's own.
func (d *deal) take(i int) { d.count(i, 1) }
func (d *deal) free(i int) { d.count(i, -1) }

func (d *deal) count(i, by int) {
	d.occupied[i] += by
	d.live[i] += by
	if d.ranks[i] == d.best {
		d.seats += by
		d.load += by
	}
}
