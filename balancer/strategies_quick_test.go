package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// A row is something that decides about clients, as the tests and the benchmark of all strategies know it.
type row struct {
	name string
	make func(tb testing.TB, o Options) *subject
	node bool    // told that sessions live on one broker
	in   []State // the states that it is put in, one after the other
	// causes are the reasons that it gives, each of which must occur.
	causes []Cause
}

// rows are all strategies that New knows, and the ones inside them.
func rows() []row {
	causes := map[string][]Cause{
		"adaptive":          {Home, Spilled, Avoided, Retried, Turn, Fewest, Newest, Lightest, Kept, NoBackend},
		"client-hash":       {Home, Spilled, Avoided, Retried, Turn, Fewest, NoBackend},
		"maglev":            {Home, Spilled, Avoided, Retried, Turn, Fewest, NoBackend},
		"metric-wrr":        {Turn, NoBackend},
		"least-connections": {Fewest, NoBackend},
		"round-robin":       {Turn, NoBackend},
		"random":            {Drawn, NoBackend},
	}
	var all []row
	for _, name := range Names() {
		r := row{name: name, make: known(name), in: []State{{}}, causes: causes[name]}
		if name == "adaptive" {
			r.in = states()
		}
		all = append(all, r)
		if r.decidesByID() {
			r.name, r.node = name+" with node scope", true
			all = append(all, r)
		}
	}
	for _, s := range states() {
		r := row{name: "adaptive in " + s.Cluster.String(), make: known("adaptive"), in: []State{s}}
		if s.Cluster == Rolling {
			r.name += " to " + s.Target
		}
		all = append(all, r)
		r.name, r.node = r.name+" with node scope", true
		all = append(all, r)
	}
	groups := func(g GroupOptions) func(testing.TB, Options) *subject {
		return func(tb testing.TB, o Options) *subject {
			tb.Helper()
			u := known("client-hash")(tb, o)
			g.Fallback, g.Hold = u.strategy, 5*second
			u.groups = NewGroups(g)
			return u
		}
	}
	seated := []Cause{TakenOver, SeatLease, Emptiest, Avoided, Retried, NoBackend}
	return append(all,
		row{name: "fat-aware", in: states()[:1], causes: []Cause{Lightest, Kept, Fewest, NoBackend}, make: fatAlone},
		row{name: "version-aware", in: states(), causes: []Cause{Newest, Fewest, NoBackend}, make: func(testing.TB, Options) *subject {
			return &subject{strategy: &versionAware{}}
		}},
		row{name: "group-spread", in: states()[:1], causes: seated, make: groups(GroupOptions{})},
		row{name: "group-spread as second of three", in: states()[:1], causes: seated, make: groups(GroupOptions{Instance: 1, Instances: 3})},
		row{name: "group-spread by ordinals", in: states()[:1], causes: append(seated, OrdinalSeat), make: groups(GroupOptions{Ordinals: true})},
	)
}

// decidesByID tells whether the row keeps clients at a home, and can be told that sessions live on one broker.
func (r *row) decidesByID() bool {
	return r.name == "adaptive" || r.name == "client-hash" || r.name == "maglev"
}

// state is the next state.
func (r *row) state(random *rand.Rand) State { return r.in[random.IntN(len(r.in))] }

// states are all states, ROLLING with each target there is.
func states() []State {
	return []State{
		{Cluster: Balanced},
		{Cluster: Scaling},
		{Cluster: Rolling, Target: "1"},
		{Cluster: Rolling, Target: "2"},
		{Cluster: Overloaded},
		{Cluster: Degraded},
	}
}

// known makes a strategy that New knows.
func known(name string) func(testing.TB, Options) *subject {
	return func(tb testing.TB, o Options) *subject {
		tb.Helper()
		u := &subject{}
		if name == "adaptive" {
			u.heavy = NewHeavy(HeavyOptions{})
			o.Heavy = u.heavy
		}
		var err error
		if u.strategy, err = New(name, o); err != nil {
			tb.Fatal(err)
		}
		return u
	}
}

// fatAlone is fat-aware alone, before a strategy that remembers nothing.
func fatAlone(_ testing.TB, o Options) *subject {
	heavy := NewHeavy(HeavyOptions{})
	return &subject{strategy: &fatAware{heavy: heavy, rest: leastConnections{}, bound: o.BoundedLoad}, heavy: heavy}
}

// sameEverywhere tells whether the decision is promised to be the same on every instance that has the same
// snapshot, seats and figures, whatever it has seen before. It is the table of the package comment.
func sameEverywhere(why Reason) bool {
	switch why.Strategy {
	case "client-hash", "maglev", "version-aware", "least-connections", "fat-aware":
		return true
	case groupSpread:
		return why.Cause == OrdinalSeat
	}
	return false // metric-wrr, round-robin, random: instances are to differ
}

// TestStrategiesInHistories plays random histories with every strategy. What is checked is in decide and in
// reconnect.
func TestStrategiesInHistories(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			seen, kept := make(map[Cause]int), make(map[Cause]int)
			seeds := 60
			if strings.HasPrefix(r.name, "maglev") {
				seeds = 2 + 4/fewer // new weights, new tables
			}
			for seed := range uint64(seeds) {
				h := newHistory(t, r, rand.New(rand.NewPCG(seed, 1)), seed)
				for range 400 {
					h.step()
				}
				for c, n := range h.seen {
					seen[c] += n
				}
				for c, n := range h.kept {
					kept[c] += n
				}
			}
			t.Logf("decisions by cause: %v; of clients that had to find their backend again: %v", seen, kept)
			for _, c := range r.causes {
				if seen[c] < 5 {
					t.Errorf("got %d decisions with cause %s, want enough to mean something", seen[c], c)
				}
				if c.Sticky() && kept[c] < 5 {
					t.Errorf("got %d reconnects after cause %s, want enough to mean something", kept[c], c)
				}
			}
		})
	}
}

// FuzzHistories does the same with what a fuzzer thinks of.
func FuzzHistories(f *testing.F) {
	for k := range rows() {
		f.Add(byte(k), []byte("a history: connects, reconnects, \x00\x05\x0d\x13\x18\x1c changes"))
	}
	f.Fuzz(func(t *testing.T, k byte, events []byte) {
		r := rows()[int(k)%len(rows())]
		source := &eventSource{bytes: events[:min(len(events), 600)], rest: rand.NewPCG(uint64(k), 9)}
		h := newHistory(t, r, rand.New(source), uint64(k))
		for len(source.bytes) > 0 {
			h.step()
		}
	})
}

// An eventSource makes a history of bytes, one for each choice, so that a fuzzer can change one choice alone.
type eventSource struct {
	bytes []byte
	rest  *rand.PCG // when they are used up
}

// Uint64 implements rand.Source.
func (s *eventSource) Uint64() uint64 {
	if len(s.bytes) == 0 {
		return s.rest.Uint64()
	}
	v := uint64(s.bytes[0]) * 0x0101010101010101
	s.bytes = s.bytes[1:]
	return v
}

// decide is one decision, with all that every strategy promises:
//
//   - previews before it tell what will be, and change nothing: the twin, which has had none, decides alike;
//   - neither the order of the backends nor their addresses matter: the twin has others;
//   - instances agree where the strategy says so: so does a stranger, which has seen other clients;
//   - the rules are kept, and the reason is true and can be read.
func (h *history) decide(c Client) (int, Reason) {
	h.t.Helper()
	s, seats := h.snapshot, h.seats()
	ahead, aheadWhy := h.main.preview(c, s, seats, h.now)
	h.main.preview(h.passerBy(c), s, seats, h.now)
	seats.Tried = append(seats.Tried, ahead)
	h.main.preview(c, s, seats, h.now) // its second choice
	seats.Tried = seats.Tried[:len(seats.Tried)-1]

	i, why := h.main.place(c, s, seats, h.now)
	if i != ahead || why != aheadWhy {
		h.fail(c, i, why, "the preview was backend %d: %s", ahead, aheadWhy)
	}
	if want := h.seats(); !slices.Equal(seats.Live, want.Live) || seats.Total != want.Total || !slices.Equal(seats.Tried, want.Tried) {
		h.fail(c, i, why, "the seats are changed from %+v to %+v", want, seats)
	}
	if k, w := h.twin.place(c, h.twinSnapshot, h.seats(), h.now); k != i || w != why {
		h.fail(c, i, why, "without previews, with other addresses in another order it is backend %d: %s", k, w)
	}
	if h.random.IntN(4) == 0 {
		h.stranger.place(Client{}, s, seats, h.now)
	}
	if k, w := h.stranger.preview(c, s, seats, h.now); sameEverywhere(why) && (k != i || w != why) {
		h.fail(c, i, why, "another instance says backend %d: %s", k, w)
	}
	if h.free != nil {
		if k, w := h.free.place(c, s, seats, h.now); !h.tied(c) && (k != i || w != why) {
			h.fail(c, i, why, "without node scope, which does not concern it, it is backend %d: %s", k, w)
		}
	}
	h.checkRules(c, i, why, seats)
	h.checkReason(c, i, why, seats)
	h.seen[why.Cause]++
	return i, why
}

// passerBy is some other client.
func (h *history) passerBy(c Client) Client {
	if c.ID == "" {
		return Client{ID: "passer-by", Ordinal: -1}
	}
	return Client{Ordinal: -1}
}

// tied tells whether c loses its session when it leaves its home.
func (h *history) tied(c Client) bool { return h.row.node && c.Persistent && c.ID != "" }

// bound is the bounded load that a strategy keeps to.
func bound(strategy string) float64 {
	switch strategy {
	case "client-hash", "maglev", "fat-aware":
		return historyBound
	}
	return 0
}

// checkRules checks that nobody fitter was passed over, and for those who lose their session elsewhere that
// nothing but an outage or a failed connect has taken them away from home.
func (h *history) checkRules(c Client, i int, why Reason, seats *Seats) {
	h.t.Helper()
	s := h.snapshot
	if h.tied(c) {
		home, _ := h.idle.preview(c, h.idleSnapshot, NewSeats(h.idleSnapshot), h.now)
		if h.fitness(s, seats, home, 0) < 3 {
			if i != home || why.Cause != Home {
				h.fail(c, i, why, "its session is on %s, which is %s", s.Backends[home].Name, s.Backends[home].Phase)
			}
			return
		}
	}
	fitness := func(k int) int {
		f := h.fitness(s, seats, k, bound(why.Strategy))
		if f == 1 && h.tied(c) {
			return 0
		}
		return f
	}
	best := 3
	for k := range s.Backends {
		best = min(best, fitness(k))
	}
	switch {
	case i < 0 && (i != -1 || best < 3 || why.Cause != NoBackend):
		h.fail(c, i, why, "want a backend of fitness %d", best)
	case i >= 0 && (why.Cause == NoBackend || best == 3):
		h.fail(c, i, why, "want no backend: all are down or tried")
	case i >= 0 && fitness(i) != best:
		h.fail(c, i, why, "it has fitness %d, want %d", fitness(i), best)
	}
	if why.Strategy != "version-aware" || best > 0 {
		return
	}
	capacity := 0.0
	for k := range s.Backends {
		capacity += s.Backends[k].capacity()
	}
	for k := range s.Backends {
		updated := s.Backends[k].Labels[VersionLabel] == h.state.Target && h.fitness(s, seats, k, 0) == 0
		if updated && float64(seats.Live[k]) < float64(seats.Total)*s.Backends[k].capacity()/capacity && why.Cause != Newest {
			h.fail(c, i, why, "%s is updated and has less than its share", s.Backends[k].Name)
		}
	}
	if why.Cause == Newest && s.Backends[i].Labels[VersionLabel] != h.state.Target {
		h.fail(c, i, why, "it has version %s, want %s", s.Backends[i].Labels[VersionLabel], h.state.Target)
	}
}

// checkReason checks that the reason is one that metrics know and people can read, and that it is true.
func (h *history) checkReason(c Client, i int, why Reason, seats *Seats) {
	h.t.Helper()
	if _, known := sentences()[why.Cause]; !known || strings.Contains(why.String(), "unknown") || why.Cause.String() == "unknown" {
		h.fail(c, i, why, "the cause %d is unknown", why.Cause)
	}
	inner := []string{"fat-aware", "version-aware", groupSpread}
	if !slices.Contains(append(inner, Names()...), why.Strategy) {
		h.fail(c, i, why, "the strategy is unknown")
	}
	if (why.Strategy == groupSpread) != (why.Group != "") || why.Group != "" && why.Group != c.Group {
		h.fail(c, i, why, "want the group of the client, if its group has decided")
	}
	if why.Left != 0 && why.Cause != SeatLease || int64(why.Left) > 5000 {
		h.fail(c, i, why, "got a lease of %d ms", why.Left)
	}
	other := h.snapshot.Index(why.Other)
	if other >= 0 && other == i && why.Cause != Emptiest {
		h.fail(c, i, why, "it was both chosen and passed over")
	}
	fitness := func() int { return h.fitness(h.snapshot, seats, other, historyBound) }
	switch why.Cause {
	case Spilled, Avoided, Retried:
		switch {
		case other < 0 || !strings.Contains(why.String(), why.Other):
			h.fail(c, i, why, "want it to name a backend")
		case (why.Cause == Retried) != slices.Contains(seats.Tried, other):
			h.fail(c, i, why, "tried were %v", seats.Tried)
		case why.Cause == Spilled && fitness() != 1:
			h.fail(c, i, why, "%s is %s with %d connections of %d", why.Other, h.snapshot.Backends[other].Phase, seats.Live[other], seats.Total)
		case why.Cause == Avoided && (why.Phase != h.snapshot.Backends[other].Phase || why.Phase == Ready || why.Phase == Ramping):
			h.fail(c, i, why, "%s is %s", why.Other, h.snapshot.Backends[other].Phase)
		}
	case Emptiest:
		if names := strings.Split(why.Other, ","); why.Other != "many" && !slices.Contains(names, h.snapshot.Backends[i].Name) {
			h.fail(c, i, why, "want it to be one of them")
		}
	case Shunned, Full, AllFull, Resumed:
		h.fail(c, i, why, "nobody is shunned or known to be somewhere, and there is no limit")
	case Lightest: // Other is where the client was before, which need not exist any more
	case NoBackend, Home, Fewest, Turn, Drawn, Newest, Kept, TakenOver, SeatLease, OrdinalSeat, Planned:
		if why.Other != "" {
			h.fail(c, i, why, "want no other backend in it")
		}
	}
	if why.Phase != 0 && why.Cause != Avoided {
		h.fail(c, i, why, "want no phase in it")
	}
}

// fail ends the test with the whole situation.
func (h *history) fail(c Client, i int, why Reason, format string, args ...any) {
	h.t.Helper()
	got := "nobody"
	if i >= 0 && i < len(h.snapshot.Backends) {
		got = h.snapshot.Backends[i].Name
	}
	var set strings.Builder
	for k := range h.snapshot.Backends {
		b := &h.snapshot.Backends[k]
		fmt.Fprintf(&set, "\n  %s %s, weight %g, version %s, %d connections", b.Name, b.Phase, h.snapshot.Weight(k), b.Labels[VersionLabel], h.live[b.Name])
	}
	h.t.Fatalf("%s, after %d placements, state %s: client %+v, tried %v, got %s (%s/%s: %s): %s%s",
		h.name, h.serial, h.state.Cluster, c, h.tried, got, why.Strategy, why.Cause, why, fmt.Sprintf(format, args...), set.String())
}
