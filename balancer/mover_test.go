package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Whatever happens in a cluster, the budget is kept: the rate of the cluster, that of each backend, that of cooling,
// the number of clients that are away, and no move at all in the states that forbid it (protocol.md, I8).
func TestMoverKeepsItsBudgetQuick(t *testing.T) {
	t.Parallel()
	busy := 0
	for seed := range uint64(16 / fewer) {
		random := rand.New(rand.NewPCG(seed, 4))
		o := MoverOptions{
			Rate: []float64{5, 40, 100, 400}[random.IntN(4)], Instances: 1 + random.IntN(3), InFlight: []float64{0, 0.005, 0.1}[random.IntN(3)],
			Plan: PlanOptions{MoveWills: random.IntN(2) == 0, Level: random.IntN(3) == 0},
		}
		w := newPlanWorld(t, seed, BrainOptions{Watched: true, Placement: Options{BoundedLoad: 1.25}}, o, 5)
		w.stay = 0.01
		w.fill(2500, func(i int, p *planClient) {
			p.rate = 1 + 9*random.Float64()
			if i%9 == 0 {
				p.c.Group = fmt.Sprint("g", i%30)
			}
			if i%31 == 0 {
				p.c.ID = ""
			}
		})
		o = w.m.o
		share := 1 / float64(o.Instances)
		type event struct {
			at   int64
			from string
			why  Purpose
		}
		var log []event
		within := func(match func(e event) bool, rate, burst float64, what string) {
			for _, length := range []int64{0, second, 10 * second} {
				n := 0
				for _, e := range log {
					if match(e) && e.at >= w.now-length {
						n++
					}
				}
				if limit := rate*share*float64(length)/float64(second) + max(1.2+0.15*rate*share, burst*share) + 1e-6; float64(n) > limit {
					t.Fatalf("seed %d, %+v: %s: %d moves within %d s, want at most %.1f", seed, o, what, n, length/second, limit)
				}
			}
		}
		w.each = func() {
			state := w.b.State().Cluster
			log = slices.DeleteFunc(log, func(e event) bool { return e.at < w.now-10*second })
			for _, m := range w.m.out {
				log = append(log, event{w.now, m.From, m.Why})
				if !purposes(state)[m.Why] {
					t.Fatalf("seed %d: %+v in state %v", seed, m, state)
				}
			}
			if len(w.m.out) == 0 {
				return
			}
			if limit := max(1, int(o.InFlight*2500)); w.m.Outstanding() > limit {
				t.Fatalf("seed %d, %+v: %d away, want at most %d", seed, o, w.m.Outstanding(), limit)
			}
			if busy++; busy%5 > 0 {
				return // to count everything takes long
			}
			within(func(event) bool { return true }, o.Rate, o.Rate, "the cluster")
			for _, b := range w.backs {
				within(func(e event) bool { return e.from == b.Name }, o.PerBackend, o.PerBackendBurst, b.Name)
				within(func(e event) bool { return e.from == b.Name && e.why == Cooling }, o.Cooling, 1, "cooling "+b.Name)
			}
		}
		for range 30 {
			name := w.backs[random.IntN(len(w.backs))].Name
			switch random.IntN(9) {
			case 0, 1:
				w.vitals[name] = Vitals{Passed: true, Drain: true, Terminating: random.IntN(3) == 0}
			case 2:
				w.vitals[name] = Vitals{Passed: true, Util: Figure{Value: 0.99, At: w.now}}
			case 3:
				w.b.Force(Force{State: ClusterState(random.IntN(int(Degraded) + 1)), On: random.IntN(2) == 0})
			case 4:
				if len(w.backs) < 8 {
					w.backs = append(w.backs, Backend{Name: fmt.Sprint("new", w.now), Labels: map[string]string{VersionLabel: fmt.Sprint(random.IntN(2))}})
					w.join()
				}
			case 5:
				w.m.Slow(name, random.IntN(2) == 0)
			default:
				w.vitals[name] = Vitals{Passed: true}
			}
			for _, b := range w.backs {
				rate := 0.0
				for i := range w.clients {
					if w.clients[i].backend == b.Name {
						rate += w.clients[i].rate
					}
				}
				w.b.Traffic(b.Name, rate, w.now)
			}
			w.b.Predict(w.now)
			w.run(5+random.IntN(20), nil)
		}
		checkBook(t, w.b.groups)
	}
	if busy < 2000/fewer {
		t.Errorf("the mover was busy in %d steps only, so this test proves little", busy)
	}
}

// draining is a world in which n0 is being emptied.
func draining(t *testing.T, o MoverOptions, clients int) *planWorld {
	t.Helper()
	w := newPlanWorld(t, 1, BrainOptions{Watched: true}, o, 3)
	w.fill(clients, nil)
	w.vitals["n0"] = Vitals{Passed: true, Drain: true}
	w.run(2, nil)
	if w.moves == 0 {
		t.Fatal("nobody is moved")
	}
	return w
}

func TestMoverStopsWhenTroubleComes(t *testing.T) {
	t.Parallel()
	for _, state := range []ClusterState{Overloaded, Degraded} {
		w := draining(t, MoverOptions{}, 3000)
		w.b.Force(Force{State: state, On: true})
		w.b.Tick(w.now)
		was := w.moves
		w.run(60, nil)
		if w.moves != was || w.m.Pending() != 0 {
			t.Errorf("%v: got %d more moves, %d pending, want none", state, w.moves-was, w.m.Pending())
		}
		w.b.Force(Force{})
		w.b.Tick(w.now)
		w.run(10, nil)
		if w.moves == was {
			t.Errorf("%v: nobody is moved after it has ended", state)
		}
	}
}

// After a freeze nobody is moved for 30 s: what the mover knows is old.
func TestMoverPausesAfterAFreeze(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		gap   int64
		pause bool
	}{{3 * second, false}, {3*second + 1, true}, {100 * second, true}} {
		w := draining(t, MoverOptions{}, 30_000)
		w.now += test.gap - planStep
		was := w.moves
		w.run(29, nil)
		if paused := w.moves == was; paused != test.pause {
			t.Errorf("after a gap of %d ms: paused %v, want %v", test.gap/1e6, paused, test.pause)
		}
		w.run(5, nil)
		if w.moves == was {
			t.Errorf("after a gap of %d ms: nobody is moved any more", test.gap/1e6)
		}
	}
}

// A slow destination gets nobody until it is quick again; the others go on.
func TestMoverPausesForSlowDestinations(t *testing.T) {
	t.Parallel()
	w := draining(t, MoverOptions{}, 3000)
	w.m.Slow("n1", true)
	w.run(20, nil)
	was := w.b.Connections("n1")
	w.run(200, nil)
	if w.b.Connections("n1") != was || w.b.Connections("n0") == 0 {
		t.Errorf("n1 got %d clients while it was slow; n0 has %d left", w.b.Connections("n1")-was, w.b.Connections("n0"))
	}
	w.m.Slow("n1", false)
	w.m.Slow("", true)
	moves := w.moves
	w.run(20, nil)
	if w.moves != moves {
		t.Errorf("got %d moves during a pause of everything", w.moves-moves)
	}
	w.m.Slow("", false)
	w.run(60, nil)
	if w.b.Connections("n0") > 0 {
		t.Errorf("n0 has %d left when nothing is slow any more", w.b.Connections("n0"))
	}
}

// Clients that do not come again hold up the budget for five minutes, then they are lost, and listed.
func TestMoverCountsTheLost(t *testing.T) {
	t.Parallel()
	w := draining(t, MoverOptions{InFlight: 0.01}, 3000)
	w.run(3, nil)
	w.run(10, func() bool { return len(w.due) == 0 })
	w.stay = 1 // from now on nobody comes again
	w.run(20, nil)
	if w.m.Outstanding() != 30 {
		t.Errorf("got %d outstanding, want 30", w.m.Outstanding())
	}
	was := w.moves
	w.run(250, nil)
	if n, _ := w.m.Lost(); n != 0 || w.moves != was {
		t.Errorf("got %d lost and %d more moves within five minutes, want none", n, w.moves-was)
	}
	w.run(40, nil)
	n, latest := w.m.Lost()
	if n < 30 || len(latest) != n || w.moves == was {
		t.Fatalf("got %d lost, %d of them listed, and %d more moves, want 30 and as many", n, len(latest), w.moves-was)
	}
	for k, l := range latest {
		if i := slices.IndexFunc(w.clients, func(p planClient) bool { return p.c.ID == l.Client }); w.clients[i].backend != "" ||
			l.From != "n0" || l.To == "" || k > 0 && l.At < latest[k-1].At {
			t.Fatalf("got %+v among the lost", l)
		}
	}
}

// A move that could not be carried out is taken back, and made up for when the client may be moved again.
func TestMoverStay(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{}, 0, "a", "b")
	m := NewMover(b, MoverOptions{}, 100*second)
	clients := []Client{{ID: "x", Ordinal: -1}, {ID: "m", Group: "g", Ordinal: -1}}
	sessions := make([]Session, len(clients))
	for k, c := range clients {
		i, _ := b.Place(c, []string{"b"}, 0)
		sessions[k] = Session{Client: c, Backend: b.Snapshot().Backends[i].Name, Handle: uint64(k)}
	}
	set := named("a", "b")
	set[0].Phase = Draining
	b.Join(set, 100*second)
	for round := range int64(3) {
		now := (101 + 40*round) * second
		m.last = now
		begun := slices.Clone(m.Begin(slices.Values(sessions), now))
		begun = append(begun, m.Begin(slices.Values(sessions), now+second/10)...)
		begun = append(begun, m.Begin(slices.Values(sessions), now+2*second/10)...)
		if len(begun) != 1 || m.Outstanding() != 1 { // the second has to wait, two sessions allow for one
			t.Fatalf("round %d: got %v, %d outstanding; want one move", round, begun, m.Outstanding())
		}
		m.Stay(begun[0], now+second)
		if m.Outstanding() != 0 {
			t.Fatalf("got %d outstanding after the move was taken back", m.Outstanding())
		}
	}
	checkBook(t, b.groups)
}

// A connection that ends by itself before its turn is not moved, nor is one whose move has no point any more.
func TestMoverChecksAgain(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 3, BrainOptions{}, MoverOptions{Rate: 10}, 3)
	w.fill(3000, nil)
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(2, nil)
	pending := w.m.Pending()
	if pending < 500 {
		t.Fatalf("got %d pending moves, want a minute's worth", pending)
	}
	for i := range w.clients { // all whose home is the new one come by themselves
		p := &w.clients[i]
		if home := w.b.snapshot.home(p.c.ID); p.backend != "" && w.b.snapshot.Backends[home].Name == "n3" && p.backend != "n3" {
			w.b.Release(p.c, p.backend, Left, w.now)
			w.connect(i)
		}
	}
	was := w.moves
	w.run(120, nil)
	if w.moves != was || w.m.Pending() > 0 {
		t.Errorf("got %d more moves, %d pending; want none: it is level", w.moves-was, w.m.Pending())
	}
}

// A move whose reason has gone by is dropped: others than those who were to move have made it pointless.
func TestMoverDropsThePointless(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 4, BrainOptions{}, MoverOptions{Rate: 10}, 3)
	w.fill(600, nil)
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(2, nil)
	for k := 0; w.b.Connections("n3") < 200; k++ { // new clients fill the newcomer
		w.b.Place(Client{ID: fmt.Sprint("new", k), Ordinal: -1}, []string{"n0", "n1", "n2"}, w.now)
	}
	was := w.moves
	if w.m.Pending() < 50 {
		t.Fatalf("got %d pending moves, want many", w.m.Pending())
	}
	if w.run(30, nil); w.moves != was {
		t.Errorf("got %d moves to a backend that has its share", w.moves-was)
	}

	w = newPlanWorld(t, 5, BrainOptions{}, MoverOptions{Rate: 1}, 3)
	w.fill(60, func(_ int, p *planClient) { p.c.Group = "g" })
	w.backs = append(w.backs, Backend{Name: "n3"})
	w.join()
	w.run(2, nil)
	was = w.moves
	if w.m.Pending() < 10 {
		t.Fatalf("got %d pending moves, want most of 15", w.m.Pending())
	}
	for k := 0; len(w.b.unevenGroups(w.now)) > 0; k++ { // new members take the seats
		placeNamed(w.b, Client{ID: fmt.Sprint("new", k), Group: "g", Ordinal: -1}, w.now)
	}
	if w.run(30, nil); w.moves != was {
		t.Errorf("got %d more moves in a group that is even", w.moves-was)
	}
	checkBook(t, w.b.groups)
}

// Sessions that live on one broker are safe from the moment at which that is configured.
func TestMoverHeedsNewSettings(t *testing.T) {
	t.Parallel()
	w := draining(t, MoverOptions{}, 3000)
	if err := w.b.Reconfigure(BrainOptions{Key: w.b.o.Key, Watched: true, Placement: Options{NodeScope: true}}, w.now); err != nil {
		t.Fatal(err)
	}
	was := w.moves
	if w.run(20, nil); w.moves != was {
		t.Errorf("got %d moves of sessions that would be lost", w.moves-was)
	}
}

// While there is nothing to do, sessions are not even looked at, and when there is, looking costs no memory by
// session. (Not parallel: other tests' allocations would count.)
func TestMoverIsQuiet(t *testing.T) {
	w := newPlanWorld(t, 1, BrainOptions{Watched: true}, MoverOptions{}, 4)
	w.fill(2000, nil)
	w.run(5, nil)
	looked := 0
	sessions := func(yield func(Session) bool) {
		for s := range w.sessions() {
			looked++
			if !yield(s) {
				return
			}
		}
	}
	now := w.now
	got := testing.AllocsPerRun(1000, func() {
		now += planStep
		w.m.Begin(sessions, now)
	})
	if looked > 0 || got > 0 {
		t.Errorf("looked at %d sessions with %v allocations, want none of both", looked, got)
	}
	set := slices.Clone(w.backs)
	set[0].Capacity = 2 // there is something to level, but all sessions are young
	w.b.Join(set, now)
	w.b.uneven, w.b.changed = true, now
	for i := range w.clients {
		w.clients[i].since = now
	}
	got = testing.AllocsPerRun(10, func() { w.b.Plan(w.sessions(), PlanOptions{}, now) })
	if got > 40 {
		t.Errorf("got %v allocations for a plan over %d sessions of which none may be moved", got, len(w.clients))
	}
}
