package balancer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// calm is the situation of six healthy backends.
func calm(change func(s *Situation)) Situation {
	s := Situation{Members: 6, Serving: 6, Healthy: 1, Imbalance: 1, Versions: []string{"4.9"}}
	change(&s)
	return s
}

func TestStateStories(t *testing.T) {
	t.Parallel()
	quiet := calm(func(*Situation) {})
	hot := func(n int) Situation { return calm(func(s *Situation) { s.Hot = n }) }
	coming := func(imbalance float64) Situation {
		return calm(func(s *Situation) { s.Coming, s.Imbalance = 1, imbalance })
	}
	lost := func(imbalance float64) Situation {
		return calm(func(s *Situation) { s.Serving, s.Imbalance = 5, imbalance })
	}
	two := calm(func(s *Situation) { s.Versions = []string{"4.9", "4.10"} })
	stale := calm(func(s *Situation) { s.Stale = 0.6 })
	auto := Force{}
	type step struct {
		at   int64
		s    Situation
		f    Force
		want ClusterState
	}
	for _, story := range []struct {
		name  string
		steps []step
	}{
		{"nothing happens", []step{{1, quiet, auto, Balanced}, {99, quiet, auto, Balanced}}},
		{"half hot, then below a quarter for 120 s", []step{
			{1, hot(2), auto, Balanced},
			{2, hot(3), auto, Overloaded},
			{99, hot(2), auto, Overloaded},
			{100, hot(1), auto, Overloaded},
			{218, hot(1), auto, Overloaded},
			{219, hot(1), auto, Balanced},
		}},
		{"figures missing, for 60 s none", []step{
			{1, stale, auto, Degraded},
			{60, quiet, auto, Degraded},
			{61, quiet, auto, Balanced},
		}},
		{"half of the capacity gone", []step{
			{1, calm(func(s *Situation) { s.Healthy = 0.5 }), auto, Balanced},
			{2, calm(func(s *Situation) { s.Healthy = 0.49 }), auto, Degraded},
		}},
		{"a backend comes and is filled", []step{
			{1, quiet, auto, Balanced},
			{10, coming(1.17), auto, Scaling},
			{100, calm(func(s *Situation) { s.Serving, s.Imbalance = 7, 1.08 }), auto, Scaling},
			{110, calm(func(s *Situation) { s.Serving, s.Imbalance = 7, 1.05 }), auto, Balanced},
		}},
		{"never less than 30 s in a state on the way down", []step{
			{1, quiet, auto, Balanced},
			{40, coming(1), auto, Scaling},
			{41, quiet, auto, Scaling},
			{69, quiet, auto, Scaling},
			{70, quiet, auto, Balanced},
		}},
		{"up at once", []step{
			{40, coming(1), auto, Scaling},
			{41, two, auto, Rolling},
			{42, hot(3), auto, Overloaded},
			{43, stale, auto, Degraded},
		}},
		{"a newcomer that never becomes ready is given up", []step{
			{1, quiet, auto, Balanced},
			{10, coming(1), auto, Scaling},
			{309, coming(1), auto, Scaling},
			{310, coming(1), auto, Balanced},
			{999, coming(1), auto, Balanced},
			{1000, calm(func(s *Situation) { s.Coming = 2 }), auto, Scaling},
		}},
		{"progress keeps it going", []step{
			{10, coming(1.3), auto, Scaling},
			{300, coming(1.2), auto, Scaling},
			{590, coming(1.1), auto, Scaling},
			{889, coming(1.099), auto, Scaling},
			{890, coming(1.099), auto, Balanced},
		}},
		{"uneven after a loss", []step{
			{1, quiet, auto, Balanced},
			{10, lost(1.09), auto, Balanced},
			{11, lost(1.11), auto, Scaling},
			{50, lost(1.06), auto, Scaling},
			{51, lost(1.05), auto, Balanced},
			{60, lost(1.20), auto, Balanced}, // not from a loss: nothing that SCALING could mend
		}},
		{"an update under way outlives an overload", []step{
			{1, quiet, auto, Balanced},
			{10, two, auto, Rolling},
			{20, hot(3), auto, Overloaded},
			{139, quiet, auto, Overloaded},
			{140, two, auto, Rolling},
			{200, quiet, auto, Rolling},
			{260, quiet, auto, Balanced},
		}},
		{"the orchestrator takes one away, a person does not", []step{
			{1, calm(func(s *Situation) { s.Draining = 1 }), auto, Balanced},
			{2, calm(func(s *Situation) { s.Draining, s.Terminating = 1, 1 }), auto, Rolling},
		}},
		{"by hand: at once, and back at once", []step{
			{1, quiet, auto, Balanced},
			{2, quiet, Force{Rolling, true}, Rolling},
			{3, hot(3), Force{Balanced, true}, Balanced},
			{4, hot(3), auto, Overloaded},
			{5, hot(3), Force{Balanced, true}, Balanced},
		}},
		{"released by hand: the rules go on as if they had been asked", []step{
			{1, quiet, Force{Degraded, true}, Degraded},
			{2, quiet, auto, Balanced},
		}},
	} {
		rules, state := DefaultStateRules(), State{}
		for _, m := range story.steps {
			state = rules.Next(state, m.s, m.f, seconds(m.at))
			if state.Cluster != m.want || state.Forced != m.f.On {
				t.Errorf("%s: at %d s: got %v, forced %v; want %v", story.name, m.at, state.Cluster, state.Forced, m.want)
				break
			}
		}
	}
}

// Whatever happens: a step down never comes within 30 s of the last step, and a step up never waits.
func TestStateProperties(t *testing.T) {
	t.Parallel()
	rules := DefaultStateRules()
	var reached [5]int
	for seed := range uint64(100) {
		random, state := rand.New(rand.NewPCG(seed, 14)), State{}
		sit := calm(func(*Situation) {})
		for now := int64(100); now < 2000; now++ {
			if random.IntN(40) == 0 {
				sit = calm(func(s *Situation) {
					s.Serving = 4 + random.IntN(3)
					s.Hot = random.IntN(5) * random.IntN(2)
					s.Coming = random.IntN(2) * random.IntN(2)
					s.Terminating = random.IntN(2) * random.IntN(2)
					s.Stale = random.Float64() * 0.6
					s.Imbalance = 1 + 0.3*random.Float64()
				})
			}
			before := state
			state = rules.Next(state, sit, Force{}, seconds(now))
			reached[state.Cluster]++
			if state.Cluster < before.Cluster && seconds(now)-before.Since < rules.Dwell {
				t.Fatalf("from %v to %v after %d s", before.Cluster, state.Cluster, (seconds(now)-before.Since)/second)
			}
			if sit.Stale > 0.5 && state.Cluster != Degraded || sit.Hot*2 >= sit.Serving && sit.Hot > 0 && state.Cluster < Overloaded {
				t.Fatalf("got %v in %+v", state.Cluster, sit)
			}
			if again := rules.Next(state, sit, Force{}, seconds(now)); again.Cluster != state.Cluster || again.Since != state.Since {
				t.Fatal("looking twice in the same second changes the state")
			}
		}
	}
	if slices.Contains(reached[:], 0) {
		t.Errorf("got %v, want every state reached", reached)
	}
}

func TestStateTarget(t *testing.T) {
	t.Parallel()
	rules, state := DefaultStateRules(), State{}
	for i, c := range []struct {
		versions []string
		want     string
	}{
		{[]string{"4.9", "4.10"}, "4.10"}, // started in the middle: the latest
		{[]string{"4.10"}, "4.10"},
		{[]string{"4.9", "4.10"}, "4.9"}, // a downgrade
		{nil, "4.9"},
		{[]string{"4.9"}, "4.9"},
	} {
		state = rules.Next(state, calm(func(s *Situation) { s.Versions = c.versions }), Force{}, seconds(int64(i)+1))
		if state.Target != c.want {
			t.Errorf("step %d, versions %v: got target %q, want %q", i, c.versions, state.Target, c.want)
		}
	}
}

func TestParseForce(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Force{"": {}, "auto": {}, "balanced": {Balanced, true}, "degraded": {Degraded, true}} {
		if got, err := ParseForce(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := ParseForce("calm"); err == nil || !strings.Contains(err.Error(), "auto, balanced, scaling") {
		t.Errorf("got %v, want an error that lists the names", err)
	}
}

func TestSurvey(t *testing.T) {
	t.Parallel()
	set := names(8)
	for i, p := range []Phase{Ready, Ready, Hot, Ramping, Joining, Draining, Down, Ready} {
		set[i].Phase = p
		set[i].Labels = map[string]string{VersionLabel: []string{"4.10", "4.9"}[i%2]}
	}
	set[6].Capacity = 3
	s := NewSnapshot(1, "", set)
	seats := &Seats{Live: []int{100, 100, 100, 150, 0, 70, 0, 50}, Total: 570}
	got := Survey(s, seats, &Forecast{Reporting: 4, Stale: 3}, 1)
	if got.Members != 8 || got.Serving != 5 || got.Hot != 1 || got.Coming != 2 || got.Draining != 1 || got.Terminating != 1 {
		t.Errorf("counts: got %+v", got)
	}
	if got.Healthy != 0.7 || got.Stale != 0.75 || got.Imbalance != 1.5 || !slices.Equal(got.Versions, []string{"4.9", "4.10"}) {
		t.Errorf("figures: got %+v", got)
	}
	empty := NewSnapshot(1, "", nil)
	if got := Survey(empty, NewSeats(empty), nil, 0); got.Imbalance != 1 || got.Healthy != 1 {
		t.Errorf("no backends: got %+v", got)
	}
}

func TestAdaptiveChoosesByStateAndKind(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "", names(3))
	heavy := NewHeavy(HeavyOptions{})
	a, err := NewAdaptive(Options{BoundedLoad: 1.25, Heavy: heavy})
	if err != nil {
		t.Fatal(err)
	}
	a.Follow(evenForecast(s, seconds(15), func(int) float64 { return 0.5 }))
	heavy.Note("fat", "n1", 500)
	clients := map[Kind]Client{
		Grouped: {ID: "g-1", Group: "g"}, Fat: {ID: "fat"}, Persistent: {ID: "p", Persistent: true},
		Fleeting: {ID: "f"}, Anonymous: {Group: "g"},
	}
	for state := Balanced; state <= Degraded; state++ {
		a.Enter(State{Cluster: state})
		for kind, c := range clients {
			if got := a.Kind(c); got != kind {
				t.Errorf("got kind %v, want %v", got, kind)
			}
			want := Choice(state, kind)
			if want == "group-spread" {
				want = "client-hash" // those whom Groups left over
			}
			if i, why := a.Pick(c, s, NewSeats(s)); i < 0 || why.Strategy != want {
				t.Errorf("%v, %v: got %q, want %q", state, kind, why.Strategy, want)
			}
		}
	}
	a, err = NewAdaptive(Options{Anonymous: "least-connections"})
	if err != nil || a.Kind(Client{ID: "fat"}) != Fleeting {
		t.Errorf("got error %v; without memory nobody is fat", err)
	}
	if _, why := a.Pick(Client{}, s, NewSeats(s)); why.Strategy != "least-connections" {
		t.Errorf("anonymous as configured: got %q", why.Strategy)
	}
	if _, err = NewAdaptive(Options{Anonymous: "maglev"}); err == nil {
		t.Error("want an error for a strategy that cannot serve anonymous clients")
	}
}

// While an update goes on, nobody goes to a backend that is still to be restarted if one of the new has room.
func TestVersionAware(t *testing.T) {
	t.Parallel()
	set := names(4)
	for i := range set {
		set[i].Labels = map[string]string{VersionLabel: []string{"1", "2", "1", "2"}[i]}
	}
	set[2].Phase = Draining
	s := NewSnapshot(1, "", set)
	v, seats := &versionAware{target: "2"}, NewSeats(s)
	seats.Live[0], seats.Total = 300, 300
	early := 0
	for i := range 300 {
		b, _ := v.Pick(Client{ID: "c" + string(rune('a'+i%26)) + string(rune('a'+i/26))}, s, seats)
		if b == 0 {
			early++
		}
		if b == 2 {
			t.Fatal("got the draining one")
		}
		seats.Take(b)
	}
	t.Logf("300 clients: %v by backend, of which 0 and 2 are old; %d went to an old one", seats.Live, early)
	if early > 0 {
		t.Errorf("got %d clients on an old backend while the new ones had room", early)
	}
	for range 600 { // above 1.05 × C/(N-1) the others are used again
		b, _ := v.Pick(Client{ID: "x"}, s, seats)
		seats.Take(b)
	}
	if seats.Live[0] == 300 || seats.Live[2] != 0 {
		t.Errorf("got %v, want the old one used and the draining one not", seats.Live)
	}
}
