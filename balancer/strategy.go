package balancer

import (
	"fmt"
	"strings"
)

// A Strategy chooses a backend for a client.
type Strategy interface {
	// Pick returns the index of the chosen backend in s.Backends, or -1 with cause NoBackend when no
	// backend can take a client. It reads seats and never changes them: the caller counts the client.
	// It does not allocate, except with the first client after a new snapshot or forecast.
	Pick(c Client, s *Snapshot, seats *Seats) (int, Reason)
}

// A Previewer is a Strategy whose Pick moves on with every call. Preview answers as the next Pick
// would and leaves everything as it is, so that looking at a decision does not change the next one. It may be
// asked about any snapshot, also one that will never be picked from.
type Previewer interface {
	Preview(c Client, s *Snapshot, seats *Seats) (int, Reason)
}

// Preview asks a strategy without consequences.
func Preview(st Strategy, c Client, s *Snapshot, seats *Seats) (int, Reason) {
	if p, ok := st.(Previewer); ok {
		return p.Preview(c, s, seats)
	}
	return st.Pick(c, s, seats)
}

// Options are the settings that strategies share.
type Options struct {
	// BoundedLoad is the factor c of consistent hashing with bounded loads: a backend takes at most c
	// times its fair share, then clients spill to the next in their order. 0 switches it off.
	BoundedLoad float64
	// NodeScope tells that a session lives on one broker and is lost when its client goes to another
	// (session_scope: node). Under client-hash, maglev and adaptive persistent clients then go home whatever
	// its load or phase, as long as home is not down and accepts them. Without it, and for all others, a
	// session may be anywhere.
	NodeScope bool
	// Anonymous names the strategy for clients without a client id. Empty means metric-wrr.
	Anonymous string
	// Seed starts rotations at different points on different instances, and draws for random.
	Seed uint64
	// Heavy remembers heavy clients for adaptive. nil means that nobody is heavy.
	Heavy *Heavy
}

// A registration is one line of the registry.
type registration struct {
	name string
	make func(o Options) (Strategy, error)
}

// registry holds all strategies, in the order in which help texts show them.
func registry() []registration {
	return []registration{
		{"adaptive", func(o Options) (Strategy, error) { return orError(NewAdaptive(o)) }},
		{"client-hash", func(o Options) (Strategy, error) { return orError(newClientHash(o)) }},
		{"maglev", func(o Options) (Strategy, error) { return orError(newMaglev(o)) }},
		{"metric-wrr", func(o Options) (Strategy, error) { return newMetricWRR(o.Seed), nil }},
		{"least-connections", func(Options) (Strategy, error) { return leastConnections{}, nil }},
		{"round-robin", func(o Options) (Strategy, error) { return newRoundRobin(o.Seed), nil }},
		{"random", func(o Options) (Strategy, error) { return &random{seed: o.Seed}, nil }},
	}
}

// orError keeps the nil of a type of ours from becoming a Strategy that is not nil.
func orError[S Strategy](st S, err error) (Strategy, error) {
	if err != nil {
		return nil, err
	}
	return st, nil
}

// Names are the strategies that New knows, in the order in which help texts show them.
func Names() []string {
	var names []string
	for _, r := range registry() {
		names = append(names, r.name)
	}
	return names
}

// New returns the strategy with this name. The error of an unknown name lists the known ones.
func New(name string, o Options) (Strategy, error) {
	for _, r := range registry() {
		if r.name == name {
			return r.make(o)
		}
	}
	return nil, fmt.Errorf("unknown placement strategy %q; known are %s", name, strings.Join(Names(), ", "))
}

// newAnonymous returns what serves clients without a client id.
func newAnonymous(o Options) (Strategy, error) {
	switch o.Anonymous {
	case "", "metric-wrr":
		return newMetricWRR(o.Seed), nil
	case "round-robin":
		return newRoundRobin(o.Seed), nil
	case "least-connections":
		return leastConnections{}, nil
	}
	return nil, fmt.Errorf("unknown strategy %q for anonymous clients; known are metric-wrr, round-robin, least-connections", o.Anonymous)
}

// follow passes a forecast on to a strategy that uses it.
func follow(st Strategy, f *Forecast) {
	if x, ok := st.(Follower); ok {
		x.Follow(f)
	}
}
