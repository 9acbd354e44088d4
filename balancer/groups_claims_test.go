package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// G1 of algorithms.md, 3.2: while members only arrive, every count is its share rounded up or down.
func TestGroupsKeepQuotaOnArrival(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	worst := 0.0
	for range 400 {
		set := equalBackends(2 + random.IntN(14))
		kind := random.IntN(4)
		for i := range set {
			switch kind {
			case 1:
				set[i].Capacity = 0.2 + random.Float64()
			case 3:
				set[i].Capacity = float64(1+random.IntN(9)) / 10 // shares that should be whole and are not quite
			case 2:
				set[i].Capacity = min(30, 1/random.Float64())
			}
		}
		s := NewSnapshot(1, "key", set)
		g, seats := NewGroups(GroupOptions{}), NewSeats(s)
		for k := 1; k <= 300; k++ {
			i, _ := g.Place(groupClient("workers", k), s, seats, 0)
			seats.Take(i)
			for b, n := range seats.Live {
				share := float64(k) * s.Share(b)
				worst = max(worst, math.Abs(float64(n)-share))
				if float64(n) > math.Ceil(share-1e-6) || float64(n) < math.Floor(share+1e-6) {
					t.Fatalf("after %d arrivals: got %d members on %s, want %.4f rounded up or down", k, n, s.Backends[b].Name, share)
				}
			}
		}
	}
	if worst > 1 {
		t.Errorf("got a count %.3f off its share, want at most 1", worst)
	}
	t.Logf("worst |count - share| = %.4f", worst)
}

// The left-over seats of many small groups load all backends alike (algorithms.md, 3.3).
func TestManySmallGroups(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ groups, size int }{{1000, 2}, {1000, 1}, {300, 3}, {100, 4}, {50, 7}, {20, 8}} {
		worst, sum := 0.0, 0.0
		const runs = 10
		for run := range runs {
			s := NewSnapshot(1, fmt.Sprint("key", run), equalBackends(6))
			g, seats := NewGroups(GroupOptions{}), NewSeats(s)
			for _, m := range rand.New(rand.NewPCG(uint64(run), 5)).Perm(test.groups * test.size) {
				i, _ := g.Place(groupClient("g"+strconv.Itoa(m/test.size), m), s, seats, 0)
				seats.Take(i)
			}
			ratio := float64(slices.Max(seats.Live)) * 6 / float64(seats.Total)
			worst, sum = max(worst, ratio), sum+ratio
		}
		t.Logf("%4d groups × %d: total max/avg %.3f (worst %.3f)", test.groups, test.size, sum/runs, worst)
		if worst > 1.0501 {
			t.Errorf("%d groups × %d: got max/avg %.3f, want at most 1.05", test.groups, test.size, worst)
		}
	}
}

// An instance that restarts without memory sends most members of small groups where they were, because
// it asks the member's own order in ties (algorithms.md, 3.3: 82 %).
func TestGroupsAfterRestart(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(6))
	random := rand.New(rand.NewPCG(6, 6))
	place := func() []int {
		g, seats := NewGroups(GroupOptions{}), NewSeats(s)
		at := make([]int, 2000)
		for _, m := range random.Perm(len(at)) {
			at[m], _ = g.Place(groupClient("g"+strconv.Itoa(m/2), m), s, seats, 0)
			seats.Take(at[m])
		}
		return at
	}
	before, after, same := place(), place(), 0
	for m := range before {
		if before[m] == after[m] {
			same++
		}
	}
	t.Logf("%d of %d members are where they were", same, len(before))
	if same < len(before)*3/4 {
		t.Errorf("got %d of %d members where they were, want three quarters", same, len(before))
	}
}

// Several instances that know nothing of each other, members arriving at random ones: the bounds of
// algorithms.md, 3.5. Over-share is the fullest backend's distance from its share, over all instances.
func TestInstancesWithoutSharedState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		instances, size int
		ordinals        bool
		mean, worst     float64
	}{
		{instances: 1, size: 12, mean: 0, worst: 0},
		{instances: 2, size: 12, mean: 0.67, worst: 1},
		{instances: 4, size: 12, mean: 0.89, worst: 2},
		{instances: 2, size: 100, mean: 0.33, worst: 0.34},
		{instances: 4, size: 100, mean: 0.75, worst: 1.34},
		{instances: 4, size: 6, mean: 0.87, worst: 1},
		{instances: 4, size: 12, ordinals: true, mean: 0, worst: 0},
		{instances: 4, size: 100, ordinals: true, mean: 0.34, worst: 0.34},
	} {
		s := NewSnapshot(1, "key", equalBackends(6))
		random := rand.New(rand.NewPCG(4, 4))
		var all []*Groups
		var seats []*Seats
		for l := range test.instances {
			all = append(all, NewGroups(GroupOptions{Instance: l, Instances: test.instances, Ordinals: test.ordinals}))
			seats = append(seats, NewSeats(s))
		}
		const groups = 400
		sum, worst := 0.0, 0.0
		for k := range groups {
			var counts [6]int
			for m := range test.size {
				l := random.IntN(test.instances)
				i, _ := all[l].Place(groupClient("g"+strconv.Itoa(k), m), s, seats[l], 0)
				seats[l].Take(i)
				counts[i]++
			}
			over := float64(slices.Max(counts[:])) - float64(test.size)/6
			sum, worst = sum+over, max(worst, over)
		}
		t.Logf("%d instances, %3d members, ordinals %v: over-share %.2f (worst %.2f)", test.instances, test.size, test.ordinals, sum/groups, worst)
		if sum/groups > test.mean+0.05 || worst > test.worst+1e-9 {
			t.Errorf("%d instances, %d members: got over-share %.2f (worst %.2f), want %.2f (%.2f)",
				test.instances, test.size, sum/groups, worst, test.mean, test.worst)
		}
	}
}

func TestGroupsDoNotAllocate(t *testing.T) {
	s := NewSnapshot(1, "key", equalBackends(6))
	for _, o := range []GroupOptions{{}, {Instance: 1, Instances: 3}, {Ordinals: true}} {
		g, seats := NewGroups(o), NewSeats(s)
		clients := make([]Client, 100)
		home := make([]int, len(clients))
		for k := range clients {
			clients[k] = groupClient("g"+strconv.Itoa(k%7), k)
			home[k], _ = g.Place(clients[k], s, seats, 0)
		}
		newcomer, k := groupClient("g1", 1000), 0
		allocs := testing.AllocsPerRun(1000, func() {
			g.Release(clients[k], s.Backends[home[k]].Name, Left, 1)
			g.Place(clients[k], s, seats, 1)
			g.Preview(newcomer, s, seats, 1)
			k = (k + 1) % len(clients)
		})
		if allocs != 0 {
			t.Errorf("%+v: got %v allocations, want 0", o, allocs)
		}
	}
}

// BenchmarkPlace places and releases members. It does not show the mutex of the caller, nor caches that
// other work has emptied.
func BenchmarkPlace(b *testing.B) {
	for _, n := range []int{6, 64} {
		for _, bench := range []struct {
			name string
			o    GroupOptions
			how  Leave
		}{
			{"returning", GroupOptions{}, Left},
			{"new", GroupOptions{}, Moved},
			{"new-rotated", GroupOptions{Instance: 1, Instances: 3}, Moved},
			{"new-ordinal", GroupOptions{Ordinals: true}, Moved},
		} {
			b.Run(fmt.Sprintf("member=%s/backends=%d", bench.name, n), func(b *testing.B) {
				s := NewSnapshot(1, "key", equalBackends(n))
				g, seats := NewGroups(bench.o), NewSeats(s)
				clients := make([]Client, 10000)
				home := make([]int, len(clients))
				for k := range clients {
					clients[k] = groupClient("g"+strconv.Itoa(k/40), k)
					clients[k].Ordinal = k % 40
					home[k], _ = g.Place(clients[k], s, seats, 0)
				}
				b.ReportAllocs()
				k := 0
				for b.Loop() {
					g.Release(clients[k], s.Backends[home[k]].Name, bench.how, 1)
					home[k], _ = g.Place(clients[k], s, seats, 1)
					k = (k + 1) % len(clients)
				}
			})
		}
	}
}
