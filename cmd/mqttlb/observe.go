package main

import (
	"time"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/metrics"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// observer hears what happens on the data path and in the clusters, and passes it on to the metrics and
// the access log. None of its methods blocks.
type observer struct {
	metrics *metrics.Metrics
	access  *proxy.AccessLog // nil when the access log is off
	// clusters learn from the brokers' answers.
	clusters *roster
	// handshakes tells of those with brokers that have failed.
	handshakes *handshakeLog
	// events go to those who listen.
	events *admin.Hub
}

// Answered implements proxy.Observer.
func (o *observer) Answered(a proxy.Answer) {
	switch {
	case a.Version == 0:
		o.metrics.PassedThrough(a.Listener, a.Cluster, a.After)
	case a.Swallowed:
		o.metrics.Declined(a.Cluster, a.Code)
	case a.Late:
		o.metrics.PassedLate(a.Listener, a.Cluster, a.After)
	default:
		o.metrics.Answered(a.Listener, a.Cluster, a.Code, a.After)
	}
	if c := o.clusters.find(a.Cluster); c != nil {
		c.Answered(&a)
	}
}

// Ended implements proxy.Observer.
func (o *observer) Ended(r proxy.Record) {
	if r.End == proxy.EndProbe {
		return // it was no client, and comes every few seconds
	}
	switch {
	case r.End == proxy.EndRedirected:
		o.metrics.Redirected(r.Listener, r.Target.Backend.Cluster)
	case r.Refusal != "" && r.Connack >= 0:
		o.metrics.Cut(r.Listener, string(r.Refusal))
	case r.Refusal != "":
		o.metrics.Refused(r.Listener, string(r.Refusal))
	case r.Connack < 0 && !r.Answered:
		o.metrics.Lost(r.Listener)
	}
	if o.access != nil {
		o.access.Ended(r)
	}
}

// Shed implements proxy.Observer.
func (o *observer) Shed(listener string, why proxy.Refusal) {
	o.metrics.Refused(listener, string(why))
	if o.access != nil {
		o.access.Ended(proxy.Record{Listener: listener, Connack: -1, End: proxy.EndLimit, Refusal: why})
	}
}

// Contested implements proxy.Observer.
func (o *observer) Contested(c proxy.Contest) {
	o.metrics.Contested(c.Listener)
	if o.access != nil {
		o.access.Contested(c)
	}
}

// Handshook implements proxy.Observer.
func (o *observer) Handshook(h proxy.Handshake) {
	if h.Cluster != "" {
		o.metrics.HandshookBackend(h.Cluster, string(h.Refusal), h.Version, h.Resumed)
		if h.Err != nil {
			o.handshakes.failed(h)
		}
		return
	}
	o.metrics.Handshook(h.Listener, string(h.Refusal), h.Version, h.Resumed, h.Took)
}

// Placed implements cluster.Observer.
func (o *observer) Placed(cluster string, why balancer.Reason) {
	o.metrics.Placed(cluster, why.Strategy, why.Cause.String())
}

// DialFailed implements cluster.Observer.
func (o *observer) DialFailed(cluster, backend string, why proxy.Outcome) {
	o.metrics.DialFailed(cluster, backend, why.String())
}

// Evicted implements cluster.Observer.
func (o *observer) Evicted(cluster string, why balancer.Purpose, result string) {
	o.metrics.Evicted(cluster, why.String(), result)
}

// Returned implements cluster.Observer.
func (o *observer) Returned(cluster string, after time.Duration) { o.metrics.Returned(cluster, after) }

// traffic is the state of the data path for the metrics.
func traffic(p *proxy.Proxy, access *proxy.AccessLog) metrics.Traffic {
	s := p.Stats()
	t := metrics.Traffic{
		Connections: p.Connections(), Waiting: p.Waiting(), Bytes: s.Bytes, Memory: s.Memory,
		HeadersTrimmed: s.HeadersTrimmed, Handshakes: s.Handshakes, Nonconforming: s.Nonconforming,
	}
	for _, r := range p.Routes() {
		t.Routes = append(t.Routes, metrics.Route{Listener: r.Listener, Name: r.Route, Connections: r.Connections})
	}
	for d := range s.Packets {
		t.Packets[d] = make(map[string]uint64, len(s.Packets[d]))
		for kind, n := range s.Packets[d] {
			t.Packets[d][mqttparse.PacketType(kind).String()] = n
		}
	}
	if access != nil {
		t.AccessLogsDropped = access.Dropped()
	}
	return t
}

// clusterStates is the state of the clusters for the metrics.
func clusterStates(clusters []*cluster.Cluster) []metrics.Cluster {
	states := make([]metrics.Cluster, 0, len(clusters))
	for _, c := range clusters {
		s := c.Status()
		state := metrics.Cluster{
			Name: s.Name, State: s.State, Sticky: s.Sticky,
			Groups: s.Groups, Members: s.GroupMembers, Spread: c.GroupSpread(), Learned: s.Learned,
			Pending: s.Moves.Pending, Away: s.Moves.InFlight, Lost: s.Moves.Lost, Levelling: s.Moves.Levelling,
		}
		for source, n := range c.Exhausted() {
			state.Sources = append(state.Sources, metrics.Source{Address: source.String(), Exhausted: n})
		}
		for _, b := range s.Backends {
			shown := metrics.Backend{
				Name: b.Name, Phase: b.Phase, Removed: b.Removed, Weight: b.Weight, Factor: b.LoadFactor, Connections: b.Connections, Circuit: b.Circuit.State,
			}
			if b.Load != nil && b.Load.Load != nil {
				shown.Load, shown.Reported = *b.Load.Load, b.Load.At
			}
			state.Backends = append(state.Backends, shown)
		}
		states = append(states, state)
	}
	return states
}
