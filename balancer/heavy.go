package balancer

import (
	"cmp"
	"math"
)

// HeavyOptions are the settings of Heavy. The zero value means the defaults of algorithms.md, 7, which
// the field comments name.
type HeavyOptions struct {
	// Share of a backend's mean traffic from which on a client is heavy: 0.0025. It stays heavy until
	// it falls below half of that, or clients at the edge would wander between two rules.
	Share float64
	// Times is how many times the mean traffic of a connection a client must have to be heavy: 5. In a small
	// fleet everybody has a notable share, and if everybody were heavy nobody would be sticky.
	Times float64
	// Keep is how much more loaded than the lightest a client's own backend may be: 1.03.
	Keep float64
	// HalfLife is the time offline in which half of a remembered rate is forgotten: one hour.
	HalfLife int64
	// Size is how many clients are remembered: 10 000.
	Size int
}

// Heavy remembers the clients that cause much of the load (algorithms.md, 4.4). Under heavy-tailed
// traffic some dozens of them make all the imbalance there is; a balancer that forwards their bytes can
// see who they are, place these few by load, and leave everybody else where the hash puts them.
//
// It belongs to one caller, who tells it of every placement and every end of one (Took, Gone), of the
// rates of live connections (Note, at every scrape, before the Forecast), and of forecasts (Follow).
type Heavy struct {
	o        HeavyOptions
	clients  map[string]*heavyClient
	ring     heavyClient // of the least recently noted (next) to the most recently noted (prev)
	forecast *Forecast
	drift    map[string]float64 // traffic of heavy clients that came and went since the forecast, by backend

	// The loads for one snapshot, so that a pick only adds and compares.
	snapshot *Snapshot
	loads    []float64
}

// heavyClient is one remembered client.
type heavyClient struct {
	next, prev *heavyClient
	id         string
	backend    string // where it is, or was last
	rate       float64
	live       int   // connections: two for a moment while a client takes its own session over
	left       int64 // when the last one ended
}

// NewHeavy returns a Heavy that remembers nobody.
func NewHeavy(o HeavyOptions) *Heavy {
	o.Share = cmp.Or(o.Share, 0.0025)
	o.Times = cmp.Or(o.Times, 5)
	o.Keep = cmp.Or(o.Keep, 1.03)
	o.HalfLife = cmp.Or(o.HalfLife, 3600*second)
	o.Size = cmp.Or(o.Size, 10_000)
	h := &Heavy{o: o, clients: make(map[string]*heavyClient), drift: make(map[string]float64)}
	h.ring.next, h.ring.prev = &h.ring, &h.ring
	return h
}

// Follow implements Follower. The forecast has seen the traffic of all that live now, so nothing is
// left to add to it.
func (h *Heavy) Follow(f *Forecast) {
	h.forecast = f
	clear(h.drift)
	h.snapshot = nil
}

// Note takes in the rate of a live connection.
func (h *Heavy) Note(id, backend string, rate float64) {
	if id == "" || h.forecast == nil {
		return
	}
	limit := h.limit()
	c := h.clients[id]
	switch {
	case c == nil && (limit <= 0 || rate < limit):
		return
	case c != nil && rate < h.Floor():
		h.forget(c)
		return
	case c == nil:
		if len(h.clients) >= h.o.Size {
			h.forget(h.ring.next)
		}
		c = &heavyClient{id: id, live: 1}
		h.clients[id] = c
	default:
		c.unlink()
	}
	c.backend, c.rate = backend, rate
	c.next, c.prev = &h.ring, h.ring.prev
	c.prev.next, c.next.prev = c, c
}

// Floor is the rate below which Note only ever forgets. Whoever has very many connections may spare
// the call for those that are below it now and were at the last scrape.
func (h *Heavy) Floor() float64 {
	if h.forecast == nil {
		return math.Inf(1)
	}
	return h.limit() / 2
}

// limit is the rate from which on a client becomes heavy.
func (h *Heavy) limit() float64 {
	return max(h.o.Share*h.forecast.Traffic, h.o.Times*h.forecast.Client)
}

// Took tells that a client has been placed on a backend, by whatever strategy.
func (h *Heavy) Took(id, backend string) {
	c := h.clients[id]
	if c == nil {
		return
	}
	if c.live == 0 {
		c.rate = h.faded(c)
	}
	c.live++
	c.backend = backend
	h.shift(backend, c.rate)
}

// Gone tells that a connection has ended which Took was told of, or which had been live before its
// client turned out to be heavy.
func (h *Heavy) Gone(id, backend string, now int64) {
	c := h.clients[id]
	if c == nil {
		return
	}
	c.live = max(0, c.live-1)
	c.left = now
	h.shift(backend, -c.rate)
}

// Rate is the remembered rate of a client, 0 if it is not heavy. A new Rate starts from it, so that a
// heavy client that comes back is not a light one for its first minute.
func (h *Heavy) Rate(id string) float64 {
	if c := h.clients[id]; c != nil {
		return h.faded(c)
	}
	return 0
}

// heavy tells whether the client is to be placed by load, and where it was last.
func (h *Heavy) heavy(id string) (backend string, ok bool) {
	c := h.clients[id]
	if c == nil || h.forecast == nil || h.faded(c) < h.Floor() {
		return "", false
	}
	return c.backend, true
}

func (h *Heavy) isHeavy(id string) bool {
	_, ok := h.heavy(id)
	return ok
}

// faded is the rate of c after what it has been offline. The time of the forecast is now enough: it is
// a scrape old at most, against an hour.
func (h *Heavy) faded(c *heavyClient) float64 {
	if c.live > 0 || h.forecast == nil || h.forecast.At <= c.left {
		return c.rate
	}
	return c.rate * math.Exp2(-float64(h.forecast.At-c.left)/float64(h.o.HalfLife))
}

func (h *Heavy) forget(c *heavyClient) {
	c.unlink()
	delete(h.clients, c.id)
}

func (c *heavyClient) unlink() { c.prev.next, c.next.prev = c.next, c.prev }

// shift counts traffic that has come to a backend, or gone, since the forecast.
func (h *Heavy) shift(backend string, rate float64) {
	h.drift[backend] += rate
	if h.snapshot == nil {
		return
	}
	if i := h.snapshot.Index(backend); i >= 0 {
		h.loads[i] = h.load(h.snapshot, i, 0)
	}
}

// load is the predicted load of backend i right now, less the traffic of somebody who takes its own session over.
// A backend that ramps up counts as that much smaller: the few heavy clients that return during a ramp would
// otherwise all go to the newcomer.
func (h *Heavy) load(s *Snapshot, i int, less float64) float64 {
	if s.Backends[i].Left {
		return math.Inf(1)
	}
	name := s.Backends[i].Name
	b, _ := h.forecast.Of(name)
	capacity := s.Backends[i].capacity()
	return max(0, b.Load+(h.drift[name]-less)*h.forecast.Cost/capacity) * capacity / s.weights[i]
}

func (h *Heavy) adopt(s *Snapshot) {
	if h.snapshot == s {
		return
	}
	if len(h.loads) != len(s.Backends) {
		h.loads = make([]float64, len(s.Backends))
	}
	for i := range s.Backends {
		h.loads[i] = h.load(s, i, 0)
	}
	h.snapshot = s
}

// fatAware places heavy clients by predicted load, and leaves all others to another strategy. Instances agree about
// a heavy client if they have the same forecast and remember the same of it.
type fatAware struct {
	heavy *Heavy
	rest  Strategy
	bound float64
}

// Pick implements Strategy.
func (f *fatAware) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if last, ok := f.heavy.heavy(c.ID); ok {
		return f.lightest(c.ID, last, s, seats)
	}
	return f.rest.Pick(c, s, seats)
}

// Preview implements Previewer.
func (f *fatAware) Preview(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if last, ok := f.heavy.heavy(c.ID); ok {
		return f.lightest(c.ID, last, s, seats)
	}
	return Preview(f.rest, c, s, seats)
}

// Follow implements Follower.
func (f *fatAware) Follow(forecast *Forecast) {
	f.heavy.Follow(forecast)
	follow(f.rest, forecast)
}

// lightest is the fittest backend with the least predicted load, or the client's last one if that is
// as fit and nearly as light. A client that is still connected there is taking its session over: what it puts on
// that backend itself is no reason to go elsewhere.
func (f *fatAware) lightest(id, last string, s *Snapshot, seats *Seats) (int, Reason) {
	f.heavy.adopt(s)
	at, own := s.Index(last), 0.0
	if at >= 0 {
		c := f.heavy.clients[id]
		own = f.heavy.load(s, at, c.rate*float64(c.live))
	}
	best, bestRank, bestLoad := -1, rankNone, math.Inf(1)
	for i, load := range f.heavy.loads {
		if i == at {
			load = own
		}
		if k := s.rank(i, seats, f.bound); k < bestRank || k == bestRank && k != rankNone && load < bestLoad {
			best, bestRank, bestLoad = i, k, load
		}
	}
	if best < 0 {
		return -1, Reason{Strategy: "fat-aware", Cause: NoBackend}
	}
	if at >= 0 && s.rank(at, seats, f.bound) == bestRank && (at == best || own <= f.heavy.o.Keep*bestLoad) {
		return at, Reason{Strategy: "fat-aware", Cause: Kept}
	}
	return best, Reason{Strategy: "fat-aware", Cause: Lightest, Other: last}
}

// A Rate follows the traffic of one connection: a mean that forgets with a time constant of a minute.
type Rate struct {
	value float64
	bytes uint64
	at    int64
}

// NewRate starts from what is remembered about the client (Heavy.Rate).
func NewRate(remembered float64, now int64) Rate { return Rate{value: remembered, at: now} }

// Update takes in the bytes that the connection has carried so far and returns the rate per second.
func (r *Rate) Update(bytes uint64, now int64) float64 {
	if now <= r.at || bytes < r.bytes {
		return r.value
	}
	passed := float64(now-r.at) / float64(second)
	r.value += (1 - math.Exp(-passed/60)) * (float64(bytes-r.bytes)/passed - r.value)
	r.bytes, r.at = bytes, now
	return r.value
}
