package cluster

import (
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A BackendStatus shows one backend.
type BackendStatus struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	// Phase is that of balancer.Phase. PhaseSince is when it began, Why is what began it, empty for those of the first
	// list.
	Phase      string    `json:"phase"`
	PhaseSince time.Time `json:"phase_since,omitzero"`
	Why        string    `json:"why,omitempty"`
	// Removed tells that discovery does not name the backend any more. It drains, and vanishes with its last connection.
	Removed bool `json:"removed,omitempty"`
	// Weight is capacity times ramp. LoadFactor scales it where clients are placed by load: 1 while nothing is known
	// of the load.
	Weight     float64 `json:"weight"`
	LoadFactor float64 `json:"load_factor"`
	// Share is the part of all connections that the weights of those give it that serve clients, 0…1; 0 if it is not
	// among them: joining, draining or down.
	Share  float64           `json:"share"`
	Labels map[string]string `json:"labels,omitempty"`
	// Connections are open now; Placed counts decisions since the start.
	Connections int    `json:"connections"`
	Placed      uint64 `json:"placed"`
	// BytesPerSecond is what all connections carry, both ways, when that was last measured.
	BytesPerSecond float64 `json:"bytes_per_second"`
	// ConnackSeconds is how long the broker took from CONNECT to CONNACK within the last half minute, 95th percentile;
	// 0 if it has accepted too few clients to tell.
	ConnackSeconds float64 `json:"connack_seconds,omitempty"`
	// Failures counts attempts that did not lead to a connection, by reason.
	Failures map[string]uint64 `json:"failures,omitempty"`
	// Circuit shows the circuit of the backend, empty while it is closed.
	Circuit CircuitStatus `json:"circuit,omitzero"`
	// Most is how many connections the backend may have; 0 is no bound.
	Most int `json:"connections_limit,omitempty"`
	// Drain shows the drain of the backend, nil if it is not drained.
	Drain *DrainStatus `json:"drain,omitempty"`
	// Check is the last health check, Load what the broker reports; nil before the first.
	Check *CheckStatus `json:"check,omitempty"`
	Load  *LoadStatus  `json:"load,omitempty"`
}

// A CheckStatus shows the last health check of a backend.
type CheckStatus struct {
	At     time.Time `json:"at,omitzero"`
	Passed bool      `json:"passed"`
	// Failed counts the checks that failed in a row. Error is why the last one failed, Note a remark of one that
	// passed; both may quote what the broker said.
	Failed int    `json:"failed"`
	Error  string `json:"error,omitempty"`
	Note   string `json:"note,omitempty"`
	// Seconds is how long the check took.
	Seconds float64 `json:"seconds"`
}

// A LoadStatus shows what a broker reports about its load.
type LoadStatus struct {
	// Load is the part of its capacity that is in use, 0…1, as a mean over the window; Util the same at that moment,
	// and Level its overload level. They are nil if they have never been read.
	Load  *float64 `json:"load,omitempty"`
	Util  *float64 `json:"util,omitempty"`
	Level *float64 `json:"level,omitempty"`
	// At is when the oldest of them was read. Stale tells that it is too old to count.
	At    time.Time `json:"at,omitzero"`
	Stale bool      `json:"stale"`
	// Predicted is Load, corrected by how the traffic has changed since.
	Predicted float64 `json:"predicted"`
	// Error is why the last reading brought nothing, or not everything.
	Error string `json:"error,omitempty"`
}

// show describes a backend. The mutex is held.
func (c *Cluster) show(m *backend, s *balancer.Snapshot, now int64) BackendStatus {
	b := BackendStatus{
		Name: m.name, Address: m.target.Address.String(), Phase: balancer.Draining.String(), Removed: !m.listed, LoadFactor: 1,
		Connections: c.brain.Connections(m.name), Most: c.options.Most, Placed: m.placed, BytesPerSecond: m.traffic,
	}
	forecast, predicted := c.brain.Forecast().Of(m.name)
	if predicted {
		b.LoadFactor = forecast.Factor
	}
	if i := s.Index(m.name); i >= 0 {
		b.Phase, b.PhaseSince, b.Why = s.Backends[i].Phase.String(), m.since, m.why
		b.Weight, b.Share, b.Labels = s.Weight(i), s.ServingShare(i), s.Backends[i].Labels
	}
	b.Drain = c.drainStatus(m)
	if p95, ok := m.latency.p95(now); ok {
		b.ConnackSeconds = p95.Seconds()
	}
	if len(m.failures) > 0 {
		b.Failures = make(map[string]uint64, len(m.failures))
		for why, n := range m.failures {
			b.Failures[why.String()] = n
		}
	}
	if r := &m.check; !r.At.IsZero() {
		b.Check = &CheckStatus{At: r.At, Passed: r.Passed, Failed: r.FailedChecks, Error: r.Err, Note: r.Note, Seconds: r.Latency.Seconds()}
	}
	if m.reading.At != 0 {
		b.Load = c.showLoad(m, now)
		b.Load.Predicted = forecast.Load
	}
	return b
}

func (c *Cluster) showLoad(m *backend, now int64) *LoadStatus {
	l := &LoadStatus{}
	oldest := now
	for _, f := range []struct {
		figure *balancer.Figure
		shown  **float64
	}{{&m.load, &l.Load}, {&m.util, &l.Util}, {&m.level, &l.Level}} {
		if f.figure.At != 0 {
			value := f.figure.Value
			*f.shown = &value
			oldest = min(oldest, f.figure.At)
			l.At = time.Now().Add(time.Duration(oldest - now))
		}
	}
	l.Stale = l.At.IsZero() || now-oldest > c.options.Load.Stale
	if m.reading.Err != nil {
		l.Error = m.reading.Err.Error()
	}
	return l
}
