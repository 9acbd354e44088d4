// Package discovery finds out which backends exist. A Source sends full sets of backends: the first as
// soon as it has one, and the next whenever something has changed.
//
//	source := &discovery.DNS{Name: "hivemq-cluster", Port: 1883, Log: log, Observer: metrics}
//	sets := make(chan []balancer.Backend)
//	go source.Run(ctx, sets)
//	for set := range sets { … } // never empty; the addresses are IP:port; do not modify it
//
// # The sources
//
//	Static   the list of the configuration; host names in it are resolved again and again
//	File     the same list in a file of its own, which is watched
//	DNS      the A, AAAA or SRV records of a name
//	S3       the objects that HiveMQ's S3 cluster discovery extension writes
//
// # What all of them promise
//
// A refresh that fails or finds nobody is reported and not sent: the last good set stays (protocol.md, I9).
// So does one that finds more backends than is plausible. A backend that cannot be used is left out, logged
// and counted; the others are not affected by it. One whose host name cannot be resolved at the moment keeps
// the address that it had. What makes no difference is not sent either; the Observer hears that it was
// confirmed.
//
// After a refresh comes a pause of one interval, ±10 %, so that many instances do not ask in step. After
// a failure it is 1 s, then 2 s, 4 s, and so on up to the interval. Trouble is logged when it begins, when it
// changes, every ten minutes while it lasts, and when it is over. Run returns as soon as its context is done,
// and leaves nothing running.
//
// What comes from outside is bounded in size, number and time, and every name, host and label is checked
// before anybody else sees it.
//
// # How to add a source
//
// One file with a struct of options and Run. The struct needs a method that gets the whole list anew,
// func(context.Context) (answer, error), in which addresses may have host names; Run hands it to a
// refresher, which does everything that is said above. Sources know nothing of each other, of health or of
// load. Whatever the answer is made of has a limit, written down as a constant beside its reason. Names are
// what clients are placed by: choose what stays the same when a broker restarts or moves.
package discovery

import (
	"context"

	"github.com/mqttlb/mqttlb/balancer"
)

// A Source sends the full set of backends each time it changes.
type Source interface {
	// Run sends sets until ctx is done and returns nil then. Another error means that the source cannot
	// work at all, whatever happens: its options make no sense. Run is called once.
	Run(ctx context.Context, sets chan<- []balancer.Backend) error
}

// An Observer hears how each refresh of a source ended. Its methods are called from the goroutine of Run,
// one at a time, and should be quick.
type Observer interface {
	// Succeeded is called when the set in force has been confirmed, or replaced and handed over. It consists
	// of so many backends; skipped are those that were left out or that keep an address which could not be
	// confirmed.
	Succeeded(backends, skipped int)
	// Failed is called when a refresh gave no set at all. The last good one stays in force.
	Failed(err error)
}
