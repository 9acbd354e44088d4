package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// scene is a cluster of any kind in which plans are made.
func scene(t *testing.T, seed uint64) *planStage {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 9))
	names := Names()
	o := BrainOptions{
		Strategy:  names[random.IntN(len(names))],
		Placement: Options{BoundedLoad: []float64{0, 1.25}[random.IntN(2)], NodeScope: random.IntN(8) == 0, Seed: seed},
		Groups:    GroupOptions{Ordinals: random.IntN(3) == 0, Instances: 1 + random.IntN(2), MaxGroups: []int{0, 2}[random.IntN(2)]},
	}
	if random.IntN(2) == 0 {
		o.Strategy = "adaptive"
	}
	n := 2 + random.IntN(5)
	all := numbered(n)
	if random.IntN(3) == 0 {
		for i := range all {
			all[i].Capacity = []float64{1, 2, 0.5}[random.IntN(3)]
		}
	}
	p := newPlanStage(t, o, all[:max(1, n-1)])
	for k := range 150 + random.IntN(250) {
		c := Client{ID: fmt.Sprint("c", k), Ordinal: -1, Persistent: random.IntN(2) == 0}
		if random.IntN(3) == 0 {
			c.Group, c.Ordinal = fmt.Sprint("g", random.IntN(5)), random.IntN(40)
		}
		if random.IntN(12) == 0 {
			c.ID, c.Ordinal = "", -1
		}
		before := c
		if random.IntN(4) == 0 { // its group is learned later
			before.Group, before.Ordinal = "", -1
		}
		at := placeNamed(p.b, before, p.now)
		p.placed[uint64(k)] = before
		p.sessions = append(p.sessions, Session{
			Client: c, Backend: at, Handle: uint64(k), Rate: 1 + 50*random.Float64()*random.Float64(), Will: Will(random.IntN(3)),
			Shared: random.IntN(5) == 0, Since: int64(random.IntN(1000)) * second,
		})
	}
	for k := 0; k < len(p.sessions); k++ { // some have left
		if s := p.sessions[k]; random.IntN(6) == 0 {
			p.b.Release(p.placed[s.Handle], s.Backend, Leave(random.IntN(2)), p.now)
			p.sessions = slices.Delete(p.sessions, k, k+1)
		}
	}
	for i := range all {
		all[i].Labels = map[string]string{VersionLabel: fmt.Sprint(random.IntN(2))}
		switch random.IntN(8) {
		case 0:
			all[i].Phase = Draining
		case 1:
			all[i].Phase = Hot
		case 2:
			all[i].Phase = Phase(random.IntN(int(Down) + 1))
		case 3:
			all[i].Phase, all[i].Ramp = Ramping, 0.3
		}
	}
	p.b.Join(all, p.now)
	for k := range int64(3) {
		at := p.now + (k-3)*15*second
		for i := range all {
			rate := 0.0
			for _, s := range p.sessions {
				if s.Backend == all[i].Name {
					rate += s.Rate
				}
			}
			if all[i].Phase == Hot {
				rate *= 2
			}
			p.b.Traffic(all[i].Name, rate, at)
		}
		for _, s := range p.sessions {
			p.b.Note(s.Client.ID, s.Backend, s.Rate)
		}
		p.b.Predict(at)
	}
	p.b.Force(Force{State: ClusterState(random.IntN(int(Degraded) + 1)), On: true})
	p.b.Tick(p.now)
	return p
}

// numbered are n backends.
func numbered(n int) []Backend {
	set := make([]Backend, n)
	for i := range set {
		set[i].Name = fmt.Sprint("n", i)
	}
	return set
}

// Placement and movement never disagree: whoever plays a plan through, one client after the other, finds everybody
// where the plan said; nobody is moved twice or against the rules, and never to a backend that takes no clients.
func TestPlansComeTrueQuick(t *testing.T) {
	t.Parallel()
	seen := map[Purpose]int{}
	for seed := range uint64(500 / fewer) {
		planComesTrue(t, seed, seen)
	}
	for why := Emptying; why <= Levelling; why++ {
		if seen[why] < 100/fewer {
			t.Errorf("got only %d moves for %v, so this test proves little", seen[why], why)
		}
	}
}

func FuzzPlansComeTrue(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { planComesTrue(t, seed, map[Purpose]int{}) })
}

// planComesTrue plays the plan for one scene through.
func planComesTrue(t *testing.T, seed uint64, seen map[Purpose]int) {
	t.Helper()
	p := scene(t, seed)
	o := PlanOptions{Level: seed%3 == 0, MoveWills: seed%4 == 0, KeepWills: seed%5 == 0}
	state, s := p.b.State().Cluster, p.b.Snapshot()
	plan := p.plan(o)
	byHandle := map[uint64]Session{}
	for _, x := range p.sessions {
		byHandle[x.Handle] = x
	}
	for k, m := range plan {
		x, there := byHandle[m.Handle]
		if delete(byHandle, m.Handle); !there || x.Client != m.Client || x.Backend != m.From {
			t.Fatalf("seed %d: move %d is %+v, and the session %+v", seed, k, m, x)
		}
		from := s.Backends[s.Index(m.From)].Phase
		allowed := purposes(state)[m.Why] && (m.Why == Emptying) == (from == Draining) && (m.Why != Cooling || from == Hot)
		if !allowed || p.now-x.Since < 60*second || x.Will == PromptWill && (o.KeepWills || m.Why != Emptying && !o.MoveWills) ||
			p.b.o.Placement.NodeScope && x.Client.Persistent {
			t.Fatalf("seed %d, %v, %+v: move %d is %+v of %+v from a backend that is %v", seed, state, o, k, m, x, from)
		}
		p.b.Move(m.Client, m.From, m.To, p.now)
		p.b.Release(p.placed[m.Handle], m.From, Moved, p.now)
		i, why := p.b.Place(m.Client, nil, p.now)
		if i < 0 || !s.Backends[i].fit() || s.Backends[i].Name == m.From || m.To != "" && m.To != s.Backends[i].Name {
			t.Fatalf("seed %d, %v, strategy %s: move %d is %+v, and the client went to %d, %v", seed, state, p.b.o.Strategy, k, m, i, why)
		}
		if m.To == "" && m.Client.ID != "" && p.b.adaptive != nil {
			t.Fatalf("seed %d: move %d, %+v, has no destination", seed, k, m)
		}
		seen[m.Why]++
	}
	checkBook(t, p.b.groups)
	if got := p.b.moved.outstanding; got != 0 {
		t.Fatalf("seed %d: %d clients are still awaited after all have come", seed, got)
	}
}
