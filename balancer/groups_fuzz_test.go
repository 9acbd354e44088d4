package balancer

import (
	"math"
	"strconv"
	"testing"
)

// FuzzGroups plays bounded random histories. Whatever happens: nobody goes to a backend that is down or
// was tried, nobody while a fitter one is there, an arrival never lifts a backend above its quota, a
// preview tells the truth, the book adds up, and a plan ends.
func FuzzGroups(f *testing.F) {
	f.Add(uint64(1), []byte("place some members"))
	f.Add(uint64(2), []byte{0, 0, 0, 0, 200, 0, 0, 255, 1, 2, 3, 250, 0, 0, 130, 140, 0, 251, 0})
	f.Fuzz(func(t *testing.T, seed uint64, ops []byte) {
		if len(ops) > 200 {
			return
		}
		o := GroupOptions{
			Hold: int64(seed%3) * 50, Instance: int(seed % 2), Instances: 1 + int(seed%4),
			Ordinals: seed%5 == 0, MaxGroups: 3, MaxMembers: 20,
		}
		g, w := NewGroups(o), newGroupWorld(seed, 1+int(seed%7))
		for _, op := range ops {
			w.now += w.random.Int64N(20)
			switch {
			case op >= 245:
				w.change()
			case op >= 235:
				plan := g.Repair(w.snapshot, w.seats, w.now)
				if members := len(w.connections); len(plan) > members {
					t.Fatalf("a plan of %d moves for %d connections", len(plan), members)
				}
			case op >= 140 && len(w.connections) > 0:
				c := w.disconnected(int(op) % len(w.connections))
				g.Release(c.client, c.backend, Leave(op&1), w.now)
			default:
				w.seats.Tried = w.seats.Tried[:0]
				if op%8 == 7 {
					w.seats.Tried = append(w.seats.Tried, int(op)%len(w.snapshot.Backends))
				}
				c := groupClient("g"+strconv.Itoa(int(op)%4), int(op)/4-1)
				if c.Ordinal < 0 {
					c.ID = ""
				}
				placeAndCheck(t, g, w, c)
			}
			checkBook(t, g)
		}
	})
}

func placeAndCheck(t *testing.T, g *Groups, w *groupWorld, c Client) {
	t.Helper()
	s := w.snapshot
	seen, _ := g.Preview(c, s, w.seats, w.now)
	var occupied []int
	if at := g.book.groups[c.Group]; at != nil {
		for _, slot := range g.book.slotAt {
			occupied = append(occupied, at.occupied(slot))
		}
	} else {
		occupied = make([]int, len(s.Backends))
	}
	i, why := g.Place(c, s, w.seats, w.now)
	best := rankNone
	for b := range s.Backends {
		best = min(best, s.rank(b, w.seats, 0))
	}
	if i < 0 {
		if best != rankNone {
			t.Fatalf("%s was refused, want a backend", c.ID)
		}
		return
	}
	w.connected(c, i)
	if why.Strategy != groupSpread {
		return // beyond the limits; the fallback has its own tests
	}
	if rank := s.rank(i, w.seats, 0); rank != best {
		t.Fatalf("%s went to %s with rank %d, want %d", c.ID, s.Backends[i].Name, rank, best)
	}
	if len(g.book.members) == 20 {
		return // a lease may have given way between the count and the decision
	}
	if seen != i {
		t.Fatalf("%s went to %d, previewed %d", c.ID, i, seen)
	}
	total, weight := 0, 0.0
	for b := range s.Backends {
		if s.rank(b, w.seats, 0) == best {
			total += occupied[b]
			weight += s.Weight(b)
		}
	}
	quota := math.Ceil(float64(total+1)*s.Weight(i)/weight - 1e-6)
	if why.Cause == Emptiest && float64(occupied[i]+1) > quota {
		t.Fatalf("%s is number %d on %s, want at most %v", c.ID, occupied[i]+1, s.Backends[i].Name, quota)
	}
}
