package balancer

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// The twin and Groups agree while clients join and leave groups without a new connection.
func TestEnrollAgainstTwin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(24) {
		o := GroupOptions{Hold: 1000, Instances: 1}
		g, twin, w := NewGroups(o), newGroupTwin(o), newGroupWorld(seed, 6)
		enrolled := make(map[string]*twinMember)
		for step := range 400 {
			w.now += w.random.Int64N(100)
			switch {
			case w.random.IntN(20) == 0:
				w.change()
			case w.random.IntN(3) == 0 && len(w.connections) > 0:
				c := w.disconnected(w.random.IntN(len(w.connections)))
				g.Release(c.client, c.backend, Left, w.now)
				twin.release(c.client, c.backend, Left, w.now)
			case w.random.IntN(2) == 0 && len(w.connections) > 0:
				c := &w.connections[w.random.IntN(len(w.connections))]
				if w.random.IntN(3) > 0 {
					g.Release(c.client, c.backend, Moved, w.now) // Dismiss
					twin.release(c.client, c.backend, Moved, w.now)
					c.client.Group = ""
				}
				next := c.client
				next.Group = "g" + strconv.Itoa(w.random.IntN(3))
				if done := g.Enroll(next, c.backend, w.snapshot, w.now); done != (w.snapshot.Index(c.backend) >= 0) {
					t.Fatalf("seed %d, step %d: got enrolled %t on %s", seed, step, done, c.backend)
				} else if done {
					c.client = next
					twin.enroll(next, c.backend, w.now, enrolled)
				}
			default:
				c := groupClient("g"+strconv.Itoa(w.random.IntN(3)), w.random.IntN(40))
				got, _ := g.Place(c, w.snapshot, w.seats, w.now)
				if want := twin.placeEnrolled(c, w.snapshot, w.seats, w.now, enrolled); got != want {
					t.Fatalf("seed %d, step %d: placed on %d, want %d", seed, step, got, want)
				}
				if got >= 0 {
					w.connected(c, got)
				}
			}
			checkBook(t, g)
		}
	}
}

// enroll is Groups.Enroll; enrolled are those members whom nobody has placed since.
func (t *groupTwin) enroll(c Client, backend string, now int64, enrolled map[string]*twinMember) {
	t.expire(now)
	m := t.members[c.ID]
	if m == nil || m.group != c.Group || m.backend != backend {
		m = &twinMember{group: c.Group, backend: backend}
		t.members[c.ID], enrolled[c.ID] = m, m
	}
	m.connections++
}

// placeEnrolled is place, but a member that was enrolled is placed as if it were not there.
func (t *groupTwin) placeEnrolled(c Client, s *Snapshot, seats *Seats, now int64, enrolled map[string]*twinMember) int {
	t.expire(now)
	m := t.members[c.ID]
	if m == nil || enrolled[c.ID] != m || m.group != c.Group {
		return t.place(c, s, seats, now)
	}
	delete(t.members, c.ID)
	i := t.place(c, s, seats, now)
	if again := t.members[c.ID]; again == nil {
		t.members[c.ID] = m
	} else if again.backend == m.backend {
		again.connections += m.connections
	}
	return i
}

// enrolledBrain has twelve clients on three backends, six, four and two of them, that have joined one group.
func enrolledBrain(t *testing.T) (b *Brain, at map[string]string) {
	t.Helper()
	b, err := NewBrain(BrainOptions{Key: "key", Strategy: "client-hash"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	b.Join(equalBackends(3), 1)
	at = make(map[string]string)
	full := map[string]int{"broker-0": 6, "broker-1": 4, "broker-2": 2}
	for k := 0; len(at) < 12; k++ {
		c := Client{ID: "c" + strconv.Itoa(k), Ordinal: -1}
		i, _ := b.Place(c, nil, 1)
		name := b.Snapshot().Backends[i].Name
		if full[name] == 0 {
			b.Release(c, name, Left, 1)
			continue
		}
		full[name]--
		at[c.ID] = name
		c.Group = "g"
		if !b.Enroll(c, name, 1) {
			t.Fatalf("client %s: not enrolled", c.ID)
		}
	}
	return b, at
}

// Members that have joined late count where they are, and find better places when they come again.
func TestEnrolledMembersAreSpreadWhenTheyReturn(t *testing.T) {
	t.Parallel()
	b, at := enrolledBrain(t)
	if v, _ := b.Group("g", 2); v.Members != 12 || v.Spread != 4 {
		t.Fatalf("got %d members, spread %d, want 12, 4", v.Members, v.Spread)
	}
	for k, id := range slices.Sorted(maps.Keys(at)) {
		c := Client{ID: id, Group: "g", Ordinal: -1}
		if k%2 == 0 { // it is back before its former connection has ended
			b.Place(c, nil, 3)
			b.Release(c, at[id], Left, 3)
			continue
		}
		b.Release(c, at[id], Left, 3)
		b.Place(c, nil, 3)
	}
	if v, _ := b.Group("g", 4); v.Members != 12 || v.Spread != 0 || v.Away != 0 {
		t.Errorf("got %d members, spread %d, %d away, want 12, 0, 0", v.Members, v.Spread, v.Away)
	}
}

// One that is where it should be stays there, whoever chose the place.
func TestEnrolledMembersThatAreSpreadStay(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(3))
	g, seats := NewGroups(GroupOptions{}), NewSeats(s)
	for k := range 12 {
		g.Enroll(groupClient("g", k), s.Backends[k%3].Name, s, 1)
	}
	for k := range 12 {
		if i, why := g.Place(groupClient("g", k), s, seats, 2); i != k%3 {
			t.Errorf("member %d went from %d to %d (%s)", k, k%3, i, why)
		}
	}
}

// The repair of a group that was learned too late is minimal like any other.
func TestEnrolledGroupIsRepaired(t *testing.T) {
	t.Parallel()
	b, _ := enrolledBrain(t)
	moves := b.groups.Repair(b.snapshot, b.seats, 2)
	if len(moves) != 2 || slices.ContainsFunc(moves, func(m GroupMove) bool { return m.From != "broker-0" || m.To != "broker-2" }) {
		t.Errorf("got %+v, want two moves from broker-0 to broker-2", moves)
	}
}

func TestDismiss(t *testing.T) {
	t.Parallel()
	b, at := enrolledBrain(t)
	for id, backend := range at {
		b.Dismiss(Client{ID: id, Group: "g"}, backend, 2)
		b.Dismiss(Client{ID: id, Group: "g"}, backend, 2) // once more changes nothing
	}
	if _, known := b.Group("g", 2); known {
		t.Error("got a group after all have left it, want none")
	}
	for id, backend := range at {
		b.Release(Client{ID: id}, backend, Left, 3)
	}
	if b.seats.Total != 0 {
		t.Errorf("got %d connections in the end, want 0", b.seats.Total)
	}
}

// Enroll keeps to what Place would remember.
func TestEnrollIsBounded(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(2))
	for name, c := range map[string]struct {
		client  Client
		backend string
		want    bool
	}{
		"one more":           {Client{ID: "b", Group: "g"}, "broker-0", false},
		"the same":           {Client{ID: "a", Group: "g"}, "broker-0", true},
		"without an id":      {Client{Group: "g"}, "broker-1", true},
		"one group too many": {Client{ID: "a", Group: "h"}, "broker-0", false},
		"no group":           {Client{ID: "a"}, "broker-0", false},
		"unknown backend":    {Client{ID: "a", Group: "g"}, "broker-9", false},
	} {
		g := NewGroups(GroupOptions{MaxGroups: 1, MaxMembers: 1})
		g.Place(Client{ID: "a", Group: "g"}, s, NewSeats(s), 1)
		if got := g.Enroll(c.client, c.backend, s, 2); got != c.want {
			t.Errorf("%s: got %t, want %t", name, got, c.want)
		}
		checkBook(t, g)
	}
	node, err := NewBrain(BrainOptions{Strategy: "client-hash", Placement: Options{NodeScope: true}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	node.Join(equalBackends(1), 1)
	if node.Enroll(Client{ID: "a", Group: "g", Persistent: true}, "broker-0", 1) {
		t.Error("got a client enrolled whose session is tied to its broker, want no group for it")
	}
}

// Some may be interrupted by changes.
func TestLearnedSome(t *testing.T) {
	t.Parallel()
	l := NewLearned(100)
	for k := range 100 {
		l.Learn(strconv.Itoa(k), "g"+strconv.Itoa(k%3))
	}
	seen := make(map[string]string)
	for id, group := range l.Some() {
		if seen[id] != "" {
			t.Fatalf("client %s came twice", id)
		}
		seen[id] = group
		l.Group(id)
		l.Forget(cmp.Or(map[bool]string{true: "7"}[seen["7"] != ""], "none"))
	}
	if len(seen) != 100 || seen["41"] != "g2" {
		t.Errorf("got %d clients, client 41 in %q, want 100, g2", len(seen), seen["41"])
	}
}
