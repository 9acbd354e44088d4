package cluster

import (
	"cmp"
	"fmt"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/proxy"
)

// terms are the settings that are looked at without the mutex. They never change; Reconfigure replaces them as a
// whole.
type terms struct {
	rules
	attempts int
	outliers *health.Outliers
}

// withDefaults fills in what is zero.
func (o Options) withDefaults() Options {
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.DialTimeout = cmp.Or(o.DialTimeout, 3*time.Second)
	o.Phases = cmp.Or(o.Phases, balancer.DefaultPhaseRules())
	o.Load.Stale = cmp.Or(o.Load.Stale, o.Phases.Stale)
	o.Moves = o.Moves.withDefaults()
	if o.Outliers.Failures > 0 {
		o.Phases.ConnectFailures = o.Outliers.Failures
	}
	o.Outliers.Failures = o.Phases.ConnectFailures
	if o.Clock == nil {
		o.Clock = monotonic()
	}
	return o
}

// brain are the settings that the Brain decides by.
func (o *Options) brain(found rules) balancer.BrainOptions {
	groups := o.Groups
	groups.Ordinals = found.ordinals
	return balancer.BrainOptions{
		Key: o.Key, Strategy: o.Strategy, Placement: o.Placement, Groups: groups,
		Watched: o.Watched, Phases: o.Phases, Load: o.Load, Most: o.Most,
	}
}

// Reconfigure gives the cluster other settings while it works. An error changes nothing; it is the one that New would
// return. Name, Observer, Events, Log, Clock and the seed of Placement stay as they are, and so do the backends, which Apply
// changes.
//
// The settings count from the next decision on. No connection is touched: all stay counted where they are, and what is
// known of backends, groups and clients stays known, leases of seats and phases among it. Who is a member of a group
// was decided when the client came: where other rules now say something else, it counts with its next CONNECT.
// Connections that are being dialled go on with the timeouts and the header with which they began.
func (c *Cluster) Reconfigure(o Options) error {
	o = o.withDefaults()
	found, err := newRules(o.Rules)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.options.Name, err)
	}
	c.applying.Lock()
	defer c.applying.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	o.Placement.Seed = c.options.Placement.Seed
	if err := c.brain.Reconfigure(o.brain(found), c.now()); err != nil {
		return fmt.Errorf("cluster %s: %w", c.options.Name, err)
	}
	next := &terms{rules: found, attempts: o.Attempts, outliers: c.terms.Load().outliers}
	if o.Outliers != c.options.Outliers {
		next.outliers = health.NewOutliers(o.Outliers)
		next.outliers.Set(c.listed())
	}
	c.terms.Store(next)
	if !found.learn && c.learned.Len() > 0 {
		c.learned = balancer.NewLearned(learnedClients)
		c.lessons++
	}
	mover := c.options.mover()
	c.options.takeOver(&o)
	if next := c.options.mover(); next != mover {
		c.mover.SetOptions(next)
	}
	for _, b := range c.backends {
		b.target = c.describe(b.target)
		if !o.Watched {
			b.check = health.Report{}
		}
	}
	c.align()
	return nil
}

// takeOver takes over what Reconfigure may change, one by one: the other fields are read without the mutex.
func (o *Options) takeOver(next *Options) {
	o.Key = next.Key
	o.Strategy = next.Strategy
	o.Placement = next.Placement
	o.Rules = next.Rules
	o.Groups = next.Groups
	o.Watched = next.Watched
	o.Phases = next.Phases
	o.Outliers = next.Outliers
	o.Load = next.Load
	o.Members = next.Members
	o.Moves = next.Moves
	o.Attempts = next.Attempts
	o.Most = next.Most
	o.Redirect = next.Redirect
	o.OverloadedConnects = next.OverloadedConnects
	o.DialTimeout = next.DialTimeout
	o.FirstByteTimeout = next.FirstByteTimeout
	o.Header = next.Header
	o.TLS = next.TLS
	if !o.Sources.Same(next.Sources) { // else what they have counted goes on
		o.Sources = next.Sources
	}
}

// listed are the names of the backends that discovery names. The mutex is held.
func (c *Cluster) listed() []string {
	names := make([]string, 0, len(c.backends))
	for name, b := range c.backends {
		if b.listed {
			names = append(names, name)
		}
	}
	return names
}

// describe is a target with the present settings: the same one if they have not changed.
func (c *Cluster) describe(t *proxy.Backend) *proxy.Backend {
	next := *t
	next.Sources = c.options.Sources
	next.Header, next.DialTimeout, next.FirstByteTimeout = c.options.Header, c.options.DialTimeout, c.options.FirstByteTimeout
	next.TLS = c.options.TLS
	if next == *t {
		return t
	}
	return &next
}
