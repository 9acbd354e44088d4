package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// A subject is one instance of whatever decides about clients, with all that it has to be told.
type subject struct {
	strategy Strategy
	groups   *Groups // decides before strategy; or nil
	heavy    *Heavy  // what strategy knows about heavy clients; or nil
}

func (u *subject) place(c Client, s *Snapshot, seats *Seats, now int64) (int, Reason) {
	if u.groups != nil {
		return u.groups.Place(c, s, seats, now)
	}
	return u.strategy.Pick(c, s, seats)
}

func (u *subject) preview(c Client, s *Snapshot, seats *Seats, now int64) (int, Reason) {
	if u.groups != nil {
		return u.groups.Preview(c, s, seats, now)
	}
	return Preview(u.strategy, c, s, seats)
}

func (u *subject) took(c Client, backend string) {
	if u.heavy != nil {
		u.heavy.Took(c.ID, backend)
	}
}

func (u *subject) ended(c Client, backend string, how Leave, now int64) {
	if u.heavy != nil {
		u.heavy.Gone(c.ID, backend, now)
	}
	if u.groups != nil {
		u.groups.Release(c, backend, how, now)
	}
}

func (u *subject) enter(s State) {
	switch x := u.strategy.(type) {
	case *Adaptive:
		x.Enter(s)
	case *versionAware:
		x.target = s.Target
	}
}

// A held is an open connection: where it went, why, and what was known then.
type held struct {
	client  Client
	backend string
	why     Reason
	first   bool // the first attempt succeeded
	epoch   int
	serial  int // of the placement
	moves   int
}

// A history is a cluster with clients that come, go, fail and return, while its backends join, leave, and change
// their weights and phases. At every decision it checks what all strategies promise.
type history struct {
	t    *testing.T
	name string // of the run, for messages
	row  row

	random *rand.Rand // what happens
	order  *rand.Rand // in which order the twin hears of backends

	now   int64
	set   []Backend
	live  map[string]int // connections, by backend
	tried []string
	open  []held
	last  map[string]int // serial of the last placement of a client
	state State

	epoch    int // grows with everything that may change a decision, except connections
	serial   int // grows with every placement …
	moves    int // … and every end of a connection
	forecast *Forecast

	snapshot, twinSnapshot, idleSnapshot *Snapshot

	main     *subject // is previewed before every decision
	twin     *subject // has the same seed, is never previewed, and knows other addresses, in another order
	stranger *subject // has another seed and has not seen the clients
	free     *subject // without NodeScope; nil if main is without as well
	idle     *subject // is asked where a client would be if nothing were in its way

	seen map[Cause]int
	kept map[Cause]int // reconnects that had to find the same backend, by the cause of their first placement
}

func newHistory(t *testing.T, r row, random *rand.Rand, seed uint64) *history {
	t.Helper()
	h := &history{
		t: t, name: fmt.Sprintf("%s, seed %d", r.name, seed), row: r, random: random, order: rand.New(rand.NewPCG(seed, 77)),
		live: make(map[string]int), last: make(map[string]int), seen: make(map[Cause]int), kept: make(map[Cause]int),
	}
	o := Options{
		BoundedLoad: historyBound, NodeScope: r.node, Seed: seed,
		Anonymous: []string{"", "round-robin", "least-connections"}[seed%3],
	}
	h.main, h.twin, h.idle = r.make(t, o), r.make(t, o), r.make(t, o)
	o.Seed++
	h.stranger = r.make(t, o)
	if o.NodeScope {
		o.Seed, o.NodeScope = seed, false
		h.free = r.make(t, o)
	}
	for range 3 + random.IntN(4) {
		h.join()
	}
	h.enter(r.state(random))
	h.publish()
	return h
}

// historyBound is the bounded load of all strategies in histories.
const historyBound = 1.25

// subjects are all that hear what happens.
func (h *history) subjects() []*subject {
	all := []*subject{h.main, h.twin, h.stranger}
	if h.free != nil {
		all = append(all, h.free)
	}
	return all
}

// step lets one thing happen.
func (h *history) step() {
	h.now += h.random.Int64N(2 * second)
	switch roll := h.random.IntN(100); {
	case roll < 3:
		h.join()
		h.publish()
	case roll < 6:
		h.leave()
		h.publish()
	case roll < 12:
		b := &h.set[h.random.IntN(len(h.set))]
		b.Phase = []Phase{Ready, Ready, Ready, Ramping, Joining, Hot, Hot, Draining, Down}[h.random.IntN(9)]
		h.publish()
	case roll < 16:
		b := &h.set[h.random.IntN(len(h.set))]
		b.Ramp = []float64{0, 0.1, 0.3, 0.55, 1}[h.random.IntN(5)]
		b.Capacity = []float64{0, 1, 1, 1, 2, 0.5, 7.5}[h.random.IntN(7)]
		h.publish()
	case roll < 19:
		for i := range h.set { // a quiet moment
			h.set[i].Phase, h.set[i].Ramp = Ready, 0
		}
		h.publish()
	case roll < 23:
		h.predict()
	case roll < 27:
		h.note()
	case roll < 30:
		h.enter(h.row.state(h.random))
	case roll < 48:
		if n := len(h.open); n > 0 {
			h.disconnect(h.random.IntN(n))
		}
	case roll < 65:
		h.reconnect()
	default:
		h.connect(h.client(), func(int, Reason) {})
	}
}

func (h *history) join() {
	name := fmt.Sprintf("n%d", h.random.IntN(14))
	if len(h.set) > 8 || slices.ContainsFunc(h.set, func(b Backend) bool { return b.Name == name }) {
		return
	}
	h.set = append(h.set, Backend{
		Name: name, Address: fmt.Sprintf("10.0.0.%d:1883", len(h.set)), Host: name + ".example",
		Labels: map[string]string{VersionLabel: []string{"1", "2"}[h.random.IntN(2)]},
	})
}

func (h *history) leave() {
	if len(h.set) > 1 {
		i := h.random.IntN(len(h.set))
		h.set = slices.Delete(h.set, i, i+1)
	}
}

func (h *history) publish() {
	h.epoch++
	h.snapshot = NewSnapshot(uint64(h.epoch), "key", h.set)
	other := slices.Clone(h.set)
	h.order.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	quiet := slices.Clone(h.set)
	for i := range other {
		other[i].Address = fmt.Sprintf("[2001:db8::%x]:%d", h.order.IntN(1<<16), 1+h.order.IntN(65535))
		other[i].Host = "elsewhere"
		quiet[i].Phase, quiet[i].Ramp = Ready, 0
	}
	h.twinSnapshot = NewSnapshot(uint64(h.epoch), "key", other)
	h.idleSnapshot = NewSnapshot(uint64(h.epoch), "key", quiet)
}

// predict gives everybody the next forecast.
func (h *history) predict() {
	h.epoch++
	h.forecast = &Forecast{At: h.now, Traffic: 1000, Cost: 0.0005, Reporting: len(h.set)}
	for i := range h.snapshot.Backends {
		h.forecast.Backends = append(h.forecast.Backends, BackendForecast{
			Name: h.snapshot.Backends[i].Name, Measured: true,
			Load: 0.4 + 0.01*float64(h.random.IntN(20)), Factor: 0.25 * float64(1+h.random.IntN(8)),
		})
	}
	for _, u := range h.subjects() {
		follow(u.strategy, h.forecast)
	}
}

// note tells everybody about the traffic of some connections.
func (h *history) note() {
	h.epoch++
	for range min(6, len(h.open)) {
		c, rate := &h.open[h.random.IntN(len(h.open))], float64(50*h.random.IntN(5))
		for _, u := range h.subjects() {
			if u.heavy != nil {
				u.heavy.Note(c.client.ID, c.backend, rate)
			}
		}
	}
}

func (h *history) enter(s State) {
	h.epoch++
	h.state = s
	for _, u := range h.subjects() {
		u.enter(s)
	}
}

// client is one of some fifty: without an id, or with one that settles all else about it.
func (h *history) client() Client {
	k := h.random.IntN(50)
	if k >= 42 {
		return Client{Ordinal: -1, Persistent: k == 42}
	}
	c := Client{ID: fmt.Sprintf("client-%d", k), Ordinal: -1, Persistent: k%2 == 0}
	if k%5 < 2 {
		c.Group = fmt.Sprint("g", k%3)
		if k%7 > 0 {
			c.Ordinal = k / 3
		}
	}
	return c
}

// connect lets a client try until a backend accepts it, and passes the first decision on.
func (h *history) connect(c Client, first func(i int, why Reason)) {
	if h.random.IntN(8) == 0 {
		h.tried = append(h.tried, "one that has left")
	}
	for attempt := 0; ; attempt++ {
		i, why := h.decide(c)
		if attempt == 0 {
			first(i, why)
		}
		if i < 0 {
			break
		}
		backend := h.snapshot.Backends[i].Name
		for _, u := range h.subjects() {
			u.took(c, backend)
		}
		h.serial++
		h.moves++
		h.last[c.ID] = h.serial
		if h.random.IntN(7) > 0 {
			h.live[backend]++
			h.open = append(h.open, held{client: c, backend: backend, why: why, first: attempt == 0, epoch: h.epoch, serial: h.serial, moves: h.moves})
			break
		}
		for _, u := range h.subjects() {
			u.ended(c, backend, Moved, h.now)
		}
		h.tried = append(h.tried, backend)
	}
	h.tried = h.tried[:0]
}

func (h *history) disconnect(k int) held {
	c := h.open[k]
	h.open = slices.Delete(h.open, k, k+1)
	h.live[c.backend]--
	h.moves++
	for _, u := range h.subjects() {
		u.ended(c.client, c.backend, Left, h.now)
	}
	return c
}

// reconnect ends a connection, often the youngest, and lets its client come again at once, or first lets the client
// come again and take over. Under the same circumstances it comes to the same backend if it was there for a reason
// that says so.
func (h *history) reconnect() {
	n := len(h.open)
	if n == 0 {
		return
	}
	k := n - 1
	if h.random.IntN(2) == 0 {
		k = h.random.IntN(n)
	}
	was := h.open[k]
	same := was.first && was.epoch == h.epoch && was.serial == h.last[was.client.ID]
	alone := was.moves == h.moves
	if h.random.IntN(3) > 0 {
		h.disconnect(k)
	} else {
		alone = false // it is there itself
		defer func() { h.disconnect(slices.IndexFunc(h.open, func(c held) bool { return c.serial == was.serial })) }()
	}
	if !same || !h.returns(was, alone) {
		h.connect(was.client, func(int, Reason) {})
		return
	}
	h.kept[was.why.Cause]++
	h.connect(was.client, func(i int, why Reason) {
		if i < 0 || h.snapshot.Backends[i].Name != was.backend || !why.Cause.Sticky() {
			h.fail(was.client, i, why, "want it back on %s, where it was because: %s", was.backend, was.why)
		}
	})
}

// returns tells whether a client has to come back to where it was, given that nothing has changed but connections;
// alone tells that only its own has.
func (h *history) returns(was held, alone bool) bool {
	switch {
	case was.why.Strategy == groupSpread:
		return was.client.ID != "" // its seat
	case !was.why.Cause.Sticky():
		return false
	case alone:
		return true
	}
	// Home must not have filled up; and where heavy clients are best off hangs on all the others.
	i := h.snapshot.Index(was.backend)
	return was.why.Cause == Home && h.fitness(h.snapshot, h.seats(), i, historyBound) == 0
}

func (h *history) seats() *Seats {
	seats := NewSeats(h.snapshot)
	for i := range h.snapshot.Backends {
		n := h.live[h.snapshot.Backends[i].Name]
		seats.Live[i] = n
		seats.Total += n
	}
	for _, name := range h.tried {
		seats.Tried = append(seats.Tried, h.snapshot.Index(name))
	}
	return seats
}

// fitness is the rank of a backend by the book (algorithms.md, 2.5): 0 fit, 1 full or hot, 2 joining or
// draining, 3 out of the question.
func (h *history) fitness(s *Snapshot, seats *Seats, i int, bound float64) int {
	total := 0.0
	for k := range s.Backends {
		if p := s.Backends[k].Phase; p == Ready || p == Ramping || p == Hot {
			total += s.Weight(k)
		}
	}
	switch phase := s.Backends[i].Phase; {
	case slices.Contains(seats.Tried, i) || phase == Down:
		return 3
	case phase == Joining || phase == Draining:
		return 2
	case phase == Hot:
		return 1
	case bound > 0 && float64(seats.Live[i]) >= math.Ceil(bound*float64(seats.Total+1)*(s.Weight(i)/total))+2:
		return 1
	}
	return 0
}
