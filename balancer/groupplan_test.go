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

// fewestMoves tries every distribution within quota and counts the seats that must go for it.
func fewestMoves(counts []int, s *Snapshot) int {
	total := 0
	for _, n := range counts {
		total += n
	}
	best := math.MaxInt
	var try func(i, left, moves int)
	try = func(i, left, moves int) {
		if i == len(counts) {
			if left == 0 {
				best = min(best, moves)
			}
			return
		}
		share := float64(total) * s.Share(i)
		for n := int(math.Floor(share + 1e-9)); n <= int(math.Ceil(share-1e-9)); n++ {
			try(i+1, left-n, moves+max(0, counts[i]-n))
		}
	}
	try(0, total, 0)
	return best
}

// crowd puts counts[i] members of a group on backend i, through Place, by way of what was tried.
func crowd(t *testing.T, g *Groups, group string, s *Snapshot, seats *Seats, counts []int) {
	t.Helper()
	for i, n := range counts {
		seats.Tried = seats.Tried[:0]
		for other := range counts {
			if other != i {
				seats.Tried = append(seats.Tried, other)
			}
		}
		for k := range n {
			c := Client{ID: group + strconv.Itoa(i) + "-" + strconv.Itoa(k), Group: group, Ordinal: -1}
			if k%4 == 3 {
				c.ID = ""
			}
			if at, _ := g.Place(c, s, seats, 0); at != i {
				t.Fatalf("placed on %d, want %d", at, i)
			}
			seats.Take(i)
		}
	}
}

// carryOut moves one member as a caller does and fails if it does not land where the plan says.
func carryOut(t *testing.T, g *Groups, m GroupMove, s *Snapshot, seats *Seats, now int64) {
	t.Helper()
	c := Client{ID: m.Member, Group: m.Group, Ordinal: -1}
	if at := g.book.members[m.Member]; at != nil {
		c.Ordinal = at.ordinal
	}
	g.Release(c, m.From, Moved, now)
	seats.Live[s.Index(m.From)]--
	seats.Total--
	seats.Tried = nil
	i, _ := g.Place(c, s, seats, now)
	if s.Backends[i].Name != m.To || m.To == m.From {
		t.Fatalf("%s of %s went from %s to %s, planned was %s", m.Member, m.Group, m.From, s.Backends[i].Name, m.To)
	}
	seats.Take(i)
}

// G4 of algorithms.md, 3.2: no plan is shorter, every move lands where the plan says, and then the
// group is within quota.
func TestRepairIsMinimal(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 1))
	for range 3000 {
		set := equalBackends(2 + random.IntN(4))
		kind := random.IntN(4)
		for i := range set {
			switch kind {
			case 1:
				set[i].Capacity = 0.2 + random.Float64()
			case 3:
				set[i].Capacity = float64(1+random.IntN(9)) / 10
			case 2:
				set[i].Capacity = min(30, 1/random.Float64())
			}
		}
		s := NewSnapshot(1, "key", set)
		seats := NewSeats(s)
		counts := make([]int, len(set))
		for i := range counts {
			counts[i] = random.IntN(9)
		}
		o := GroupOptions{Instances: 1 + random.IntN(2)}
		o.Instance = random.IntN(o.Instances)
		g := NewGroups(o)
		crowd(t, g, "workers", s, seats, counts)
		if len(seats.Tried) == 0 {
			t.Fatal("what was tried must not matter to a plan")
		}
		plan := g.Repair(s, seats, 0)
		if want := fewestMoves(counts, s); len(plan) != want {
			t.Fatalf("%v: got %d moves, want %d", counts, len(plan), want)
		}
		if again := g.Repair(s, seats, 0); !slices.Equal(plan, again) {
			t.Fatalf("asking again gives %v, want %v", again, plan)
		}
		for k, m := range plan {
			if rest := g.Repair(s, seats, 0); !slices.Equal(rest, plan[k:]) {
				t.Fatalf("after %d moves: got %v, want %v", k, rest, plan[k:])
			}
			carryOut(t, g, m, s, seats, 0)
		}
		if rest := g.Repair(s, seats, 0); len(rest) != 0 {
			t.Fatalf("after the plan: got %v, want nothing", rest)
		}
		checkBook(t, g)
	}
}

// A join moves as few members as algorithms.md, 3.4 says, nobody twice, and all to the new backend.
func TestRepairAfterJoin(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ members, before, want int }{{12, 6, 1}, {40, 6, 5}, {120, 6, 17}, {4000, 6, 571}, {120, 3, 30}} {
		s := NewSnapshot(1, "key", equalBackends(test.before))
		g, seats := NewGroups(GroupOptions{}), NewSeats(s)
		for k := range test.members {
			i, _ := g.Place(groupClient("workers", k), s, seats, 0)
			seats.Take(i)
		}
		s = NewSnapshot(2, "key", equalBackends(test.before+1))
		seats = &Seats{Live: append(seats.Live, 0), Total: seats.Total}
		plan := g.Repair(s, seats, 0)
		moved := make(map[string]bool)
		for _, m := range plan {
			if m.To != "broker-"+strconv.Itoa(test.before) || moved[m.Member] {
				t.Errorf("%d members: %s goes to %s", test.members, m.Member, m.To)
			}
			moved[m.Member] = true
			carryOut(t, g, m, s, seats, 1)
		}
		if len(plan) != test.want {
			t.Errorf("%d members, %d→%d: got %d moves, want %d", test.members, test.before, test.before+1, len(plan), test.want)
		}
	}
}

// A plan knows leases, leaves alone what others are responsible for, and moves numbers to their seats.
func TestRepairLimits(t *testing.T) {
	t.Parallel()
	set := equalBackends(4)
	s := NewSnapshot(1, "key", set)
	g, seats := NewGroups(GroupOptions{Hold: 30}), NewSeats(s)
	crowd(t, g, "b", s, seats, []int{6, 0, 3, 3})
	crowd(t, g, "a", s, seats, []int{0, 4, 0, 0})
	if plan := g.Repair(s, seats, 0); len(plan) != 6 || !slices.IsSortedFunc(plan, func(x, y GroupMove) int { return cmp.Compare(x.Group, y.Group) }) {
		t.Errorf("got %v, want three moves of a and three of b", plan)
	}

	set[0].Phase = Draining
	draining := NewSnapshot(2, "key", set)
	for _, m := range g.Repair(draining, seats, 0) {
		if m.From == set[0].Name || m.To == set[0].Name {
			t.Errorf("got %v, want nothing of a draining backend", m)
		}
	}
	for i := range set {
		set[i].Phase = Hot
	}
	if plan := g.Repair(NewSnapshot(3, "key", set), seats, 0); len(plan) != 0 {
		t.Errorf("all backends hot: got %v, want nothing", plan)
	}

	for k := range 5 { // the sixth and the fourth have no id
		g.Release(Client{ID: "b0-" + strconv.Itoa(k), Group: "b"}, set[0].Name, Left, 0)
	}
	plan := slices.DeleteFunc(g.Repair(s, seats, 0), func(m GroupMove) bool { return m.Group != "b" })
	if len(plan) != 2 || plan[0].Member != "b0-5" || plan[1].Member != "" {
		t.Errorf("got %v, want b0-5 and then the nameless one: the others are away", plan)
	}
}

// Which of several minimal plans: the fullest backend gives first, and a left-over seat stays where the
// share is closest to it.
func TestRepairChoice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		capacities []float64
		counts     []int
		from       []string
	}{
		{[]float64{1, 1, 1, 1}, []int{0, 6, 9, 1}, []string{"broker-2", "broker-2", "broker-2", "broker-1", "broker-2", "broker-1", "broker-2"}},
		{[]float64{1.6, 1.3, 1.1}, []int{2, 2, 0}, []string{"broker-1"}},
		{[]float64{1.3, 1.6, 1.1}, []int{2, 2, 0}, []string{"broker-0"}},
	} {
		set := equalBackends(len(test.counts))
		for i := range set {
			set[i].Capacity = test.capacities[i]
		}
		s := NewSnapshot(1, "key", set)
		g, seats := NewGroups(GroupOptions{}), NewSeats(s)
		crowd(t, g, "g", s, seats, test.counts)
		var from []string
		for _, m := range g.Repair(s, seats, 0) {
			from = append(from, m.From)
		}
		if !slices.Equal(from, test.from) {
			t.Errorf("%v: got moves from %v, want %v", test.counts, from, test.from)
		}
	}
}

func TestRepairOrdinals(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "key", equalBackends(6))
	g, seats := NewGroups(GroupOptions{Ordinals: true}), NewSeats(s)
	for k := range 60 {
		if k%5 == 4 {
			continue // a gap in the numbers must not make the plan move them to and fro
		}
		i, _ := g.Place(groupClient("workers", k), s, seats, 0)
		seats.Take(i)
	}
	for k := range 10 {
		i, _ := g.Place(Client{ID: strconv.Itoa(k), Group: "workers", Ordinal: -1}, s, seats, 0)
		seats.Take(i)
	}
	s = NewSnapshot(2, "key", equalBackends(7))
	seats = &Seats{Live: append(seats.Live, 0), Total: seats.Total}
	plan := g.Repair(s, seats, 0)
	if len(plan) == 0 {
		t.Fatal("got no moves to a new backend")
	}
	away := plan[0]
	client := Client{ID: away.Member, Group: "workers"}
	g.Release(client, away.From, Left, 0)
	for _, m := range g.Repair(s, seats, 0) {
		if m.Member == away.Member {
			t.Errorf("got a move of %s, which is away", m.Member)
		}
	}
	client.Ordinal = g.book.members[away.Member].ordinal
	if i, why := g.Place(client, s, seats, 0); s.Backends[i].Name != away.From {
		t.Errorf("%s came back to %d (%s), want its lease on %s", away.Member, i, why.Cause, away.From)
	}
	for _, m := range plan {
		carryOut(t, g, m, s, seats, 1)
	}
	if rest := g.Repair(s, seats, 1); len(rest) != 0 {
		t.Errorf("after the plan: got %v, want nothing", rest)
	}
	for _, id := range slices.Sorted(maps.Keys(g.book.members)) {
		m := g.book.members[id]
		if m.ordinal < 0 {
			continue
		}
		if want := g.owner(m.group, s, m.ordinal); g.book.slots[m.slot].index != want {
			t.Errorf("%s sits on %d, want %d", id, g.book.slots[m.slot].index, want)
		}
	}
}

// BenchmarkRepair plans for groups that are all within quota, which is what a caller asks every few
// seconds, and for groups that all have to make room for a new backend.
func BenchmarkRepair(b *testing.B) {
	old, grown := NewSnapshot(1, "key", equalBackends(6)), NewSnapshot(2, "key", equalBackends(7))
	g, seats := NewGroups(GroupOptions{}), NewSeats(old)
	for k := range 40_000 {
		i, _ := g.Place(groupClient("g"+strconv.Itoa(k%1000), k), old, seats, 0)
		seats.Take(i)
	}
	for _, bench := range []struct {
		name  string
		s     *Snapshot
		seats *Seats
	}{
		{"none", old, seats},
		{"join", grown, &Seats{Live: append(slices.Clone(seats.Live), 0), Total: seats.Total}},
	} {
		b.Run("groups=1000/members=40/moves="+bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				g.Repair(bench.s, bench.seats, 0)
			}
		})
	}
}
