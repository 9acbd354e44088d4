package balancer

// PhaseRules are the limits of the phases of a backend (algorithms.md, 6 and 7). Entering is easier
// than leaving in every respect, and takes less time: that is what keeps phases from flapping.
type PhaseRules struct {
	FailedChecks    int // checks that failed in a row: down
	ConnectFailures int // connects that failed within 10 s: down

	Settle int64 // healthy for as long without a break before it takes clients: a cluster join is expensive
	Ramp   int64 // length of the slow start, see Ramp

	HotLevel, CoolLevel     float64 // overload level of the broker, for HotSamples readings in a row
	HotSamples              int
	HotUtil, CoolUtil       float64 // part of the capacity in use, an instantaneous figure
	HotLatency, CoolLatency float64 // CONNECT to CONNACK, 95th percentile, in terms of the cluster's median
	HotFor, CoolFor         int64   // how long the figures must say so
	Stale                   int64   // older figures say nothing
}

// DefaultPhaseRules are the defaults of algorithms.md, 7.
func DefaultPhaseRules() PhaseRules {
	return PhaseRules{
		FailedChecks: 3, ConnectFailures: 5,
		Settle: 30 * second, Ramp: 120 * second,
		HotLevel: 5, CoolLevel: 3, HotSamples: 3,
		HotUtil: 0.85, CoolUtil: 0.75,
		HotLatency: 5, CoolLatency: 5,
		HotFor: 30 * second, CoolFor: 120 * second, Stale: 60 * second,
	}
}

// Vitals are what is known about one backend at one moment.
type Vitals struct {
	// Passed tells that the last health check passed; FailedChecks counts those that failed in a row,
	// ConnectFailures the clients' connects that failed within the last 10 s.
	Passed                        bool
	FailedChecks, ConnectFailures int
	// Unsettled tells that the broker says of itself that it is not ready: the cluster has not its
	// expected size yet, or data is still being replicated. False where that cannot be read.
	Unsettled bool
	// Drain tells that somebody wants it empty: the API, a label, the orchestrator. Terminating tells that it
	// is the orchestrator, who takes the backend away as part of an update; it implies Drain.
	Drain, Terminating bool
	// Level, Util and Latency are instantaneous figures, see PhaseRules. A mean over minutes does not do
	// here: it sees a step to 90 % after 280 s, a sample every 5 s after 39 s (f_state). Nor does a Level
	// that is the greatest of the whole cluster: it would turn all backends hot together.
	Level, Util, Latency Figure
}

// Life is where a backend stands. The zero Life is that of a backend that the balancer finds when it
// starts: ready until a check says otherwise, as nobody is served by waiting. A backend that is
// discovered later begins with Discovered.
type Life struct {
	// Phase is the phase, Since the time of its beginning.
	Phase Phase
	Since int64

	healthy          int64 // since when without a break
	level            int   // readings at or above HotLevel in a row
	levelAt          int64 // time of the last of them that was counted
	util, latency    int64 // when Util and Latency were last seen below their hot limit
	warm             int64 // when any figure was last seen above its cool limit
	watching, unwell bool  // figures have been seen; the last look found it unhealthy
}

// Discovered is the Life of a backend that has just appeared: it takes no client before a check passes.
func Discovered(now int64) Life { return Life{Phase: Down, Since: now, unwell: true} }

// Ramp is the factor for its weight, for Backend.Ramp.
func (l Life) Ramp(r *PhaseRules, now int64) float64 {
	if l.Phase != Ramping {
		return 1
	}
	return Ramp(l.Since, now, r.Ramp)
}

// Next is the life of a backend at now, given what it was before and what is known. Call it once per
// second or so; figures count by their own time, so that calling it more often changes nothing.
//
//	       check passes          healthy 30 s, settled          ramp over
//	DOWN ────────────────▶ JOINING ─────────────────▶ RAMPING ─────────────▶ READY
//	                                                     │                   │  ▲
//	                                          overloaded │        overloaded │  │ cool 120 s
//	                                                     └──────▶ HOT ◀──────┘  │
//	                                                               └────────────┘
//	any ─ 3 checks or 5 connects failed ─▶ DOWN
//	any but DOWN ─ drain wanted ─▶ DRAINING ─ not wanted any more ─▶ READY
func (r *PhaseRules) Next(prev Life, v Vitals, now int64) Life {
	for _, f := range []*Figure{&v.Level, &v.Util, &v.Latency} {
		f.At = min(f.At, now) // the clock of a broker that runs ahead proves nothing
	}
	next := r.look(prev, v, now)
	for _, row := range phaseTable() {
		if row.from&(1<<prev.Phase) != 0 && row.to != prev.Phase && row.when(r, next, v, now) {
			next.Phase, next.Since = row.to, now
			next.level, next.levelAt = 0, max(next.levelAt, v.Level.At) // a new phase judges by new readings
			break
		}
	}
	return next
}

// A phaseRow is a transition: from any phase of a set, if the condition holds.
type phaseRow struct {
	from uint8
	to   Phase
	when func(r *PhaseRules, l Life, v Vitals, now int64) bool
}

// phaseTable holds all transitions. The first that applies is taken.
func phaseTable() [8]phaseRow {
	return [...]phaseRow{
		{anyPhase, Down, (*PhaseRules).failing},
		{anyPhase &^ (1 << Down), Draining, func(_ *PhaseRules, _ Life, v Vitals, _ int64) bool { return v.Drain || v.Terminating }},
		{1 << Down, Joining, (*PhaseRules).working},
		{1 << Joining, Ramping, (*PhaseRules).settled},
		{1<<Ramping | 1<<Ready, Hot, (*PhaseRules).overloaded},
		{1 << Ramping, Ready, func(r *PhaseRules, l Life, _ Vitals, now int64) bool { return now-l.Since >= r.Ramp }},
		{1 << Hot, Ready, func(r *PhaseRules, l Life, _ Vitals, now int64) bool { return now-max(l.warm, l.Since) >= r.CoolFor }},
		{1 << Draining, Ready, func(_ *PhaseRules, _ Life, v Vitals, _ int64) bool { return !v.Drain && !v.Terminating }},
	}
}

const anyPhase = 1<<Ready | 1<<Joining | 1<<Ramping | 1<<Hot | 1<<Draining | 1<<Down

func (r *PhaseRules) failing(_ Life, v Vitals, _ int64) bool {
	return v.FailedChecks >= r.FailedChecks || v.ConnectFailures >= r.ConnectFailures
}

func (r *PhaseRules) working(l Life, v Vitals, now int64) bool {
	return !l.unwell && !r.failing(l, v, now)
}

func (r *PhaseRules) settled(l Life, v Vitals, now int64) bool {
	return !l.unwell && !v.Unsettled && now-max(l.healthy, l.Since) >= r.Settle
}

// overloaded judges by the time of the figures: between the last one below the limit and the latest
// above it lies the whole time. With one reading every 5 s these are six in a row.
func (r *PhaseRules) overloaded(l Life, v Vitals, _ int64) bool {
	return l.level >= r.HotSamples ||
		l.watching && (v.Util.At-l.util >= r.HotFor || v.Latency.At-l.latency >= r.HotFor)
}

// look takes in what is known, without a verdict.
func (r *PhaseRules) look(l Life, v Vitals, now int64) Life {
	if unwell := v.FailedChecks > 0 || !v.Passed; unwell != l.unwell {
		l.unwell, l.healthy = unwell, now
	}
	level, util, latency := v.Level.fresh(now, r.Stale), v.Util.fresh(now, r.Stale), v.Latency.fresh(now, r.Stale)
	if !l.watching {
		// The first figure cannot tell how long it has been like this: the time starts with it.
		l.watching, l.util, l.latency = true, now, now
	}
	if level && v.Level.At > l.levelAt {
		l.levelAt = v.Level.At
		l.level++
		if v.Level.Value < r.HotLevel {
			l.level = 0
		}
	}
	if !level {
		l.level = 0
	}
	l.util = lastBelow(l.util, v.Util, util, r.HotUtil, now)
	l.latency = lastBelow(l.latency, v.Latency, latency, r.HotLatency, now)
	if level && v.Level.Value >= r.CoolLevel {
		l.warm = max(l.warm, v.Level.At)
	}
	if util && v.Util.Value >= r.CoolUtil {
		l.warm = max(l.warm, v.Util.At)
	}
	if latency && v.Latency.Value > r.CoolLatency {
		l.warm = max(l.warm, v.Latency.At)
	}
	return l
}

// lastBelow is when a figure was last seen below its limit. One that is missing cannot heat anybody.
func lastBelow(last int64, f Figure, fresh bool, limit float64, now int64) int64 {
	switch {
	case !fresh:
		return now
	case f.Value < limit:
		return max(last, f.At)
	}
	return last
}
