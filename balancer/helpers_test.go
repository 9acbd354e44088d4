package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

// phases are all that exist.
var phases = []balancer.Phase{
	balancer.Ready, balancer.Joining, balancer.Ramping, balancer.Hot, balancer.Draining, balancer.Down,
}

// strategies are all that New knows.
var strategies = balancer.Names()

func newStrategy(tb testing.TB, name string, o balancer.Options) balancer.Strategy {
	tb.Helper()
	s, err := balancer.New(name, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// some returns n backends called n0, n1, … of capacity 1.
func some(n int) []balancer.Backend {
	set := make([]balancer.Backend, n)
	for i := range set {
		set[i] = balancer.Backend{Name: fmt.Sprintf("n%d", i), Address: fmt.Sprintf("10.0.0.%d:1883", i+1)}
	}
	return set
}

// clientIDs are ids of the forms that devices use.
func clientIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		switch i % 3 {
		case 0:
			ids[i] = fmt.Sprintf("sensor-%d", i)
		case 1:
			ids[i] = fmt.Sprintf("plant-7/line-%d/plc", i)
		default:
			ids[i] = fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i)
		}
	}
	return ids
}

// home is the name of the backend that client-hash gives to a client when nothing is in the way.
func home(tb testing.TB, snap *balancer.Snapshot, id string) string {
	tb.Helper()
	i, why := newStrategy(tb, "client-hash", balancer.Options{}).Pick(balancer.Client{ID: id}, snap, balancer.NewSeats(snap))
	if i < 0 || why.Cause != balancer.Home {
		tb.Fatalf("client %q: got backend %d, cause %v, want its home", id, i, why.Cause)
	}
	return snap.Backends[i].Name
}

// randomSet returns up to limit backends with all kinds of weights and phases, in any order.
func randomSet(rng *rand.Rand, limit int) []balancer.Backend {
	set := some(rng.IntN(limit + 1))
	for i := range set {
		set[i].Capacity = []float64{0, 1, 1, 1, 2, 0.1, 7.5}[rng.IntN(7)]
		set[i].Ramp = []float64{0, 0, 1, 0.1, 0.73}[rng.IntN(5)]
		set[i].Phase = phases[rng.IntN(len(phases))]
		if rng.IntN(2) == 0 {
			set[i].Phase = balancer.Ready
		}
	}
	rng.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	return set
}

// randomSeats returns seats with counts up to 30 and some backends that have been tried.
func randomSeats(rng *rand.Rand, snap *balancer.Snapshot) *balancer.Seats {
	seats := balancer.NewSeats(snap)
	for i := range snap.Backends {
		for range rng.IntN(30) {
			seats.Take(i)
		}
		if rng.IntN(5) == 0 {
			seats.Tried = append(seats.Tried, i)
		}
	}
	if rng.IntN(4) == 0 {
		seats.Tried = append(seats.Tried, -1) // a backend that has left in the meantime
	}
	return seats
}
