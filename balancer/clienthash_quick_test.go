package balancer_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/mqttlb/mqttlb/balancer"
)

// candidate is a backend as the naive twin of client-hash sees it.
type candidate struct {
	name  string
	tier  int
	score float64
}

// twin decides as algorithms.md 2.5 says, in the slow way: it writes down every backend with its tier and
// score, sorts them all, and takes the first. It shares no code with the package.
func twin(key, id string, bound float64, set []balancer.Backend, live map[string]int, tried map[string]bool) (name, home string) {
	seed := xxhash.Sum64([]byte(key))
	hash := func(s string) uint64 {
		d := xxhash.NewWithSeed(seed)
		_, _ = d.Write([]byte(s))
		return d.Sum64()
	}
	weights, total, n := make(map[string]float64), 0.0, 0
	for _, b := range set {
		w := 1.0
		if b.Capacity > 0 {
			w = b.Capacity
		}
		if b.Ramp > 0 && b.Ramp < 1 {
			w *= b.Ramp
		}
		weights[b.Name] = w
		if b.Phase == balancer.Ready || b.Phase == balancer.Ramping || b.Phase == balancer.Hot {
			total += w
		}
		n += live[b.Name]
	}
	var order, usable []candidate
	for _, b := range set {
		x := hash(id) ^ hash(b.Name)
		x += 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
		w := weights[b.Name]
		c := candidate{name: b.Name, score: -math.Log((float64(x>>11)+0.5)/(1<<53)) / w}
		order = append(order, c)
		limit := math.Ceil(bound*float64(n+1)*w/total) + 2
		full := bound > 0 && float64(live[b.Name]) >= limit
		switch {
		case tried[b.Name] || b.Phase == balancer.Down:
			continue
		case b.Phase == balancer.Joining || b.Phase == balancer.Draining:
			c.tier = 3
		case b.Phase == balancer.Hot || full:
			c.tier = 2
		}
		usable = append(usable, c)
	}
	sort.Slice(order, func(i, j int) bool { return order[i].score < order[j].score })
	sort.Slice(usable, func(i, j int) bool {
		if usable[i].tier != usable[j].tier {
			return usable[i].tier < usable[j].tier
		}
		return usable[i].score < usable[j].score
	})
	if len(order) > 0 {
		home = order[0].name
	}
	if len(usable) > 0 {
		name = usable[0].name
	}
	return name, home
}

func TestClientHashDecidesLikeItsTwin(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	causes := make(map[balancer.Cause]int)
	for round := range 20_000 {
		key, id := fmt.Sprint("key", rng.IntN(3)), fmt.Sprint("c", round)
		bound := []float64{0, 1, 1.05, 1.25, 2}[rng.IntN(5)]
		set := randomSet(rng, 9)
		snap := balancer.NewSnapshot(1, key, set)
		seats := randomSeats(rng, snap)
		live, tried := make(map[string]int), make(map[string]bool)
		for i := range snap.Backends {
			live[snap.Backends[i].Name] = seats.Live[i]
			tried[snap.Backends[i].Name] = slices.Contains(seats.Tried, i)
		}
		want, home := twin(key, id, bound, set, live, tried)

		i, why := newStrategy(t, "client-hash", balancer.Options{BoundedLoad: bound}).Pick(balancer.Client{ID: id}, snap, seats)
		got := ""
		if i >= 0 {
			got = snap.Backends[i].Name
		}
		if got != want {
			t.Fatalf("round %d, bound %v, %+v, live %v, tried %v: got %q, want %q", round, bound, set, live, tried, got, want)
		}
		if cause := causeOf(want, home, set, tried); why.Cause != cause || why.Strategy != "client-hash" {
			t.Fatalf("round %d, %+v, live %v, tried %v: got cause %v of %s, want %v of client-hash", round, set, live, tried, why.Cause, why.Strategy, cause)
		}
		if passedOver := why.Cause == balancer.Spilled || why.Cause == balancer.Avoided || why.Cause == balancer.Retried; passedOver != (why.Other == home && got != home && got != "") {
			t.Fatalf("round %d: got reason %+v, want it to name the home %q", round, why, home)
		}
		causes[why.Cause]++
	}
	for _, c := range []balancer.Cause{balancer.NoBackend, balancer.Home, balancer.Spilled, balancer.Avoided, balancer.Retried} {
		if causes[c] < 50 {
			t.Errorf("got %d decisions with cause %v, want enough to mean something", causes[c], c)
		}
	}
}

func causeOf(name, home string, set []balancer.Backend, tried map[string]bool) balancer.Cause {
	i := slices.IndexFunc(set, func(b balancer.Backend) bool { return b.Name == home })
	switch {
	case name == "":
		return balancer.NoBackend
	case name == home:
		return balancer.Home
	case tried[home]:
		return balancer.Retried
	case set[i].Phase == balancer.Ready || set[i].Phase == balancer.Ramping:
		return balancer.Spilled
	}
	return balancer.Avoided
}

// Homes hang on names, weights and the key; not on the order of discovery, addresses or labels.
func TestHomesHangOnNamesAlone(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(2, 2))
	set := some(9)
	for i := range set {
		set[i].Capacity = float64(1 + i%3)
	}
	before := balancer.NewSnapshot(1, "k", set)
	for range 10 {
		other := slices.Clone(set)
		rng.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
		for i := range other {
			other[i].Address = fmt.Sprintf("192.0.2.%d:%d", rng.IntN(256), rng.IntN(65536))
			other[i].Host, other[i].Labels = "elsewhere", map[string]string{"version": "9"}
		}
		after := balancer.NewSnapshot(2, "k", other)
		for _, id := range clientIDs(500) {
			if got, want := home(t, after, id), home(t, before, id); got != want {
				t.Fatalf("client %q: got %s, want %s", id, got, want)
			}
		}
	}
}

// A backend that leaves loses its own clients and moves nobody else; one that comes takes what is its
// share and moves nobody anywhere else.
func TestOnlyTheClientsOfTheBackendMove(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 6, 12, 24} {
		set := some(n)
		for i := range set {
			set[i].Capacity = float64(1 + i%3)
		}
		ids := clientIDs(3000 / balancer.Fewer)
		all := balancer.NewSnapshot(1, "k", set)
		for leaver := range n {
			rest := balancer.NewSnapshot(2, "k", slices.Delete(slices.Clone(set), leaver, leaver+1))
			moved := 0
			for _, id := range ids {
				with, without := home(t, all, id), home(t, rest, id)
				switch {
				case with == set[leaver].Name:
					moved++
				case with != without:
					t.Fatalf("%d backends, %s leaves or joins: client %q moves between %s and %s", n, set[leaver].Name, id, with, without)
				}
			}
			share := all.Share(all.Index(set[leaver].Name))
			if mean, sd := binomial(len(ids), share); math.Abs(float64(moved)-mean) > 5*sd {
				t.Errorf("%d backends: got %d of %d clients moved by %s, want about %.0f", n, moved, len(ids), set[leaver].Name, mean)
			}
		}
	}
}

// The sets of clients of a backend whose weight grows are nested: a ramp moves nobody twice.
func TestHomesAreMonotoneInTheWeight(t *testing.T) {
	t.Parallel()
	set := some(7)
	ids := clientIDs(3000)
	was := make([]string, len(ids))
	for step := range 11 {
		set[6].Phase, set[6].Ramp = balancer.Ramping, 0.1*float64(step)
		if step == 0 {
			set[6].Phase = balancer.Down
			set[6].Ramp = 0.001
		}
		snap := balancer.NewSnapshot(uint64(step), "k", set)
		st := newStrategy(t, "client-hash", balancer.Options{})
		arrived := 0
		for k, id := range ids {
			i, _ := st.Pick(balancer.Client{ID: id}, snap, balancer.NewSeats(snap))
			is := snap.Backends[i].Name
			if step > 0 && is != was[k] {
				arrived++
				if is != "n6" {
					t.Fatalf("step %d: client %q moves from %s to %s, want it to stay or to go to n6", step, id, was[k], is)
				}
			}
			was[k] = is
		}
		if step > 0 && arrived == 0 {
			t.Errorf("step %d: got nobody who moves to the growing backend, want some", step)
		}
	}
}

// Instances with the same key agree about every client, whatever they are; with another key nearly
// nobody keeps a home but by chance.
func TestTheKeyDecides(t *testing.T) {
	t.Parallel()
	const n = 8
	ids := clientIDs(4000)
	one, two, other := balancer.NewSnapshot(1, "secret", some(n)), balancer.NewSnapshot(900, "secret", some(n)), balancer.NewSnapshot(1, "Secret", some(n))
	agree := 0
	for _, id := range ids {
		if a, b := home(t, one, id), home(t, two, id); a != b {
			t.Fatalf("client %q: got %s and %s with the same key", id, a, b)
		}
		if home(t, one, id) == home(t, other, id) {
			agree++
		}
	}
	if mean, sd := binomial(len(ids), 1.0/n); math.Abs(float64(agree)-mean) > 5*sd {
		t.Errorf("got %d of %d clients with the same home under another key, want about %.0f", agree, len(ids), mean)
	}
}

// binomial returns the mean and the standard deviation of the hits in n trials.
func binomial(n int, p float64) (mean, sd float64) {
	return float64(n) * p, math.Sqrt(float64(n) * p * (1 - p))
}

// Every backend holds its share, within what chance allows: no client count is further than five standard
// deviations from its mean, whatever the weights and however alike the ids are.
func TestHomesFollowTheWeights(t *testing.T) {
	t.Parallel()
	const clients = 60_000 / balancer.Fewer
	for _, weights := range [][]float64{{1, 1, 1}, {1, 1, 1, 1, 1, 1}, {1, 2, 4}, {5, 1, 1, 0.1}, {1, 1.1, 1.2, 1.3, 0.01}, {1e6, 2e6}} {
		for _, form := range []string{"%d", "client-%06d", "%d-tail-that-is-the-same-for-all-of-the-clients"} {
			set := some(len(weights))
			for i := range set {
				set[i].Capacity = weights[i]
			}
			snap := balancer.NewSnapshot(1, "k", set)
			st, seats := newStrategy(t, "client-hash", balancer.Options{}), balancer.NewSeats(snap)
			counts := make([]int, len(set))
			for k := range clients {
				i, _ := st.Pick(balancer.Client{ID: fmt.Sprintf(form, k)}, snap, seats)
				counts[i]++
			}
			for i := range counts {
				if mean, sd := binomial(clients, snap.Share(i)); math.Abs(float64(counts[i])-mean) > 5*sd {
					t.Errorf("weights %v, ids %q: got %d clients on backend %d, want %.0f ± %.0f", weights, form, counts[i], i, mean, 5*sd)
				}
			}
		}
	}
}
