package balancer

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A reconfigured is a brain with clients on it, and a book-keeper who writes down where they are.
type reconfigured struct {
	t    *testing.T
	b    *Brain
	now  int64
	open []connectionOf
}

type connectionOf struct {
	c       Client
	backend string
}

// step does something at random; two of them with the same seed do the same as long as their brains decide the same.
func (r *reconfigured) step(random *rand.Rand, all []string) string {
	r.now += random.Int64N(2 * second)
	switch random.IntN(14) {
	case 0:
		set := named(all...)
		random.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		set = set[:1+random.IntN(len(set))]
		for i := range set {
			set[i].Capacity = float64(random.IntN(3))
		}
		r.b.Join(set, r.now)
		return fmt.Sprint("join ", len(set))
	case 1, 2:
		for _, name := range all {
			r.b.Vital(name, Vitals{Passed: random.IntN(6) > 0, FailedChecks: random.IntN(4), Drain: random.IntN(9) == 0})
			r.b.Observe(name, Figure{Value: random.Float64(), At: r.now}, r.now)
			r.b.Traffic(name, 1000*random.Float64(), r.now)
		}
		for _, x := range r.open {
			r.b.Note(x.c.ID, x.backend, 100*random.ExpFloat64())
		}
		r.b.Predict(r.now)
		return fmt.Sprint(r.b.Tick(r.now))
	case 3, 4, 5, 6:
		if len(r.open) == 0 {
			return "nobody"
		}
		i := random.IntN(len(r.open))
		x := r.open[i]
		how := Leave(random.IntN(2))
		r.open = slices.Delete(r.open, i, i+1)
		r.b.Release(x.c, x.backend, how, r.now)
		return fmt.Sprint("release ", x, how)
	}
	c := Client{ID: fmt.Sprint("c", random.IntN(200)), Ordinal: -1, Persistent: random.IntN(2) == 0}
	switch random.IntN(4) {
	case 0, 1:
		c.ID, c.Group = fmt.Sprint("g", random.IntN(120)), fmt.Sprint("group-", random.IntN(4))
	case 2:
		c.ID = ""
	}
	i, why := r.b.Place(c, nil, r.now)
	if i < 0 {
		return "nowhere"
	}
	name := r.b.Snapshot().Backends[i].Name
	if why.Group == "" {
		c.Group = "" // as its Release will say
	}
	r.open = append(r.open, connectionOf{c, name})
	return fmt.Sprint("place ", c, name, why)
}

func (r *reconfigured) check() {
	r.t.Helper()
	want := make(map[string]int)
	for _, x := range r.open {
		want[x.backend]++
	}
	total := 0
	for i := range r.b.Snapshot().Backends {
		name := r.b.Snapshot().Backends[i].Name
		if r.b.seats.Live[i] != want[name] {
			r.t.Fatalf("got %d seats taken on %s, want %d", r.b.seats.Live[i], name, want[name])
		}
		total += want[name]
	}
	if r.b.seats.Total != total {
		r.t.Fatalf("got %d seats taken, want %d", r.b.seats.Total, total)
	}
	for name, n := range want {
		if got := r.b.Connections(name); got != n {
			r.t.Fatalf("got %d connections on %s, want %d", got, name, n)
		}
	}
}

// seated is who sits where, and whose seats are leased until when.
func seated(b *Brain) map[string]string {
	seats := make(map[string]string)
	for id, m := range b.groups.book.members {
		seats[id] = fmt.Sprint(m.group.name, " ", b.groups.book.slots[m.slot].name, " ", m.connections, " ", m.until)
	}
	return seats
}

// lives are the phases of all backends, and since when.
func lives(b *Brain) map[string]string {
	lives := make(map[string]string)
	for name, m := range b.members {
		lives[name] = fmt.Sprintf("%v %+v", m.life, m.vitals)
	}
	return lives
}

func someOptions(random *rand.Rand, strategy string) BrainOptions {
	return BrainOptions{
		Key: "secret", Strategy: strategy, Watched: true,
		Placement: Options{BoundedLoad: []float64{0, 1.25, 1.5}[random.IntN(3)], Anonymous: []string{"", "round-robin"}[random.IntN(2)], Seed: 7},
		Groups:    GroupOptions{Hold: []int64{-1, 10 * second, 60 * second}[random.IntN(3)], Ordinals: random.IntN(2) == 0},
		Load:      LoadOptions{Gain: float64(random.IntN(3))},
		Heavy:     HeavyOptions{Share: []float64{0, 0.01}[random.IntN(2)]},
	}
}

// A brain that is given the settings that it has decides as one that is left alone.
func TestReconfigureWithTheSameSettingsChangesNothing(t *testing.T) {
	t.Parallel()
	for seed, strategy := range Names() {
		o := someOptions(rand.New(rand.NewPCG(uint64(seed), 1)), strategy)
		one := &reconfigured{t: t, b: newTestBrain(t, o, 0, "a", "b", "c")}
		two := &reconfigured{t: t, b: newTestBrain(t, o, 0, "a", "b", "c")}
		same := [2]*rand.Rand{rand.New(rand.NewPCG(uint64(seed), 2)), rand.New(rand.NewPCG(uint64(seed), 2))}
		random := rand.New(rand.NewPCG(uint64(seed), 3))
		for k := range 1000 {
			if random.IntN(10) == 0 {
				if err := one.b.Reconfigure(o, one.now); err != nil {
					t.Fatal(err)
				}
			}
			all := []string{"a", "b", "c", "d", "e"}
			if got, want := one.step(same[0], all), two.step(same[1], all); got != want {
				t.Fatalf("%s, step %d: got %s, want %s as without Reconfigure", strategy, k, got, want)
			}
		}
		one.check()
	}
}

// Whatever the settings change to, no connection is lost or counted twice, seats and lives stay, and in the end
// nothing is left.
func TestReconfigureKeepsTheBooks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(16 / fewer) {
		random := rand.New(rand.NewPCG(seed, 4))
		pick := func() BrainOptions { return someOptions(random, Names()[random.IntN(len(Names()))]) }
		r := &reconfigured{t: t, b: newTestBrain(t, pick(), 0, "a", "b", "c")}
		for range 700 {
			if random.IntN(20) == 0 {
				seats, before, state := seated(r.b), lives(r.b), r.b.State()
				o := pick()
				if err := r.b.Reconfigure(o, r.now); err != nil {
					t.Fatal(err)
				}
				if after := seated(r.b); !maps.Equal(after, seats) {
					t.Fatalf("got seats %v, want them as before: %v", after, seats)
				}
				if after := lives(r.b); !maps.Equal(after, before) {
					t.Fatalf("got lives %v, want them as before: %v", after, before)
				}
				if r.b.State().Cluster != state.Cluster || (r.b.adaptive != nil) != (o.Strategy == "adaptive") {
					t.Fatalf("got state %v, want %v", r.b.State(), state)
				}
				if got, err := New(o.Strategy, o.Placement); err != nil || fmt.Sprintf("%T", got) != fmt.Sprintf("%T", r.b.strategy) {
					t.Fatalf("got strategy %T, want %T", r.b.strategy, got)
				}
			}
			r.step(random, []string{"a", "b", "c", "d", "e"})
			r.check()
		}
		for _, x := range r.open {
			r.b.Release(x.c, x.backend, Left, r.now)
		}
		r.open = nil
		r.check()
		r.b.groups.book.expire(r.now+1000*second, "")
		if groups, members := r.b.Groups().Len(); groups != 0 || members != 0 {
			t.Fatalf("got %d groups with %d members in the end, want none", groups, members)
		}
	}
}

// A client comes home under a new strategy as under one that was there from the start.
func TestReconfigureDecidesByTheNewSettings(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c", "d"}
	b := newTestBrain(t, BrainOptions{Strategy: "round-robin"}, 0, names...)
	for k := range 40 {
		placeNamed(b, Client{ID: fmt.Sprint("c", k)}, 0)
	}
	o := BrainOptions{Key: "another", Strategy: "client-hash"}
	if err := b.Reconfigure(o, 0); err != nil {
		t.Fatal(err)
	}
	model, err := NewBrain(o, 0)
	if err != nil {
		t.Fatal(err)
	}
	model.Join(named(names...), 0)
	for k := range 40 {
		c := Client{ID: fmt.Sprint("c", k)}
		if got, want := placeNamed(b, c, 0), placeNamed(model, c, 0); got != want {
			t.Errorf("client %s: got %s, want %s", c.ID, got, want)
		}
	}
	err = b.Reconfigure(BrainOptions{Strategy: "best"}, 0)
	if err == nil || !strings.Contains(err.Error(), "client-hash") {
		t.Errorf("got %v, want an error that lists the strategies", err)
	}
	if got, want := placeNamed(b, Client{ID: "x"}, 0), placeNamed(model, Client{ID: "x"}, 0); got != want {
		t.Errorf("after an error: got %s, want %s as before", got, want)
	}
	if err := b.Reconfigure(BrainOptions{Strategy: "client-hash", Placement: Options{Anonymous: "best"}}, 0); err == nil {
		t.Error("got none, want an error about the strategy of anonymous clients")
	}
}

// A new lease counts for members that leave from now on; a rolling update keeps its patience.
func TestReconfigureLease(t *testing.T) {
	t.Parallel()
	o := BrainOptions{Strategy: "adaptive", Groups: GroupOptions{Hold: 10 * second}}
	b := newTestBrain(t, o, 0, "a", "b")
	seat := func(id string) string { return placeNamed(b, Client{ID: id, Group: "g", Ordinal: -1}, 0) }
	home := seat("m")
	o.Groups.Hold = 100 * second
	if err := b.Reconfigure(o, 0); err != nil {
		t.Fatal(err)
	}
	b.Release(Client{ID: "m", Group: "g", Ordinal: -1}, home, Left, 0)
	if v, ok := b.Group("g", 99*second); !ok || v.Away != 1 {
		t.Errorf("got %+v after 99 s, want the seat kept for 100 s", v)
	}
	if _, ok := b.Group("g", 101*second); ok {
		t.Error("got the seat kept after 101 s, want it gone")
	}
	b.Force(Force{State: Rolling, On: true})
	b.Tick(102 * second)
	o.Groups.Hold = 5 * second
	if err := b.Reconfigure(o, 102*second); err != nil {
		t.Fatal(err)
	}
	if got := b.groups.options.Hold; got != rollingHold {
		t.Errorf("got a lease of %d s in a rolling update, want %d", got/second, rollingHold/second)
	}
	o.Groups.Hold = -1
	if err := b.Reconfigure(o, 102*second); err != nil {
		t.Fatal(err)
	}
	if got := b.groups.options.Hold; got != -1 {
		t.Errorf("got a lease of %d, want none", got)
	}
}

// Who begins to watch finds all backends at work, also those that have joined later.
func TestReconfigureBeginsToWatch(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{Strategy: "client-hash"}, 0, "a")
	b.Join(named("a", "b"), second)
	if err := b.Reconfigure(BrainOptions{Strategy: "client-hash", Watched: true}, 2*second); err != nil {
		t.Fatal(err)
	}
	for i := range b.Snapshot().Backends {
		if x := b.Snapshot().Backends[i]; x.Phase != Ready {
			t.Errorf("got %s %s, want it ready", x.Name, x.Phase)
		}
	}
	b.Vital("a", Vitals{Passed: true})
	b.Vital("b", Vitals{FailedChecks: 3})
	b.Tick(3 * second)
	if got := b.Snapshot().Backends[1].Phase; got != Down {
		t.Errorf("got b %s after three failed checks, want it down", got)
	}
	if err := b.Reconfigure(BrainOptions{Strategy: "client-hash"}, 4*second); err != nil {
		t.Fatal(err)
	}
	if got := b.Snapshot().Backends[1].Phase; got != Ready {
		t.Errorf("got b %s when nobody watches any more, want it ready", got)
	}
}

// What is known of the load is known to the next strategy too, unless the settings of the load have changed.
func TestReconfigureKeepsTheForecast(t *testing.T) {
	t.Parallel()
	o := BrainOptions{Strategy: "client-hash", Load: LoadOptions{Blackout: 1}}
	b := newTestBrain(t, o, 0, "a", "b")
	now := int64(0)
	for range 40 {
		now += 15 * second
		b.Observe("a", Figure{Value: 0.9, At: now}, now)
		b.Observe("b", Figure{Value: 0.1, At: now}, now)
		b.Predict(now)
	}
	b.Force(Force{State: Overloaded, On: true})
	b.Tick(now)
	for _, strategy := range []string{"metric-wrr", "adaptive"} {
		o.Strategy, o.Heavy.Share = strategy, 0.1
		if err := b.Reconfigure(o, now); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for k := range 100 {
			i, why := b.Place(Client{ID: fmt.Sprint("c", k)}, nil, now) // fleeting: by load while overloaded
			if why.Strategy != "metric-wrr" {
				t.Fatalf("%s: got strategy %s, want metric-wrr", strategy, why.Strategy)
			}
			got[b.Snapshot().Backends[i].Name]++
		}
		if got["b"] < 2*got["a"] {
			t.Errorf("%s: got %v, want most on b: the forecast says that a is loaded", strategy, got)
		}
	}
	if b.heavy.forecast == nil {
		t.Error("got no forecast for heavy clients under new settings, want the last one")
	}
}
