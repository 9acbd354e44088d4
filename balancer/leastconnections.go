package balancer

import "math"

// leastConnections picks the backend with the fewest connections for its weight. It knows nothing of
// stickiness and exists for comparison and for simple needs. Instances agree if their counts are equal.
type leastConnections struct{}

// Pick implements Strategy. Equal counts are decided by the client's rendezvous order, so that the
// result does not depend on the order of the backends.
func (leastConnections) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	client := keyedHash(s.seed, c.ID)
	best, bestRank, bestLoad, bestScore := -1, rankNone, math.Inf(1), math.Inf(1)
	for i := range s.Backends {
		r := s.rank(i, seats, 0)
		if r == rankNone || r > bestRank {
			continue
		}
		load := float64(seats.Live[i]+1) / s.weights[i]
		score := rendezvous(client, s.hashes[i], s.weights[i])
		if r < bestRank || load < bestLoad || load == bestLoad && score < bestScore {
			best, bestRank, bestLoad, bestScore = i, r, load, score
		}
	}
	if best < 0 {
		return -1, Reason{Strategy: "least-connections", Cause: NoBackend}
	}
	return best, Reason{Strategy: "least-connections", Cause: Fewest}
}
