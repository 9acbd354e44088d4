package balancer

// A rotation is the smooth weighted round robin of nginx: with weights 5:1:1 it deals a a b a c a a, never
// a burst. Its weights are the static ones, times the factors of a Forecast if it follows one.
//
// The credits outlive every change of the weights and of the set of backends. Between two forecasts there
// are often only a handful of connects; with the credits kept, the share is missed by about one connection,
// for ever, while schedules that restart are no better than chance (algorithms.md, 4.1).
//
// Instances with different seeds begin differently, and each keeps to the shares by itself. The same seed and the
// same calls give the same turns, whatever was previewed.
type rotation struct {
	name     string // of the strategy, for reasons
	seed     uint64
	forecast *Forecast // nil: static weights
	turns    turns     // at the last Pick
	ahead    turns     // of a Preview with a newer snapshot or forecast; empty when there was none since
}

// turns say who is owed how much. The slices are in the order of snapshot.Backends.
type turns struct {
	snapshot *Snapshot
	forecast *Forecast
	weights  []float64
	credits  []float64 // in the unit of the weights; their sum is zero, up to backends that have come and gone
}

// newRoundRobin is the strategy round-robin: static weights.
func newRoundRobin(seed uint64) *rotation { return &rotation{name: "round-robin", seed: seed} }

// A Follower is a Strategy that uses load figures. Follow gives it the next forecast; it counts from
// the next Pick on. Follow belongs to the caller of Pick.
type Follower interface {
	Follow(f *Forecast)
}

// metricWRR is the strategy metric-wrr: a rotation that follows forecasts (algorithms.md, 4.3).
type metricWRR struct{ rotation }

func newMetricWRR(seed uint64) *metricWRR {
	return &metricWRR{rotation{name: "metric-wrr", seed: seed}}
}

// Follow implements Follower.
func (w *metricWRR) Follow(f *Forecast) { w.forecast = f }

// Pick implements Strategy.
func (r *rotation) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	best, reason := r.Preview(c, s, seats)
	if t := r.at(s); t == &r.ahead {
		r.turns, r.ahead = r.ahead, r.turns
	}
	r.ahead.snapshot = nil
	if best < 0 {
		return best, reason
	}
	dealt, total := s.rank(best, seats, 0), 0.0
	for i, weight := range r.turns.weights {
		if s.rank(i, seats, 0) == dealt {
			r.turns.credits[i] += weight
			total += weight
		}
	}
	r.turns.credits[best] -= total
	return best, reason
}

// Preview implements Previewer.
func (r *rotation) Preview(_ Client, s *Snapshot, seats *Seats) (int, Reason) {
	t := r.at(s)
	best, bestRank := -1, rankNone
	for i := range s.Backends {
		k := s.rank(i, seats, 0)
		if k < bestRank || k == bestRank && k != rankNone && t.credits[i]+t.weights[i] > t.credits[best]+t.weights[best] {
			best, bestRank = i, k
		}
	}
	if best < 0 {
		return -1, Reason{Strategy: r.name, Cause: NoBackend}
	}
	return best, Reason{Strategy: r.name, Cause: Turn}
}

// at is the turns with this snapshot and the present forecast. Only a Pick makes them the turns: a backend that
// is missing from a snapshot loses its credit, and looking at that snapshot must not do it.
func (r *rotation) at(s *Snapshot) *turns {
	if r.turns.snapshot == s && r.turns.forecast == r.forecast {
		return &r.turns
	}
	if r.ahead.snapshot != s || r.ahead.forecast != r.forecast {
		r.ahead.follow(&r.turns, s, r.forecast, r.seed)
	}
	return &r.ahead
}

// follow makes t what becomes of last with a new snapshot or forecast. Credits are in the unit of the weights,
// so they are scaled with the sum of these: what a backend is owed stays the same part of a connection. A
// newcomer is owed nothing.
func (t *turns) follow(last *turns, s *Snapshot, f *Forecast, seed uint64) {
	t.snapshot, t.forecast = s, f
	t.weights, t.credits = t.weights[:0], t.credits[:0]
	for i := range s.Backends {
		name, weight, credit := s.Backends[i].Name, s.weights[i], 0.0
		if b, ok := f.Of(name); ok {
			weight *= b.Factor
		}
		switch {
		case s.Backends[i].Left: // as if it were not there
		case last.snapshot == s:
			credit = last.credits[i]
		case last.snapshot != nil:
			if old := last.snapshot.Index(name); old >= 0 {
				credit = last.credits[old]
			}
		}
		t.weights, t.credits = append(t.weights, weight), append(t.credits, credit)
	}
	before := last.total()
	if before == 0 {
		t.start(seed)
		return
	}
	scale := t.total() / before
	for i := range t.credits {
		t.credits[i] *= scale
	}
}

// start draws the first credits, up to half a connection each and then shifted to a sum of zero. They
// differ between instances, so that instances which start together do not deal in lockstep. (A whole
// connection, as 4.3 has it, keeps them apart no better and costs a tenth more deviation.)
func (t *turns) start(seed uint64) {
	total, mean := t.total(), 0.0
	for i := range t.credits {
		if !t.snapshot.Backends[i].Left {
			t.credits[i] = unit(mix(seed^t.snapshot.hashes[i])) * total / 2
			mean += t.credits[i] / float64(t.snapshot.members)
		}
	}
	for i := range t.credits {
		if !t.snapshot.Backends[i].Left {
			t.credits[i] -= mean
		}
	}
}

func (t *turns) total() float64 {
	total := 0.0
	for _, weight := range t.weights {
		total += weight
	}
	return total
}
