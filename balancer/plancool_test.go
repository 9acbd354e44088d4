package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// hotStage is like the model of algorithms.md, 4.5: 20 000 clients on 6 backends, of which n0 carries so many times
// the average. The heavier a client, the more likely it consumes a shared subscription.
func hotStage(t *testing.T, seed uint64, population string, times float64) *planStage {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 5))
	rate := func() float64 {
		switch population {
		case "Pareto 1.2":
			return min(2000, math.Pow(1-random.Float64(), -1/1.2))
		case "1 % × 50":
			if random.Float64() < 0.01 {
				return 50
			}
		}
		return 1
	}
	set := numbered(6)
	p := newPlanStage(t, BrainOptions{Strategy: "random"}, set)
	const n = 20_000
	p.sessions = make([]Session, n)
	total, loads := 0.0, make([]float64, 6)
	for k := range p.sessions {
		at, rate := random.IntN(6), rate()
		p.sessions[k] = Session{
			Client: Client{ID: fmt.Sprint("c", k), Ordinal: -1, Persistent: random.IntN(2) == 0}, Handle: uint64(k),
			Backend: set[at].Name, Rate: rate, Shared: random.Float64() < 0.014*rate, Will: Will(random.IntN(3)),
		}
		total += p.sessions[k].Rate
		loads[at] += p.sessions[k].Rate
	}
	for loads[0] < times*total/6 {
		s := &p.sessions[random.IntN(n)]
		loads[p.b.Snapshot().Index(s.Backend)] -= s.Rate
		loads[0] += s.Rate
		s.Backend = "n0"
	}
	p.b = newTestBrain(t, BrainOptions{}, 0)
	p.b.Join(set, 0)
	for _, s := range p.sessions {
		p.b.seats.Take(p.b.snapshot.Index(s.Backend))
		p.b.members[s.Backend].live++
	}
	set[0].Phase = Hot
	p.b.Join(set, p.now)
	for k := range int64(2) {
		for i := range set {
			p.b.Traffic(set[i].Name, loads[i], p.now+k)
		}
		for _, s := range p.sessions {
			p.b.Note(s.Client.ID, s.Backend, s.Rate)
		}
		p.b.Predict(p.now + k)
	}
	return p
}

// A hot backend is cooled to 1.05 times the average with few disconnects: the heaviest of those that are cheap to
// move (algorithms.md, 4.5: 68 to 175, where random eviction takes 640 to 1030).
func TestCoolingIsCheap(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		population string
		times      float64
		most       int
	}{
		{"Pareto 1.2", 1.3, 68},
		{"Pareto 1.2", 1.5, 175},
		{"1 % × 50", 1.3, 75},
		{"1 % × 50", 1.5, 99},
		{"all equal", 1.3, 834},
		{"all equal", 1.5, 1500},
	} {
		const runs = 2 + 8/fewer
		moves, shared := 0, 0
		for seed := range uint64(runs) {
			p := hotStage(t, seed, test.population, test.times)
			loads, total := map[string]float64{}, 0.0
			for _, s := range p.sessions {
				loads[s.Backend] += s.Rate
				total += s.Rate
			}
			before := 1.06 // of the others
			for name, load := range loads {
				if name != "n0" {
					before = max(before, load/total*6)
				}
			}
			for _, m := range p.plan(PlanOptions{MoveWills: true}) {
				loads[m.From] -= m.Rate
				loads[m.To] += m.Rate
				moves++
				if p.sessions[m.Handle].Shared {
					shared++
				}
				if m.Why != Cooling || m.From != "n0" || m.To == "" {
					t.Fatalf("got move %+v", m)
				}
			}
			if got := loads["n0"] / total * 6; got > 1.0505 || got < 1.04 {
				t.Errorf("%s, %.1f: n0 ends at %.3f times the average, want 1.05", test.population, test.times, got)
			}
			for name, load := range loads {
				if load = load / total * 6; load > before {
					t.Errorf("%s, %.1f: %s ends at %.3f times the average, which is more than any had but n0", test.population, test.times, name, load)
				}
			}
		}
		t.Logf("%s, %.1f: %d disconnects (%d of shared subscriptions)", test.population, test.times, moves/runs, shared/runs)
		if moves/runs > test.most {
			t.Errorf("%s, %.1f: got %d disconnects, want at most %d", test.population, test.times, moves/runs, test.most)
		}
	}
}

// The order of cooling, as a table: who goes from a backend that has 100 too much.
func TestCoolingOrder(t *testing.T) {
	t.Parallel()
	p := newPlanStage(t, BrainOptions{}, named("a", "b", "c"))
	add := func(id string, rate float64, edit func(s *Session)) {
		s := p.put("a", Client{ID: id, Ordinal: -1, Persistent: true})
		if s.Rate = rate; edit != nil {
			edit(s)
		}
	}
	add("light-shared", 1, func(s *Session) { s.Shared = true })
	add("plain", 40, nil)
	add("prompt", 60, func(s *Session) { s.Will = PromptWill })
	add("clean-prompt", 50, func(s *Session) { s.Will, s.Client.Persistent = PromptWill, false })
	add("delayed", 45, func(s *Session) { s.Will = DelayedWill })
	add("shared", 30, func(s *Session) { s.Shared = true })
	add("huge-shared", 5000, func(s *Session) { s.Shared = true })
	for k := range 40 {
		add(fmt.Sprint("light", k), 1, nil)
	}
	set := named("a", "b", "c")
	set[0].Phase = Hot
	p.b.Join(set, p.now)
	order := func(excess float64) (got []string) {
		need := p.b.Need(PlanOptions{MoveWills: true}, p.now)
		if need == nil {
			return nil
		}
		need.excess[0] = excess
		var w planner
		w.reset(p.b, PlanOptions{MoveWills: true}.withDefaults(), p.now)
		for _, m := range w.plan(need, slices.Values(p.sessions)) {
			got = append(got, m.Client.ID)
		}
		return got
	}
	if got := order(100); got != nil {
		t.Errorf("got %v without any figures, want nothing", got)
	}
	p.b.Traffic("a", 5300, p.now)
	p.b.Predict(p.now)
	for _, test := range []struct {
		excess float64
		want   []string
	}{
		// The mean is 112 with the huge one, so all others come after it, by rank and then by rate.
		{6000, []string{"huge-shared", "shared", "light-shared", "plain", "light0"}},
		{100, []string{"shared", "light-shared", "plain", "light0"}},
		{35, []string{"shared", "light-shared", "light0", "light1"}},
		{29, []string{"light-shared", "light0"}},
		{0.5, nil},
	} {
		got := order(test.excess)
		if len(got) < len(test.want) || !slices.Equal(got[:len(test.want)], test.want) || test.want == nil && len(got) > 0 {
			t.Errorf("excess %v: got %v, want it to begin with %v", test.excess, got, test.want)
		}
	}
	if got := order(6000); !slices.Equal(got[len(got)-3:], []string{"clean-prompt", "delayed", "prompt"}) &&
		!slices.Equal(got[len(got)-3:], []string{"delayed", "clean-prompt", "prompt"}) {
		t.Errorf("got %v, want the one with a will that is published and a session that is lost last", got)
	}
}

// What has been sent away since the forecast is not sent away twice, and the pace is one client per second.
func TestCoolingPace(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 6, BrainOptions{}, MoverOptions{Plan: PlanOptions{MoveWills: true}}, 3)
	w.fill(600, func(_ int, p *planClient) { p.rate = 1 })
	for i := range w.clients { // half of the clients of n1 have gone to n0
		if p := &w.clients[i]; p.backend == "n1" && i%2 == 0 {
			w.b.Release(p.c, "n1", Left, w.now)
			w.b.Place(p.c, []string{"n1", "n2"}, w.now)
			p.backend = "n0"
		}
	}
	w.backs[0].Phase = Hot
	w.join()
	observe := func() {
		for _, b := range w.backs {
			w.b.Traffic(b.Name, float64(w.b.Connections(b.Name)), w.now)
		}
		w.b.Predict(w.now)
	}
	observe()
	excess := float64(w.b.Connections("n0")) - 1.05*200
	w.run(30, nil)
	if w.moves < 29 || w.moves > 32 {
		t.Errorf("got %d moves in 30 s, want one per second", w.moves)
	}
	for range 20 {
		w.run(15, nil)
		observe()
	}
	if got := float64(w.moves); math.Abs(got-excess) > 3 {
		t.Errorf("got %v moves in all, want the excess of %.0f", got, excess)
	}
}
