package simulation

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// An Event is what happens to the cluster.
type Event string

// The events.
const (
	None    Event = "none"    // nothing: only natural reconnects
	Join    Event = "join"    // one broker more
	Leave   Event = "leave"   // one broker dies and does not come back
	Rolling Event = "rolling" // every broker is restarted with a new version, one after the other
	Hot     Event = "hot"     // the clients of one broker become so busy that it has 1.5 times the mean load
)

// Events are all that exist, in the order in which help texts show them.
func Events() []Event { return []Event{Join, Leave, Rolling, Hot, None} }

// A Load says how the clients' traffic is distributed and how far the cost of a client is from its traffic.
type Load struct {
	// Part of the clients is Times as busy as the others; both 0 for none.
	Part, Times float64
	// Alpha is the exponent of a Pareto distribution of the traffic, cut at 2000 times the least; 0 for none.
	Alpha float64
	// Sigma is the deviation of the logarithm of cost over traffic, 0 if traffic is all that costs.
	Sigma float64
}

// Loads are the names that LoadNamed knows.
func Loads() []string { return []string{"equal", "heavy", "pareto"} }

// LoadNamed returns a load by its name: equal clients, one in a hundred 50 times as busy, or the long tail of
// a Pareto distribution with exponent 1.2. An unknown name is an error that lists the known ones.
func LoadNamed(name string) (Load, error) {
	switch name {
	case "equal":
		return Load{}, nil
	case "heavy":
		return Load{Part: 0.01, Times: 50, Sigma: 0.5}, nil
	case "pareto":
		return Load{Alpha: 1.2, Sigma: 0.5}, nil
	}
	return Load{}, fmt.Errorf("load %q is unknown; known are %s", name, strings.Join(Loads(), ", "))
}

// A Scenario is what is simulated. Check tells the ranges.
type Scenario struct {
	// Backends is the number of brokers before the event, Clients that of all clients.
	Backends, Clients int
	// Of the clients, Groups times GroupSize are members of shared-subscription groups.
	Groups, GroupSize int
	// Wills is the part of the other clients that have a last will, 0…1. mqttlb moves them only when their
	// broker is emptied: a will that is published for nothing is worse than a broker with too few clients.
	Wills float64
	Load  Load
	Event Event
	// Rate is how many clients a second may be disconnected in order to balance.
	Rate float64
	// Reconnect is the mean time after which a client drops and comes back on its own, 0 for never.
	Reconnect time.Duration
	// Surge adds a broker for the time of a rolling update.
	Surge bool
	// Duration is the time from the event on.
	Duration time.Duration
	Seed     uint64
	// Ratio is by how much the load of a hot broker exceeds the mean, 0 for 1.5.
	Ratio float64
}

// The ranges of a Scenario.
const (
	MaxBackends = 64
	MaxClients  = 1_000_000
	MaxRate     = 10_000
	MinDuration = time.Minute
	MaxDuration = 24 * time.Hour
)

// Check tells what is wrong with a scenario. The errors begin with the name of a field in lower case and its
// value, in the words of mqttlb simulate.
func (s Scenario) Check() error {
	switch {
	case s.Backends < 2:
		return fmt.Errorf("backends %d: at least 2 are needed, or there is nothing to choose", s.Backends)
	case s.Backends > MaxBackends:
		return fmt.Errorf("backends %d: at most %d can be simulated", s.Backends, MaxBackends)
	case s.Clients < 10*s.Backends:
		return fmt.Errorf("clients %d: at least ten for each backend are needed, here %d", s.Clients, 10*s.Backends)
	case s.Clients > MaxClients:
		return fmt.Errorf("clients %d: at most %d can be simulated", s.Clients, MaxClients)
	case s.Groups < 0:
		return fmt.Errorf("groups %d: must be 0 or more", s.Groups)
	case s.GroupSize < 1:
		return fmt.Errorf("group-size %d: must be 1 or more", s.GroupSize)
	case s.Groups > s.Clients/s.GroupSize:
		return fmt.Errorf("groups %d: with %d members each they would need more than the %d clients there are",
			s.Groups, s.GroupSize, s.Clients)
	case !(s.Wills >= 0 && s.Wills <= 1):
		return fmt.Errorf("wills %g: must be between 0 and 1", s.Wills)
	case !(s.Rate >= 1 && s.Rate <= MaxRate):
		return fmt.Errorf("rate %g/s: must be between 1/s and %d/s", s.Rate, MaxRate)
	case s.Reconnect < 0 || s.Reconnect > 0 && s.Reconnect < time.Minute:
		return fmt.Errorf("reconnect %s: must be 1m or more, or 0 for no natural reconnects", s.Reconnect)
	case s.Duration < MinDuration || s.Duration > MaxDuration:
		return fmt.Errorf("duration %s: must be between %s and %s", s.Duration, MinDuration, MaxDuration)
	case s.Surge && s.Event != Rolling:
		return fmt.Errorf("surge: makes sense with event %s only, the event is %s", Rolling, s.Event)
	}
	if !slices.Contains(Events(), s.Event) {
		return fmt.Errorf("event %q is unknown; known are %s", s.Event, strings.Join(eventNames(), ", "))
	}
	return nil
}

func eventNames() []string {
	var names []string
	for _, e := range Events() {
		names = append(names, string(e))
	}
	return names
}

// draw draws the traffic and the cost of one client.
func (l Load) draw(normal, uniform func() float64) (rate, cost float64) {
	rate = 1
	switch {
	case l.Alpha > 0:
		rate = min(math.Pow(1-uniform(), -1/l.Alpha), 2000)
	case l.Part > 0 && uniform() < l.Part:
		rate = l.Times
	}
	cost = rate
	if l.Sigma > 0 {
		cost *= math.Exp(l.Sigma * normal())
	}
	return rate, cost
}
