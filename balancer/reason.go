package balancer

import "strconv"

// A Reason explains one decision. Its Cause is a closed set and serves as a metric label; its String
// is for people.
type Reason struct {
	// Strategy is the name of the strategy that decided; under adaptive, of the one it chose.
	Strategy string
	// Other is the backend that was passed over, if the cause speaks of one; for Emptiest, those that
	// were equally empty, separated by commas.
	Other string
	// Group is the group of the client when its group decided, or that of which it has become a member since; see
	// Grouped.
	Group string
	// Left is what was left of the lease when Cause is SeatLease, in milliseconds.
	Left uint32
	// Cause is the kind of reason.
	Cause Cause
	// Phase is the phase of Other when Cause is Avoided.
	Phase Phase
}

// A Cause is the kind of a Reason.
type Cause uint8

// The causes.
const (
	NoBackend   Cause = iota // nobody can take the client
	Home                     // the hash says so
	Spilled                  // home is over its bounded load
	Avoided                  // home's phase forbids it, or that of the client's seat in its group
	Retried                  // home, or the seat, did not accept the connection
	Fewest                   // least loaded by connections
	Turn                     // next in the weighted rotation
	Drawn                    // by weighted chance
	Newest                   // the backend is updated already, while others are still to be restarted
	Lightest                 // a heavy client, and the backend with the least predicted load
	Kept                     // a heavy client, and no other backend is lighter by more than 3 %
	TakenOver                // the member of a group is live already and gets the same backend
	SeatLease                // the member of a group came back to the seat that was kept for it
	OrdinalSeat              // the member's number in its group says so
	Emptiest                 // fewest members of the group for its weight
	Planned                  // a plan moved the client here
	Shunned                  // clients fail at home, or on the seat, of late
	Full                     // home, or the seat, has as many connections as it may
	AllFull                  // nobody can take the client: all that could have as many connections as they may
	Resumed                  // the broker has given the client its id, and has its session
)

// Sticky tells whether the client went where it belongs, whoever else is there: a client that comes again
// under the same circumstances gets the same backend.
func (c Cause) Sticky() bool {
	switch c {
	case Home, Kept, TakenOver, SeatLease, OrdinalSeat, Planned, Resumed:
		return true
	case NoBackend, Spilled, Avoided, Retried, Fewest, Turn, Drawn, Newest, Lightest, Emptiest, Shunned, Full, AllFull:
	}
	return false
}

// String is the metric label of the cause.
func (c Cause) String() string {
	switch c {
	case NoBackend:
		return "no_backend"
	case Home:
		return "home"
	case Spilled:
		return "spilled"
	case Avoided:
		return "avoided"
	case Retried:
		return "retried"
	case Fewest:
		return "fewest"
	case Turn:
		return "turn"
	case Drawn:
		return "drawn"
	case Newest:
		return "newest"
	case Lightest:
		return "lightest"
	case Kept:
		return "kept"
	case TakenOver:
		return "taken_over"
	case SeatLease:
		return "seat_lease"
	case OrdinalSeat:
		return "ordinal_seat"
	case Emptiest:
		return "emptiest"
	case Planned:
		return "planned"
	case Shunned:
		return "circuit_open"
	case Full:
		return "full"
	case AllFull:
		return "all_full"
	case Resumed:
		return "resumed"
	}
	return "unknown"
}

// String says in words why the decision fell.
func (r Reason) String() string {
	switch {
	case r.Group == "":
		return r.words()
	case r.enrolled():
		return r.words() + "; has joined group " + r.Group
	}
	return "group " + r.Group + ": " + r.words()
}

func (r Reason) words() string {
	switch r.Cause {
	case NoBackend:
		return "no backend can take a client"
	case Home:
		return "home by hash"
	case Spilled:
		return "spilled: " + r.Other + " over bounded load"
	case Avoided:
		return "away from " + r.place() + ": " + r.Other + " is " + r.Phase.String()
	case Retried:
		return "away from " + r.place() + ": " + r.Other + " did not accept the connection"
	case Fewest:
		return "fewest connections for its weight"
	case Turn:
		return "next in turn"
	case Drawn:
		return "drawn by weighted chance"
	case Newest:
		return "updated already, and it has room"
	case Lightest:
		return "heavy client: least predicted load"
	case Kept:
		return "heavy client: stays, no other backend is lighter by more than 3 %"
	case TakenOver:
		return "same seat, the client is still connected there"
	case SeatLease:
		return "back on its seat, " + wholeSeconds(r.Left) + " before the lease ends"
	case OrdinalSeat:
		return "seat of its number"
	case Emptiest:
		return "emptiest of " + r.Other
	case Planned:
		return "moved here by plan"
	case Shunned:
		return "away from " + r.place() + ": the circuit of " + r.Other + " is open"
	case Full:
		return "away from " + r.place() + ": " + r.Other + " has as many connections as it may"
	case AllFull:
		return "all backends have as many connections as they may"
	case Resumed:
		return "back at the broker that has given it its client id"
	}
	return "unknown"
}

// place is what the client was kept away from.
func (r Reason) place() string {
	if r.Group != "" && !r.enrolled() {
		return "its seat"
	}
	return "home"
}

// wholeSeconds shows milliseconds in whole seconds, rounded up.
func wholeSeconds(ms uint32) string { return strconv.FormatUint((uint64(ms)+999)/1000, 10) + "s" }
