package balancer

// random deals connections by weighted chance. It remembers nothing, which is its only virtue: it is
// here to be compared with (algorithms.md, 4.1: after 10 000 picks it misses the share by 58, the
// smooth rotation by one). The same seed and the same calls give the same draws.
type random struct {
	seed  uint64
	drawn uint64 // how often it has drawn; with seed the whole state, so that a run can be repeated
}

// Pick implements Strategy.
func (r *random) Pick(c Client, s *Snapshot, seats *Seats) (int, Reason) {
	best, reason := r.Preview(c, s, seats)
	r.drawn++
	return best, reason
}

// Preview implements Previewer.
func (r *random) Preview(_ Client, s *Snapshot, seats *Seats) (int, Reason) {
	fittest, total := rankNone, 0.0
	for i := range s.Backends {
		switch k := s.rank(i, seats, 0); {
		case k < fittest:
			fittest, total = k, s.weights[i]
		case k == fittest:
			total += s.weights[i]
		}
	}
	if fittest == rankNone {
		return -1, Reason{Strategy: "random", Cause: NoBackend}
	}
	left, best := unit(mix(mix(r.seed)+r.drawn))*total, -1
	for i := range s.Backends {
		if s.rank(i, seats, 0) != fittest {
			continue
		}
		best = i // also the last one, should rounding leave a rest
		if left -= s.weights[i]; left < 0 {
			break
		}
	}
	return best, Reason{Strategy: "random", Cause: Drawn}
}
