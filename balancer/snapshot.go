package balancer

import (
	"cmp"
	"math"
	"slices"
)

// A Snapshot is the set of backends at one moment. It is immutable and may be shared freely; what
// changes with every connection is in Seats. Names are unique.
type Snapshot struct {
	// Generation grows with every new snapshot of a cluster.
	Generation uint64
	// Backends are sorted by name, so that no decision depends on the order of discovery.
	Backends []Backend

	seed       uint64    // of the keyed hash
	hashes     []uint64  // of the names
	capacities []float64 // without the ramp
	weights    []float64 // capacity × ramp
	total      float64   // Σ weights
	open       float64   // Σ weights of the backends that take clients in the usual course of things
	members    int       // backends that have not left
}

// NewSnapshot builds a snapshot. The backends are copied; key is the secret that all instances share.
func NewSnapshot(generation uint64, key string, backends []Backend) *Snapshot {
	s := &Snapshot{Generation: generation, Backends: slices.Clone(backends), seed: seedOf(key)}
	slices.SortStableFunc(s.Backends, func(a, b Backend) int { return cmp.Compare(a.Name, b.Name) })
	s.hashes = make([]uint64, len(s.Backends))
	s.capacities, s.weights = make([]float64, len(s.Backends)), make([]float64, len(s.Backends))
	for i := range s.Backends {
		b := &s.Backends[i]
		s.hashes[i] = keyedHash(s.seed, b.Name)
		if b.Left {
			b.Phase = Draining
			continue // it has no weight
		}
		s.members++
		s.weights[i], s.capacities[i] = b.weight(), b.capacity()
		s.total += s.weights[i]
		if b.Phase.Serves() {
			s.open += s.weights[i]
		}
	}
	return s
}

// Index is the position of the backend with this name, or -1.
func (s *Snapshot) Index(name string) int {
	i, ok := slices.BinarySearchFunc(s.Backends, name, func(b Backend, n string) int { return cmp.Compare(b.Name, n) })
	if !ok {
		return -1
	}
	return i
}

// member is the position of the backend with this name if it has not left, or -1.
func (s *Snapshot) member(name string) int {
	if i := s.Index(name); i >= 0 && !s.Backends[i].Left {
		return i
	}
	return -1
}

// Weight is the static weight of backend i: capacity × ramp; 0 if it has left.
func (s *Snapshot) Weight(i int) float64 { return s.weights[i] }

// Share is the part of all clients that backend i should hold, 0…1.
func (s *Snapshot) Share(i int) float64 {
	if s.total == 0 {
		return 0
	}
	return s.weights[i] / s.total
}

// ServingShare is the part of all clients that backend i should hold while only those count that serve clients, 0…1;
// 0 if it is not among them.
func (s *Snapshot) ServingShare(i int) float64 {
	if !s.Backends[i].Phase.Serves() {
		return 0
	}
	return s.weights[i] / s.open
}

// A rank says how fit a backend is, whatever the strategy: the lowest rank that any backend has wins,
// and only among those does the strategy choose.
type rank uint8

const (
	rankFit     rank = iota // ready or ramping, and within its bound
	rankFull                // ready, ramping or hot, whatever its count
	rankHealthy             // joining or draining: better than nobody
	rankShunned             // … or any of these, and its clients fail: better than nobody, too
	rankNone                // down, left, at its limit, or already tried for this client
)

// rank judges backend i. bound is the bounded-load factor, 0 for none.
func (s *Snapshot) rank(i int, seats *Seats, bound float64) rank {
	if seats.tried(i) || s.Backends[i].Left || seats.full(i) {
		return rankNone
	}
	if seats.shunned(i) && s.Backends[i].Phase != Down {
		return rankShunned
	}
	switch s.Backends[i].Phase {
	case Ready, Ramping:
		if s.overBound(i, seats, bound) {
			return rankFull
		}
		return rankFit
	case Hot:
		return rankFull
	case Joining, Draining:
		return rankHealthy
	case Down:
	}
	return rankNone
}

// overBound is the bounded-load test (Mirrokni et al., arXiv 1608.01350): a backend takes another
// client while it holds fewer than ⌈bound·(N+1)·share⌉, plus two connections of slack for tiny clusters. The
// shares are those of the backends that take clients: where one of three is down, the others hold half each.
func (s *Snapshot) overBound(i int, seats *Seats, bound float64) bool {
	if bound <= 0 {
		return false
	}
	limit := math.Ceil(bound*float64(seats.Total+1)*s.ServingShare(i)) + 2
	return float64(seats.Live[i]) >= limit
}

// Seats is the part of the world that changes with every connection. It belongs to one caller.
type Seats struct {
	// Live counts the connections of each backend, in the order of Snapshot.Backends.
	Live []int
	// Total is the sum of Live.
	Total int
	// Tried holds the backends that have already failed this client during this connect.
	Tried []int
	// Most is the limit of Live, of each backend; 0 is none.
	Most int
	// Shunned holds the backends that get a client only if there is nobody else, whatever their phase.
	Shunned []int
}

// NewSeats returns empty seats that fit the snapshot.
func NewSeats(s *Snapshot) *Seats { return &Seats{Live: make([]int, len(s.Backends))} }

// Take counts a connection on backend i.
func (s *Seats) Take(i int) {
	s.Live[i]++
	s.Total++
}

func (s *Seats) tried(i int) bool { return slices.Contains(s.Tried, i) }

func (s *Seats) shunned(i int) bool { return slices.Contains(s.Shunned, i) }

func (s *Seats) full(i int) bool { return s.Most > 0 && s.Live[i] >= s.Most }

// objection is why backend i was passed over, if it was not for its phase or its bounded load.
func (s *Seats) objection(i int) (Cause, bool) {
	switch {
	case s.tried(i):
		return Retried, true
	case s.full(i):
		return Full, true
	case s.shunned(i):
		return Shunned, true
	}
	return NoBackend, false
}

// allFull tells that a client has no place because of the limit alone: a backend that has not been tried would take it.
func (s *Snapshot) allFull(seats *Seats) bool {
	for i := range s.Backends {
		if b := &s.Backends[i]; seats.full(i) && !seats.tried(i) && !b.Left && b.Phase != Down {
			return true
		}
	}
	return false
}
