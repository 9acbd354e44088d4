package balancer

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func newTestBrain(tb testing.TB, o BrainOptions, now int64, names ...string) *Brain {
	tb.Helper()
	o.Key = "secret"
	b, err := NewBrain(o, now)
	if err != nil {
		tb.Fatal(err)
	}
	b.Join(named(names...), now)
	return b
}

// named are backends with these names.
func named(names ...string) []Backend {
	set := make([]Backend, len(names))
	for i, name := range names {
		set[i].Name = name
	}
	return set
}

// placeNamed places a client and returns the name of its backend, "none" if there is none.
func placeNamed(b *Brain, c Client, now int64, tried ...string) string {
	i, _ := b.Place(c, tried, now)
	if i < 0 {
		return "none"
	}
	return b.Snapshot().Backends[i].Name
}

func TestNewBrainKnowsItsStrategies(t *testing.T) {
	t.Parallel()
	_, err := NewBrain(BrainOptions{Strategy: "best"}, 0)
	if err == nil || !strings.Contains(err.Error(), `"best"`) || !strings.Contains(err.Error(), "client-hash") {
		t.Errorf("got error %v, want one that names the unknown strategy and the known ones", err)
	}
	b, err := NewBrain(BrainOptions{}, 0)
	if err != nil || b.adaptive == nil {
		t.Errorf("got %v, %v, want a brain with strategy adaptive", b, err)
	}
	if i, why := b.Place(Client{ID: "a"}, nil, 0); i >= 0 || why.Cause != NoBackend {
		t.Errorf("placed on %d, %v, want no backend before any has joined", i, why)
	}
}

// The life of a backend's connections: they stay counted when it leaves, and when it comes again it is the same.
func TestBrainJoinLeaveReturn(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{Strategy: "least-connections"}, 0, "a", "b")
	clients := map[string][]Client{}
	for k := range 10 {
		c := Client{ID: fmt.Sprint("c", k)}
		name := placeNamed(b, c, 0)
		clients[name] = append(clients[name], c)
	}
	expect := func(what string, a, other, generation int) {
		t.Helper()
		if b.Connections("a") != a || b.Connections("b") != other || b.Snapshot().Generation != uint64(generation) {
			t.Fatalf("%s: got a %d, b %d, generation %d; want %d, %d, %d", what, b.Connections("a"), b.Connections("b"),
				b.Snapshot().Generation, a, other, generation)
		}
	}
	expect("both have joined", 5, 5, 1)
	b.Join(named("b"), 0)
	expect("a has left", 5, 5, 2)
	if got := placeNamed(b, Client{ID: "x"}, 0); got != "b" {
		t.Fatalf("placed on %s, want b", got)
	}
	b.Release(clients["a"][0], "a", Left, 0)
	expect("one of a ends", 4, 6, 2)
	b.Join(named("a", "b"), 0)
	expect("a returns", 4, 6, 3)
	for range 2 {
		if got := placeNamed(b, Client{ID: "y"}, 0); got != "a" {
			t.Fatalf("placed on %s, want a, which has fewer", got)
		}
	}
	b.Join(named("b"), 0)
	for _, c := range append(clients["a"][1:], Client{ID: "y"}, Client{ID: "y"}) {
		b.Release(c, "a", Left, 0)
	}
	expect("the last of a has ended", 0, 6, 5)
	if len(b.members) != 1 {
		t.Errorf("got %d members, want b alone", len(b.members))
	}
	b.Release(Client{ID: "z"}, "a", Left, 0) // not one of ours
	b.Release(Client{ID: "z"}, "unheard-of", Left, 0)
	expect("releases without a place", 0, 6, 5)
}

// Against a dumb model: a backend's connections are what was placed there and not released yet, whatever joins,
// leaves and fails meanwhile.
func TestBrainCountsQuick(t *testing.T) {
	t.Parallel()
	type connection struct {
		c       Client
		backend string
	}
	for seed := range uint64(36 / fewer) {
		random := rand.New(rand.NewPCG(seed, 1))
		all := []string{"a", "b", "c", "d", "e", "f", "g"}
		names := Names()
		o := BrainOptions{
			Strategy: names[random.IntN(len(names))], Watched: random.IntN(2) == 0,
			Placement: Options{BoundedLoad: 1.25, NodeScope: random.IntN(4) == 0},
		}
		now := int64(0)
		b := newTestBrain(t, o, now, all[:3]...)
		var open []connection
		want := map[string]int{}
		for range 600 {
			now += random.Int64N(3 * second)
			switch random.IntN(12) {
			case 0:
				set := named(all...)
				random.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
				set = set[:random.IntN(len(set)+1)]
				for i := range set {
					set[i].Phase = Phase(random.IntN(int(Down) + 1))
					set[i].Capacity = float64(random.IntN(3))
				}
				b.Join(set, now)
			case 1:
				for _, name := range all {
					b.Vital(name, Vitals{Passed: random.IntN(4) > 0, FailedChecks: random.IntN(4), Drain: random.IntN(5) == 0})
				}
				b.Tick(now)
			case 2:
				if len(open) > 0 {
					x := open[random.IntN(len(open))]
					b.Move(x.c, x.backend, all[random.IntN(len(all))], now)
				}
			case 3, 4, 5:
				if len(open) > 0 {
					k := random.IntN(len(open))
					x := open[k]
					b.Release(x.c, x.backend, Leave(random.IntN(2)), now)
					want[x.backend]--
					open = append(open[:k], open[k+1:]...)
				}
			default:
				c := Client{ID: fmt.Sprint("c", random.IntN(300)), Ordinal: -1, Persistent: random.IntN(2) == 0}
				if random.IntN(3) == 0 {
					c.Group = fmt.Sprint("g", random.IntN(4))
				}
				if random.IntN(6) == 0 {
					c.ID = ""
				}
				var tried []string
				if random.IntN(4) == 0 {
					tried = []string{all[random.IntN(len(all))], "gone"}
				}
				if name := placeNamed(b, c, now, tried...); name != "none" {
					want[name]++
					open = append(open, connection{c, name})
				}
			}
			total := 0
			for _, name := range all {
				if got := b.Connections(name); got != want[name] {
					t.Fatalf("seed %d: %s has %d connections, want %d", seed, name, got, want[name])
				}
				if i := b.Snapshot().Index(name); i >= 0 {
					total += want[name]
					if b.seats.Live[i] != want[name] {
						t.Fatalf("seed %d: %s has %d seats, want %d", seed, name, b.seats.Live[i], want[name])
					}
				}
			}
			if b.seats.Total != total {
				t.Fatalf("seed %d: got %d seats, want %d", seed, b.seats.Total, total)
			}
		}
	}
}

// The backends of the first list are at work at once; one that comes later passes a check, settles, and ramps up.
func TestBrainPhases(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{Watched: true}, 0, "a", "b")
	phase := func(name string) string {
		at := b.Snapshot().Backends[b.Snapshot().Index(name)]
		if at.Phase == Ramping {
			return fmt.Sprintf("ramping %.2f", at.Ramp)
		}
		return at.Phase.String()
	}
	if phase("a") != "ready" || phase("b") != "ready" {
		t.Fatalf("got a %s, b %s, want both ready before anybody has looked", phase("a"), phase("b"))
	}
	for _, name := range []string{"a", "b"} {
		b.Vital(name, Vitals{Passed: true})
	}
	b.Join(named("a", "b", "c"), 10*second)
	expect := func(at int64, want string) {
		t.Helper()
		b.Tick(at * second)
		if got := phase("c"); got != want {
			t.Fatalf("after %d s: got %s, want %s", at, got, want)
		}
	}
	expect(11, "down") // no check has passed
	b.Vital("c", Vitals{Passed: true})
	expect(12, "joining")
	expect(41, "joining")
	expect(42, "ramping 0.10")
	expect(102, "ramping 0.50")
	if got, want := b.Snapshot().Share(2), 0.5/2.5; got != want {
		t.Errorf("got share %v, want %v", got, want)
	}
	generation := b.Snapshot().Generation
	expect(103, "ramping 0.50")
	if b.Snapshot().Generation != generation {
		t.Error("a new snapshot although the ramp has not made a step")
	}
	if b.State().Cluster != Scaling {
		t.Errorf("got state %v, want scaling", b.State().Cluster)
	}
	expect(162, "ready")
	b.Vital("c", Vitals{FailedChecks: 3})
	changes := b.Tick(170 * second)
	if len(changes) == 0 || changes[0] != (Change{Backend: "c", From: "ready", To: "down"}) {
		t.Errorf("got changes %v, want c from ready to down first", changes)
	}
	if got := placeNamed(b, Client{ID: "x"}, 170*second); got == "c" {
		t.Error("placed on a backend that is down")
	}
	b.Join(named("a", "b"), 171*second)
	b.Join(named("a", "b", "c"), 172*second)
	expect(173, "down") // its Vitals of before are not believed any more
}

// Looking changes nothing: a brain that is asked all the time decides as one that is never asked.
func TestBrainPreviewChangesNothing(t *testing.T) {
	t.Parallel()
	for _, strategy := range Names() {
		random := rand.New(rand.NewPCG(3, 3))
		asked := newTestBrain(t, BrainOptions{Strategy: strategy}, 0, "a", "b", "c")
		quiet := newTestBrain(t, BrainOptions{Strategy: strategy}, 0, "a", "b", "c")
		for k := range int64(400) {
			now := k * second
			c := Client{ID: fmt.Sprint("c", random.IntN(50)), Ordinal: -1}
			if random.IntN(4) == 0 {
				c.ID = ""
			}
			if random.IntN(3) == 0 {
				c.Group = "g"
			}
			for _, b := range []*Brain{asked, quiet} {
				if k%40 == 10 {
					b.Move(c, "a", "b", now)
				}
				if k%50 == 20 {
					b.Join(named("a", "b", "c")[:2+int(k)%3%2], now)
				}
			}
			at, whyAt := asked.Preview(c, nil, now)
			for range random.IntN(4) {
				asked.Preview(Client{ID: fmt.Sprint("other", random.IntN(9)), Group: "g", Ordinal: -1}, []string{"b"}, now)
				asked.Preview(Client{}, nil, now)
			}
			i, why := asked.Place(c, nil, now)
			j, whyQuiet := quiet.Place(c, nil, now)
			if i != j || why != whyQuiet || at != i || whyAt != why {
				t.Fatalf("%s, client %v: preview %d %v, placed %d %v, and %d %v without previews", strategy, c, at, whyAt, i, why, j, whyQuiet)
			}
			if random.IntN(2) == 0 && i >= 0 {
				name := asked.Snapshot().Backends[i].Name
				asked.Release(c, name, Left, now)
				quiet.Release(c, name, Left, now)
			}
		}
	}
}

// The lease of a seat is longer while a rolling update goes on.
func TestBrainHoldsSeatsInRolling(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		hold    int64
		rolling bool
		want    int64
	}{{0, false, 30}, {0, true, 120}, {200 * second, true, 200}, {-1, true, 0}} {
		b := newTestBrain(t, BrainOptions{Groups: GroupOptions{Hold: test.hold}}, 0, "a", "b", "c")
		if test.rolling {
			b.Force(Force{State: Rolling, On: true})
		}
		b.Tick(second)
		c := Client{ID: "m", Group: "g", Ordinal: -1}
		at := placeNamed(b, c, second)
		b.Release(c, at, Left, second)
		for _, later := range []int64{test.want, test.want + 1} {
			want := 1
			if later > test.want || test.want == 0 {
				want = 0
			}
			if view, _ := b.Group("g", (later+1)*second-1); view.Away != want {
				t.Errorf("%+v: got %d seats kept after almost %d s, want %d", test, view.Away, later, want)
			}
		}
	}
}

// With session_scope: node a persistent client goes home, whatever its group, its traffic or the state.
func TestBrainNodeScope(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{Placement: Options{NodeScope: true, BoundedLoad: 1.25}}, 0, "a", "b", "c")
	homes := newTestBrain(t, BrainOptions{Strategy: "client-hash"}, 0, "a", "b", "c")
	for _, state := range []ClusterState{Balanced, Scaling, Rolling, Overloaded, Degraded} {
		b.Force(Force{State: state, On: true})
		b.Tick(second)
		for k := range 60 {
			c := Client{ID: fmt.Sprint("c", k), Group: "g", Ordinal: k, Persistent: true}
			want := placeNamed(homes, Client{ID: c.ID}, 0)
			got := placeNamed(b, c, 0)
			if got != want {
				t.Fatalf("%v: %s is placed on %s, want its home %s", state, c.ID, got, want)
			}
			b.Release(c, got, Left, 0)
		}
	}
	if groups, members := b.Groups().Len(); groups+members > 0 {
		t.Errorf("got %d groups with %d members, want none: tied clients have no seat there", groups, members)
	}
}

// Forecasts reach the strategies, and heavy clients go where the load is least.
func TestBrainHeavyClients(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{}, 0, "a", "b", "c")
	c := Client{ID: "camera"}
	for k := range int64(6) {
		now := (k + 1) * 15 * second
		for name, load := range map[string]float64{"a": 0.6, "b": 0.2, "c": 0.6} {
			b.Observe(name, Figure{Value: load, At: now}, now)
			b.Traffic(name, 1e6, now)
		}
		b.Note(c.ID, "a", 5e5)
		b.Predict(now)
	}
	if b.Forecast() == nil || b.HeavyFloor() <= 0 || b.Rate(c.ID) != 5e5 {
		t.Fatalf("got forecast %v, floor %v, rate %v, want all to be known", b.Forecast(), b.HeavyFloor(), b.Rate(c.ID))
	}
	if i, why := b.Place(c, nil, 100*second); b.Snapshot().Backends[i].Name != "b" || why.Cause != Lightest {
		t.Errorf("placed on %d, %v, want b, which has the least load", i, why)
	}
}

// Place and Release cost no memory while the snapshot stays. (Not parallel: other tests' allocations would count.)
func TestBrainAllocatesNothing(t *testing.T) {
	for _, strategy := range Names() {
		b := newTestBrain(t, BrainOptions{Strategy: strategy, Watched: true, Placement: Options{BoundedLoad: 1.25}}, 0, "a", "b", "c", "d", "e", "f")
		tried := []string{"a"}
		for _, id := range []string{"sensor-17", ""} {
			c := Client{ID: id, Ordinal: -1}
			got := testing.AllocsPerRun(200, func() {
				i, _ := b.Place(c, tried, second)
				b.Release(c, b.snapshot.Backends[i].Name, Left, second)
				b.Preview(c, nil, second)
			})
			if got != 0 {
				t.Errorf("%s, client %q: got %v allocations, want 0", strategy, id, got)
			}
		}
	}
}

func BenchmarkBrainPlaceRelease(b *testing.B) {
	for _, group := range []string{"", "workers"} {
		b.Run("group="+group, func(b *testing.B) {
			brain := newTestBrain(b, BrainOptions{Placement: Options{BoundedLoad: 1.25}}, 0, "a", "b", "c", "d", "e", "f")
			clients := make([]Client, 1024)
			for k := range clients {
				clients[k] = Client{ID: fmt.Sprint("sensor-", k), Group: group, Ordinal: -1}
			}
			b.ReportAllocs()
			for k := 0; b.Loop(); k++ {
				c := clients[k&1023]
				i, _ := brain.Place(c, nil, int64(k))
				brain.Release(c, brain.snapshot.Backends[i].Name, Left, int64(k))
			}
		})
	}
}
