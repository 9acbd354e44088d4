package balancer

import "math"

// versionAware is the strategy for the time of a rolling update: backends that are updated already come
// first, as everybody on the others will be moved once more (algorithms.md, 5.2: 1.33 disconnects per
// client where sticky hashing has 1.80 and round robin 1.91).
//
// Among the updated ones the hash decides while they hold no more than their share of all clients; then
// the emptiest of them gets the client, up to 1.05 times that share; the rest goes where the fewest are.
// Shares are those of the backends that take clients now or are about to, by capacity alone: an updated
// backend that ramps up takes its whole share, because what it leaves to the old ones has to be moved
// again, and moves are few per second anyway.
type versionAware struct {
	target string // the version that the update leads to
	fewest leastConnections
}

// updatedSlack is how far above its share an updated backend may get.
const updatedSlack = 1.05

// Pick implements Strategy.
func (v *versionAware) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	total, fittest := 0.0, rankNone
	for i := range s.Backends {
		r := s.rank(i, seats, 0)
		fittest = min(fittest, r)
		if r == rankFit || s.Backends[i].Phase == Joining {
			total += s.capacities[i]
		}
	}
	client := keyedHash(s.seed, c.ID)
	home, homeScore, emptiest, least := -1, math.Inf(1), -1, math.Inf(1)
	for i := range s.Backends {
		if fittest != rankFit || s.Backends[i].Labels[VersionLabel] != v.target || s.rank(i, seats, 0) != rankFit {
			continue
		}
		share := float64(seats.Total+1) * s.capacities[i] / total
		holds := float64(seats.Live[i])
		// Two more than that, as with every bound: for tiny clusters.
		if score := rendezvous(client, s.hashes[i], s.capacities[i]); c.ID != "" && score < homeScore && holds < math.Ceil(share)+2 {
			home, homeScore = i, score
		}
		if load := holds / share; load < least && holds < math.Ceil(updatedSlack*share)+2 {
			emptiest, least = i, load
		}
	}
	if home < 0 {
		home = emptiest
	}
	if home >= 0 {
		return home, Reason{Strategy: "version-aware", Cause: Newest}
	}
	best, reason := v.fewest.Pick(c, s, seats)
	reason.Strategy = "version-aware"
	return best, reason
}
