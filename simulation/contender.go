package simulation

import (
	"fmt"
	"slices"
	"strings"
)

// A contender is a way to run a cluster: a load balancer, and whoever moves clients behind it. It looks at the
// world and never changes it.
type contender interface {
	// place chooses a broker for a client and counts it there, -1 if none can take it. tried are those that
	// have refused it during this connect.
	place(i int32, tried []int) int
	// gone tells that a connection has ended, or did not come about.
	gone(i int32, from int, why ending)
	// tick is called once a second, after everything that happens in it.
	tick()
	// moves are the clients to be disconnected now. It is called once a step.
	moves() []int32
}

// An ending is why a connection ends.
type ending uint8

const (
	dropped ending = iota // by itself, or with its broker
	evicted               // the contender wanted it
	refused               // the broker did not accept it
)

// An entry is one line of the registry.
type entry struct {
	name string
	// drains tells that somebody empties a broker before it is stopped.
	drains bool
	enter  func(w *world) (contender, error)
}

// registry holds the contenders, in the order of tables.
func registry() []entry {
	return []entry{
		{"mqttlb", true, func(w *world) (contender, error) { return newBrained(w, brainOptions(w)) }},
		{"round-robin", false, func(w *world) (contender, error) { return newRoundRobin(w), nil }},
		{"least-connections", false, func(w *world) (contender, error) { return newLeastConnections(w), nil }},
		{"hash", false, func(w *world) (contender, error) { return newHash(w), nil }},
		{"emqx", true, func(w *world) (contender, error) { return newEMQX(w), nil }},
	}
}

// Contenders are the names that Run knows, in the order of tables.
func Contenders() []string {
	var names []string
	for _, e := range registry() {
		names = append(names, e.name)
	}
	return names
}

// entryNamed finds a line of the registry.
func entryNamed(name string) (entry, error) {
	all := registry()
	k := slices.IndexFunc(all, func(e entry) bool { return e.name == name })
	if k < 0 {
		return entry{}, fmt.Errorf("contender %q is unknown; known are %s", name, strings.Join(Contenders(), ", "))
	}
	return all[k], nil
}
