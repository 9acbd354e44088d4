package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

var (
	// ErrNoSuchBackend is returned for a name that the cluster does not have.
	ErrNoSuchBackend = errors.New("no such backend")
	// ErrLastBackend is returned by Drain when nobody is left who could take the clients.
	ErrLastBackend = errors.New("no other backend takes clients")
	// ErrNotOrdered is returned by Resume for a backend that drains for another reason.
	ErrNotOrdered = errors.New("no operator has ordered the drain")
)

// An order is an operator's word that a backend is to be emptied.
type order struct {
	rate  float64 // 0 is the usual one
	since time.Time
}

// A drain is a backend that is being emptied, whoever wants it.
type drain struct {
	by           string
	since        time.Time
	at           int64 // the same, on the clock of the cluster
	begun        int   // connections
	empty, stuck bool  // that has been told
}

// Who wants a backend to be empty.
const (
	byOperator  = "operator"
	byDiscovery = "discovery"
	byHealth    = "health"
)

// A DrainStatus shows how far the drain of a backend is.
type DrainStatus struct {
	// Since is when it began; Begun is how many connections the backend had then.
	Since time.Time `json:"since"`
	Begun int       `json:"begun"`
	// Rate is how many clients per second may be moved, by all instances together.
	Rate float64 `json:"rate"`
	// Kept counts clients that are still there and are not being moved, by why: will, young, busy and so on, for people.
	Kept map[string]int `json:"kept,omitempty"`
	// Operator tells that Drain has begun it, and not discovery or the broker itself.
	Operator bool `json:"operator"`
	// By is who wants it: operator, discovery, or health.
	By string `json:"by"`
}

// Drain begins to move the clients of a backend away, and keeps new ones from it. rate is clients per second, by all
// instances together; 0 is half of that in MoveOptions. It holds until Resume, also over the time in which discovery
// does not name the backend. For a backend that drains already it changes the rate.
func (c *Cluster) Drain(backend string, rate float64) error {
	if err := c.order(backend, rate); err != nil {
		return err
	}
	c.Tick()
	return nil
}

func (c *Cluster) order(name string, rate float64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.backends[name]
	if b == nil {
		return c.noSuchBackend(name)
	}
	o, again := c.orders[name]
	if !again {
		if b.phase != balancer.Draining && !c.othersServe(name) {
			return fmt.Errorf("cluster %s: %w than %s: its clients would have nowhere to go", c.options.Name, ErrLastBackend, name)
		}
		o.since = time.Now()
	}
	o.rate = rate
	c.orders[name] = o
	effective := c.rateOf(name)
	c.say(slog.LevelInfo, "an operator wants a backend to be empty", slog.String("backend", name), slog.Float64("rate", effective))
	c.tell(Event{Kind: EventDrain, Backend: name, Reason: fmt.Sprintf("an operator wants it to be empty, %g clients per second", effective)})
	c.reorder()
	return nil
}

// Resume takes Drain back. It does nothing for a backend that does not drain.
func (c *Cluster) Resume(backend string) error {
	if err := c.unorder(backend); err != nil {
		return err
	}
	c.Tick()
	return nil
}

func (c *Cluster) unorder(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ordered := c.orders[name]
	b := c.backends[name]
	switch {
	case ordered:
	case b == nil:
		return c.noSuchBackend(name)
	case b.phase == balancer.Draining:
		return fmt.Errorf("cluster %s: %s drains, but %w: %s", c.options.Name, name, ErrNotOrdered, b.why)
	default:
		return nil
	}
	delete(c.orders, name)
	c.say(slog.LevelInfo, "an operator wants a backend to work again", slog.String("backend", name))
	c.tell(Event{Kind: EventResume, Backend: name, Reason: "an operator wants it to work again"})
	c.reorder()
	return nil
}

// maxKnown is how many names an error lists.
const maxKnown = 50

func (c *Cluster) noSuchBackend(name string) error {
	known := slices.Sorted(maps.Keys(c.backends))
	list := "it has none"
	if len(known) > 0 {
		list = "it has " + strings.Join(known[:min(len(known), maxKnown)], ", ")
	}
	if len(known) > maxKnown {
		list += ", …"
	}
	return fmt.Errorf("cluster %s: %w: %q; %s", c.options.Name, ErrNoSuchBackend, name, list)
}

// othersServe tells whether another backend takes clients. The mutex is held.
func (c *Cluster) othersServe(name string) bool {
	s := c.brain.Snapshot()
	return slices.ContainsFunc(s.Backends, func(b balancer.Backend) bool {
		_, ordered := c.orders[b.Name]
		return b.Name != name && !ordered && b.Phase.Serves()
	})
}

const wantedEmpty = "an operator wants it to be empty"

// reorder makes the brain hear of the orders at once if nobody watches: then a backend has the phase with which it
// joined. Otherwise the next tick does it. The mutex is held.
func (c *Cluster) reorder() {
	if !c.options.Watched && len(c.set) > 0 {
		c.brain.Join(c.ordered(c.set), c.now())
		c.align()
		for _, b := range c.current {
			if _, is := c.orders[b.name]; is {
				b.why = wantedEmpty
			}
		}
	}
}

// ordered is a membership in which the backends drain that an operator wants to be empty.
func (c *Cluster) ordered(set []balancer.Backend) []balancer.Backend {
	set = slices.Clone(set)
	for i := range set {
		if _, is := c.orders[set[i].Name]; is {
			set[i].Phase = balancer.Draining
		}
	}
	return set
}

// rateOf is how many clients per second may leave a backend that drains. The mutex is held.
func (c *Cluster) rateOf(name string) float64 {
	if o := c.orders[name]; o.rate > 0 {
		return o.rate
	}
	return c.options.Moves.perBackend()
}

// followDrains notes which backends drain and how far that is, and tells the Mover. The mutex is held.
func (c *Cluster) followDrains(now int64) {
	s := c.brain.Snapshot()
	median := usual(c.p95s(now))
	for i, b := range c.current {
		c.mover.SetRate(b.name, c.orders[b.name].rate)
		c.mover.Slow(b.name, c.slow(b, median, now))
		if s.Backends[i].Phase != balancer.Draining {
			b.drain = nil
			c.mover.Overdue(b.name, false)
			continue
		}
		n := c.brain.Connections(b.name)
		if b.drain == nil {
			b.drain = &drain{since: time.Now(), at: now, begun: n}
			if b.listed { // otherwise that was said when it left
				c.say(slog.LevelInfo, "a drain begins", slog.String("backend", b.name), slog.String("reason", b.why),
					slog.Int("connections", n), slog.Float64("rate", c.rateOf(b.name)))
			}
		}
		c.followDrain(b, n, now)
	}
}

func (c *Cluster) followDrain(b *backend, connections int, now int64) {
	d, deadline := b.drain, int64(c.options.Moves.Deadline)
	was := d.by
	switch _, ordered := c.orders[b.name]; {
	case ordered:
		d.by = byOperator
	case b.leaving || !b.listed:
		d.by = byDiscovery
	case c.options.Watched && b.check.Drain:
		d.by = byHealth
	default:
		d.by = byDiscovery // that is where its phase comes from
	}
	if was == "" && d.by != byOperator { // which was told when it was ordered
		c.tell(Event{Kind: EventDrain, Backend: b.name, Reason: b.why})
	}
	c.mover.Overdue(b.name, deadline > 0 && now-d.at >= deadline)
	switch {
	case connections == 0 && !d.empty:
		c.drained(b)
	case connections > 0 && connections == c.mover.Held(b.name) && !d.stuck:
		d.stuck = true
		c.say(slog.LevelWarn, "a drain has come to an end: the clients that are left would have their wills published (drain.will: skip)",
			slog.String("backend", b.name), slog.Int("connections", connections))
	}
	d.empty = connections == 0
}

// drained tells that a backend has lost its last connection. The mutex is held.
func (c *Cluster) drained(b *backend) {
	c.say(slog.LevelInfo, "a backend is empty; it can be stopped", slog.String("backend", b.name),
		slog.Int("connections", b.drain.begun), slog.String("after", time.Since(b.drain.since).Round(time.Second).String()))
	c.tell(Event{Kind: EventDrain, Backend: b.name, Reason: "it is empty and can be stopped"})
}

// drainStatus shows the drain of a backend, nil if there is none. The mutex is held.
func (c *Cluster) drainStatus(b *backend) *DrainStatus {
	if b.drain == nil {
		return nil
	}
	s := &DrainStatus{
		Since: b.drain.since, Begun: b.drain.begun, Rate: c.rateOf(b.name),
		Operator: b.drain.by == byOperator, By: b.drain.by,
	}
	if o, ordered := c.orders[b.name]; ordered {
		s.Since = o.since
	}
	if held := c.mover.Held(b.name); held > 0 {
		s.Kept = map[string]int{"will": held}
	}
	return s
}

const (
	// A backend that takes so many times as long for CONNECT as the usual one gets no more clients by plan
	// (algorithms.md, 5.3), unless that is still quick.
	slowFactor = 2
	quick      = 100 * time.Millisecond
)

// slow tells whether a backend should not be given more clients for now. The mutex is held.
func (c *Cluster) slow(b *backend, median time.Duration, now int64) bool {
	if c.options.Watched && !b.check.At.IsZero() && !b.check.Passed {
		return true
	}
	p95, known := b.latency.p95(now)
	return known && median > 0 && p95 > quick && p95 > slowFactor*median
}

// p95s are the latencies of all backends that have some. The mutex is held.
func (c *Cluster) p95s(now int64) []time.Duration {
	list := make([]time.Duration, 0, len(c.current))
	for _, b := range c.current {
		if p95, ok := b.latency.p95(now); ok && b.phase != balancer.Down {
			list = append(list, p95)
		}
	}
	return list
}
