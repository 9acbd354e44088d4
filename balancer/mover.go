package balancer

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
)

// MoverOptions are the settings of a Mover. The zero value means the defaults, which the field comments name
// (algorithms.md, 5.3 and 7; protocol.md, 4.5).
type MoverOptions struct {
	Plan PlanOptions
	// Rate is how many clients per second may be moved in the whole cluster: 100. A pause is made up for by a
	// burst of one second's worth at most. The moments are not on the beat, but up to a fifth off: several balancers
	// would stay in step.
	Rate float64
	// PerBackend is how many clients per second may leave one backend: half of Rate, thus 50. They go in bursts of
	// at most PerBackendBurst: a fifth of PerBackend, thus 10. As a Begin moves no more than a burst from one
	// backend, the rate is only reached if Begin is called five times per second.
	PerBackend, PerBackendBurst float64
	// Cooling is how many clients per second may leave a hot backend because it is hot: 1.
	Cooling float64
	// Instances is how many balancers share the cluster; each takes its part of all rates: 1.
	Instances int
	// Seed makes the moments of different balancers differ.
	Seed uint64
	// InFlight is the part of the sessions that may be away at once: 0.02, but at least one client. From 1 on it is a
	// number of clients of the whole cluster.
	InFlight float64
	// InFlightLeast is how many may be away in any case, where InFlight is a part: 1. In a small cluster the part is
	// less than a client or two, and then every move would wait for the one before.
	InFlightLeast int
	// Interval is the time between two calls of Begin in the usual course of things, or more: 1 s. After a gap of
	// more than three of them something was frozen, and nobody is moved for 30 s.
	Interval int64
}

func (o MoverOptions) withDefaults() MoverOptions {
	o.Plan = o.Plan.withDefaults()
	o.Rate = cmp.Or(o.Rate, 100)
	o.PerBackend = cmp.Or(o.PerBackend, o.Rate/2)
	o.PerBackendBurst = cmp.Or(o.PerBackendBurst, o.PerBackend/5)
	o.Cooling = cmp.Or(o.Cooling, 1)
	o.Instances = max(o.Instances, 1)
	o.InFlight = cmp.Or(o.InFlight, 0.02)
	o.Interval = cmp.Or(o.Interval, second)
	return o
}

// A Mover works off the plans of a Brain within a budget: it says which clients to move now. There is one Mover
// for a Brain, and it belongs to the same caller.
//
//	moves := mover.Begin(sessions, now)        every 100 ms or so, after Brain.Tick when that is due
//	for each: end the connection gently        the Brain knows already where the client goes next
//	brain.Release(client, from, Moved, now)    when it has ended
//	brain.Place(client, …)                     when the client comes again: it is back, and the budget has room
//
// A plan is made when there is a Need, and then worked off for as long as it is good: until it is used up, a
// minute is over, or the backends, their phases or the state of the cluster have changed. Every move is checked
// again when its turn comes: the client still sits where the plan found it, the move still helps, and its
// destination is fit and not slow; where it goes is decided anew. In OVERLOADED and DEGRADED the plan is dropped
// at once.
type Mover struct {
	b      *Brain
	o      MoverOptions
	budget budget
	slow   map[string]bool
	last   int64 // call of Begin
	frozen int64 // pause until then

	begun     int64  // when the last move began
	hindrance string // what was last in the way of one
	held      map[string]int

	need  *Need // what the next plan is for, nil if that is to be found out …
	asked int64 // … and when it was
	stamp stamp // of what the plan was made for
	made  int64
	again int64 // not before then is a new plan made, unless the stamp has changed
	wait  int64 // for again, grows while there is nothing to do
	plan  []Move
	lanes []lane
	work  planner
	out   []Move
	turn  int // which lane begins the next round
}

// A stamp tells whether a plan is still good.
type stamp struct {
	snapshot *Snapshot
	state    ClusterState
	forecast *Forecast // while something is being cooled
	options  PlanOptions
	absent   int // backends that have left and are not emptied yet
}

const (
	thawFor   = 30 * second // no moves for that long after a freeze
	planFor   = 60 * second // a plan is made for, and lasts at most
	replan    = 2 * second  // after a plan is used up
	replanMax = 32 * second // while there is nothing to do
	needFor   = 5 * second  // a Need is good for
)

// NewMover returns a Mover that has nothing under way.
func NewMover(b *Brain, o MoverOptions, now int64) *Mover {
	o = o.withDefaults()
	return &Mover{
		b: b, o: o, budget: newBudget(o, now), slow: make(map[string]bool), held: make(map[string]int),
		last: now, begun: now, wait: replan,
	}
}

// SetOptions changes the options. Who is away and who rests, the ordered rates and all counts stay as they are.
func (m *Mover) SetOptions(o MoverOptions) {
	m.o = o.withDefaults()
	m.budget.change(m.o)
	m.drop()
}

// SetRate orders the rate at which a backend is emptied, in clients per second in the whole cluster, of which this
// instance takes its part; 0 gives back the usual one. An ordered rate replaces both PerBackend and Rate for these
// moves, be it lower or higher. They do not wait for the budget of the cluster, but use up what is in it, so that other
// moves make room for them: the cluster as a whole moves no more than the greater of Rate and all ordered rates
// together. InFlight holds for them too.
func (m *Mover) SetRate(backend string, perSecond float64) {
	if perSecond == m.budget.orders[backend] {
		return
	}
	m.budget.order(backend, perSecond)
	m.drop()
}

// Overdue tells that a backend is to be empty by now, or takes that back. While it drains, its clients are moved
// whatever their wills and however young they are, and Forced. Only sessions that live on one broker still stay.
func (m *Mover) Overdue(backend string, overdue bool) {
	switch {
	case overdue == m.b.overdue[backend]:
		return
	case overdue:
		m.b.overdue[backend] = true
	default:
		delete(m.b.overdue, backend)
	}
	m.drop()
}

// Held is how many clients stay on a backend that is being emptied because of their wills (PlanOptions.KeepWills), as
// of the last plan. There is a new one every half minute at the latest.
func (m *Mover) Held(backend string) int { return m.held[backend] }

// Need is which sessions the next Begin will look at, nil if none. Whoever has very many sessions asks first,
// gathers the sessions that Need.Of is true for, and passes these.
func (m *Mover) Need(now int64) *Need {
	if m.stamp != m.stampNow() {
		m.drop()
	}
	if !m.due(now) {
		return nil
	}
	if m.need != nil && now-m.asked < needFor {
		return m.need
	}
	if m.need, m.asked = m.b.Need(m.o.Plan, now), now; m.need == nil {
		m.planned(0, now)
		clear(m.held)
	}
	return m.need
}

// Begin returns the moves to begin now. For each, Brain.Move has been called already: the place of the client is
// kept before its connection is closed, as some clients come again at once. sessions are all live connections that
// are not being moved, or at least those that Need wants. They are looked at only if a new plan is made; nil means
// that the caller has none at hand. The slice is valid until the next call.
func (m *Mover) Begin(sessions iter.Seq[Session], now int64) []Move {
	m.out = m.out[:0]
	if now-m.last > 3*m.o.Interval {
		m.frozen = now + thawFor
	}
	m.last = now
	m.b.moved.expire(now)
	m.rest(now)
	if need := m.Need(now); need != nil && sessions != nil {
		m.replan(need, sessions, now)
	}
	if now >= m.frozen && !m.slow[""] && len(m.lanes) > 0 && !m.b.moved.returns.slow(now) {
		m.round(now)
	}
	return m.out
}

// Paused says for people why nobody is moved, empty if nothing keeps clients from being moved, or if there is nobody to
// be moved: then only what would keep everybody is told.
func (m *Mover) Paused(now int64) string {
	const lively = second // after a move has begun, what delays the next one is the course of things
	d := &m.b.moved
	switch limit := m.budget.away(m.b.seats.Total + d.outstanding); {
	case purposes(m.b.state.Cluster) == [Levelling + 1]bool{}:
		return "the cluster is " + m.b.state.Cluster.String()
	case now < m.frozen:
		return fmt.Sprintf("the process stood still, %d s are left to look around", (m.frozen-now+second-1)/second)
	case m.slow[""]:
		return "the backends are slow"
	case d.returns.slow(now):
		return fmt.Sprintf("clients take longer than %d s to come back", slowReturn/second)
	case m.Pending() == 0 || now-m.begun < lively:
		return ""
	case d.outstanding >= limit:
		return fmt.Sprintf("%d clients are away, and no more than %d may be", d.outstanding, limit)
	}
	return m.hindrance
}

// Stay takes back a move that Begin has returned and that was not carried out: its connection goes on, or was not
// there any more.
func (m *Mover) Stay(mv Move, now int64) { m.b.stay(mv.Client, mv.From, now) }

// Slow pauses the moves to a backend that answers slowly, and ends the pause. The empty name stands for all.
func (m *Mover) Slow(backend string, slow bool) {
	if slow {
		m.slow[backend] = true
	} else {
		delete(m.slow, backend)
	}
}

// Pending is how many moves of the present plan are still to begin.
func (m *Mover) Pending() int {
	n := 0
	for i := range m.lanes {
		n += len(m.lanes[i].pending)
	}
	return n
}

// Outstanding is how many clients have been sent away, have not come again and have not been given up. Clients
// without an id are not among them.
func (m *Mover) Outstanding() int { return m.b.moved.outstanding }

// Counts are how many connections have been ended to move their clients, and how many of these clients have come again
// within five minutes. Clients without an id cannot be recognised then.
func (m *Mover) Counts() (moved, returned uint64) { return m.b.moved.moved, m.b.moved.returned }

// Returns are how long the clients were away that have come again since the last call, in nanoseconds, at most 65 536
// of them: 0 for one that came before its connection had ended. The slice is valid until the next client comes.
func (m *Mover) Returns() []int64 {
	r := &m.b.moved.returns
	out := r.fresh
	r.fresh = r.fresh[:0]
	return out
}

// A Lost is a client that was moved and has not come again.
type Lost struct {
	Client, From, To string
	At               int64 // when it was sent away
}

// Lost is how many clients have been sent away and have not come again within five minutes, and who the latest of
// them are, up to 1000, the latest last.
func (m *Mover) Lost() (count int, latest []Lost) {
	d := &m.b.moved
	return d.lost, slices.Concat(d.lostLately[d.lostStart:], d.lostLately[:d.lostStart])
}

// rest ends the time of levelling when all is level, or when nobody was moved for so long that nobody will be free
// to move any more.
func (m *Mover) rest(now int64) {
	b := m.b
	if !b.uneven || b.state.Cluster != Balanced {
		return
	}
	b.expected(&m.work.seats)
	balanceOf(&m.work.even, b.snapshot, &m.work.seats, m.o.Plan.Goal)
	if m.work.even.level(&m.work.seats) || now-b.changed > restFor+max(0, m.o.Plan.MinAge)+planFor {
		b.uneven, b.updated, b.wished = false, false, false
	}
}

func (m *Mover) stampNow() stamp {
	s := stamp{snapshot: m.b.snapshot, state: m.b.state.Cluster, options: m.o.Plan}
	if slices.ContainsFunc(s.snapshot.Backends, func(b Backend) bool { return b.Phase == Hot }) {
		s.forecast = m.b.forecast
	}
	for i := range s.snapshot.Backends {
		if s.snapshot.Backends[i].Left && !m.b.emptying(i, m.o.Plan, m.last) {
			s.absent++
		}
	}
	return s
}

// drop forgets the plan, so that a new one is due.
func (m *Mover) drop() {
	m.stamp, m.lanes, m.need = m.stampNow(), m.lanes[:0], nil
	m.again, m.wait = 0, replan
	clear(m.b.moved.planned)
	m.budget.prune(m.b.snapshot)
}

// due tells whether a new plan is to be made, if there is anything to plan.
func (m *Mover) due(now int64) bool {
	return now-m.made >= planFor || now >= m.again && m.Pending() == 0
}

// planned notes that a plan with so many moves has been made. The next one is due when it is used up and a little
// later, so that the last clients are back; if there was nothing to move, later and later.
func (m *Mover) planned(moves int, now int64) {
	if moves > 0 {
		m.wait = replan
	}
	m.made, m.again = now, now+m.wait
	if moves == 0 {
		m.wait = min(2*m.wait, replanMax)
	}
}
