package balancer

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// groupTwin is Groups as algorithms.md, 3.1 tells it, with plain maps, by name, counting everything
// anew for every decision.
type groupTwin struct {
	o       GroupOptions
	members map[string]*twinMember
}

type twinMember struct {
	group, backend string
	connections    int
	until          int64
}

func newGroupTwin(o GroupOptions) *groupTwin {
	return &groupTwin{o: o, members: make(map[string]*twinMember)}
}

func (t *groupTwin) expire(now int64) {
	maps.DeleteFunc(t.members, func(_ string, m *twinMember) bool { return m.connections == 0 && m.until <= now })
}

func (t *groupTwin) occupied(group, backend string) (n int) {
	for _, m := range t.members {
		if m.group == group && m.backend == backend {
			n++
		}
	}
	return n
}

func (t *groupTwin) place(c Client, s *Snapshot, seats *Seats, now int64) int {
	t.expire(now)
	i := t.decide(c, s, seats)
	if i < 0 {
		return i
	}
	name := s.Backends[i].Name
	m := t.members[c.ID]
	if m == nil || m.group != c.Group || m.backend != name {
		m = &twinMember{group: c.Group, backend: name}
		t.members[c.ID] = m
	}
	m.connections++
	return i
}

func (t *groupTwin) decide(c Client, s *Snapshot, seats *Seats) int {
	var usable []int
	for _, phases := range [][]Phase{{Ready, Ramping}, {Hot}, {Joining, Draining}} {
		for i, b := range s.Backends {
			if slices.Contains(phases, b.Phase) && !slices.Contains(seats.Tried, i) {
				usable = append(usable, i)
			}
		}
		if len(usable) > 0 {
			break
		}
	}
	if len(usable) == 0 {
		return -1
	}
	if m := t.members[c.ID]; m != nil && m.group == c.Group { // 0 and 1
		if i := s.Index(m.backend); slices.Contains(usable, i) {
			return i
		}
	}
	occupied := make(map[int]int)
	var total, live int
	var weight float64
	for _, i := range usable {
		occupied[i] = t.occupied(c.Group, s.Backends[i].Name)
		total += occupied[i]
		live += seats.Live[i]
		weight += s.Weight(i)
	}
	if uniform := !slices.ContainsFunc(s.Backends, func(b Backend) bool { return b.Capacity != s.Backends[0].Capacity }); t.o.Ordinals && uniform && c.Ordinal >= 0 {
		n := len(s.Backends)
		elders := slices.Clone(s.Backends)
		slices.SortFunc(elders, func(a, b Backend) int {
			return cmp.Or(len(a.Name)-len(b.Name), cmp.Compare(a.Name, b.Name))
		})
		hash := keyedHash(s.seed, c.Group)
		owner := s.Index(elders[twinSeatTable(hash, n, c.Ordinal+1)[c.Ordinal]].Name) // 2
		if slices.Contains(usable, owner) {
			return owner
		}
		start := int(mix(hash^s.hashes[owner]) % uint64(len(usable)))
		return usable[(start+c.Ordinal/n)%len(usable)]
	}
	best := 0.0
	quota := func(i int) float64 { return float64(total+1) * s.Weight(i) / weight }
	for _, i := range usable {
		if float64(occupied[i]) < quota(i)-1e-9 { // 3
			best = max(best, s.Weight(i)/float64(occupied[i]+1))
		}
	}
	var order []int // 5b
	key := c.Group
	if t.o.Instances == 1 {
		key = c.ID
	}
	order = slices.Clone(usable)
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(rendezvous(keyedHash(s.seed, key), s.hashes[a], 1), rendezvous(keyedHash(s.seed, key), s.hashes[b], 1))
	})
	turn := t.o.Instance * len(order) / t.o.Instances
	order = slices.Concat(order[turn:], order[:turn])
	order = slices.DeleteFunc(order, func(i int) bool { // 4
		return float64(occupied[i]) >= quota(i)-1e-9 || s.Weight(i)/float64(occupied[i]+1) < best*(1-1e-12)
	})
	for _, i := range order { // 5a, for one instance
		if t.o.Instances > 1 || float64(seats.Live[i]+1) <= 1.05*(float64(live+1)*s.Weight(i)/weight) {
			return i
		}
	}
	return order[0]
}

func (t *groupTwin) release(c Client, backend string, how Leave, now int64) {
	t.expire(now)
	m := t.members[c.ID]
	if m == nil || m.group != c.Group || m.backend != backend || m.connections == 0 {
		return
	}
	m.connections--
	if m.connections > 0 {
		return
	}
	if how == Moved {
		delete(t.members, c.ID)
		return
	}
	m.until = now + t.o.Hold
	for _, other := range t.members {
		if other.connections == 0 {
			m.until = max(m.until, other.until)
		}
	}
}

// A connection is what the caller remembers of a placement.
type connection struct {
	client  Client
	backend string
}

// A groupWorld plays a caller with random clients, backends and time.
type groupWorld struct {
	random      *rand.Rand
	backends    []Backend
	snapshot    *Snapshot
	seats       *Seats
	now         int64
	connections []connection
}

func newGroupWorld(seed uint64, backends int) *groupWorld {
	w := &groupWorld{random: rand.New(rand.NewPCG(seed, 1))}
	for i := range backends {
		w.backends = append(w.backends, Backend{Name: "n" + string(rune('a'+i))})
	}
	w.publish()
	return w
}

func (w *groupWorld) publish() {
	set := slices.Clone(w.backends)
	w.random.Shuffle(len(set), func(i, j int) { set[i], set[j] = set[j], set[i] })
	w.snapshot = NewSnapshot(1, "key", set)
	w.seats = NewSeats(w.snapshot)
	for _, c := range w.connections {
		if i := w.snapshot.Index(c.backend); i >= 0 {
			w.seats.Take(i)
		}
	}
}

// change makes something happen to a backend.
func (w *groupWorld) change() {
	i := w.random.IntN(len(w.backends))
	switch w.random.IntN(4) {
	case 0:
		w.backends[i].Phase = Phase(w.random.IntN(6))
	case 1:
		w.backends[i].Phase, w.backends[i].Ramp = Ready, float64(w.random.IntN(10))/10 // 0.3/3 is a tie with 0.1
	case 2:
		w.backends[i] = Backend{Name: "n" + string(rune('a'+w.random.IntN(12)))}
	case 3:
		w.backends = append(w.backends, Backend{Name: "m" + strconv.Itoa(w.random.IntN(1000))})
		if len(w.backends) > 9 {
			w.backends = w.backends[3:]
		}
	}
	byName := func(a, b Backend) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(w.backends, byName)
	w.backends = slices.CompactFunc(w.backends, func(a, b Backend) bool { return byName(a, b) == 0 })
	w.publish()
}

func (w *groupWorld) connected(c Client, backend int) {
	w.seats.Take(backend)
	w.connections = append(w.connections, connection{c, w.snapshot.Backends[backend].Name})
}

func (w *groupWorld) disconnected(k int) connection {
	c := w.connections[k]
	w.connections = slices.Delete(w.connections, k, k+1)
	if i := w.snapshot.Index(c.backend); i >= 0 {
		w.seats.Live[i]--
		w.seats.Total--
	}
	return c
}

// checkBook counts everything that the book counts.
func checkBook(t *testing.T, g *Groups) {
	t.Helper()
	type key struct {
		group string
		slot  int
	}
	var seats, groupSeats int
	want := make(map[key]tally)
	leased := 0
	for id, m := range g.book.members {
		v := want[key{m.group.name, m.slot}]
		if m.connections > 0 {
			v.live++
		} else {
			v.held++
			leased++
		}
		want[key{m.group.name, m.slot}] = v
		if m.id != id || g.book.groups[m.group.name] != m.group {
			t.Fatalf("member %s is lost", id)
		}
	}
	for name, at := range g.book.groups {
		if at.seats == 0 {
			t.Fatalf("group %s has no seats and is still there", name)
		}
		groupSeats += at.seats
		n := 0
		for k, v := range at.tallies {
			if v.nameless < 0 {
				t.Fatalf("group %s, slot %d: %d nameless", name, k, v.nameless)
			}
			n += v.live + v.held + v.nameless
			v.nameless = 0
			if v != want[key{name, k}] {
				t.Fatalf("group %s, slot %d: got %+v, want %+v", name, k, v, want[key{name, k}])
			}
		}
		if n != at.seats {
			t.Fatalf("group %s: got %d seats, want %d", name, at.seats, n)
		}
	}
	for _, v := range g.book.slots {
		seats += v.seats
	}
	if seats != groupSeats {
		t.Fatalf("slots hold %d seats, groups %d", seats, groupSeats)
	}
	until := int64(math.MinInt64)
	for m := g.book.leases.first; m != nil; m = m.links[byLease].next {
		if m.until < until || m.connections != 0 {
			t.Fatalf("lease of %s: ends at %d after one that ends at %d", m.id, m.until, until)
		}
		until = m.until
		leased--
	}
	if leased != 0 {
		t.Fatalf("%d leases are not in the list", leased)
	}
}
