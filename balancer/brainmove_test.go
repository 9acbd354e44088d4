package balancer

import (
	"fmt"
	"slices"
	"testing"
)

// A planned place is used once, for five minutes, and only while the backend takes clients.
func TestBrainMove(t *testing.T) {
	t.Parallel()
	c := Client{ID: "sensor-17", Ordinal: -1}
	fresh := func() (b *Brain, home, other string) {
		b = newTestBrain(t, BrainOptions{}, 0, "a", "b", "c")
		home, other = placeNamed(b, c, 0), "a"
		if home == other {
			other = "b"
		}
		b.Move(c, home, other, 10*second)
		b.Release(c, home, Moved, 12*second)
		return b, home, other
	}
	b, home, other := fresh()
	if i, why := b.Place(c, nil, 309*second); b.Snapshot().Backends[i].Name != other || why.Cause != Planned {
		t.Errorf("placed on %d, %v, want %s by plan", i, why, other)
	}
	if got := placeNamed(b, c, 310*second); got != home {
		t.Errorf("the second time: placed on %s, want its home %s", got, home)
	}
	b, home, _ = fresh()
	if got := placeNamed(b, c, 310*second); got != home {
		t.Errorf("after five minutes: placed on %s, want its home %s", got, home)
	}
	b, _, other = fresh()
	if got := placeNamed(b, c, 20*second, other); got == other || got == "none" {
		t.Errorf("placed on %s, which has been tried", got)
	}
	for _, phase := range []Phase{Down, Draining, Joining, Hot} {
		b, _, other = fresh()
		set := named("a", "b", "c")
		set[b.Snapshot().Index(other)].Phase = phase
		b.Join(set, 11*second)
		if got := placeNamed(b, c, 20*second); got == other || got == "none" {
			t.Errorf("placed on %s, which is %v", got, phase)
		}
	}
	b, home, _ = fresh()
	b.stay(c, home, 13*second)
	if got := placeNamed(b, c, 20*second); got != home {
		t.Errorf("after the move was taken back: placed on %s, want its home %s", got, home)
	}
}

// A member of a group that is moved has its seat where it is going, before it has left.
func TestBrainMovesMembers(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{}, 0, "a", "b", "c")
	seats := map[string]string{}
	member := func(k int) Client { return Client{ID: fmt.Sprint("m", k), Group: "g", Ordinal: -1} }
	for k := range 6 {
		seats[member(k).ID] = placeNamed(b, member(k), 0)
	}
	c, from := member(0), seats["m0"]
	to := map[string]string{"a": "b", "b": "c", "c": "a"}[from]
	b.Move(c, from, to, second)
	view, _ := b.Group("g", second)
	if i, j := b.Snapshot().Index(from), b.Snapshot().Index(to); view.Live[i] != 1 || view.Leased[j] != 1 || view.Live[j] != 2 {
		t.Fatalf("got live %v, leased %v, want the seat leased on %s", view.Live, view.Leased, to)
	}
	b.stay(c, from, second)
	if view, _ = b.Group("g", second); view.Away != 0 || view.Members != 6 || view.Spread != 0 {
		t.Fatalf("after the move was taken back: got %+v, want 2 members each", view)
	}
	b.Move(c, from, to, second)
	if got := placeNamed(b, member(6), 2*second); got != from {
		t.Errorf("another member is placed on %s, want %s, where a seat is free now", got, from)
	}
	b.Release(c, from, Moved, 3*second)
	if i, why := b.Place(c, nil, 4*second); b.Snapshot().Backends[i].Name != to || why.Cause != SeatLease {
		t.Errorf("came to %d, %v, want its seat on %s", i, why, to)
	}
	checkBook(t, b.groups)
}

// A member that has come again elsewhere by itself stays there: a late move of its old connection takes nothing away.
func TestBrainMovesNobodyTwice(t *testing.T) {
	t.Parallel()
	b := newTestBrain(t, BrainOptions{}, 0, "a", "b", "c")
	c := Client{ID: "m", Group: "g", Ordinal: -1}
	placeNamed(b, c, 0, "b", "c") // on a
	placeNamed(b, c, 0, "a", "c") // on b, and a does not know yet
	set := named("a", "b", "c")
	set[0].Phase = Draining
	b.Join(set, 0)
	old := Session{Client: c, Backend: "a"}
	plan := b.Plan(slices.Values([]Session{old}), PlanOptions{MinAge: -1}, second)
	if len(plan) != 1 || plan[0].To != "b" {
		t.Fatalf("got %v, want a move to b, where the client is", plan)
	}
	b.Move(c, "a", "c", second) // a plan that was made before
	if view, _ := b.Group("g", second); view.Live[1] != 1 || view.Away != 0 {
		t.Errorf("got %+v, want the seat on b as it was", view)
	}
	b.Release(c, "a", Moved, 2*second)
	if i, why := b.Place(c, nil, 3*second); i != 1 || why.Cause != TakenOver {
		t.Errorf("placed on %d, %v, want b again", i, why)
	}
}
