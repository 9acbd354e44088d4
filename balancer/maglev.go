package balancer

import (
	"slices"
	"sync/atomic"
)

// maglevSize is the number of slots of a lookup table: prime, so that every stride visits every slot,
// and more than a hundred times the 64 backends that we plan for (Maglev, NSDI'16, 5.3: within 1 % of
// the fair share from there on).
const maglevSize = 65537

// maglev gives every client id a home by a lookup table (algorithms.md, 2.6; Eisenbud et al.,
// NSDI'16, with Envoy's weighted fill). It keeps the promises of client-hash and its reasons. What it
// buys is a home in constant time; what it costs is a table per set of weights and some clients that
// move although nothing of theirs has changed (2.1, 2.2), which is why client-hash is the default.
//
// The table is made of names and weights alone, never of phases: a backend that is down, hot or full
// keeps its slots and its clients continue in their rendezvous order (2.5). So an outage moves the
// clients of the failed backend and nobody else, and its end brings exactly these back.
//
// A table is built once per set of weights: by Prepare if the owner of the snapshots calls it, and
// otherwise by the first Pick that meets the new snapshot (some milliseconds, the only allocation that
// Pick ever does). With Options.NodeScope there is a second one during a ramp, for tied clients.
type maglev struct {
	order    clientHash // for clients whose home cannot take them, and for those without an id
	current  *maglevTable
	prepared atomic.Pointer[maglevTable]
}

// A maglevTable maps hashes to backends of one snapshot, and of every other with the same weights.
type maglevTable struct {
	snapshot *Snapshot
	slots    []uint16 // empty when no backend has any weight
	tied     []uint16 // by capacities alone, for tied clients; empty when there are none
}

// A Preparer is a Strategy that computes something for every new snapshot. Prepare does that ahead of
// the first Pick; one goroutine may call it, with the next snapshot, while another one picks from the
// last. A strategy that was not prepared does the same work in Pick.
type Preparer interface {
	Prepare(s *Snapshot)
}

func newMaglev(o Options) (*maglev, error) {
	order, err := newClientHash(o)
	if err != nil {
		return nil, err
	}
	return &maglev{order: *order}, nil
}

// Follow implements Follower, for the anonymous clients.
func (m *maglev) Follow(f *Forecast) { m.order.Follow(f) }

// Prepare implements Preparer.
func (m *maglev) Prepare(s *Snapshot) {
	m.prepared.Store(buildMaglev(s, m.prepared.Load(), m.order.node))
}

// Pick implements Strategy.
func (m *maglev) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if c.ID == "" {
		return m.order.anonymous.Pick(c, s, seats)
	}
	return m.pick(c, s, seats)
}

// Preview implements Previewer: an anonymous client would move the rotation on.
func (m *maglev) Preview(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if c.ID == "" {
		return Preview(m.order.anonymous, c, s, seats)
	}
	return m.pick(c, s, seats)
}

func (m *maglev) pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	m.adopt(s)
	if len(m.current.slots) == 0 {
		return -1, Reason{Strategy: "maglev", Cause: NoBackend}
	}
	slots := m.current.slots
	if m.order.tied(c) {
		slots = m.current.tied
	}
	home := int(slots[keyedHash(s.seed, c.ID)%maglevSize])
	best, fit := home, m.order.rank(c, home, s, seats)
	if fit != rankFit && !m.order.keeps(c, home, s, seats) {
		// Home wins a draw, as it does in client-hash: when all are full, nobody moves.
		if other, _ := m.order.walk(c, s, seats); other >= 0 && m.order.rank(c, other, s, seats) < fit {
			best = other
		} else if fit == rankNone {
			best = -1
		}
	}
	reason := m.order.reason(best, home, s, seats)
	reason.Strategy = "maglev"
	return best, reason
}

func (m *maglev) adopt(s *Snapshot) {
	if m.current != nil && m.current.snapshot == s {
		return
	}
	if p := m.prepared.Load(); p != nil && p.snapshot == s {
		m.current = p
		return
	}
	m.current = buildMaglev(s, m.current, m.order.node)
}

// buildMaglev returns the table of s, with a part for tied clients if there may be any. It shares the slots of
// last if nothing that matters has changed: most snapshots differ in phases only.
func buildMaglev(s *Snapshot, last *maglevTable, node bool) *maglevTable {
	t := &maglevTable{snapshot: s}
	if last != nil && !slices.Equal(last.snapshot.hashes, s.hashes) {
		last = nil
	}
	if last != nil && slices.Equal(last.snapshot.weights, s.weights) {
		t.slots = last.slots
	} else {
		t.slots = fillMaglev(s.hashes, s.weights, maglevSize)
	}
	switch {
	case !node:
	case slices.Equal(s.capacities, s.weights):
		t.tied = t.slots
	case last != nil && slices.Equal(last.snapshot.capacities, s.capacities):
		t.tied = last.tied
	default:
		t.tied = fillMaglev(s.hashes, s.capacities, maglevSize)
	}
	return t
}

// fillMaglev deals size slots, size being prime, to backends with these hashes and weights. Every
// backend walks its own permutation of the slots and takes the next free one whenever its turn comes;
// one with half the greatest weight has a turn in every second round. Without any positive weight the
// result is empty.
func fillMaglev(hashes []uint64, weights []float64, size uint32) []uint16 {
	const offsets, strides = 0x6f66667365747300, 0x7374726964657300 // two unrelated permutations of a hash
	const free = ^uint16(0)
	type walker struct {
		backend      uint16
		slot, stride uint32
		weight, next float64 // next is the progress at which its next turn is due
	}
	walkers := make([]walker, 0, len(weights))
	greatest := 0.0
	for i, w := range weights {
		if !(w > 0) { // also not a number
			continue
		}
		greatest = max(greatest, w)
		walkers = append(walkers, walker{
			backend: uint16(i),
			slot:    uint32(mix(hashes[i]^offsets) % uint64(size)),
			stride:  uint32(mix(hashes[i]^strides)%uint64(size-1)) + 1,
			weight:  w,
		})
	}
	if len(walkers) == 0 {
		return nil
	}
	slots := make([]uint16, size)
	for i := range slots {
		slots[i] = free
	}
	// The heaviest backend takes a slot in every round, so this ends after at most size rounds.
	for filled, round := uint32(0), 1.0; ; round++ {
		for i := range walkers {
			w := &walkers[i]
			if round*w.weight < w.next {
				continue
			}
			w.next += greatest
			for slots[w.slot] != free {
				if w.slot += w.stride; w.slot >= size {
					w.slot -= size
				}
			}
			slots[w.slot] = w.backend
			if filled++; filled == size {
				return slots
			}
		}
	}
}
