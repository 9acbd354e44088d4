package health

import (
	"context"
	"fmt"
	"sync"

	"github.com/mqttlb/mqttlb/balancer"
)

// A Prober asks a backend once whether it works.
type Prober interface {
	// Probe returns when it knows, and soon after ctx is done in any case. It is called from several
	// goroutines at once, but never twice at once for the same backend.
	Probe(ctx context.Context, t Target) Result
}

// A Target is whom to ask.
type Target struct {
	Backend balancer.Backend
	// Version is what the Result of the last passed probe had as Version, 0 if there is none, or if it is
	// time to find out anew.
	Version byte
}

// A Result is what a probe has found out.
type Result struct {
	// Err is why the probe failed, nil if it passed.
	Err error
	// Drain tells that the broker itself asks for its clients to be taken elsewhere, Unsettled that it works
	// but does not want clients yet. Both may come with an error.
	Drain, Unsettled bool
	// Note is for the operator, about a probe that passed: for example that the broker refused the probe,
	// but for a reason that does not touch clients.
	Note string
	// Version is the MQTT protocol level that worked, for the next Target; 0 if that means nothing here.
	Version byte
}

// All is a probe that passes when all of its probes do. It runs them at the same time; each says what it
// knows about Drain and Unsettled, whether the others pass or not.
type All []Prober

// Probe implements Prober.
func (a All) Probe(ctx context.Context, t Target) Result {
	results := make([]Result, len(a))
	var running sync.WaitGroup
	for i, p := range a {
		running.Go(func() { results[i] = p.Probe(ctx, t) })
	}
	running.Wait()
	var sum Result
	for _, r := range results {
		switch {
		case sum.Err == nil:
			sum.Err = r.Err
		case r.Err != nil:
			sum.Err = fmt.Errorf("%w; %w", sum.Err, r.Err)
		}
		switch {
		case sum.Note == "":
			sum.Note = r.Note
		case r.Note != "":
			sum.Note += "; " + r.Note
		}
		sum.Drain = sum.Drain || r.Drain
		sum.Unsettled = sum.Unsettled || r.Unsettled
		sum.Version = max(sum.Version, r.Version)
	}
	return sum
}
