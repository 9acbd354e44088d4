package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

// names returns n backends, equal but for their names.
func names(n int) []Backend {
	set := make([]Backend, n)
	for i := range set {
		set[i].Name = "n" + strconv.Itoa(i)
	}
	return set
}

// dumbMaglev is algorithms.md, 2.6, word for word: no incremental step, no shortcut.
func dumbMaglev(hashes []uint64, weights []float64, size uint64) []uint16 {
	greatest := 0.0
	for _, w := range weights {
		greatest = max(greatest, w)
	}
	if greatest == 0 {
		return nil
	}
	table, next, target := map[uint64]uint16{}, make([]uint64, len(weights)), make([]float64, len(weights))
	for it := 1.0; ; it++ {
		for i, w := range weights {
			if w == 0 || it*w < target[i] {
				continue
			}
			target[i] += greatest
			offset := mix(hashes[i]^0x6f66667365747300) % size
			skip := mix(hashes[i]^0x7374726964657300)%(size-1) + 1
			slot := (offset + skip*next[i]) % size
			for _, taken := table[slot]; taken; _, taken = table[slot] {
				next[i]++
				slot = (offset + skip*next[i]) % size
			}
			table[slot] = uint16(i)
			next[i]++
			if uint64(len(table)) == size {
				out := make([]uint16, size)
				for slot, i := range table {
					out[slot] = i
				}
				return out
			}
		}
	}
}

func TestMaglevEqualsNaiveTwin(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []uint32{7, 251, 4093} {
		for range 20 {
			n := 1 + random.IntN(12)
			hashes, weights := make([]uint64, n), make([]float64, n)
			for i := range hashes {
				hashes[i] = random.Uint64()
				weights[i] = []float64{0, 1, 2, random.Float64(), math.Exp(3 * random.NormFloat64())}[random.IntN(5)]
			}
			if got, want := fillMaglev(hashes, weights, size), dumbMaglev(hashes, weights, uint64(size)); !slices.Equal(got, want) {
				t.Fatalf("size %d, weights %v: got another table than the naive one", size, weights)
			}
		}
	}
}

func TestMaglevOfNothingTerminates(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]float64{nil, {0}, {0, 0, 0}, {math.NaN()}, {-1, 0}} {
		if got := fillMaglev(make([]uint64, len(weights)), weights, 251); len(got) != 0 {
			t.Errorf("weights %v: got a table of %d slots, want none", weights, len(got))
		}
	}
	for _, weights := range [][]float64{{math.Inf(1), 1}, {1e-300, 1}, {math.SmallestNonzeroFloat64}} {
		if got := fillMaglev([]uint64{1, 2}[:len(weights)], weights, 251); len(got) != 251 {
			t.Errorf("weights %v: got a table of %d slots, want 251", weights, len(got))
		}
	}
	m := freshMaglev(t)
	s := NewSnapshot(1, "", nil)
	if i, why := m.Pick(Client{ID: "a"}, s, NewSeats(s)); i != -1 || why.Cause != NoBackend {
		t.Errorf("no backends: got %d, %v", i, why)
	}
}

func freshMaglev(tb testing.TB) *maglev {
	tb.Helper()
	return &maglev{order: clientHash{bound: 1.25, anonymous: newRoundRobin(0)}}
}

// Claim (2.1): the table is balanced within 2 % of the weights, for any weights.
func TestMaglevBalance(t *testing.T) {
	t.Parallel()
	random, worst := rand.New(rand.NewPCG(3, 4)), 0.0
	for range 20 {
		n := 2 + random.IntN(23)
		set := names(n)
		for i := range set {
			set[i].Capacity = 0.5 + random.Float64()
		}
		s := NewSnapshot(1, "key", set)
		counts := make([]int, n)
		for _, b := range buildMaglev(s, nil, false).slots {
			counts[b]++
		}
		for i, c := range counts {
			worst = max(worst, math.Abs(float64(c)/maglevSize/s.Share(i)-1))
		}
	}
	t.Logf("slots per backend: at most %.2f %% off the weighted share", 100*worst)
	if worst > 0.02 {
		t.Errorf("got %.4f, want at most 0.02", worst)
	}
}

// Claim (2.1): a join or a leave moves little more than it must.
func TestMaglevDisruption(t *testing.T) {
	t.Parallel()
	for _, n := range []int{3, 6, 12} {
		var before, joined, left []uint16
		grown := names(n + 1)
		before = buildMaglev(NewSnapshot(1, "key", grown[:n]), nil, false).slots
		joined = buildMaglev(NewSnapshot(2, "key", grown), nil, false).slots
		left = buildMaglev(NewSnapshot(3, "key", grown[:n-1]), nil, false).slots
		moved := func(a, b []uint16, set []Backend, other []Backend) float64 {
			sa, sb, count := NewSnapshot(0, "", set), NewSnapshot(0, "", other), 0
			for i := range a {
				if sa.Backends[a[i]].Name != sb.Backends[b[i]].Name {
					count++
				}
			}
			return 100 * float64(count) / float64(len(a))
		}
		join, leave := moved(before, joined, grown[:n], grown), moved(before, left, grown[:n], grown[:n-1])
		leastJoin, leastLeave := 100/float64(n+1), 100/float64(n)
		t.Logf("%2d backends: a join moves %.2f %% (least %.2f), a leave %.2f %% (least %.2f)", n, join, leastJoin, leave, leastLeave)
		if join > leastJoin+0.6 || leave > leastLeave+0.6 {
			t.Errorf("%d backends: more than 0.6 points above the least possible", n)
		}
	}
}

// Claim: phases move only the clients of the backend concerned, and bring exactly these back.
func TestMaglevOutageMovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	m, set := freshMaglev(t), names(6)
	up := NewSnapshot(1, "key", set)
	set[2].Phase = Down
	down := NewSnapshot(2, "key", set)
	moved := 0
	for i := range 20_000 {
		c := Client{ID: "client-" + strconv.Itoa(i)}
		a, _ := m.Pick(c, up, NewSeats(up))
		b, why := m.Pick(c, down, NewSeats(down))
		switch {
		case a != b && (a != 2 || why.Cause != Avoided || why.Other != "n2" || why.Strategy != "maglev"):
			t.Fatalf("client %s moved from %d to %d: %v", c.ID, a, b, why)
		case a == b && why.Cause != Home:
			t.Fatalf("client %s stays on %d: %v", c.ID, a, why)
		case a != b:
			moved++
		}
	}
	t.Logf("outage of one of six: %.2f %% of the clients move, nobody of another backend", float64(moved)/200)
}

func TestMaglevReasons(t *testing.T) {
	t.Parallel()
	m, set := freshMaglev(t), names(3)
	s := NewSnapshot(1, "key", set)
	c := Client{ID: "x"}
	home, _ := m.Pick(c, s, NewSeats(s))
	seats := NewSeats(s)
	seats.Tried = []int{home}
	if i, why := m.Pick(c, s, seats); i == home || i < 0 || why.Cause != Retried {
		t.Errorf("retry: got %d, %v", i, why)
	}
	full := &Seats{Live: make([]int, 3), Total: 100}
	full.Live[home] = 100
	if i, why := m.Pick(c, s, full); i == home || why.Cause != Spilled {
		t.Errorf("full home: got %d, %v", i, why)
	}
	for i := range set {
		set[i].Phase = Hot
	}
	if i, why := m.Pick(c, NewSnapshot(2, "key", set), NewSeats(s)); i != home || why.Cause != Home {
		t.Errorf("all hot: got %d, %v; want home", i, why)
	}
	seats.Tried = []int{0, 1, 2}
	if i, why := m.Pick(c, s, seats); i != -1 || why.Cause != NoBackend {
		t.Errorf("all tried: got %d, %v", i, why)
	}
}

// The order of discovery does not matter, and neither does who built the table.
func TestMaglevOrderIndependence(t *testing.T) {
	t.Parallel()
	set := names(7)
	a := NewSnapshot(1, "key", set)
	slices.Reverse(set)
	b := NewSnapshot(2, "key", set)
	if !slices.Equal(buildMaglev(a, nil, false).slots, buildMaglev(b, nil, false).slots) {
		t.Error("the order of discovery changes the table")
	}
	m := freshMaglev(t)
	m.Prepare(a)
	prepared := m.prepared.Load()
	m.Pick(Client{ID: "x"}, a, NewSeats(a))
	if m.current != prepared {
		t.Error("Pick did not use what Prepare has built")
	}
	m.Pick(Client{ID: "x"}, b, NewSeats(b))
	if &m.current.slots[0] != &prepared.slots[0] {
		t.Error("a snapshot with the same weights got a new table")
	}
}

func TestRandomIsWeightedAndRepeatable(t *testing.T) {
	t.Parallel()
	set := names(4)
	set[0].Capacity, set[3].Phase = 5, Down
	s := NewSnapshot(1, "", set)
	deal := func(seed uint64) []int {
		r, seats := &random{seed: seed}, NewSeats(s)
		for range 70_000 {
			want, _ := Preview(r, Client{}, s, seats)
			got, _ := r.Pick(Client{}, s, seats)
			if got != want {
				t.Fatalf("Pick gave %d, Preview before it %d", got, want)
			}
			seats.Take(got)
		}
		return seats.Live
	}
	got := deal(1)
	t.Logf("weights 5:1:1 and one down, 70 000 picks: %v", got)
	for i, want := range []float64{50_000, 10_000, 10_000, 0} {
		if math.Abs(float64(got[i])-want) > 4*math.Sqrt(want) {
			t.Errorf("backend %d: got %d, want about %.0f", i, got[i], want)
		}
	}
	if !slices.Equal(got, deal(1)) || slices.Equal(got, deal(2)) {
		t.Error("want the same deal from the same seed and another from another")
	}
	set[0].Phase, set[1].Phase, set[2].Phase = Down, Down, Down
	s = NewSnapshot(2, "", set)
	if i, why := (&random{}).Pick(Client{}, s, NewSeats(s)); i != -1 || why.Cause != NoBackend {
		t.Errorf("all down: got %d, %v", i, why)
	}
}
