package balancer_test

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

// fuzzedBackends reads backends from data, 12 bytes each: name, phase, ramp, connections, capacity. The
// capacity may be any float64, also one that is none.
func fuzzedBackends(data []byte) (set []balancer.Backend, live map[string]int, tried map[string]bool) {
	live, tried = make(map[string]int), make(map[string]bool)
	for ; len(data) >= 12 && len(set) < 16; data = data[12:] {
		name := string(rune('a' + data[0]%32))
		if slices.ContainsFunc(set, func(b balancer.Backend) bool { return b.Name == name }) {
			continue
		}
		set = append(set, balancer.Backend{
			Name: name, Phase: balancer.Phase(data[1] % 7), Ramp: float64(data[2]) / 200,
			Capacity: math.Float64frombits(binary.BigEndian.Uint64(data[4:])),
		})
		live[name], tried[name] = int(data[3]>>1), data[3]&1 == 1
	}
	return set, live, tried
}

// fuzzed is one backend as fuzzedBackends reads it.
func fuzzed(name byte, phase balancer.Phase, ramp, live byte, capacity float64) []byte {
	return binary.BigEndian.AppendUint64([]byte{name, byte(phase), ramp, live}, math.Float64bits(capacity))
}

// FuzzPick asks all strategies about any ids, weights, phases and counts. They must answer within the rules,
// the same for any order of the backends, and the same in Preview; client-hash as its twin does.
func FuzzPick(f *testing.F) {
	f.Add("secret", "sensor-1", 1.25, slices.Concat(
		fuzzed(0, balancer.Ready, 0, 20, 1), fuzzed(1, balancer.Hot, 0, 0, 2), fuzzed(2, balancer.Down, 20, 7, 0.1)))
	f.Add("", "", 0.0, slices.Concat(fuzzed(3, balancer.Draining, 0, 1, 1), fuzzed(4, balancer.Joining, 0, 0, -1)))
	f.Add("k", "\xff\x00", 1e300, fuzzed(0, 6, 0, 0, 1))
	f.Fuzz(func(t *testing.T, key, id string, bound float64, data []byte) {
		set, live, tried := fuzzedBackends(data)
		reversed := slices.Clone(set)
		slices.Reverse(reversed)
		snap, other := balancer.NewSnapshot(1, key, set), balancer.NewSnapshot(1, key, reversed)
		seats := balancer.NewSeats(snap)
		for i := range snap.Backends {
			for range live[snap.Backends[i].Name] {
				seats.Take(i)
			}
			if tried[snap.Backends[i].Name] {
				seats.Tried = append(seats.Tried, i)
			}
		}
		c := balancer.Client{ID: id, Ordinal: -1}
		for _, name := range strategies {
			o := balancer.Options{BoundedLoad: bound, Seed: uint64(len(data))}
			st, twinned := newStrategy(t, name, o), newStrategy(t, name, o)
			for range 3 {
				ahead, _ := balancer.Preview(st, c, snap, seats)
				i, why := st.Pick(c, snap, seats)
				checkRules(t, snap, seats, i, why, id != "" && (name == "client-hash" || name == "maglev" || name == "adaptive"))
				if ahead != i {
					t.Fatalf("%s: got preview %d, then pick %d", name, ahead, i)
				}
				if k, _ := twinned.Pick(c, other, seats); k != i {
					t.Fatalf("%s, %+v: got %d and, in another order, %d", name, set, i, k)
				}
			}
		}
		if id == "" || !ordinary(set) || math.IsNaN(bound) {
			return
		}
		want, _ := twin(key, id, bound, set, live, tried)
		i, why := newStrategy(t, "client-hash", balancer.Options{BoundedLoad: bound}).Pick(c, snap, seats)
		got := ""
		if i >= 0 {
			got = snap.Backends[i].Name
		}
		if got != want {
			t.Fatalf("%+v, live %v, tried %v: got %q (%v), want %q", set, live, tried, got, why, want)
		}
	})
}

// Weights that nobody should write must not bring the process down: the configuration forbids them, but
// backends come from other places too.
func TestOddWeights(t *testing.T) {
	t.Parallel()
	for _, odd := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.SmallestNonzeroFloat64, math.MaxFloat64} {
		for _, set := range [][]balancer.Backend{
			{{Name: "a", Capacity: odd}},
			{{Name: "a", Capacity: odd, Ramp: 0.1}, {Name: "b", Capacity: odd}},
			{{Name: "a", Capacity: odd}, {Name: "b", Capacity: 1}},
			{{Name: "a", Phase: balancer.Down}, {Name: "b", Capacity: odd}},
		} {
			for _, name := range strategies {
				snap := balancer.NewSnapshot(1, "k", set)
				seats := balancer.NewSeats(snap)
				func() {
					defer func() {
						if r := recover(); r != nil {
							t.Errorf("%s, capacity %v on one of %d: got a panic: %v", name, odd, len(set), r)
						}
					}()
					st := newStrategy(t, name, balancer.Options{BoundedLoad: 1.25})
					for range 10 {
						i, why := st.Pick(balancer.Client{ID: "id"}, snap, seats)
						checkRules(t, snap, seats, i, why, true)
						seats.Take(i)
					}
				}()
			}
		}
	}
}

// ordinary tells that all weights are numbers with which one can calculate, so that the twin's formulas say
// something.
func ordinary(set []balancer.Backend) bool {
	return !slices.ContainsFunc(set, func(b balancer.Backend) bool {
		return !(b.Capacity <= 0) && !(b.Capacity > 1e-5 && b.Capacity < 1e8) || b.Phase > balancer.Down
	})
}
