package balancer

import "cmp"

// A Brain is the machines of this package, put together for one cluster: who belongs to it, what is known of
// them, who sits where, and therefore where the next client goes and who should move. cluster drives one with
// the real clock and real brokers, the simulation drives one with a clock of its own; there is no second copy
// of these rules.
//
//	Join      discovery's list of backends               ┐
//	Vital     what health knows about one of them        ├─▶ Tick (every second) ─▶ Snapshot, State
//	Version   what one of them says that it is           │
//	Observe   load figures, own traffic, heavy clients   ┘    Forecast (every scrape)
//	Place     one client, one attempt                     ─▶ backend, Reason
//	Release   exactly once for each Place that chose one
//	Plan      who should move; a Mover says who of them now
//	Move      a planned move begins: the next Place of this client goes where the plan said
//
// Times are nanoseconds on a clock of the caller that never runs backwards. A Brain belongs to one caller at a
// time; the Snapshot that it returns may be read by anyone.
type Brain struct {
	o        BrainOptions
	strategy Strategy
	adaptive *Adaptive // is strategy, or nil
	groups   *Groups
	heavy    *Heavy
	loads    *Loads

	snapshot *Snapshot
	seats    *Seats
	members  map[string]*brainMember // also those that have left and still hold connections
	overdue  map[string]bool         // backends that are to be empty by now, see Mover.Overdue
	order    []*brainMember          // in the order of snapshot.Backends
	joined   bool                    // the first list has come
	renamed  bool                    // a version has changed since the snapshot was made
	state    State
	force    Force
	forecast *Forecast
	moved    departures

	// For the planner: the backends are to be levelled, …
	uneven  bool  // … because their set has changed, or somebody wants it …
	updated bool  // … by a rolling update
	wished  bool  // … even if plans are manual
	changed int64 // when that was, or when the last client was moved for it
}

// BrainOptions are the settings of a Brain. The zero value of each part means its defaults.
type BrainOptions struct {
	// Key is the secret of the placement hash, the same on all instances.
	Key string
	// Strategy is a name that New knows, empty for adaptive; Placement are its settings. Heavy in them is
	// filled in here.
	Strategy  string
	Placement Options
	// Groups are the settings of group placement. Hold is the lease in quiet times; while a rolling update
	// goes on it is at least two minutes. Fallback is filled in here.
	Groups GroupOptions
	Heavy  HeavyOptions
	Load   LoadOptions
	// Watched tells that somebody reports Vitals: then phases follow Phases. Otherwise every backend has the
	// phase that it joined with.
	Watched bool
	Phases  PhaseRules
	States  StateRules
	// Most bounds the connections of each backend; 0 is no bound.
	Most int
}

// brainMember is one backend.
type brainMember struct {
	backend Backend // as discovery describes it
	version string  // as Version has told it, "" if it has not
	left    bool    // discovery does not name it any more …
	leftAt  int64   // … since then, and it was not being emptied before; else 0
	live    int     // connections
	life    Life
	vitals  Vitals
}

const (
	rollingHold = 120 * second // a member of a group is away for as long while its broker restarts
	rampSteps   = 20           // a ramp changes the weights, and with them the snapshot, so often
)

// NewBrain returns a Brain without backends. An unknown strategy is an error that lists the known ones.
func NewBrain(o BrainOptions, now int64) (*Brain, error) {
	o.Strategy = cmp.Or(o.Strategy, "adaptive")
	o.Groups.Hold = cmp.Or(o.Groups.Hold, defaultHold)
	if o.Phases == (PhaseRules{}) {
		o.Phases = DefaultPhaseRules()
	}
	if o.States == (StateRules{}) {
		o.States = DefaultStateRules()
	}
	b := &Brain{
		o: o, loads: NewLoads(o.Load, now), heavy: NewHeavy(o.Heavy),
		members: make(map[string]*brainMember), overdue: make(map[string]bool), moved: newDepartures(),
	}
	o.Placement.Heavy = b.heavy
	var err error
	if b.strategy, err = New(o.Strategy, o.Placement); err != nil {
		return nil, err
	}
	b.adaptive, _ = b.strategy.(*Adaptive)
	o.Groups.Fallback = b.strategy
	b.groups = NewGroups(o.Groups)
	b.snapshot = NewSnapshot(0, o.Key, nil)
	b.seats = NewSeats(b.snapshot)
	b.seats.Most = o.Most
	b.state.Since = now
	return b, nil
}

// Snapshot is the present set of backends. It stays valid, and becomes old.
func (b *Brain) Snapshot() *Snapshot { return b.snapshot }

// Connections is how many connections a backend holds, also one that has left.
func (b *Brain) Connections(backend string) int {
	if m := b.members[backend]; m != nil {
		return m.live
	}
	return 0
}

// State is the state of the cluster at the last Tick.
func (b *Brain) State() State { return b.state }

// Forecast is the last one, or nil.
func (b *Brain) Forecast() *Forecast { return b.forecast }

// Groups are the groups, to be read.
func (b *Brain) Groups() *Groups { return b.groups }

// Vital takes in what is known about a backend now; it counts from the next Tick on.
func (b *Brain) Vital(backend string, v Vitals) {
	if m := b.members[backend]; m != nil && !m.left {
		m.vitals = v
	}
}

// Version takes in the version that a broker reports itself; "" is none. From the next Tick on it is the label
// VersionLabel of the backend if its source names no such label, and until the backend leaves or has another address.
func (b *Brain) Version(backend, version string) {
	if m := b.members[backend]; m != nil && !m.left && m.version != version {
		m.version = version
		b.renamed = b.renamed || m.backend.Labels[VersionLabel] == ""
	}
}

// Observe takes in a load figure that a broker has reported.
func (b *Brain) Observe(backend string, f Figure, now int64) { b.loads.Observe(backend, f, now) }

// Traffic takes in the bytes per second of all connections to a backend.
func (b *Brain) Traffic(backend string, rate float64, now int64) { b.loads.Traffic(backend, rate, now) }

// Note takes in the bytes per second of one live connection. Call it for every connection, or at least for all
// that are or were above HeavyFloor, before Predict.
func (b *Brain) Note(id, backend string, rate float64) { b.heavy.Note(id, backend, rate) }

// HeavyFloor is the rate below which Note only ever forgets.
func (b *Brain) HeavyFloor() float64 { return b.heavy.Floor() }

// Rate is what is remembered of the traffic of a client, in bytes per second, 0 if it is not heavy.
func (b *Brain) Rate(id string) float64 { return b.heavy.Rate(id) }

// Predict turns what was observed into a new Forecast. Call it at every scrape.
func (b *Brain) Predict(now int64) *Forecast {
	b.forecast = b.loads.Forecast(b.snapshot, now)
	if b.seats.Total > 0 {
		b.forecast.Client = b.forecast.Traffic * float64(b.snapshot.members) / float64(b.seats.Total)
	}
	if b.adaptive == nil {
		b.heavy.Follow(b.forecast)
	}
	follow(b.strategy, b.forecast)
	b.moved.forecast()
	return b.forecast
}

// Force makes an operator's word on the state count from the next Tick on.
func (b *Brain) Force(f Force) { b.force = f }

// Level makes the plans of a Mover level the backends, also in state BALANCED and despite PlanOptions.Manual, until
// they are level or nothing more can be done.
func (b *Brain) Level(now int64) { b.uneven, b.wished, b.changed = true, true, now }

// Uneven tells whether plans are to level the backends: somebody wants it, or the set of backends has changed and it
// has not been done yet.
func (b *Brain) Uneven() bool { return b.uneven }

// A Change is something that a Tick has changed: the phase of a backend or, if Backend is empty, the state of
// the cluster. From and To are the names of phases or states.
type Change struct {
	Backend, From, To string
}

// Tick lets the phases and the state follow the time. Call it every second. It returns what has changed.
func (b *Brain) Tick(now int64) []Change {
	var changes []Change
	if b.renamed {
		b.publish(now)
	}
	if b.o.Watched {
		changes = b.live(now)
	}
	terminating := 0
	for i, m := range b.order {
		if m.vitals.Terminating && b.snapshot.Backends[i].Phase == Draining {
			terminating++
		}
	}
	before := b.state.Cluster
	situation := Survey(b.snapshot, b.seats, b.forecast, terminating)
	b.state = b.o.States.Next(b.state, situation, b.force, now)
	if b.adaptive != nil {
		b.adaptive.Enter(b.state)
	}
	if situation.Coming > 0 || b.state.Cluster == Scaling || before == Rolling {
		b.uneven, b.changed, b.updated = true, now, b.updated || before == Rolling
	}
	if after := b.state.Cluster; after != before {
		changes = append(changes, Change{From: before.String(), To: after.String()})
		hold := b.o.Groups.Hold
		if after == Rolling && hold > 0 {
			hold = max(hold, rollingHold)
		}
		b.groups.SetHold(hold)
	}
	return changes
}

// live moves every backend on in its life.
func (b *Brain) live(now int64) []Change {
	var changes []Change
	stale := false
	for i, m := range b.order {
		if m.left {
			continue
		}
		was := m.life.Phase
		m.life = b.o.Phases.Next(m.life, m.vitals, now)
		if is := m.life.Phase; is != was {
			changes = append(changes, Change{Backend: m.backend.Name, From: was.String(), To: is.String()})
		}
		stale = stale || m.life.Phase != b.snapshot.Backends[i].Phase || b.ramp(m, now) != b.snapshot.Backends[i].Ramp
	}
	if stale {
		b.publish(now)
	}
	return changes
}
