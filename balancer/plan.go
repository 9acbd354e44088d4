package balancer

import "iter"

// A Session is a live connection as a plan sees it. Whoever owns the connections fills it in, and leaves out those
// that are being moved already.
type Session struct {
	// Client is who it is, as it would be placed if it came now: its group may have been learned since.
	Client Client
	// Backend is the name of the backend that it is on.
	Backend string
	// Handle is whatever the caller needs to find the connection again; Move hands it back.
	Handle uint64
	// Since is when the connection was placed.
	Since int64
	// Rate is its traffic in the unit of Brain.Traffic, usually bytes per second. Cooling goes by it.
	Rate float64
	// Will is what the broker does about the client's will when the connection is closed.
	Will Will
	// Shared tells that it consumes a shared subscription: others of its group go on while it is away.
	Shared bool
}

// A Will is what becomes of the will of a client that is moved.
type Will uint8

// The kinds of wills, the least harm first (protocol.md, 4.5).
const (
	NoWill      Will = iota // there is none
	DelayedWill             // published only if the client stays away: MQTT 5, will delay and session expiry above 0
	PromptWill              // published as soon as the connection closes
)

// A Purpose is why a client is moved. It serves as a metric label.
type Purpose uint8

// The purposes, in the order in which they are served.
const (
	Emptying  Purpose = iota // its backend is draining
	Cooling                  // its backend is hot
	Spreading                // its group sits unevenly
	Levelling                // its home is a backend that has too few clients, or its backend has too many
)

// String is the name of the purpose as metrics and the API show it.
func (p Purpose) String() string {
	switch p {
	case Emptying:
		return "emptying"
	case Cooling:
		return "cooling"
	case Spreading:
		return "spreading"
	case Levelling:
		return "levelling"
	}
	return "unknown"
}

// A Move is one client that should change its backend.
type Move struct {
	Client Client
	// From and To are names of backends. To is where Place puts the client when it comes again, if the moves
	// before it were carried out and nothing else has happened. It is empty for a client whose next place cannot
	// be kept for it, as it has no id, or cannot be told, as the strategy takes turns: then it may get any backend
	// that takes clients.
	From, To string
	Why      Purpose
	// Handle and Rate are those of the Session.
	Handle uint64
	Rate   float64
	// Forced tells that the client has to go even if it cannot be moved gently: see Mover.Overdue.
	Forced bool
}

// PlanOptions are the settings of plans. The zero value means the defaults, which the field comments name.
type PlanOptions struct {
	// Goal is by how much the connections of a backend may differ from its fair share: 0.05. With strategies that go by
	// the client id, the clients of a backend that is emptied go where it is kept to, while there is such a place.
	Goal float64
	// MinAge is how old a connection must be before it is moved: 60 s. Below 0 means that age does not matter.
	MinAge int64
	// Absence is for how long a backend that has left keeps its connections before it is emptied: what is missing in
	// one answer of discovery may be in the next. 0 is not at all. One that was being emptied when it left does not wait.
	Absence int64
	// Manual leaves everything undone that nobody has asked for: draining backends are emptied, and see Brain.Level.
	Manual bool
	// Level makes this plan level in state BALANCED although nothing has joined, and despite Manual: a dry run of
	// what Brain.Level would set off.
	Level bool
	// MoveWills lets clients with a PromptWill be moved for other purposes than Emptying. KeepWills leaves them
	// alone even then; a backend that has such clients does not become empty, see Mover.Held and Mover.Overdue.
	MoveWills, KeepWills bool
	// Limit bounds the number of moves. 0 means all.
	Limit int
}

func (o PlanOptions) withDefaults() PlanOptions {
	if o.Goal <= 0 {
		o.Goal = 0.05
	}
	if o.MinAge == 0 {
		o.MinAge = 60 * second
	}
	return o
}

// Plan is the list of all moves that are wanted now, in the order in which to carry them out: by purpose, and for
// each purpose the least harm first. It changes nothing. sessions are all live connections, or at least those that
// Need wants; they are looked at once.
//
// What is done in which state follows algorithms.md, 6:
//
//	            Emptying  Cooling  Spreading  Levelling
//	BALANCED       yes      yes       yes     after a change of the set of backends, until it is level
//	SCALING        yes                yes        yes
//	ROLLING        yes
//	OVERLOADED
//	DEGRADED
//
// While a backend is being emptied, nothing is spread or levelled: that would be done twice.
//
// Clients are not moved when they came less than MinAge ago, or were moved less than ten minutes ago. From a
// draining backend the latter are moved too, after the others: it goes away with them or without. Clients whose
// session lives on one broker (session_scope: node) are never moved.
func (b *Brain) Plan(sessions iter.Seq[Session], o PlanOptions, now int64) []Move {
	need := b.Need(o, now)
	if need == nil || sessions == nil {
		return nil
	}
	var p planner
	p.reset(b, o.withDefaults(), now)
	return p.plan(need, sessions)
}

// purposes is the table of Plan: what is done in a state.
func purposes(s ClusterState) [Levelling + 1]bool {
	return [...][Levelling + 1]bool{
		Balanced:   {Emptying: true, Cooling: true, Spreading: true, Levelling: true},
		Scaling:    {Emptying: true, Spreading: true, Levelling: true},
		Rolling:    {Emptying: true},
		Overloaded: {},
		Degraded:   {},
	}[s]
}
