package balancer

import (
	"fmt"
	"testing"
)

// A drain empties its backend, whoever is on it and whatever the strategy, and nobody comes back there.
func TestDrainEmpties(t *testing.T) {
	t.Parallel()
	for _, strategy := range Names() {
		w := newPlanWorld(t, 1, BrainOptions{Strategy: strategy, Watched: true, Placement: Options{BoundedLoad: 1.25}}, MoverOptions{}, 4)
		w.fill(3000, func(i int, p *planClient) {
			p.will = Will(i % 3)
			switch {
			case i%7 == 0:
				p.c.Group = fmt.Sprint("g", i%35)
			case i%11 == 0:
				p.c.ID = ""
			}
			if i%77 == 0 {
				p.c.ID = "" // a member of a group without an id
			}
		})
		before := w.b.Connections("n2")
		w.vitals["n2"] = Vitals{Passed: true, Drain: true}
		took := w.run(300, func() bool { return w.b.Connections("n2") == 0 })
		if w.b.Connections("n2") > 0 || took > 60 {
			t.Errorf("%s: %d of %d left after %d s", strategy, w.b.Connections("n2"), before, took)
		}
		w.run(30, nil)
		if w.b.Connections("n2") > 0 || w.moves != before || w.m.Pending() > 0 || w.m.Outstanding() > 0 {
			t.Errorf("%s: %d are on the drained backend in the end, after %d moves of %d; %d pending, %d outstanding",
				strategy, w.b.Connections("n2"), w.moves, before, w.m.Pending(), w.m.Outstanding())
		}
		checkBook(t, w.b.groups)
	}
}

// Two drains at a time, one of a backend that most have just been moved to.
func TestDrainOneAfterTheOther(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 2, BrainOptions{Watched: true}, MoverOptions{}, 3)
	w.fill(900, nil)
	w.vitals["n0"] = Vitals{Passed: true, Drain: true}
	w.run(20, nil)
	w.vitals["n1"] = Vitals{Passed: true, Drain: true}
	w.run(120, nil)
	if counts := w.counts(); counts[0]+counts[1] > 0 || counts[2] != 900 {
		t.Errorf("got %v, want all on the last backend", counts)
	}
	w.vitals["n2"] = Vitals{Passed: true, Drain: true} // nowhere to go
	was := w.moves
	w.run(60, nil)
	if w.moves != was {
		t.Errorf("got %d moves from the last backend, want none", w.moves-was)
	}
	w.vitals["n0"] = Vitals{Passed: true}
	w.run(120, nil)
	if counts := w.counts(); counts[0] != 900 {
		t.Errorf("got %v, want all on the backend that was taken back", counts)
	}
}

// Whoever is not at home when its backend drains goes home, where there is room, whatever home means to the strategy.
func TestDrainSendsHome(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"client-hash", "maglev", "adaptive"} {
		set := numbered(4)
		p := newPlanStage(t, BrainOptions{Strategy: strategy, Placement: Options{BoundedLoad: 1.25}}, set)
		home := make(map[string]string)
		for k := range 400 {
			c := Client{ID: fmt.Sprint("c", k), Ordinal: -1}
			home[c.ID] = placeNamed(p.b, c, p.now)
			if k%4 > 0 || home[c.ID] == "n3" {
				continue
			}
			p.b.Release(c, home[c.ID], Left, p.now)
			p.put("n3", c)
		}
		set[3].Phase = Draining
		p.b.Join(set, p.now)
		plan := p.plan(PlanOptions{Goal: 0.5})
		for _, m := range plan {
			if m.To != home[m.Client.ID] {
				t.Errorf("%s: %s is sent to %s, want its home, %s", strategy, m.Client.ID, m.To, home[m.Client.ID])
			}
		}
		if len(plan) < 50 {
			t.Errorf("%s: got %d moves, want all strays", strategy, len(plan))
		}
	}
}

// Sessions that live on one broker stay there; so do clients with wills if they must.
func TestDrainLeaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		node, keep bool
	}{{true, false}, {false, true}} {
		w := newPlanWorld(t, 3, BrainOptions{Watched: true, Placement: Options{NodeScope: test.node}},
			MoverOptions{Plan: PlanOptions{KeepWills: test.keep}}, 3)
		w.fill(900, func(i int, p *planClient) {
			if p.c.Persistent = i%3 == 0; i%2 == 0 {
				p.will = PromptWill
			}
		})
		stays := func(p *planClient) bool { return test.node && p.c.Persistent || test.keep && p.will == PromptWill }
		w.vitals["n0"] = Vitals{Passed: true, Drain: true}
		w.run(200, nil)
		for i := range w.clients {
			p := &w.clients[i]
			if p.moved > 0 && stays(p) || p.backend == "n0" && !stays(p) {
				t.Fatalf("%+v: %+v is on %s and was moved %d times", test, p.c, p.backend, p.moved)
			}
		}
		if w.moves < 100 {
			t.Errorf("%+v: got %d moves, want all others of the backend", test, w.moves)
		}
	}
}

// Who stays because of a will is counted, and goes when the backend is overdue, as do the young; those whose session lives
// on the broker stay even then.
func TestDrainOverdue(t *testing.T) {
	t.Parallel()
	for _, node := range []bool{false, true} {
		o := MoverOptions{Plan: PlanOptions{KeepWills: true}}
		w := newPlanWorld(t, 6, BrainOptions{Watched: true, Placement: Options{NodeScope: node}}, o, 3)
		w.fill(900, func(i int, p *planClient) {
			if p.c.Persistent = i%3 == 0; i%2 == 0 {
				p.will = PromptWill
			}
		})
		held, tied := map[string]int{}, 0
		for i := range w.clients {
			p := &w.clients[i]
			switch {
			case node && p.c.Persistent:
				if p.backend == "n0" {
					tied++
				}
			case p.will == PromptWill:
				held[p.backend]++
			}
			if i%10 == 5 {
				p.since = w.now + 1000*second // for ever young
			}
		}
		w.vitals["n0"] = Vitals{Passed: true, Drain: true}
		w.run(130, nil)
		for _, m := range w.m.out {
			if m.Forced {
				t.Fatalf("%+v is forced in time", m)
			}
		}
		if w.m.Held("n0") != held["n0"] || w.m.Held("n1") != 0 || held["n0"] == 0 {
			t.Errorf("got %d held on n0, %d on n1; want %d, none", w.m.Held("n0"), w.m.Held("n1"), held["n0"])
		}
		young, forced := w.b.Connections("n0")-held["n0"]-tied, 0
		if young <= 0 {
			t.Fatal("there are no young ones")
		}
		w.each = func() {
			for _, m := range w.m.out {
				if forced++; !m.Forced {
					t.Fatalf("%+v is not forced", m)
				}
			}
		}
		w.m.Overdue("n0", true)
		w.run(60, nil)
		if w.b.Connections("n0") != tied || forced < held["n0"]+young || w.m.Held("n0") != 0 {
			t.Errorf("overdue: got %d left, %d forced, %d held; want %d, %d, none", w.b.Connections("n0"), forced, w.m.Held("n0"), tied, held["n0"]+young)
		}
		w.each = func() {}
		w.m.Overdue("n0", false)
		w.vitals["n0"], w.vitals["n1"] = Vitals{Passed: true}, Vitals{Passed: true, Drain: true}
		w.run(130, nil)
		if w.m.Held("n1") == 0 {
			t.Error("nobody is held on the next backend")
		}
		w.vitals["n1"] = Vitals{Passed: true}
		w.run(60, nil)
		if w.m.Held("n1") != 0 {
			t.Errorf("got %d held on a backend that is taken back", w.m.Held("n1"))
		}
	}
}

// Clients that came a moment ago are moved when they are a minute old, not before.
func TestDrainWaitsForTheYoung(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 4, BrainOptions{Watched: true}, MoverOptions{}, 2)
	w.fill(400, nil)
	for i := range w.clients {
		w.clients[i].since = w.now
	}
	began := w.now
	w.vitals["n0"] = Vitals{Passed: true, Drain: true}
	w.run(59, nil)
	if w.moves > 0 {
		t.Errorf("got %d moves before anybody was a minute old", w.moves)
	}
	w.run(60, nil)
	if w.b.Connections("n0") > 0 {
		t.Errorf("%d are left after %d s", w.b.Connections("n0"), (w.now-began)/second)
	}
}

// While a backend is emptied, no group misses more than one in twenty of its members, or one.
func TestDrainSparesGroups(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 5, BrainOptions{Watched: true}, MoverOptions{}, 4)
	w.fill(1200, func(i int, p *planClient) {
		if p.c.Group = fmt.Sprint("small", i%20); i < 200 {
			p.c.Group = "large"
		}
	})
	sizes, away := map[string]int{}, map[string]int{}
	for _, p := range w.clients {
		sizes[p.c.Group]++
	}
	w.each = func() {
		clear(away)
		for _, p := range w.clients {
			if p.backend == "" {
				away[p.c.Group]++
			}
		}
		for group, n := range away {
			if n > max(1, sizes[group]/20) {
				w.tb.Fatalf("%d of %d members of %s are away", n, sizes[group], group)
			}
		}
	}
	w.vitals["n1"] = Vitals{Passed: true, Drain: true}
	w.run(200, nil)
	if w.b.Connections("n1") > 0 || w.moves < 200 {
		t.Errorf("%d are left after %d moves", w.b.Connections("n1"), w.moves)
	}
}
