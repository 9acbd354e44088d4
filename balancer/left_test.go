package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// Backends that have left are no part of any decision: with them in the snapshot every strategy, and every group, decides
// as without them, for ever. (The number of connections counts them, as their clients are about to come.)
func TestLeftBackendsDecideNothingQuick(t *testing.T) {
	t.Parallel()
	var rows []string
	rows = append(rows, Names()...)
	rows = append(rows, groupSpread)
	for _, name := range rows {
		decided := 0
		for seed := range uint64(8 / fewer) {
			decided += leftTwin(t, name, seed)
		}
		if decided < 1500/fewer {
			t.Errorf("%s: got %d decisions, so this test proves little", name, decided)
		}
	}
}

// leftTwin runs two of a strategy, one of which never sees the backends that have left.
func leftTwin(t *testing.T, name string, seed uint64) (decided int) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 12))
	o := Options{BoundedLoad: []float64{0, 1.25}[seed%2], NodeScope: seed%3 == 0, Seed: seed}
	made := func() *subject {
		if name == groupSpread {
			return &subject{groups: NewGroups(GroupOptions{Ordinals: seed%2 == 0, Instances: 1 + int(seed%3)})}
		}
		s, err := New(name, o)
		if err != nil {
			t.Fatal(err)
		}
		return &subject{strategy: s}
	}
	main, twin := made(), made()
	set := numbered(7)
	var with, without *Snapshot
	live := map[string]int{}
	publish := func() {
		members := slices.DeleteFunc(slices.Clone(set), func(b Backend) bool { return b.Left })
		with, without = NewSnapshot(1, "key", set), NewSnapshot(1, "key", members)
	}
	publish()
	for now := range int64(400) {
		if random.IntN(6) == 0 {
			b := &set[random.IntN(len(set))]
			b.Phase = []Phase{Ready, Ready, Ramping, Joining, Hot, Draining, Down}[random.IntN(7)]
			b.Ramp = []float64{0, 0.3, 1}[random.IntN(3)]
			b.Left = random.IntN(3) == 0
			publish()
		}
		c := Client{ID: fmt.Sprint("c", random.IntN(200)), Ordinal: -1, Persistent: random.IntN(2) == 0}
		if random.IntN(9) == 0 {
			c.ID = ""
		}
		if name == groupSpread {
			c.Group, c.Ordinal = fmt.Sprint("g", random.IntN(3)), random.IntN(30)-1
		}
		seats, twins := NewSeats(with), NewSeats(without)
		for i, b := range with.Backends {
			seats.Live[i] = live[b.Name]
			seats.Total += live[b.Name]
		}
		for i, b := range without.Backends {
			twins.Live[i] = live[b.Name]
		}
		twins.Total = seats.Total
		got, want := "", ""
		if i, _ := main.place(c, with, seats, now*second/10); i >= 0 {
			got = with.Backends[i].Name
		}
		if i, _ := twin.place(c, without, twins, now*second/10); i >= 0 {
			want = without.Backends[i].Name
		}
		if got != want {
			t.Fatalf("%s, seed %d, step %d: %+v went to %q, want %q as without those that have left in %+v", name, seed, now, c, got, want, set)
		}
		if got == "" {
			continue
		}
		decided++
		live[got]++
		if random.IntN(3) == 0 {
			live[got]--
			main.ended(c, got, Left, now*second/10)
			twin.ended(c, got, Left, now*second/10)
		}
	}
	return decided
}

// A backend that discovery does not name any more stays until its last connection ends, takes no client even if there is
// nobody else, and returns as the one that it was.
func TestBrainKeepsTheLeft(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{Watched: true}, 0, "a", "b")
	for _, name := range []string{"a", "b"} {
		b.Vital(name, Vitals{Passed: true})
	}
	c, d := Client{ID: "c", Ordinal: -1}, Client{ID: "d", Ordinal: -1}
	for _, client := range []Client{c, d} {
		if got := placeNamed(b, client, 0, "b"); got != "a" {
			t.Fatalf("placed on %s, want a", got)
		}
	}
	b.Join(named("b"), second)
	left := func() *Backend {
		if i := b.Snapshot().Index("a"); i >= 0 {
			return &b.Snapshot().Backends[i]
		}
		return nil
	}
	if at := left(); at == nil || !at.Left || at.Phase != Draining || b.Snapshot().Weight(0) != 0 || b.Snapshot().Share(1) != 1 {
		t.Fatalf("got %+v after a has left, want it draining and without a share", at)
	}
	if got := placeNamed(b, c, second, "b"); got != "none" {
		t.Errorf("placed on %s, want nobody to be left", got)
	}
	b.Vital("a", Vitals{FailedChecks: 9}) // from a check that was under way
	b.Tick(2 * second)
	if at := left(); at.Phase != Draining || b.State().Cluster != Balanced {
		t.Errorf("got %+v in state %v, want it draining, and the cluster balanced", at, b.State().Cluster)
	}
	b.Join(named("a", "b"), 3*second)
	if at := left(); at.Left || at.Phase != Down || b.Connections("a") != 2 {
		t.Errorf("got %+v with %d connections, want it back with 2, to be checked", at, b.Connections("a"))
	}
	b.Join(named("b"), 4*second)
	b.Release(c, "a", Left, 5*second)
	if left() == nil {
		t.Error("it is gone with a connection")
	}
	b.Release(d, "a", Left, 5*second)
	if left() != nil || len(b.members) != 1 || len(b.order) != 1 {
		t.Errorf("got %+v and %d members after the last connection, want it gone", left(), len(b.members))
	}
	if got := placeNamed(b, c, 6*second); got != "b" {
		t.Errorf("placed on %s, want b", got)
	}
}

// Backends of a list are at work at once if nobody of the list before is in it: clients must not wait for checks.
func TestBrainIsReplaced(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		before, after []string
		fresh         string
		want          Phase
	}{
		{nil, []string{"x"}, "x", Ready},
		{[]string{"a", "b"}, []string{"x", "y"}, "x", Ready},
		{[]string{"a", "b"}, []string{"b", "x"}, "x", Down},
	} {
		b := newTestBrain(t, BrainOptions{Watched: true}, 0)
		if test.before != nil {
			b.Join(named(test.before...), 0)
			placeNamed(b, Client{ID: "c", Ordinal: -1}, 0)
		}
		b.Join(named(test.after...), second)
		if got := b.Snapshot().Backends[b.Snapshot().Index(test.fresh)].Phase; got != test.want {
			t.Errorf("from %v to %v: got %s %v, want %v", test.before, test.after, test.fresh, got, test.want)
		}
		back := append(slices.Clone(test.before), test.after...)
		if b.Join(named(back...), 2*second); len(test.before) > 0 {
			for _, name := range test.before[:1] { // it is not alone now
				if got := b.Snapshot().Backends[b.Snapshot().Index(name)].Phase; got != Down {
					t.Errorf("from %v to %v and back: got %s %v, want it to be checked", test.before, test.after, name, got)
				}
			}
		}
	}
}

// What has left is neither missing capacity, nor a second version, nor stale, nor does an update wait for it.
func TestSurveyForgetsTheLeft(t *testing.T) {
	t.Parallel()
	set := named("a", "b", "c", "d", "e")
	for i := range set {
		set[i].Left = i > 0
		set[i].Labels = map[string]string{VersionLabel: fmt.Sprint(i)}
	}
	s := NewSnapshot(1, "key", set)
	l := NewLoads(LoadOptions{}, 0)
	for i := range set {
		l.Observe(set[i].Name, Figure{Value: 0.5, At: second}, second)
	}
	l.Observe("a", Figure{Value: 0.5, At: 100 * second}, 100*second)
	f := l.Forecast(s, 100*second)
	sit := Survey(s, &Seats{Live: []int{10, 90, 90, 90, 90}, Total: 370}, f, 0)
	if sit.Members != 1 || sit.Serving != 1 || sit.Draining != 0 || sit.Healthy != 1 || sit.Stale != 0 || len(sit.Versions) != 1 || sit.Imbalance != 1 {
		t.Errorf("got %+v", sit)
	}
}

// A backend that was taken out of the list is emptied at the usual rate, nobody moves twice, and it is gone with the last.
func TestLeftBackendIsEmptied(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 8, BrainOptions{Watched: true, Placement: Options{BoundedLoad: 1.25}}, MoverOptions{Plan: PlanOptions{Manual: true}}, 4)
	w.fill(6000, func(i int, p *planClient) {
		if i%9 == 0 {
			p.c.Group = fmt.Sprint("g", i%30)
		}
	})
	before := w.b.Connections("n1")
	w.backs = slices.Delete(w.backs, 1, 2)
	w.join()
	took := w.run(200, func() bool { return w.b.Connections("n1") == 0 })
	if rate := float64(before) / float64(took); w.b.Connections("n1") > 0 || rate < 0.85*50 || rate > 1.15*50 {
		t.Errorf("%d of %d are left after %d s, want 50 per second", w.b.Connections("n1"), before, took)
	}
	w.run(200, nil)
	times, _ := w.most()
	if times != 1 || w.moves != before || w.surprises > 0 || w.b.Snapshot().Index("n1") >= 0 {
		t.Errorf("got %d moves of %d clients, one of them %d times, %d surprises; n1 is at %d",
			w.moves, before, times, w.surprises, w.b.Snapshot().Index("n1"))
	}
	checkBook(t, w.b.groups)
}

// What is missing in the answers of discovery for less than the absence loses nobody; afterwards it is emptied soon. One
// that was being emptied when it left does not wait.
func TestAbsence(t *testing.T) {
	t.Parallel()
	const absence = 30
	for _, drained := range []bool{false, true} {
		w := newPlanWorld(t, 4, BrainOptions{Watched: true}, MoverOptions{Plan: PlanOptions{Manual: true, MinAge: -1, Absence: absence * second}}, 4)
		w.fill(400, func(int, *planClient) {})
		all := w.backs
		leave := func() {
			w.backs = slices.Concat(all[:1], all[2:])
			w.join()
		}
		if drained {
			w.b.Vital("n1", Vitals{Passed: true, Drain: true})
			w.b.Tick(w.now)
			leave()
			if w.run(10, nil); w.moves == 0 {
				t.Error("one that was being emptied waits")
			}
			continue
		}
		for range 5 { // it flaps
			leave()
			w.run(10, nil)
			w.backs = all
			w.join()
			w.run(10, nil)
		}
		if w.moves > 0 {
			t.Errorf("got %d moves for short absences, want none", w.moves)
		}
		leave()
		if w.run(absence-2, nil); w.moves > 0 {
			t.Errorf("got %d moves before the absence is over, want none", w.moves)
		}
		if w.run(10, nil); w.moves == 0 {
			t.Error("got no moves when the absence is over")
		}
	}
}
