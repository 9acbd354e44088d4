package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// The plan to spread groups is that of Groups.Repair, if all members may be moved.
func TestSpreadingIsRepairQuick(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 2))
		n := 2 + random.IntN(4)
		p := newPlanStage(t, BrainOptions{Groups: GroupOptions{Ordinals: random.IntN(3) == 0, Instances: 1 + random.IntN(2)}}, numbered(n))
		for k := range 80 {
			c := Client{ID: fmt.Sprint("m", k), Group: fmt.Sprint("g", random.IntN(5)), Ordinal: -1}
			switch random.IntN(6) {
			case 0:
				c.ID = ""
			case 1, 2:
				c.Ordinal = random.IntN(20)
			}
			p.put(fmt.Sprint("n", random.IntN(n)), c)
		}
		p.b.Join(numbered(n+random.IntN(2)), p.now)
		want := p.b.groups.Repair(p.b.snapshot, p.b.seats, p.now)
		plan := slices.DeleteFunc(p.plan(PlanOptions{}), func(m Move) bool { return m.Why != Spreading })
		for k := range want {
			if want[k].Member == "" {
				want[k].To = "" // cannot be kept for it
			}
		}
		var got []GroupMove
		for _, m := range plan {
			got = append(got, GroupMove{m.Client.Group, m.Client.ID, m.From, m.To})
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}

// Members that may not be moved now are passed over: others go instead, and the group becomes even all the same.
func TestSpreadingPassesOver(t *testing.T) {
	t.Parallel()
	p := newPlanStage(t, BrainOptions{}, named("a", "b"))
	for k := range 6 {
		s := p.put("a", Client{ID: fmt.Sprint("m", k), Group: "g", Ordinal: -1})
		if k < 2 {
			s.Since = p.now
		}
		if k == 2 {
			s.Will = PromptWill
		}
	}
	var got []string
	for _, m := range p.plan(PlanOptions{}) {
		got = append(got, m.Client.ID)
	}
	if !slices.Equal(got, []string{"m3", "m4", "m5"}) {
		t.Errorf("got %v, want the three that may be moved", got)
	}
}

// A join spreads the groups with as few moves as there can be, one member of a group at a time (algorithms.md, 3.4:
// 100 groups of 40 members, 6 to 7 backends, 10 per second: 500 moves in 59 s).
func TestSpreadingAfterJoin(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 3, BrainOptions{}, MoverOptions{Rate: 10}, 6)
	w.fill(4000, func(i int, p *planClient) { p.c.Group = fmt.Sprint("g", i%100) })
	away := map[string]int{}
	w.each = func() {
		clear(away)
		for _, p := range w.clients {
			if p.backend == "" {
				if away[p.c.Group]++; away[p.c.Group] > 1 {
					w.tb.Fatalf("two of %s are away", p.c.Group)
				}
			}
		}
	}
	w.backs = append(w.backs, Backend{Name: "n6"})
	w.join()
	took := w.run(200, func() bool { return w.moves > 0 && len(w.due) == 0 && len(w.b.unevenGroups(w.now)) == 0 })
	times, _ := w.most()
	t.Logf("%d moves in %d s", w.moves, took)
	if w.moves != 500 || took > 70 || times > 1 || w.surprises > 0 {
		t.Errorf("got %d moves in %d s, some member %d times, %d went elsewhere; want 500 in about 60 s", w.moves, took, times, w.surprises)
	}
	checkBook(t, w.b.groups)
}

// One large group in SCALING: one in twenty may be away at once.
func TestSpreadingOneLargeGroup(t *testing.T) {
	t.Parallel()
	for _, state := range []ClusterState{Balanced, Scaling} {
		w := newPlanWorld(t, 4, BrainOptions{}, MoverOptions{Rate: 50, InFlight: 0.999}, 6)
		w.fill(1200, func(_ int, p *planClient) { p.c.Group = "g" })
		w.b.Force(Force{State: state, On: true})
		most := 0
		w.each = func() {
			n := 0
			for _, p := range w.clients {
				if p.backend == "" {
					n++
				}
			}
			most = max(most, n)
		}
		w.backs = append(w.backs, Backend{Name: "n6"})
		w.join()
		took := w.run(1200, func() bool { return w.moves > 0 && len(w.due) == 0 && len(w.b.unevenGroups(w.now)) == 0 })
		t.Logf("%v: %d moves in %d s, at most %d away", state, w.moves, took, most)
		limit := map[ClusterState]int{Balanced: 1, Scaling: 60}[state]
		if w.moves != 171 || most > limit || state == Scaling && took > 30 {
			t.Errorf("%v: got %d moves in %d s, at most %d away; want 171, at most %d", state, w.moves, took, most, limit)
		}
	}
}

// A backend that members were moved away from because it was hot does not get them back for ten minutes: to cool it and to
// even out the group would undo each other for ever where the group has as many members for every backend.
func TestSpreadingSparesTheCooled(t *testing.T) {
	t.Parallel()
	for _, ordinals := range []bool{false, true} {
		w := newPlanWorld(t, 5, BrainOptions{Groups: GroupOptions{Ordinals: ordinals}}, MoverOptions{}, 3)
		w.fill(300, func(i int, p *planClient) { p.c.Group, p.c.Ordinal, p.rate = "g", i, 1 })
		w.backs[0].Phase = Hot
		w.join()
		for _, b := range w.backs {
			w.b.Traffic(b.Name, 100+map[string]float64{"n0": 100}[b.Name], w.now)
		}
		w.b.Predict(w.now)
		cooled := w.run(30, func() bool { return w.moves >= 5 })
		was := w.moves
		w.backs[0].Phase = Ready
		w.join()
		w.run(500, nil)
		if w.moves != was || was == 0 || cooled == 0 {
			t.Errorf("ordinals %v: %d members were moved away in %d s, and %d moved back", ordinals, was, cooled, w.moves-was)
		}
		w.run(600, nil)
		if counts := w.counts(); w.moves == was || counts[0] != 100 || counts[1] != 100 {
			t.Errorf("ordinals %v: got %v in the end, want the group even again", ordinals, counts)
		}
		checkBook(t, w.b.groups)
	}
}

// Whose turn has come to be moved for the sake of the group: members where there are too many, and nobody else.
func TestSurplus(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		counts, want [3]int // members, and whether one of them has to go
	}{
		{[3]int{2, 2, 2}, [3]int{}},
		{[3]int{3, 2, 2}, [3]int{}},
		{[3]int{2, 2, 3}, [3]int{}},
		{[3]int{4, 2, 1}, [3]int{1, 0, 0}},
		{[3]int{4, 4, 0}, [3]int{1, 1, 0}},
	} {
		p := newPlanStage(t, BrainOptions{}, named("a", "b", "c"))
		var members [3]Client
		for i, backend := range []string{"a", "b", "c"} {
			for k := range test.counts[i] {
				members[i] = Client{ID: fmt.Sprint(backend, k), Group: "g", Ordinal: -1}
				p.put(backend, members[i])
			}
		}
		var w planner
		w.reset(p.b, PlanOptions{}.withDefaults(), p.now)
		for i, c := range members {
			if got := w.surplus(c, i); test.counts[i] > 0 && got != (test.want[i] > 0) {
				t.Errorf("%v: position %d has one too many: got %v", test.counts, i, got)
			}
			if w.surplus(Client{ID: "stranger", Group: "g", Ordinal: -1}, i) {
				t.Errorf("%v: a client without a seat is one too many", test.counts)
			}
		}
	}
}
