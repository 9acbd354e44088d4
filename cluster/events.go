package cluster

import (
	"context"
	"log/slog"
	"time"
)

// An Event is something that operators want to hear of.
type Event struct {
	At      time.Time `json:"at"`
	Cluster string    `json:"cluster"`
	// Kind is phase, state, join, leave, drain, resume, rebalance, eviction, lost.
	Kind     string `json:"kind"`
	Backend  string `json:"backend,omitempty"`
	ClientID string `json:"client_id,omitempty"`
	// From and To are phases, states, or backends.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Reason says why, for people.
	Reason string `json:"reason,omitempty"`
}

// The kinds of events.
const (
	EventPhase     = "phase"     // a backend has another phase
	EventState     = "state"     // the cluster has another state
	EventJoin      = "join"      // discovery names a backend, or a new address of it
	EventLeave     = "leave"     // discovery does not name a backend any more
	EventDrain     = "drain"     // a backend is being emptied, or has become empty
	EventResume    = "resume"    // somebody has taken a drain back
	EventRebalance = "rebalance" // levelling begins or ends
	EventEviction  = "eviction"  // a client was sent away to come again elsewhere
	EventLost      = "lost"      // a client was sent away and has not come again
)

// maxUndelivered bounds the events that wait to be delivered, which takes a tenth of a second. Those of single clients
// are not worth more memory.
const maxUndelivered = 4096

// An outbox holds what is to be told when the mutex is not held any more: whoever listens may take their time, and so
// may the log.
type outbox struct {
	events []Event
	lines  []line
}

// A line is one of the log.
type line struct {
	level slog.Level
	text  string
	attrs []slog.Attr
}

// tell puts an event into the outbox. The mutex is held.
func (c *Cluster) tell(e Event) {
	if c.options.Events == nil || len(c.outbox.events) >= maxUndelivered {
		return
	}
	e.At, e.Cluster = time.Now(), c.options.Name
	c.outbox.events = append(c.outbox.events, e)
}

// say puts a line for the log into the outbox. The mutex is held.
func (c *Cluster) say(level slog.Level, text string, attrs ...slog.Attr) {
	c.outbox.lines = append(c.outbox.lines, line{level, text, attrs})
}

// deliver empties the outbox, in order even if several do so at once. It is never called on the event loops.
func (c *Cluster) deliver() {
	c.delivering.Lock()
	defer c.delivering.Unlock()
	c.mu.Lock()
	o := c.outbox
	c.outbox = outbox{}
	c.mu.Unlock()
	for _, l := range o.lines {
		c.log.LogAttrs(context.Background(), l.level, l.text, l.attrs...) //nolint:sloglint // it is a constant where say is called
	}
	for _, e := range o.events {
		c.options.Events(e)
	}
}
