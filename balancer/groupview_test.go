package balancer_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func newBrain(tb testing.TB, o balancer.BrainOptions, set []balancer.Backend) *balancer.Brain {
	tb.Helper()
	b, err := balancer.NewBrain(o, 0)
	if err != nil {
		tb.Fatal(err)
	}
	b.Join(set, 0)
	return b
}

// clone is a view that outlives its iteration.
func clone(v *balancer.GroupView) balancer.GroupView {
	c := *v
	c.Live, c.Leased = slices.Clone(v.Live), slices.Clone(v.Leased)
	return c
}

// views are all groups by name.
func views(b *balancer.Brain, now int64) map[string]balancer.GroupView {
	all := make(map[string]balancer.GroupView)
	for v := range b.AllGroups(now) {
		all[v.Name] = clone(v)
	}
	return all
}

// What a view shows is what a book-keeper knows who writes down every client and never looks at seats.
func TestGroupViewAgainstABook(t *testing.T) {
	t.Parallel()
	const hold = 1000
	type connection struct {
		client  balancer.Client
		backend string
	}
	for seed := range uint64(20 / balancer.Fewer) {
		rng := rand.New(rand.NewPCG(seed, 17))
		b := newBrain(t, balancer.BrainOptions{Groups: balancer.GroupOptions{Hold: hold}}, randomSet(rng, 6))
		var open []connection
		ended := make(map[string]connection) // left with a lease, by client
		until := make(map[string]int64)
		now := int64(1)
		for step := range 600 {
			now += rng.Int64N(60)
			maps.DeleteFunc(until, func(_ string, end int64) bool { return end <= now })
			switch k := rng.IntN(len(open) + 30); {
			case rng.IntN(40) == 0:
				b.Join(randomSet(rng, 6), now)
			case k < len(open):
				c := open[k]
				open = slices.Delete(open, k, k+1)
				b.Release(c.client, c.backend, balancer.Left, now)
				if c.client.ID != "" {
					ended[c.client.ID], until[c.client.ID] = c, now+hold
				}
			default:
				c := balancer.Client{Group: fmt.Sprint("g", rng.IntN(4)), Ordinal: -1}
				if rng.IntN(5) > 0 {
					c.ID = fmt.Sprint(c.Group, "-", step) // a client of its own: who takes over whom is not the matter here
				}
				if back := slices.Sorted(maps.Keys(until)); len(back) > 0 && rng.IntN(3) == 0 {
					c = ended[back[rng.IntN(len(back))]].client
				}
				if i, _ := b.Place(c, nil, now); i >= 0 {
					open = append(open, connection{c, b.Snapshot().Backends[i].Name})
					delete(until, c.ID)
				}
			}
			want := make(map[string]balancer.GroupView)
			at := func(group string) *balancer.GroupView {
				v, known := want[group]
				if n := len(b.Snapshot().Backends); !known {
					v = balancer.GroupView{Name: group, Live: make([]int, n), Leased: make([]int, n)}
				}
				want[group] = v
				return &v
			}
			for _, c := range open {
				v := at(c.client.Group)
				v.Members++
				if i := b.Snapshot().Index(c.backend); !b.Snapshot().Backends[i].Left {
					v.Live[i]++
				} else {
					v.Elsewhere++
				}
				want[v.Name] = *v
			}
			for id := range until {
				c := ended[id]
				v := at(c.client.Group)
				v.Away++
				if i := b.Snapshot().Index(c.backend); i >= 0 && !b.Snapshot().Backends[i].Left {
					v.Leased[i]++
				}
				want[v.Name] = *v
			}
			for name, v := range want {
				v.Spread = spreadOf(b.Snapshot(), v.Live)
				want[name] = v
			}
			got := views(b, now)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("seed %d, step %d:\ngot  %+v\nwant %+v", seed, step, got, want)
			}
			for name := range want {
				if v, ok := b.Group(name, now); !ok || fmt.Sprint(v) != fmt.Sprint(got[name]) {
					t.Fatalf("seed %d, step %d: group %s alone is %+v, among all %+v", seed, step, name, v, got[name])
				}
			}
		}
	}
}

// spreadOf compares every backend with every other.
func spreadOf(s *balancer.Snapshot, live []int) int {
	usable := func(i int) bool {
		classes := [][]balancer.Phase{{balancer.Ready, balancer.Ramping}, {balancer.Hot}, {balancer.Joining, balancer.Draining}}
		for _, class := range classes {
			if slices.ContainsFunc(s.Backends, func(b balancer.Backend) bool { return !b.Left && slices.Contains(class, b.Phase) }) {
				return !s.Backends[i].Left && slices.Contains(class, s.Backends[i].Phase)
			}
		}
		return false
	}
	spread := 0
	for i := range live {
		for k := range live {
			if usable(i) && usable(k) && s.Weight(i) == s.Weight(k) {
				spread = max(spread, live[i]-live[k])
			}
		}
	}
	return spread
}

// A group that nobody belongs to cannot be shown.
func TestNoSuchGroup(t *testing.T) {
	t.Parallel()
	b := newBrain(t, balancer.BrainOptions{}, some(3))
	if v, ok := b.Group("nobody", 0); ok {
		t.Errorf("got %+v, want no group", v)
	}
	if got := views(b, 0); len(got) != 0 {
		t.Errorf("got %+v, want no groups", got)
	}
}

// Whoever looks at all groups may let others in between two steps: it sees every group that stays, once.
func TestGroupsChangeWhileTheyAreShown(t *testing.T) {
	t.Parallel()
	b := newBrain(t, balancer.BrainOptions{}, some(3))
	place := func(group string, k int) {
		b.Place(balancer.Client{ID: fmt.Sprint(group, "-", k), Group: group, Ordinal: -1}, nil, 1)
	}
	const stay = 500
	for g := range stay {
		place(fmt.Sprint("stays-", g), 0)
		place(fmt.Sprint("goes-", g), 0)
	}
	seen, step := make(map[string]int), 0
	for v := range b.AllGroups(1) {
		seen[v.Name]++
		if len(v.Live) != len(b.Snapshot().Backends) || v.Members != 1 {
			t.Fatalf("step %d: got %+v, want one member on one of %d backends", step, v, len(b.Snapshot().Backends))
		}
		goes := fmt.Sprint("goes-", step%stay)
		if at, ok := b.Group(goes, 1); ok {
			i := max(slices.Index(at.Live, 1), 0)
			b.Release(balancer.Client{ID: goes + "-0", Group: goes}, b.Snapshot().Backends[i].Name, balancer.Moved, 1)
		}
		place(fmt.Sprint("comes-", step), 0)
		if step%100 == 50 {
			b.Join(some(3+step/100%2), 1)
		}
		if step++; step > 10*stay {
			break // each step brings one more, so this may have no end
		}
	}
	for g := range stay {
		if name := fmt.Sprint("stays-", g); seen[name] != 1 {
			t.Errorf("got group %s %d times, want once", name, seen[name])
		}
	}
}

// The shares follow the weights of the backends that members can be given.
func TestFairShares(t *testing.T) {
	t.Parallel()
	backend := func(name string, capacity float64, phase balancer.Phase, ramp float64) balancer.Backend {
		return balancer.Backend{Name: name, Capacity: capacity, Phase: phase, Ramp: ramp}
	}
	for name, c := range map[string]struct {
		set  []balancer.Backend
		want []float64
	}{
		"nobody":          {nil, []float64{}},
		"equal":           {some(4), []float64{.25, .25, .25, .25}},
		"unequal":         {[]balancer.Backend{backend("a", 1, balancer.Ready, 0), backend("b", 3, balancer.Ready, 0)}, []float64{.25, .75}},
		"ramping":         {[]balancer.Backend{backend("a", 1, balancer.Ready, 0), backend("b", 1, balancer.Ramping, .25)}, []float64{.8, .2}},
		"hot and down":    {[]balancer.Backend{backend("a", 1, balancer.Ready, 0), backend("b", 1, balancer.Hot, 0), backend("c", 1, balancer.Down, 0)}, []float64{1, 0, 0}},
		"only the hot":    {[]balancer.Backend{backend("a", 1, balancer.Draining, 0), backend("b", 1, balancer.Hot, 0)}, []float64{0, 1}},
		"all down":        {[]balancer.Backend{backend("a", 1, balancer.Down, 0)}, []float64{0}},
		"hardly a weight": {[]balancer.Backend{backend("a", 1e-9, balancer.Ready, 1e-9)}, []float64{1}},
	} {
		got := newBrain(t, balancer.BrainOptions{}, c.set).FairShares()
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}

// The name of a group that exists is one string for all. Not parallel, as it counts allocations.
func TestGroupName(t *testing.T) {
	b := newBrain(t, balancer.BrainOptions{}, some(3))
	const id = "workers-1"
	if got := b.Groups().Name(id[:7]); got != "workers" {
		t.Errorf("got %q, want workers", got)
	}
	b.Place(balancer.Client{ID: "workers-1", Group: "workers", Ordinal: -1}, nil, 1)
	if n := testing.AllocsPerRun(100, func() {
		if b.Groups().Name(id[:7]) != "workers" {
			t.Error("got another name")
		}
	}); n > 0 {
		t.Errorf("got %v allocations for a known name, want 0", n)
	}
}

// BenchmarkAllGroups looks at as many groups as there can be.
func BenchmarkAllGroups(b *testing.B) {
	for _, n := range []int{6, 64} {
		b.Run(fmt.Sprint(n, " backends"), func(b *testing.B) {
			brain := newBrain(b, balancer.BrainOptions{}, some(n))
			for g := range 1 << 16 {
				group := fmt.Sprint("group-", g)
				for k := range 4 {
					brain.Place(balancer.Client{ID: fmt.Sprint(group, "-", k), Group: group, Ordinal: -1}, nil, 1)
				}
			}
			worst := 0
			for b.Loop() {
				for v := range brain.AllGroups(1) {
					worst = max(worst, v.Spread)
				}
			}
			if worst > 1 {
				b.Errorf("got a spread of %d, want at most 1", worst)
			}
		})
	}
}
