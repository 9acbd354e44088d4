package balancer

import (
	"fmt"
	"testing"
)

// A backend joins: it gets its share with the fewest disconnects there are, nobody is disturbed twice, and whoever
// was moved comes back to the same backend ever after (algorithms.md, 5.1: 1.01 times the minimum, where round
// robin needs seven times as many).
func TestJoinIsMinimal(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		backends, clients int
		watched           bool
		rate              float64
		strategy          string
		quiet             int64
	}{
		{6, 20_000, false, 100, "adaptive", 0},
		{6, 20_000, true, 100, "adaptive", 0},
		{6, 20_000, false, 500, "adaptive", 0},
		{6, 20_000, false, 500, "adaptive", 60}, // connections take six seconds to end
		{3, 20_000, true, 100, "client-hash", 0},
		{9, 30_000, false, 100, "client-hash", 0},
		{6, 20_000, false, 100, "maglev", 0},
	} {
		o := BrainOptions{Strategy: test.strategy, Watched: test.watched, Placement: Options{BoundedLoad: 1.25}}
		w := newPlanWorld(t, 1, o, MoverOptions{Rate: test.rate}, test.backends)
		w.fill(test.clients, nil)
		w.quiet = test.quiet
		w.backs = append(w.backs, Backend{Name: fmt.Sprint("n", test.backends)})
		w.join()
		took := w.run(900, func() bool { return w.even() && !w.b.uneven && len(w.due)+len(w.ending) == 0 })
		least := 0.95 * float64(test.clients) / float64(test.backends+1)
		times, _ := w.most()
		t.Logf("%+v: %d moves in %d s, %.3f times the minimum, at most %d away", test, w.moves, took, float64(w.moves)/least, w.outside)
		if !w.even() || float64(w.moves) > 1.01*least || times > 1 || w.surprises > 0 {
			t.Errorf("%+v: %d moves (minimum %.0f), some client %d times, %d went elsewhere than planned, and then %v",
				test, w.moves, least, times, w.surprises, w.counts())
		}
		for i := range w.clients {
			p := &w.clients[i]
			if was := p.backend; p.moved > 0 {
				w.b.Release(p.c, p.backend, Left, w.now)
				if w.connect(i); p.backend != was {
					t.Fatalf("%+v: %s was moved to %s and came back to %s", test, p.c.ID, was, p.backend)
				}
			}
		}
	}
}

// With natural reconnects fewer moves are needed: what comes by itself is not moved.
func TestJoinCountsOnReconnects(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 2, BrainOptions{}, MoverOptions{Rate: 20}, 6)
	w.fill(6000, nil)
	w.backs = append(w.backs, Backend{Name: "n6"})
	w.join()
	w.each = func() {
		if i := w.random.IntN(len(w.clients)); w.clients[i].backend != "" {
			w.disconnect(i, Left)
		}
	}
	w.run(300, func() bool { return !w.b.uneven })
	w.run(20, nil)
	if least := 0.95 * 6000 / 7; float64(w.moves) > 0.98*least || w.moves == 0 || !w.even() {
		t.Errorf("got %d moves and then %v, want an even cluster with some moves fewer than %.0f", w.moves, w.counts(), least)
	}
}

// Backends of different size get connections in proportion, and one that returns gets its own clients back.
func TestReturnIsMinimal(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 4, BrainOptions{Watched: true, Placement: Options{BoundedLoad: 1.25}}, MoverOptions{}, 4)
	w.backs[1].Capacity = 2
	w.join()
	w.fill(8000, nil)
	homes := map[string]string{}
	for _, p := range w.clients {
		homes[p.c.ID] = p.backend
	}
	w.vitals["n1"] = Vitals{FailedChecks: 3}
	w.run(2, nil)
	for i := range w.clients {
		if w.clients[i].backend == "n1" {
			w.disconnect(i, Left)
		}
	}
	w.run(300, nil)
	if w.moves > 0 {
		t.Errorf("got %d moves after a loss that hashing has spread evenly", w.moves)
	}
	w.vitals["n1"] = Vitals{Passed: true}
	w.run(600, nil)
	times, _ := w.most()
	if w.b.uneven || times != 1 || float64(w.moves) > 1.02*0.95*8000*2/5 {
		t.Errorf("got %d moves, some client %d times, and then %v; want 95 %% of 3200", w.moves, times, w.counts())
	}
	for _, p := range w.clients {
		if p.moved > 0 && (p.backend != "n1" || homes[p.c.ID] != "n1") {
			t.Fatalf("%s was moved to %s, and had been on %s", p.c.ID, p.backend, homes[p.c.ID])
		}
	}
}

// Only clients that may be moved are: with too few of them the mover gives up instead of asking for ever.
func TestJoinGivesUp(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 5, BrainOptions{}, MoverOptions{}, 3)
	w.fill(2000, func(i int, p *planClient) {
		if i%2 == 0 {
			p.will = PromptWill
		}
	})
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(900, nil)
	if w.b.uneven || w.even() || w.moves < 200 {
		t.Errorf("got %d moves and then %v, uneven %v; want it to move what it may and give up", w.moves, w.counts(), w.b.uneven)
	}
	for _, p := range w.clients {
		if p.moved > 0 && p.will == PromptWill {
			t.Fatalf("%s was moved, and its will was published", p.c.ID)
		}
	}
}

// An operator's wish is carried out once, also when plans are manual.
func TestLevelOnce(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 6, BrainOptions{}, MoverOptions{Plan: PlanOptions{Manual: true}}, 3)
	w.fill(2000, nil)
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(60, nil)
	if w.moves > 0 {
		t.Errorf("got %d moves that nobody has asked for", w.moves)
	}
	w.b.Level(w.now)
	w.run(60, nil)
	if !w.even() || w.moves != 475 || w.b.Uneven() {
		t.Errorf("got %d moves and %v, uneven %v, want 475 and level", w.moves, w.counts(), w.b.Uneven())
	}
}

// A backend that was away for a moment still has its clients when it ramps up. They stay, though the ramp gives it a
// small share for the time being.
func TestRampKeepsClients(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 7, BrainOptions{Watched: true, Placement: Options{BoundedLoad: 1.25}}, MoverOptions{}, 4)
	w.fill(2000, func(i int, p *planClient) {
		if i%4 == 0 {
			p.c.Group = fmt.Sprint("g", i%20)
		}
	})
	w.vitals["n1"] = Vitals{FailedChecks: 3}
	w.run(10, nil)
	w.vitals["n1"] = Vitals{Passed: true}
	w.run(300, nil)
	if w.moves > 0 {
		t.Errorf("got %d moves and %v, want none", w.moves, w.counts())
	}
}

// Levelling goes on for as long as it makes progress, however slow that is.
func TestSlowJoin(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 3, BrainOptions{}, MoverOptions{Rate: 0.8}, 3)
	w.fill(3000, nil)
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(1000, func() bool { return !w.b.uneven })
	w.run(20, nil)
	if !w.even() || w.moves != 713 {
		t.Errorf("got %d moves and then %v, want 713 and level", w.moves, w.counts())
	}
}

// The limits of four backends that hold 100 on average.
func TestBalance(t *testing.T) {
	t.Parallel()
	set := named("a", "b", "c", "d")
	var even balance
	for _, test := range []struct {
		from, to            Phase
		has, gets           int // connections of a and b; c and d share the rest
		helps, over, tooFew bool
		description         string
	}{
		{Ready, Ready, 106, 100, true, true, false, "too many here, room there"},
		{Ready, Ready, 106, 105, false, true, false, "too many here, no room there"},
		{Ready, Ready, 105, 95, false, false, false, "both within their limits"},
		{Ready, Ready, 100, 94, true, false, true, "too few there"},
		{Ready, Ready, 95, 94, false, false, true, "too few there, none to spare here"},
		{Ready, Ready, 96, 94, true, false, true, "too few there, one to spare here"},
		{Hot, Ready, 106, 100, true, true, false, "away from the heat"},
		{Ready, Hot, 106, 60, false, true, true, "into the heat"},
		{Ready, Joining, 120, 0, false, false, false, "to one that is not there yet"},
		{Ready, Ramping, 106, 60, true, true, true, "to one that ramps up"},
		{Ramping, Ready, 120, 60, false, false, true, "away from one that ramps up"},
	} {
		set[0].Phase, set[1].Phase = test.from, test.to
		s := NewSnapshot(1, "key", set)
		rest := 400 - test.has - test.gets
		seats := &Seats{Live: []int{test.has, test.gets, rest / 2, rest - rest/2}, Total: 400}
		balanceOf(&even, s, seats, 0.05)
		if got := even.helps(0, 1, seats); got != test.helps {
			t.Errorf("%s: helps is %v, want %v", test.description, got, test.helps)
		}
		if over, needy := even.over(0, seats), even.needy(1, seats); test.to != Joining && (over != test.over || needy != test.tooFew) {
			t.Errorf("%s: got over %v, needy %v, want %v, %v", test.description, over, needy, test.over, test.tooFew)
		}
	}
}
