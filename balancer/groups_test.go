package balancer

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

func equalBackends(n int) []Backend {
	set := make([]Backend, n)
	for i := range set {
		set[i].Name = "broker-" + strconv.Itoa(i)
	}
	return set
}

func groupClient(group string, k int) Client {
	return Client{ID: group + "-" + strconv.Itoa(k), Group: group, Ordinal: k}
}

// The twin and Groups agree on every decision, whatever happens.
func TestGroupsAgainstTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(36) {
		o := GroupOptions{Hold: 1000, Instances: 1 + int(seed%3), Ordinals: seed%4 == 3}
		o.Instance = int(seed/3) % o.Instances
		g, twin, w := NewGroups(o), newGroupTwin(o), newGroupWorld(seed, 6)
		for step := range 400 {
			w.now += w.random.Int64N(100)
			switch {
			case w.random.IntN(20) == 0:
				w.change()
			case w.random.IntN(30) == 0:
				twin.o.Hold = 100 + w.random.Int64N(2000)
				g.SetHold(twin.o.Hold)
			case w.random.IntN(3) == 0 && len(w.connections) > 0:
				c := w.disconnected(w.random.IntN(len(w.connections)))
				how := Leave(w.random.IntN(2))
				g.Release(c.client, c.backend, how, w.now)
				twin.release(c.client, c.backend, how, w.now)
			default:
				c := groupClient("g"+strconv.Itoa(w.random.IntN(3)), w.random.IntN(40)-2)
				if w.random.IntN(10) == 0 {
					c.Group = "g0" // it has learned another one
				}
				w.seats.Tried = w.seats.Tried[:0]
				for w.random.IntN(5) == 0 {
					w.seats.Tried = append(w.seats.Tried, w.random.IntN(len(w.snapshot.Backends)))
				}
				seen, why := g.Preview(c, w.snapshot, w.seats, w.now)
				got, again := g.Place(c, w.snapshot, w.seats, w.now)
				want := twin.place(c, w.snapshot, w.seats, w.now)
				if got != want || seen != got || why != again {
					t.Fatalf("seed %d, step %d: placed on %d (%s), previewed %d (%s), want %d", seed, step, got, again, seen, why, want)
				}
				if got >= 0 {
					w.connected(c, got)
				}
			}
			if len(g.book.members) != len(twin.members) && !hasExpired(twin, w.now) {
				t.Fatalf("seed %d, step %d: %d members, want %d", seed, step, len(g.book.members), len(twin.members))
			}
			checkBook(t, g)
		}
	}
}

func hasExpired(t *groupTwin, now int64) bool {
	before := len(t.members)
	t.expire(now)
	return len(t.members) != before
}

// G3: whoever comes back within the lease has the same seat, however many are away and in whatever
// order they return.
func TestGroupsReturnWithinLease(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(6))
	random := rand.New(rand.NewPCG(2, 2))
	g, seats := NewGroups(GroupOptions{Hold: 30}), NewSeats(s)
	home := make([]int, 40)
	for k := range home {
		home[k], _ = g.Place(groupClient("workers", k), s, seats, 0)
	}
	now := int64(0)
	for range 500 {
		away := random.Perm(len(home))[:1+random.IntN(len(home))]
		for _, k := range away {
			g.Release(groupClient("workers", k), s.Backends[home[k]].Name, Left, now)
		}
		random.Shuffle(len(away), func(i, j int) { away[i], away[j] = away[j], away[i] })
		for n, k := range away {
			i, why := g.Place(groupClient("workers", k), s, seats, now+int64(29*n/len(away)))
			if i != home[k] || why.Cause != SeatLease {
				t.Fatalf("member %d returned to %d (%s), want %d", k, i, why.Cause, home[k])
			}
		}
		now += 30
	}
}

func TestGroupsLeaseEnds(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(2))
	g, seats := NewGroups(GroupOptions{Hold: 30}), NewSeats(s)
	a, b, c := groupClient("g", 1), groupClient("g", 2), groupClient("g", 3)
	i, _ := g.Place(a, s, seats, 0)
	j, _ := g.Place(b, s, seats, 0)
	if i == j {
		t.Fatalf("two members of two backends are both on %d", i)
	}
	g.Release(a, s.Backends[i].Name, Left, 100)
	if k, _ := g.Preview(c, s, seats, 129); len(g.book.members) != 2 || k != i && k != j {
		t.Errorf("a leased seat is gone early: got %d members, want 2", len(g.book.members))
	}
	if k, why := g.Place(c, s, seats, 130); k != i || why.Cause != Emptiest {
		t.Errorf("after the lease: got backend %d (%s), want the free seat on %d", k, why.Cause, i)
	}
	g.Release(c, s.Backends[i].Name, Moved, 131)
	if _, n := g.Len(); n != 1 {
		t.Errorf("a member that was moved keeps its seat: got %d members, want 1", n)
	}
	g.Release(b, s.Backends[j].Name, Left, 131)
	g.SetHold(1)
	d := groupClient("other", 1)
	k, _ := g.Place(d, s, seats, 132)
	g.Release(d, s.Backends[k].Name, Left, 132)
	if _, n := g.Len(); n != 2 {
		t.Errorf("got %d leases, want 2", n)
	}
	g.Preview(a, s, seats, 160)
	if _, n := g.Len(); n != 2 {
		t.Errorf("a lease has overtaken an older one: got %d, want 2", n)
	}
	g.Preview(a, s, seats, 161)
	if groups, n := g.Len(); groups != 0 || n != 0 {
		t.Errorf("got %d groups and %d members after all leases, want none", groups, n)
	}
	checkBook(t, g)
}

// A takeover stays on its backend, and its seat is free only when both connections are gone.
func TestGroupsTakeover(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(5))
	g, seats := NewGroups(GroupOptions{Hold: -1}), NewSeats(s)
	c := groupClient("g", 1)
	i, _ := g.Place(c, s, seats, 0)
	j, why := g.Place(c, s, seats, 0)
	if i != j || why.Cause != TakenOver {
		t.Errorf("takeover went to %d (%s), want %d", j, why.Cause, i)
	}
	g.Release(c, s.Backends[i].Name, Left, 1)
	if _, n := g.Len(); n != 1 {
		t.Errorf("the seat went with the older connection: got %d members, want 1", n)
	}
	g.Release(c, "nobody", Left, 1)
	g.Release(c, s.Backends[(i+1)%5].Name, Left, 1)
	g.Release(c, s.Backends[i].Name, Left, 1)
	if _, n := g.Len(); n != 0 {
		t.Errorf("got %d members, want 0", n)
	}
	g.Release(c, s.Backends[i].Name, Left, 1)
	checkBook(t, g)
}

// Seats follow the names when the set of backends changes, and a backend that was away for less than
// the lease finds its members again.
func TestGroupsFollowNames(t *testing.T) {
	t.Parallel()
	old := NewSnapshot(1, "key", equalBackends(4))
	g, seats := NewGroups(GroupOptions{}), NewSeats(old)
	home := map[int]string{}
	for k := range 8 {
		i, _ := g.Place(groupClient("g", k), old, seats, 0)
		home[k] = old.Backends[i].Name
		g.Release(groupClient("g", k), home[k], Left, 1)
	}
	grown := NewSnapshot(2, "key", append(equalBackends(4)[1:], Backend{Name: "aaa"}, Backend{Name: "zzz"}))
	for k := range 8 {
		i, why := g.Preview(groupClient("g", k), grown, NewSeats(grown), 2)
		if gone := home[k] == "broker-0"; !gone && grown.Backends[i].Name != home[k] || gone && why.Cause != Emptiest {
			t.Errorf("member %d went to %s (%s), want %s", k, grown.Backends[i].Name, why.Cause, home[k])
		}
	}
	for k := range 8 {
		if i, _ := g.Place(groupClient("g", k), old, seats, 3); old.Backends[i].Name != home[k] {
			t.Errorf("member %d went to %s, want %s", k, old.Backends[i].Name, home[k])
		}
	}
	// Names that never come again must not be remembered for ever.
	for k := range 100 {
		s := NewSnapshot(3, "key", []Backend{{Name: "pod-" + strconv.Itoa(k)}})
		c := groupClient("passing", k)
		g.Place(c, s, NewSeats(s), 4)
		g.Release(c, s.Backends[0].Name, Moved, 4)
	}
	if n := len(g.book.slots); n > 6 || len(g.book.slotOf) > n {
		t.Errorf("got %d slots with %d names, want at most 6", n, len(g.book.slotOf))
	}
	checkBook(t, g)
}

func TestGroupsPhases(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		phases [3]Phase
		tried  []int
		want   []int // where any member may go
	}{
		{phases: [3]Phase{Ready, Hot, Draining}, want: []int{0}},
		{phases: [3]Phase{Down, Hot, Draining}, want: []int{1}},
		{phases: [3]Phase{Down, Joining, Draining}, want: []int{1, 2}},
		{phases: [3]Phase{Ready, Ramping, Draining}, want: []int{0, 1}},
		{phases: [3]Phase{Ready, Ramping, Draining}, tried: []int{0}, want: []int{1}},
		{phases: [3]Phase{Ready, Ramping, Draining}, tried: []int{0, 1}, want: []int{2}},
		{phases: [3]Phase{Down, Down, Ready}, tried: []int{2}},
	} {
		set := equalBackends(3)
		for i := range set {
			set[i].Phase = test.phases[i]
		}
		s := NewSnapshot(1, "key", set)
		seats := NewSeats(s)
		seats.Tried = test.tried
		for _, ordinals := range []bool{false, true} {
			g := NewGroups(GroupOptions{Ordinals: ordinals})
			for k := range 20 {
				i, why := g.Place(groupClient("g", k), s, seats, 0)
				if i < 0 && (len(test.want) > 0 || why.Cause != NoBackend) || i >= 0 && !slices.Contains(test.want, i) {
					t.Errorf("%v, tried %v: got %d (%s), want one of %v", test.phases, test.tried, i, why.Cause, test.want)
				}
			}
		}
	}
}

// A member whose seat is not fit to return to hears why.
func TestGroupsReasons(t *testing.T) {
	t.Parallel()
	set := equalBackends(3)
	s := NewSnapshot(1, "key", set)
	g, seats := NewGroups(GroupOptions{}), NewSeats(s)
	c := groupClient("g", 1)
	i, why := g.Place(c, s, seats, 0)
	if why != (Reason{Strategy: "group-spread", Cause: Emptiest, Group: c.Group, Other: "broker-0,broker-1,broker-2"}) || why.String() != "group g: emptiest of broker-0,broker-1,broker-2" {
		t.Errorf("got %q, %+v, want emptiest of all", why, why)
	}
	seats.Tried = []int{i}
	if _, why = g.Preview(c, s, seats, 0); why.Cause != Retried || why.Other != set[i].Name {
		t.Errorf("got %+v, want retried from %s", why, set[i].Name)
	}
	set[i].Phase = Draining
	s = NewSnapshot(2, "key", set)
	j, why := g.Place(c, s, NewSeats(s), 0)
	if j == i || why.Cause != Avoided || why.Other != set[i].Name || why.Phase != Draining {
		t.Errorf("got %+v, want to avoid %s", why, set[i].Name)
	}
	// The connection that was left behind ends without touching the new seat.
	g.Release(c, set[i].Name, Left, 1)
	if at := g.book.members[c.ID]; at.connections != 1 {
		t.Errorf("got %d connections, want 1", at.connections)
	}
}

// Members without an id are spread like the others and leave no lease.
func TestGroupsNameless(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(4))
	g, seats := NewGroups(GroupOptions{}), NewSeats(s)
	c := Client{Group: "workers", Ordinal: -1}
	for range 12 {
		i, _ := g.Place(c, s, seats, 0)
		seats.Take(i)
	}
	if slices.Min(seats.Live) != 3 || slices.Max(seats.Live) != 3 {
		t.Errorf("got %v, want 3 each", seats.Live)
	}
	for i, n := range seats.Live {
		for range n {
			g.Release(c, s.Backends[i].Name, Left, 1)
		}
	}
	g.Release(c, s.Backends[0].Name, Left, 1)
	if groups, _ := g.Len(); groups != 0 {
		t.Errorf("got %d groups, want 0", groups)
	}
	checkBook(t, g)
}

// Beyond the limits clients go home by hash; a lease gives way before a newcomer does.
func TestGroupsLimits(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(4))
	g, seats := NewGroups(GroupOptions{MaxGroups: 2, MaxMembers: 3}), NewSeats(s)
	place := func(c Client, strategy string) int {
		t.Helper()
		seen, _ := g.Preview(c, s, seats, 0)
		i, why := g.Place(c, s, seats, 0)
		if why.Strategy != strategy || i != seen {
			t.Errorf("%.20s went to %d by %s, previewed %d, want %s", c.ID, i, why.Strategy, seen, strategy)
		}
		return i
	}
	first := place(groupClient("a", 1), "group-spread")
	place(groupClient("a", 2), "group-spread")
	place(groupClient("b", 1), "group-spread")
	place(groupClient("c", 1), "client-hash") // too many groups
	lost := place(groupClient("b", 2), "client-hash")
	place(groupClient("a", 1), "group-spread") // known
	place(Client{ID: "x", Ordinal: -1}, "client-hash")
	place(Client{ID: string(make([]byte, maxName+1)), Group: "a", Ordinal: -1}, "client-hash")
	place(Client{Group: "a", Ordinal: -1}, "group-spread") // costs no memory

	g.Release(groupClient("b", 2), s.Backends[lost].Name, Left, 0) // was never seated
	checkBook(t, g)
	g.Release(groupClient("a", 1), s.Backends[first].Name, Left, 0)
	g.Release(groupClient("a", 1), s.Backends[first].Name, Left, 0)
	place(groupClient("b", 3), "group-spread")
	if g.book.members["a-1"] != nil || len(g.book.members) != 3 {
		t.Errorf("got %d members, want 3 without the one on a lease", len(g.book.members))
	}
	checkBook(t, g)
}

// No decision depends on the order of discovery.
func TestGroupsIgnoreOrder(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3))
	set := equalBackends(7)
	set[3].Capacity = 2
	s := NewSnapshot(1, "key", set)
	g, h := NewGroups(GroupOptions{}), NewGroups(GroupOptions{})
	seats := NewSeats(s)
	for k := range 200 {
		random.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
		c := groupClient("g"+strconv.Itoa(k%3), k)
		i, _ := g.Place(c, s, seats, 0)
		if j, _ := h.Place(c, NewSnapshot(uint64(k), "key", set), seats, 0); i != j {
			t.Fatalf("member %d: got %d, want %d", k, j, i)
		}
		seats.Take(i)
	}
}
