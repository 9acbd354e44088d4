package balancer

import (
	"fmt"
	"strings"
)

// A ClusterState is the kind of time that a cluster is having; adaptive chooses strategies by it.
type ClusterState uint8

// The states, the most pressing one last.
const (
	Balanced   ClusterState = iota // nothing special
	Scaling                        // a backend is coming, or the clients of a lost one sit unevenly
	Rolling                        // an update goes through the cluster
	Overloaded                     // half of the backends are hot: nowhere to go
	Degraded                       // most figures are missing, or most of the capacity is
)

// String is the name of the state as metrics, the API and the configuration show it.
func (s ClusterState) String() string {
	switch s {
	case Balanced:
		return "balanced"
	case Scaling:
		return "scaling"
	case Rolling:
		return "rolling"
	case Overloaded:
		return "overloaded"
	case Degraded:
		return "degraded"
	}
	return "unknown"
}

// A Force is the operator's word on the state. The zero Force leaves it to the rules.
type Force struct {
	State ClusterState
	On    bool
}

// ParseForce reads a Force: auto, or the name of a state.
func ParseForce(s string) (Force, error) {
	if s == "auto" || s == "" {
		return Force{}, nil
	}
	names := []string{"auto"}
	for state := Balanced; state <= Degraded; state++ {
		if state.String() == s {
			return Force{State: state, On: true}, nil
		}
		names = append(names, state.String())
	}
	return Force{}, fmt.Errorf("unknown cluster state %q; known are %s", s, strings.Join(names, ", "))
}

// A Situation is what the rules of the states look at. Survey fills it.
type Situation struct {
	// Members are all backends, Serving those that take or hold clients: ready, ramping or hot.
	Members, Serving int
	// Hot, Coming (joining or ramping) and Draining count backends by phase. Terminating counts the
	// draining ones that the orchestrator takes away, in contrast to a person who empties one by hand.
	Hot, Coming, Draining, Terminating int
	// Healthy is the part of the configured capacity that is not down, 0…1.
	Healthy float64
	// Stale is the part of the backends with load figures whose figures are too old; 0 where there are none.
	Stale float64
	// Imbalance is the greatest number of connections on a serving backend in terms of its fair share.
	Imbalance float64
	// Versions are the different versions of the members that are not down, in natural order.
	Versions []string
}

// StateRules are the limits of the states (algorithms.md, 6).
type StateRules struct {
	Stale, Healthy     float64 // degraded: more figures stale, or less capacity healthy
	HotEnter, HotLeave float64 // overloaded: part of the serving backends
	Uneven, Even       float64 // scaling: imbalance after a removal, and where it is good again
	DegradedFor        int64   // how long the leave condition of each must have held
	OverloadedFor      int64
	RollingFor         int64
	NoProgress         int64 // scaling ends after as long without any
	Dwell              int64 // no step down earlier than this after a state began
}

// DefaultStateRules are the defaults of algorithms.md, 6.
func DefaultStateRules() StateRules {
	return StateRules{
		Stale: 0.5, Healthy: 0.5, HotEnter: 0.5, HotLeave: 0.25, Uneven: 1.10, Even: 1.05,
		DegradedFor: 60 * second, OverloadedFor: 120 * second, RollingFor: 120 * second,
		NoProgress: 300 * second, Dwell: 30 * second,
	}
}

// State is the state of a cluster. The zero State is a good first one.
type State struct {
	// Cluster is the state, Since the time of its beginning.
	Cluster ClusterState
	Since   int64
	// Forced tells that an operator has set it.
	Forced bool
	// Target is the version that a rolling update leads to, if that is known.
	Target string

	settled string   // the version of all members when last there was only one
	latches [5]latch // by ClusterState; that of Balanced is unused
	scaling scaling
}

// A latch is one condition with hysteresis. It works whatever the state is, so that an update which was
// under way before an overload is still under way after it.
type latch struct {
	on   bool
	last int64 // when the leave condition was last not met
}

// scaling is the memory of the SCALING condition.
type scaling struct {
	serving  int     // backends at the last look
	removed  bool    // one has gone since the connections were last even
	coming   int     // joining or ramping at the last look
	best     float64 // least imbalance since the last sign of progress
	progress int64   // when that was
	stuck    bool    // given up
}

// Next is the state at now, given the one before. Call it every second.
//
// Every state but BALANCED is a latch that closes at once when its enter condition holds (the phases
// have debounced it already) and opens when its leave condition has held for a while. The state is the
// most pressing closed latch; a step to a less pressing one is taken 30 s after the last step at the
// earliest.
//
//	            closes                                    opens
//	DEGRADED    > 50 % figures stale, < 50 % healthy      neither for 60 s
//	OVERLOADED  half of the serving backends hot          less than a quarter hot for 120 s
//	ROLLING     two versions, or one terminating          one version, none coming or draining, for 120 s
//	SCALING     one coming, or uneven (> 1.10) by a loss  all ready and even (≤ 1.05), or 300 s stuck
//
//	              at once ──▶
//	BALANCED   SCALING   ROLLING   OVERLOADED   DEGRADED      from each to each
//	                                ◀── after 30 s
func (r *StateRules) Next(prev State, sit Situation, force Force, now int64) State {
	next := prev
	next.scaling = r.watchScaling(prev.scaling, prev.latches[Scaling].on, sit, now)
	wanted := Balanced
	for _, row := range stateTable() {
		l := &next.latches[row.state]
		switch {
		case row.enter(r, &next.scaling, sit):
			l.on, l.last = true, now
		case !row.calm(r, &next.scaling, sit, now):
			l.last = now
		case now-l.last >= row.after(r):
			l.on = false
		}
		if l.on && wanted == Balanced {
			wanted = row.state
		}
	}
	next.version(sit)
	if force.On {
		wanted = force.State
	}
	// A person is not made to wait, and neither is the state that was waiting behind a person.
	if wanted > prev.Cluster || force.On || prev.Forced || now-prev.Since >= r.Dwell {
		next.Cluster, next.Forced = wanted, force.On
	}
	if next.Cluster != prev.Cluster {
		next.Since = now
	}
	return next
}

// A stateRow is the rule of one state.
type stateRow struct {
	state ClusterState
	enter func(r *StateRules, m *scaling, s Situation) bool
	calm  func(r *StateRules, m *scaling, s Situation, now int64) bool // the leave condition …
	after func(r *StateRules) int64                                    // … and how long it must hold
}

// stateTable holds the rules, the most pressing first.
func stateTable() [4]stateRow {
	return [...]stateRow{
		{
			Degraded,
			func(r *StateRules, _ *scaling, s Situation) bool { return r.degraded(s) },
			func(r *StateRules, _ *scaling, s Situation, _ int64) bool { return !r.degraded(s) },
			func(r *StateRules) int64 { return r.DegradedFor },
		},
		{
			Overloaded,
			func(r *StateRules, _ *scaling, s Situation) bool {
				return s.Hot > 0 && float64(s.Hot) >= r.HotEnter*float64(s.Serving)
			},
			func(r *StateRules, _ *scaling, s Situation, _ int64) bool {
				return s.Hot == 0 || float64(s.Hot) < r.HotLeave*float64(s.Serving)
			},
			func(r *StateRules) int64 { return r.OverloadedFor },
		},
		{
			Rolling,
			func(_ *StateRules, _ *scaling, s Situation) bool { return len(s.Versions) > 1 || s.Terminating > 0 },
			func(_ *StateRules, _ *scaling, s Situation, _ int64) bool { return s.Coming == 0 && s.Draining == 0 },
			func(r *StateRules) int64 { return r.RollingFor },
		},
		{
			Scaling,
			func(r *StateRules, m *scaling, s Situation) bool {
				return !m.stuck && (s.Coming > 0 || m.removed && s.Imbalance > r.Uneven)
			},
			func(r *StateRules, m *scaling, s Situation, now int64) bool {
				return m.stuck || s.Coming == 0 && s.Imbalance <= r.Even || now-m.progress >= r.NoProgress
			},
			func(*StateRules) int64 { return 0 },
		},
	}
}

func (r *StateRules) degraded(s Situation) bool { return s.Stale > r.Stale || s.Healthy < r.Healthy }

// watchScaling follows the progress of a change of size. One that has made none for 300 s is given up
// until the set of backends changes again: a backend that never becomes ready must not keep the cluster
// in SCALING for ever.
func (r *StateRules) watchScaling(m scaling, active bool, s Situation, now int64) scaling {
	const noticeable = 0.005
	if s.Serving < m.serving {
		m.removed = true
	}
	changed := s.Serving != m.serving || s.Coming != m.coming
	if changed || !active || s.Imbalance < m.best-noticeable {
		m.best, m.progress = s.Imbalance, now
	}
	if changed {
		m.stuck = false
	}
	m.serving, m.coming = s.Serving, s.Coming
	switch {
	case active && now-m.progress >= r.NoProgress:
		m.stuck, m.removed = true, false
	case s.Coming == 0 && s.Imbalance <= r.Even:
		m.removed = false
	}
	return m
}

// version keeps track of where an update leads: away from the version that all members had. Where the
// balancer has never seen them agree, to the latest by name.
func (s *State) version(sit Situation) {
	switch len(sit.Versions) {
	case 0:
		return
	case 1:
		s.settled, s.Target = sit.Versions[0], sit.Versions[0]
		return
	}
	for _, v := range sit.Versions { // in natural order: the last one that is not the old one stays
		if v != s.settled {
			s.Target = v
		}
	}
}
