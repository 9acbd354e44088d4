package balancer_test

import (
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestWeights(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		capacity, ramp float64
		want           float64
	}{
		{"zero values", 0, 0, 1},
		{"capacity", 2.5, 0, 2.5},
		{"negative capacity", -3, 0, 1},
		{"small capacity", 0.001, 0, 0.001},
		{"ramp", 4, 0.25, 1},
		{"ramp of the default capacity", 0, 0.1, 0.1},
		{"end of the ramp", 4, 1, 4},
		{"ramp beyond the end", 4, 7, 4},
		{"negative ramp", 4, -0.5, 4},
	} {
		snap := balancer.NewSnapshot(1, "", []balancer.Backend{{Name: "a", Capacity: c.capacity, Ramp: c.ramp}})
		if got := snap.Weight(0); got != c.want {
			t.Errorf("%s: got weight %v, want %v", c.name, got, c.want)
		}
		if got := snap.Share(0); got != 1 {
			t.Errorf("%s: got share %v of the only backend, want 1", c.name, got)
		}
	}
}

func TestSnapshot(t *testing.T) {
	t.Parallel()
	set := []balancer.Backend{{Name: "c", Capacity: 1}, {Name: "a", Capacity: 2}, {Name: "b", Capacity: 5, Phase: balancer.Down}}
	snap := balancer.NewSnapshot(42, "k", set)
	set[0].Name = "changed" // the caller's slice is its own
	if snap.Generation != 42 || len(snap.Backends) != 3 {
		t.Fatalf("got generation %d with %d backends, want 42 with 3", snap.Generation, len(snap.Backends))
	}
	for i, want := range []struct {
		name  string
		share float64
	}{{"a", 0.25}, {"b", 0.625}, {"c", 0.125}} {
		if got := snap.Backends[i].Name; got != want.name || snap.Index(got) != i || snap.Share(i) != want.share {
			t.Errorf("got %q at %d, found at %d, with share %v, want %q there with %v", got, i, snap.Index(got), snap.Share(i), want.name, want.share)
		}
	}
	for _, missing := range []string{"", "A", "aa", "changed", "z"} {
		if got := snap.Index(missing); got != -1 {
			t.Errorf("Index(%q): got %d, want -1", missing, got)
		}
	}
	if got := balancer.NewSnapshot(1, "k", nil).Index("a"); got != -1 {
		t.Errorf("Index in an empty snapshot: got %d, want -1", got)
	}
}

func TestSeatsCount(t *testing.T) {
	t.Parallel()
	seats := balancer.NewSeats(balancer.NewSnapshot(1, "", some(3)))
	seats.Take(0)
	seats.Take(2)
	seats.Take(2)
	if seats.Total != 3 || seats.Live[0] != 1 || seats.Live[1] != 0 || seats.Live[2] != 2 {
		t.Errorf("got %v, total %d, want [1 0 2], total 3", seats.Live, seats.Total)
	}
}

// The names of phases are metric labels and stand in the API: they may not change.
func TestPhaseNames(t *testing.T) {
	t.Parallel()
	for p, want := range map[balancer.Phase]string{
		balancer.Ready: "ready", balancer.Joining: "joining", balancer.Ramping: "ramping", balancer.Hot: "hot",
		balancer.Draining: "draining", balancer.Down: "down", balancer.Down + 1: "unknown",
	} {
		if got := p.String(); got != want {
			t.Errorf("phase %d: got %q, want %q", p, got, want)
		}
	}
	if got, want := (balancer.Backend{}).Phase, balancer.Ready; got != want {
		t.Errorf("zero value: got phase %v, want %v", got, want)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, name := range balancer.Names() {
		if st, err := balancer.New(name, balancer.Options{}); err != nil || st == nil {
			t.Errorf("%s: got %v and error %v, want a strategy", name, st, err)
		}
	}
	for _, c := range []struct {
		name string
		o    balancer.Options
		want string
	}{
		{"rnd", balancer.Options{}, `unknown placement strategy "rnd"; known are ` + strings.Join(balancer.Names(), ", ")},
		{"", balancer.Options{}, `unknown placement strategy ""; known are `},
		{"client-hash", balancer.Options{Anonymous: "client-hash"}, `unknown strategy "client-hash" for anonymous clients; known are metric-wrr, round-robin, least-connections`},
		{"adaptive", balancer.Options{Anonymous: "?"}, `unknown strategy "?" for anonymous clients; known are `},
	} {
		st, err := balancer.New(c.name, c.o)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || st != nil {
			t.Errorf("%q: got %v and error %v, want only the error %s", c.name, st, err, c.want)
		}
	}
}
