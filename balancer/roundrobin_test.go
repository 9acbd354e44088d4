package balancer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

// turns lets a strategy deal n times and returns the names, run together.
func turns(st balancer.Strategy, snap *balancer.Snapshot, n int) string {
	var b strings.Builder
	seats := balancer.NewSeats(snap)
	for range n {
		i, _ := st.Pick(balancer.Client{}, snap, seats)
		b.WriteString(snap.Backends[i].Name)
	}
	return b.String()
}

// rotated is the least of all rotations of s: what stays the same wherever a cycle is entered.
func rotated(s string) string {
	least := s
	for i := range s {
		least = min(least, s[i:]+s[:i])
	}
	return least
}

// Weights 5:1:1 give nginx' sequence a a b a c a a, entered anywhere, or the one still smoother that begins
// between its steps; never b and c in a row, never more than four of a.
func TestSmoothSequence(t *testing.T) {
	t.Parallel()
	snap := balancer.NewSnapshot(1, "k", []balancer.Backend{{Name: "a", Capacity: 5}, {Name: "b"}, {Name: "c"}})
	known := map[string]int{rotated("aabacaa"): 0, rotated("aacabaa"): 0, rotated("aaabaac"): 0, rotated("aaacaab"): 0}
	for seed := range uint64(500) {
		dealt := turns(newStrategy(t, "round-robin", balancer.Options{Seed: seed}), snap, 700)
		for at := 0; at < len(dealt); at += 7 {
			if dealt[at:at+7] != dealt[:7] {
				t.Fatalf("seed %d: got %s at turn %d, want %s again", seed, dealt[at:at+7], at, dealt[:7])
			}
		}
		if _, ok := known[rotated(dealt[:7])]; !ok {
			t.Fatalf("seed %d: got the cycle %s, want a rotation of aabacaa or of aaabaac", seed, dealt[:7])
		}
		known[rotated(dealt[:7])]++
	}
	for cycle, n := range known {
		if n == 0 {
			t.Errorf("got the cycle %s for no seed, want it for some", cycle)
		}
	}
}

// deviation returns the largest |count - share| over all backends and all prefixes of n turns. Every few
// turns, weights gives new ones.
func deviation(st balancer.Strategy, n, every int, weights func() []float64) float64 {
	var snap *balancer.Snapshot
	var count, share []float64
	worst := 0.0
	for turn := range n {
		if turn%every == 0 {
			w := weights()
			set := some(len(w))
			for i := range set {
				set[i].Capacity = w[i]
			}
			snap = balancer.NewSnapshot(uint64(turn), "k", set)
			if count == nil {
				count, share = make([]float64, len(w)), make([]float64, len(w))
			}
		}
		i, _ := st.Pick(balancer.Client{}, snap, balancer.NewSeats(snap))
		count[i]++
		for k := range share {
			share[k] += snap.Share(k)
			worst = max(worst, math.Abs(count[k]-share[k]))
		}
	}
	return worst
}

// maxDeviation is the bound of algorithms.md 4.1.
const maxDeviation = 1.1

// Nobody is ever more than a turn ahead of or behind its share.
func TestTurnsFollowTheWeights(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]float64{
		{5, 1, 1},
		{10, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
		{1, 0.9, 0.8, 0.7, 0.6, 0.5},
		{1, 1, 1, 1, 1, 0.1},
		{1},
		{0.001, 1000},
	} {
		worst := 0.0
		for seed := range uint64(20 / balancer.Fewer) {
			st := newStrategy(t, "round-robin", balancer.Options{Seed: seed})
			worst = max(worst, deviation(st, 10_000, 10_000, func() []float64 { return weights }))
		}
		t.Logf("weights %v: max |count - share| = %.2f", weights, worst)
		if worst > maxDeviation {
			t.Errorf("weights %v: got a deviation of %.2f, want at most %v", weights, worst, maxDeviation)
		}
	}
}

// The same holds while the weights change all the time: with few connects between two changes, a schedule
// that begins anew degenerates to chance (30.6 for weights that change every two turns).
func TestTurnsFollowChangingWeights(t *testing.T) {
	t.Parallel()
	for _, every := range []int{2, 5, 20} {
		worst := 0.0
		for seed := range uint64(20 / balancer.Fewer) {
			rng := rand.New(rand.NewPCG(seed, 8))
			st := newStrategy(t, "round-robin", balancer.Options{Seed: seed})
			worst = max(worst, deviation(st, 3000, every, func() []float64 {
				w := make([]float64, 6)
				for i := range w {
					w[i] = math.Exp(0.1 * rng.NormFloat64())
				}
				return w
			}))
		}
		t.Logf("new weights every %d turns: max |count - share| = %.2f", every, worst)
		if worst > maxDeviation {
			t.Errorf("new weights every %d turns: got a deviation of %.2f, want at most %v", every, worst, maxDeviation)
		}
	}
}

// Weights are relative: in other units, the same turns. An operator who rewrites capacities from 1000 to 1
// must not send one broker a thousand clients in a row.
func TestTurnsDoNotDependOnTheUnitOfWeights(t *testing.T) {
	t.Parallel()
	in := func(unit float64) *balancer.Snapshot {
		return balancer.NewSnapshot(1, "k", []balancer.Backend{{Name: "a", Capacity: 2 * unit}, {Name: "b", Capacity: unit}, {Name: "c", Capacity: unit}})
	}
	for seed := range uint64(20) {
		st, same := newStrategy(t, "round-robin", balancer.Options{Seed: seed}), newStrategy(t, "round-robin", balancer.Options{Seed: seed})
		got, want := "", ""
		for _, unit := range []float64{1024, 1, 1.0 / 1024, 1} { // powers of two: no rounding
			got += turns(st, in(unit), 10)
			want += turns(same, in(1), 10)
		}
		if got != want {
			t.Fatalf("seed %d: got %s when the unit changes every 10 turns, want %s as without", seed, got, want)
		}
	}
}

// When a backend leaves and comes back, the turns of the others go on: nobody gets a burst.
func TestTurnsGoOnAcrossMemberships(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 11))
		st := newStrategy(t, "round-robin", balancer.Options{Seed: seed})
		last, run := "", 0
		for change := range 300 {
			set := some(4)
			gone := rng.IntN(5)
			if gone < 4 {
				set = append(set[:gone], set[gone+1:]...)
			}
			snap := balancer.NewSnapshot(uint64(change), "k", set)
			for range 1 + rng.IntN(5) {
				i, _ := st.Pick(balancer.Client{}, snap, balancer.NewSeats(snap))
				if name := snap.Backends[i].Name; name != last {
					last, run = name, 0
				}
				if run++; run > 3 {
					t.Fatalf("seed %d, change %d: got %s %d times in a row, with equal weights", seed, change, last, run)
				}
			}
		}
	}
}

// Instances that start together do not deal in lockstep, or a burst would meet one broker.
func TestInstancesBeginDifferently(t *testing.T) {
	t.Parallel()
	const n, instances = 6, 600
	snap := balancer.NewSnapshot(1, "k", some(n))
	first := make(map[string]int)
	for seed := range uint64(instances) {
		st := newStrategy(t, "round-robin", balancer.Options{Seed: seed * 0x9e3779b97f4a7c15})
		i, _ := st.Pick(balancer.Client{}, snap, balancer.NewSeats(snap))
		first[snap.Backends[i].Name]++
	}
	mean, sd := binomial(instances, 1.0/n)
	for i := range n {
		if got := first[fmt.Sprint("n", i)]; math.Abs(float64(got)-mean) > 5*sd {
			t.Errorf("got n%d as the first turn of %d of %d instances, want about %.0f", i, got, instances, mean)
		}
	}
}
