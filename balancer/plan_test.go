package balancer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// planStage is a Brain with sessions that a test puts where it wants them.
type planStage struct {
	t        *testing.T
	b        *Brain
	now      int64
	sessions []Session
	placed   map[uint64]Client // as who a client was placed, if that was another than now
}

func newPlanStage(t *testing.T, o BrainOptions, set []Backend) *planStage {
	t.Helper()
	p := &planStage{t: t, b: newTestBrain(t, o, 0), now: 1000 * second, placed: make(map[uint64]Client)}
	p.b.Join(set, 0)
	return p
}

// put places a client on one backend, by way of what was tried.
func (p *planStage) put(backend string, c Client) *Session {
	p.t.Helper()
	var tried []string
	for _, other := range p.b.Snapshot().Backends {
		if other.Name != backend {
			tried = append(tried, other.Name)
		}
	}
	if at := placeNamed(p.b, c, p.now, tried...); at != backend {
		p.t.Fatalf("placed on %s, want %s", at, backend)
	}
	p.sessions = append(p.sessions, Session{Client: c, Backend: backend, Handle: uint64(len(p.sessions)), Rate: 1})
	return &p.sessions[len(p.sessions)-1]
}

func (p *planStage) crowd(backend string, n int) {
	for k := range n {
		p.put(backend, Client{ID: fmt.Sprint(backend, "-", k), Ordinal: -1, Persistent: true})
	}
}

func (p *planStage) plan(o PlanOptions) []Move {
	return p.b.Plan(slices.Values(p.sessions), o, p.now)
}

// purposesOf names what the moves of a plan are for, without repetition.
func purposesOf(plan []Move) string {
	var names []string
	for _, m := range plan {
		if name := m.Why.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// eventful is a cluster in which there is something to do for every purpose: a is hot, the group g is uneven, and e
// has just joined; if wanted, d is draining.
func eventful(t *testing.T, draining bool) *planStage {
	t.Helper()
	p := newPlanStage(t, BrainOptions{}, named("a", "b", "c", "d"))
	for k, backend := range []string{"b", "b", "b", "c"} {
		p.put(backend, Client{ID: fmt.Sprint("g-", k), Group: "g", Ordinal: -1})
	}
	for _, backend := range []string{"a", "b", "c", "d"} {
		p.crowd(backend, 100)
	}
	set := named("a", "b", "c", "d", "e")
	set[0].Phase = Hot
	if draining {
		set[3].Phase = Draining
	}
	p.b.Join(set, p.now)
	for _, backend := range set {
		rate := 100.0
		if backend.Name == "a" {
			rate = 300
		}
		p.b.Traffic(backend.Name, rate, p.now)
	}
	p.b.Predict(p.now)
	return p
}

// The table of Plan.
func TestPlanFollowsTheState(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		state    ClusterState
		draining bool
		o        PlanOptions
		want     string
	}{
		{Balanced, true, PlanOptions{}, "emptying cooling"},
		{Scaling, true, PlanOptions{}, "emptying"},
		{Rolling, true, PlanOptions{}, "emptying"},
		{Overloaded, true, PlanOptions{}, ""},
		{Degraded, true, PlanOptions{}, ""},
		{Balanced, false, PlanOptions{}, "cooling spreading levelling"},
		{Scaling, false, PlanOptions{}, "spreading levelling"},
		{Rolling, false, PlanOptions{}, ""},
		{Overloaded, false, PlanOptions{}, ""},
		{Degraded, false, PlanOptions{}, ""},
		{Balanced, true, PlanOptions{Manual: true}, "emptying"},
		{Balanced, false, PlanOptions{Manual: true}, ""},
		{Balanced, false, PlanOptions{Manual: true, Level: true}, "spreading levelling"},
		{Overloaded, true, PlanOptions{Level: true}, ""},
		{Balanced, true, PlanOptions{Limit: 3}, "emptying"},
	} {
		p := eventful(t, test.draining)
		p.b.Force(Force{State: test.state, On: true})
		p.b.Tick(p.now)
		plan := p.plan(test.o)
		if got := purposesOf(plan); got != test.want {
			t.Errorf("%v, draining %v, %+v: got %q, want %q", test.state, test.draining, test.o, got, test.want)
		}
		if test.o.Limit > 0 && len(plan) != test.o.Limit {
			t.Errorf("got %d moves, want the limit of %d", len(plan), test.o.Limit)
		}
		if again := p.plan(test.o); !slices.Equal(plan, again) {
			t.Errorf("%v: asking again gives another plan", test.state)
		}
		need := p.b.Need(test.o, p.now)
		if (need == nil) != (test.want == "") {
			t.Errorf("%v, %+v: got need %v, want one if and only if there is a plan", test.state, test.o, need)
		}
		if need == nil {
			continue
		}
		var wanted []Session
		for _, s := range p.sessions {
			if need.Of(&s) {
				wanted = append(wanted, s)
			}
		}
		if len(wanted) == len(p.sessions) || !slices.Equal(plan, p.b.Plan(slices.Values(wanted), test.o, p.now)) {
			t.Errorf("%v: with %d needed sessions of %d the plan is another", test.state, len(wanted), len(p.sessions))
		}
	}
}

// Without a change of the set of backends, nobody is levelled in BALANCED unless asked for.
func TestPlanLevelsAfterChanges(t *testing.T) {
	t.Parallel()
	p := newPlanStage(t, BrainOptions{}, named("a", "b"))
	p.crowd("a", 100)
	if plan := p.plan(PlanOptions{}); len(plan) != 0 {
		t.Errorf("got %d moves, want none: nothing has joined", len(plan))
	}
	if got := purposesOf(p.plan(PlanOptions{Level: true})); got != "levelling" {
		t.Errorf("got %q, want levelling, as the operator wishes", got)
	}
}

// Who may be moved, and for what.
func TestPlanSpares(t *testing.T) {
	t.Parallel()
	const x = 7 // the session that is looked at
	type edit func(p *planStage, s *Session)
	young := func(_ *planStage, s *Session) { s.Since = 941 * second }
	moved := func(p *planStage, s *Session) {
		p.b.moved.add(s.Client, "x", s.Backend, 0, false, 401*second)
		p.b.moved.arrive(s.Client.ID, p.now)
		p.b.moved.gone(s.Client.ID, "x", Moved, 402*second)
	}
	leaving := func(p *planStage, s *Session) { p.b.Move(s.Client, s.Backend, "c", p.now) }
	prompt := func(_ *planStage, s *Session) { s.Will = PromptWill }
	delayed := func(_ *planStage, s *Session) { s.Will = DelayedWill }
	anonymous := func(_ *planStage, s *Session) { s.Client.ID = "" }
	for _, test := range []struct {
		name                         string
		edit                         edit
		o                            PlanOptions
		node                         bool
		emptied, cooled, levelledToo bool
	}{
		{"an ordinary one", func(*planStage, *Session) {}, PlanOptions{}, false, true, true, true},
		{"younger than 60 s", young, PlanOptions{}, false, false, false, false},
		{"as young, and age does not matter", young, PlanOptions{MinAge: -1}, false, true, true, true},
		{"as young, and 30 s are enough", young, PlanOptions{MinAge: 30 * second}, false, true, true, true},
		{"moved within ten minutes", moved, PlanOptions{}, false, true, false, false},
		{"being moved", leaving, PlanOptions{}, false, false, false, false},
		{"with a will", prompt, PlanOptions{}, false, true, false, false},
		{"with a will, which may be published", prompt, PlanOptions{MoveWills: true}, false, true, true, true},
		{"with a will, which must not be published", prompt, PlanOptions{KeepWills: true}, false, false, false, false},
		{"with a will that waits", delayed, PlanOptions{KeepWills: true}, false, true, true, true},
		{"without an id", anonymous, PlanOptions{}, false, true, true, false},
		{"persistent, on a broker of its own", func(*planStage, *Session) {}, PlanOptions{}, true, false, false, false},
		{"clean, on a broker of its own", func(_ *planStage, s *Session) { s.Client.Persistent = false }, PlanOptions{}, true, true, true, true},
		{"on a backend that has left", func(_ *planStage, s *Session) { s.Backend = "gone" }, PlanOptions{}, false, false, false, false},
	} {
		for _, why := range []Purpose{Emptying, Cooling, Levelling} {
			p := newPlanStage(t, BrainOptions{Placement: Options{NodeScope: test.node}}, named("a", "b"))
			p.crowd("a", 10)
			p.crowd("b", 10)
			set := named("a", "b", "c")
			want := test.emptied
			switch why {
			case Emptying:
				set[0].Phase = Draining
			case Cooling:
				set[0].Phase = Hot
				p.b.Join(set, p.now)
				p.b.Traffic("a", 1000, p.now)
				p.b.Predict(p.now)
				want = test.cooled
			case Levelling:
				set = named("a", "c")               // and nobody on c: everybody of a whose home is c may be needed
				for _, s := range p.sessions[10:] { // b need not be emptied
					p.b.Release(s.Client, s.Backend, Left, p.now)
				}
				p.sessions = p.sessions[:10]
				want = test.levelledToo
			case Spreading:
			}
			p.b.Join(set, p.now)
			s := &p.sessions[x]
			if why == Levelling {
				for k := range p.sessions[:10] { // it is the only one that is at home elsewhere
					if home := p.b.snapshot.home(p.sessions[k].Client.ID); p.b.snapshot.Backends[home].Name == "c" {
						s = &p.sessions[k]
						break
					}
				}
			}
			test.edit(p, s)
			plan := p.plan(test.o)
			got := slices.ContainsFunc(plan, func(m Move) bool { return m.Handle == s.Handle && m.Why == why })
			if why == Levelling && want {
				got = got || slices.ContainsFunc(plan, func(m Move) bool { return m.Why == why }) // not all are needed
			}
			if got != want {
				t.Errorf("%s, %v: got moved %v, want %v", test.name, why, got, want)
			}
		}
	}
}

// The order: by purpose, and within one the least harm first (protocol.md, 4.5).
func TestPlanRanksByHarm(t *testing.T) {
	t.Parallel()
	p := newPlanStage(t, BrainOptions{}, named("a", "b"))
	want := []string{
		"shared", "shared-clean", "plain", "clean", "delayed-shared", "delayed", "prompt-shared", "prompt", "prompt-clean",
		"moved-lately",
	}
	for _, id := range []string{
		"moved-lately", "prompt-clean", "prompt", "prompt-shared", "delayed", "delayed-shared", "clean", "plain", "shared-clean", "shared",
	} {
		s := p.put("a", Client{ID: id, Ordinal: -1, Persistent: !strings.HasSuffix(id, "clean")})
		s.Shared = strings.Contains(id, "shared")
		switch {
		case strings.HasPrefix(id, "prompt"):
			s.Will = PromptWill
		case strings.HasPrefix(id, "delayed"):
			s.Will = DelayedWill
		}
	}
	p.b.moved.add(Client{ID: "moved-lately"}, "b", "a", 0, false, p.now-second)
	p.b.moved.arrive("moved-lately", p.now)
	p.b.moved.gone("moved-lately", "b", Moved, p.now)
	set := named("a", "b")
	set[0].Phase = Draining
	p.b.Join(set, p.now)
	var got []string
	for _, m := range p.plan(PlanOptions{}) {
		got = append(got, m.Client.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Members of different groups alternate, so that no group loses several in a row.
func TestPlanAlternatesGroups(t *testing.T) {
	t.Parallel()
	p := newPlanStage(t, BrainOptions{}, named("a", "b"))
	for _, group := range []string{"g", "h", "i"} {
		for k := range 3 {
			p.put("a", Client{ID: fmt.Sprint(group, k), Group: group, Ordinal: -1})
		}
	}
	set := named("a", "b")
	set[0].Phase = Draining
	p.b.Join(set, p.now)
	var got []string
	for _, m := range p.plan(PlanOptions{}) {
		got = append(got, m.Client.Group)
	}
	if order := strings.Join(got, ""); order != "ghighighi" {
		t.Errorf("got the groups in the order %s, want ghighighi", order)
	}
}

// The destination does not hang on the pin alone: for a client that hashing places, it is where Place would have put
// it without any plan.
func TestPlanFollowsTheHash(t *testing.T) {
	t.Parallel()
	for _, why := range []Purpose{Emptying, Levelling} {
		p := newPlanStage(t, BrainOptions{}, named("a", "b", "c", "d"))
		for k := range 400 {
			c := Client{ID: fmt.Sprint("c", k), Ordinal: -1}
			p.sessions = append(p.sessions, Session{Client: c, Backend: placeNamed(p.b, c, 0)})
		}
		set := named("a", "b", "c", "d")
		if why == Emptying {
			set[1].Phase = Draining
		} else {
			set = append(set, Backend{Name: "e"})
		}
		p.b.Join(set, 0)
		plan := p.plan(PlanOptions{})
		if len(plan) < 50 || purposesOf(plan) != why.String() {
			t.Fatalf("got %d moves for %q, want many for %v", len(plan), purposesOf(plan), why)
		}
		for _, m := range plan {
			if i, _ := p.b.Preview(m.Client, nil, 0); p.b.Snapshot().Backends[i].Name != m.To {
				t.Fatalf("%v: %s is to go to %s, and would be placed on %s", why, m.Client.ID, m.To, p.b.Snapshot().Backends[i].Name)
			}
		}
	}
}

// Nobody may be moved when nobody can take anybody.
func TestPlanNeedsADestination(t *testing.T) {
	t.Parallel()
	for _, phase := range []Phase{Hot, Joining, Draining, Down} {
		p := newPlanStage(t, BrainOptions{}, named("a", "b"))
		p.crowd("a", 20)
		p.put("a", Client{Ordinal: -1})
		p.put("a", Client{ID: "m", Group: "g", Ordinal: -1})
		set := named("a", "b")
		set[0].Phase, set[1].Phase = Draining, phase
		p.b.Join(set, p.now)
		if plan := p.plan(PlanOptions{}); len(plan) > 0 {
			t.Errorf("b is %v: got %v, want nothing", phase, plan)
		}
	}
}
