package balancer

import (
	"slices"
	"testing"
)

// twinSeatTable is the seat table as algorithms.md, 3.5 describes it, stage by stage, far enough beyond k
// that the end does not matter.
func twinSeatTable(hash uint64, n, k int) []int {
	table := make([]int, k+n*n+n)
	for stage := 2; stage <= n; stage++ {
		x := int(mix(hash^uint64(stage)*0x9e37) % uint64(stage))
		table[stage-1] = table[x]
		table[x] = stage - 1
		for from := stage; from+stage <= len(table); from += stage {
			count := make(map[int]int)
			var free []int
			start := int(mix(hash^uint64(stage)<<40^uint64(from)) % uint64(stage))
			for q := range stage {
				q = from + (start+q)%stage
				if count[table[q]]++; count[table[q]] > 1 {
					free = append(free, q)
				}
			}
			for owner := stage - 1; owner >= 0; owner-- {
				if count[owner] == 0 {
					table[free[0]] = owner
					free = free[1:]
				}
			}
		}
	}
	return table[:k]
}

// Every block is a permutation, so every prefix is within 1 of fair; and a table is the beginning of
// every longer one.
func TestSeatTable(t *testing.T) {
	t.Parallel()
	for hash := range uint64(20) {
		for n := 1; n <= 12; n++ {
			const k = 100
			table, twin := seatTable(nil, hash, n, k), twinSeatTable(hash, n, k)
			counts := make([]int, n)
			for q, owner := range table {
				counts[owner]++
				if high, low := slices.Max(counts), slices.Min(counts); high-low > 1 {
					t.Fatalf("group %d, %d backends: first %d seats are %v", hash, n, q+1, counts)
				}
				if int(owner) != twin[q] {
					t.Fatalf("group %d, %d backends, seat %d: got %d, want %d", hash, n, q, owner, twin[q])
				}
			}
			if longer := seatTable(table, hash, n, 3*k); !slices.Equal(longer[:k], seatTable(nil, hash, n, k)) {
				t.Fatalf("group %d, %d backends: the longer table begins otherwise", hash, n)
			}
		}
	}
	if table := seatTable(nil, 1, 0, 5); len(table) != 0 {
		t.Errorf("without backends: got %v, want nothing", table)
	}
}

// A backend that joins moves at most twice the minimum of seats (algorithms.md, 3.5).
func TestSeatTableMoves(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 6, 9} {
		const groups, k = 200, 120
		moves := 0
		for hash := range uint64(groups) {
			before, after := seatTable(nil, mix(hash), n, k), seatTable(nil, mix(hash), n+1, k)
			for q := range before {
				if before[q] != after[q] {
					moves++
				}
			}
		}
		ratio := float64(moves) / groups / (k / float64(n+1))
		t.Logf("%d→%d: %.2f × the minimum", n, n+1, ratio)
		if ratio > 2 {
			t.Errorf("%d→%d backends: got %.2f times the minimum of moves, want at most 2", n, n+1, ratio)
		}
	}
}

// Seats of a backend that cannot be chosen are spread over the others and come back with it.
func TestOrdinalStandIns(t *testing.T) {
	t.Parallel()
	set := equalBackends(6)
	whole := NewSnapshot(1, "key", set)
	set[2].Phase = Down
	hurt := NewSnapshot(2, "key", set)
	g := NewGroups(GroupOptions{Ordinals: true})
	stand := make([]int, 6)
	for k := range 150 {
		c := groupClient("g", k)
		home, why := g.Preview(c, whole, NewSeats(whole), 0)
		if why.Cause != OrdinalSeat {
			t.Fatalf("ordinal %d: got %s, want its own seat", k, why.Cause)
		}
		away, why := g.Preview(c, hurt, NewSeats(hurt), 0)
		switch {
		case home != 2 && away != home:
			t.Errorf("ordinal %d moved from %d to %d, want to stay", k, home, away)
		case home == 2:
			stand[away]++
			if why.Cause != Avoided || why.Other != set[2].Name || why.Phase != Down {
				t.Errorf("ordinal %d: got %+v, want to avoid %s", k, why, set[2].Name)
			}
		}
	}
	if want := []int{5, 5, 0, 5, 5, 5}; !slices.Equal(stand, want) {
		t.Errorf("got stand-ins %v, want %v", stand, want)
	}
	// Neither huge numbers nor unequal backends have seats.
	if _, why := g.Preview(groupClient("g", 4_000_000_000), whole, NewSeats(whole), 0); why.Cause != Emptiest {
		t.Errorf("huge ordinal: got %s, want emptiest", why.Cause)
	}
	set[0].Capacity = 2
	unequal := NewSnapshot(3, "key", set)
	if _, why := g.Preview(groupClient("g", 1), unequal, NewSeats(unequal), 0); why.Cause != Emptiest {
		t.Errorf("unequal capacities: got %s, want emptiest", why.Cause)
	}
}
