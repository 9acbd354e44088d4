package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

// tier says how much a backend is wanted: the lower, the more. Whether a ready backend is over its bound is
// not this test's business, so ready and hot differ only for strategies without a bound.
func tier(p balancer.Phase, bounded bool) int {
	switch p {
	case balancer.Ready, balancer.Ramping:
		return 0
	case balancer.Hot:
		if bounded {
			return 0
		}
		return 1
	case balancer.Joining, balancer.Draining:
		return 2
	case balancer.Down:
	}
	return 3
}

// The rules that hold for every strategy in any state of the world, also in those that histories do not lead to:
// never a backend that is down, never one that was tried, a hot, joining or draining one only when there is nothing
// better, nobody only when there is nobody. The order in which backends are discovered decides nothing.
func TestRulesOfAllStrategies(t *testing.T) {
	t.Parallel()
	for _, name := range strategies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(3, 3))
			st, twin := newStrategy(t, name, balancer.Options{Seed: 7}), newStrategy(t, name, balancer.Options{Seed: 7})
			rounds := 800 / balancer.Fewer
			if name == "maglev" {
				rounds /= balancer.Fewer // a new table each time
			}
			for round := range rounds {
				set := randomSet(rng, 7)
				snap := balancer.NewSnapshot(1, "k", set)
				rng.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
				other := balancer.NewSnapshot(1, "k", set)
				for k := range 12 {
					seats, c := randomSeats(rng, snap), balancer.Client{ID: fmt.Sprint("c", round, ".", k)}
					ahead, _ := balancer.Preview(st, c, snap, seats)
					i, why := st.Pick(c, snap, seats)
					checkRules(t, snap, seats, i, why, false)
					if j, whyTwin := twin.Pick(c, other, seats); j != i || whyTwin != why || ahead != i {
						t.Fatalf("%+v: got %d (%v), in another order %d (%v), previewed %d", set, i, why, j, whyTwin, ahead)
					}
				}
			}
		})
	}
}

// checkRules fails the test when a decision breaks a rule that holds for all strategies.
func checkRules(t *testing.T, snap *balancer.Snapshot, seats *balancer.Seats, i int, why balancer.Reason, bounded bool) {
	t.Helper()
	best := 3
	for k := range snap.Backends {
		if !slices.Contains(seats.Tried, k) {
			best = min(best, tier(snap.Backends[k].Phase, bounded))
		}
	}
	describe := func() string {
		return fmt.Sprintf("%+v, live %v, tried %v: ", snap.Backends, seats.Live, seats.Tried)
	}
	if i < 0 {
		if best < 3 || i != -1 || why.Cause != balancer.NoBackend {
			t.Fatalf(describe()+"got %d, %v, want a backend of tier %d", i, why.Cause, best)
		}
		return
	}
	if i >= len(snap.Backends) {
		t.Fatalf(describe()+"got index %d of %d", i, len(snap.Backends))
	}
	switch got := tier(snap.Backends[i].Phase, bounded); {
	case slices.Contains(seats.Tried, i):
		t.Fatalf(describe()+"got %s, which was tried", snap.Backends[i].Name)
	case got != best:
		t.Fatalf(describe()+"got %s of tier %d, want one of tier %d", snap.Backends[i].Name, got, best)
	case why.Cause == balancer.NoBackend || why.Other == snap.Backends[i].Name:
		t.Fatalf(describe()+"got %s with reason %+v", snap.Backends[i].Name, why)
	}
}

// Pick reads the seats and leaves them alone: the caller counts.
func TestPickChangesNeitherSnapshotNorSeats(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(4, 4))
	for _, name := range strategies {
		for round := range 300 / balancer.Fewer {
			set := randomSet(rng, 6)
			snap := balancer.NewSnapshot(1, "k", set)
			seats := randomSeats(rng, snap)
			backends, live, tried, total := slices.Clone(snap.Backends), slices.Clone(seats.Live), slices.Clone(seats.Tried), seats.Total
			st := newStrategy(t, name, balancer.Options{BoundedLoad: 1.25})
			st.Pick(balancer.Client{ID: fmt.Sprint(round)}, snap, seats)
			balancer.Preview(st, balancer.Client{}, snap, seats)
			if !slices.Equal(seats.Live, live) || !slices.Equal(seats.Tried, tried) || seats.Total != total || !reflect.DeepEqual(snap.Backends, backends) {
				t.Fatalf("%s: got backends %+v, live %v, tried %v, want them unchanged", name, snap.Backends, seats.Live, seats.Tried)
			}
		}
	}
}

// Looking at a snapshot that is not there yet, or at the choices of others, changes nothing; neither now nor when
// that snapshot comes.
func TestPreviewChangesNothing(t *testing.T) {
	t.Parallel()
	for _, name := range strategies {
		rng := rand.New(rand.NewPCG(5, 5))
		watched := newStrategy(t, name, balancer.Options{BoundedLoad: 1.25, Seed: 9})
		alone := newStrategy(t, name, balancer.Options{BoundedLoad: 1.25, Seed: 9})
		snap, next := balancer.NewSnapshot(1, "k", nil), balancer.NewSnapshot(2, "k", nil)
		for round := range 1200 / balancer.Fewer {
			if round%8 == 0 {
				snap, next = next, balancer.NewSnapshot(uint64(round), "k", randomSet(rng, 6))
				if round%3 == 0 {
					snap = balancer.NewSnapshot(uint64(round), "k", randomSet(rng, 6))
				}
			}
			seats := randomSeats(rng, snap)
			c := balancer.Client{}
			if round%2 == 0 {
				c.ID = fmt.Sprint("c", round)
			}
			ahead, aheadWhy := balancer.Preview(watched, c, snap, seats)
			balancer.Preview(watched, c, snap, &balancer.Seats{Live: seats.Live, Total: seats.Total, Tried: []int{ahead}})
			balancer.Preview(watched, balancer.Client{}, next, balancer.NewSeats(next))
			got, gotWhy := watched.Pick(c, snap, seats)
			want, wantWhy := alone.Pick(c, snap, seats)
			if got != want || gotWhy != wantWhy {
				t.Fatalf("%s, round %d: got %d (%v) after previews, want %d (%v)", name, round, got, gotWhy, want, wantWhy)
			}
			if ahead != got || aheadWhy != gotWhy {
				t.Fatalf("%s, round %d: got preview %d (%v), then pick %d (%v)", name, round, ahead, aheadWhy, got, gotWhy)
			}
		}
	}
}

// Least connections means that nobody equally fit has fewer for its weight.
func TestLeastConnectionsIsLeast(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 7))
	st := newStrategy(t, "least-connections", balancer.Options{})
	for round := range 20_000 {
		snap := balancer.NewSnapshot(1, "k", randomSet(rng, 7))
		seats := randomSeats(rng, snap)
		i, _ := st.Pick(balancer.Client{ID: fmt.Sprint(round)}, snap, seats)
		if i < 0 {
			continue
		}
		load := func(k int) float64 { return float64(seats.Live[k]+1) / snap.Weight(k) }
		for k := range snap.Backends {
			if !slices.Contains(seats.Tried, k) && tier(snap.Backends[k].Phase, false) == tier(snap.Backends[i].Phase, false) && load(k) < load(i) {
				t.Fatalf("%+v, live %v: got %s with load %v, want %s with %v", snap.Backends, seats.Live, snap.Backends[i].Name, load(i), snap.Backends[k].Name, load(k))
			}
		}
	}
}
