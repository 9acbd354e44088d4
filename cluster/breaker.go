package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/proxy"
)

// A CircuitStatus shows the circuit of a backend that is not closed.
type CircuitStatus struct {
	// State is open or half_open, and Why what has opened it.
	State string `json:"state"`
	Why   string `json:"why"`
}

// shun tells the brain which backends no client should go to now. The mutex is held.
func (c *Cluster) shun(outliers *health.Outliers, now int64) {
	c.shunned = outliers.Shunned(now, c.shunned[:0])
	c.brain.Shun(c.shunned)
}

// another tells whether the client that was just put on backend i may be offered to a further one. A session that
// lives on one broker is not where the client would go. The mutex is held.
func (c *Cluster) another(i int, client *balancer.Client, tried, most int, now int64) bool {
	tied := c.options.Placement.NodeScope && client.Persistent
	return !tied && tried+1 < most && c.retries.left(now) && c.brain.Another(i)
}

// refusal is the error for a client that has no place.
func refusal(why balancer.Reason) error {
	if why.Cause == balancer.AllFull {
		return proxy.ErrBackendFull
	}
	return proxy.ErrNoBackend
}

// retries is the budget of attempts beyond the first one of a client: where most brokers decline their clients, to ask
// the others makes it worse. It is a bucket of tokens. A client that comes brings a part of one, and time the rest,
// so that a small cluster has some, too. Connects that fail and CONNACKs that decline count alike.
type retries struct {
	spent   float64 // of retryBurst
	updated int64
}

const (
	retryShare = 0.1 // of the clients that come (protocol.md, 3)
	retryRate  = 10  // per second besides
	retryBurst = 100
)

// came notes a client that comes for the first time.
func (r *retries) came() { r.spent = max(0, r.spent-retryShare) }

// left tells whether a client may try a further backend.
func (r *retries) left(now int64) bool {
	if now > r.updated {
		r.spent = max(0, r.spent-retryRate*time.Duration(now-r.updated).Seconds())
		r.updated = now
	}
	return r.spent <= retryBurst-1
}

// spend takes a token; left has told that there is one.
func (r *retries) spend() { r.spent++ }

// A circuitTurn is a circuit that has opened or closed.
type circuitTurn struct {
	backend, why string
	closed       bool
}

func (t *circuitTurn) log(log *slog.Logger) {
	backend := slog.String("backend", t.backend)
	if t.closed {
		log.Info("a backend's circuit is closed again", backend)
		return
	}
	log.LogAttrs(context.Background(), slog.LevelWarn, "a backend's circuit is open: clients go elsewhere if they can",
		backend, slog.String("reason", t.why))
}

// followCircuits returns the circuits that have opened or closed since the last call. The mutex is held.
func (c *Cluster) followCircuits(now int64) (turns []circuitTurn) {
	c.circuits = c.terms.Load().outliers.Circuits(now, c.circuits[:0])
	slices.SortFunc(c.circuits, func(a, b health.Circuit) int { return strings.Compare(a.Backend, b.Backend) })
	for i := range c.circuits {
		next := &c.circuits[i]
		b := c.backends[next.Backend]
		if b == nil {
			continue
		}
		if closed := next.State == health.CircuitClosed; closed != (b.circuit == health.CircuitClosed) {
			turns = append(turns, circuitTurn{next.Backend, b.whyOpen(next), closed})
		}
		b.circuit = next.State
	}
	return turns
}

// whyOpen says in words why a circuit is not closed.
func (b *backend) whyOpen(c *health.Circuit) string {
	if c.Busy {
		return several(c.Denials, "client") + " in a row found the broker busy"
	}
	return fmt.Sprintf("%d of %s failed, the last: %s", c.Failed, several(c.Attempts, "client"), b.lastWrong)
}

// showCircuits fills in the circuits of backends sorted by name. The mutex is held.
func (c *Cluster) showCircuits(list []BackendStatus, now int64) {
	c.circuits = c.terms.Load().outliers.Circuits(now, c.circuits[:0])
	for i := range c.circuits {
		next := &c.circuits[i]
		at, found := slices.BinarySearchFunc(list, next.Backend, func(b BackendStatus, name string) int { return strings.Compare(b.Name, name) })
		if found && next.State != health.CircuitClosed {
			list[at].Circuit = CircuitStatus{State: next.State.String(), Why: c.backends[next.Backend].whyOpen(next)}
		}
	}
}
