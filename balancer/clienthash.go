package balancer

import "math"

// clientHash gives every client id a home by weighted rendezvous hashing over stable names
// (algorithms.md, 2.5). When home cannot take the client it goes to the next in the client's own
// order, so the same client always spills to the same place. Instances agree about every client that has an id, as
// long as they agree which backends are full.
type clientHash struct {
	bound     float64
	node      bool // sessions live on one broker: see Options.NodeScope
	anonymous Strategy
}

func newClientHash(o Options) (*clientHash, error) {
	anonymous, err := newAnonymous(o)
	if err != nil {
		return nil, err
	}
	return &clientHash{bound: o.BoundedLoad, node: o.NodeScope, anonymous: anonymous}, nil
}

// Pick implements Strategy.
func (h *clientHash) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if c.ID == "" {
		return h.anonymous.Pick(c, s, seats)
	}
	return h.pick(c, s, seats)
}

// Preview implements Previewer: an anonymous client would move the rotation on.
func (h *clientHash) Preview(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if c.ID == "" {
		return Preview(h.anonymous, c, s, seats)
	}
	return h.pick(c, s, seats)
}

// Follow implements Follower, for the anonymous clients.
func (h *clientHash) Follow(f *Forecast) { follow(h.anonymous, f) }

func (h *clientHash) pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	best, home := h.walk(c, s, seats)
	if h.keeps(c, home, s, seats) {
		best = home
	}
	return best, h.reason(best, home, s, seats)
}

// walk returns the first of the fittest backends in the client's order, and the first of all. Both are -1 if
// there is none.
func (h *clientHash) walk(c Client, s *Snapshot, seats *Seats) (best, home int) {
	client, weights := keyedHash(s.seed, c.ID), s.weights
	if h.tied(c) {
		weights = s.capacities
	}
	best, home = -1, -1
	bestRank, bestScore, homeScore := rankNone, math.Inf(1), math.Inf(1)
	for i := range s.Backends {
		score := rendezvous(client, s.hashes[i], weights[i])
		if score < homeScore {
			home, homeScore = i, score
		}
		r := h.rank(c, i, s, seats)
		if r < bestRank || r == bestRank && r != rankNone && score < bestScore {
			best, bestRank, bestScore = i, r, score
		}
	}
	return best, home
}

// tied tells whether the session of c is lost when c goes to another broker. For such a client
//
//   - home hangs on capacities alone: a broker that ramps up after a restart still has its sessions;
//   - home is left only while it is down or does not accept the client: see keeps;
//   - the others, while home is away, are judged by rank.
func (h *clientHash) tied(c Client) bool { return h.node && c.Persistent && c.ID != "" }

// keeps tells whether c stays at home whatever phase and load home has: to go elsewhere is to lose the session.
func (h *clientHash) keeps(c Client, home int, s *Snapshot, seats *Seats) bool {
	return home >= 0 && h.tied(c) && s.rank(home, seats, 0) != rankNone
}

// rank is Snapshot.rank, except that for tied clients a backend is fit however hot or full it is: while home is
// down their session is on the next in their order, and it should still be there when that one gets busy. A
// backend that joins or drains is a last resort for them too, unless it is home.
func (h *clientHash) rank(c Client, i int, s *Snapshot, seats *Seats) rank {
	r := s.rank(i, seats, h.bound)
	if r == rankFull && h.tied(c) {
		return rankFit
	}
	return r
}

func (h *clientHash) reason(best, home int, s *Snapshot, seats *Seats) Reason {
	r := Reason{Strategy: "client-hash"}
	if best < 0 {
		r.Cause = NoBackend
		return r
	}
	objection, objected := seats.objection(home)
	switch {
	case best == home:
		r.Cause = Home
		return r
	case objected:
		r.Cause = objection
	case s.Backends[home].Phase == Ready || s.Backends[home].Phase == Ramping:
		r.Cause = Spilled
	default:
		r.Cause, r.Phase = Avoided, s.Backends[home].Phase
	}
	r.Other = s.Backends[home].Name
	return r
}
