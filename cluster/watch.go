package cluster

import (
	"math"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// Checked takes in a health check. It counts from the next Tick on, if the cluster is Watched.
func (c *Cluster) Checked(r health.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.backends[r.Backend]; b != nil && b.listed && b.address == r.Address {
		b.check = r
	}
}

// Scraped takes in what a broker reports about its load. The times in it are those of Now. The load counts from the
// next forecast on, the other figures from the next Tick on, if the cluster is Watched. Figures that are missing leave
// the last ones in place, which become stale. The version is a label of the backend from the next Tick on, unless
// discovery names one; it does not become stale. A reading without a time, At, says that nobody reads any more.
func (c *Cluster) Scraped(r scrape.Reading) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.backends[r.Backend]
	if b == nil || !b.listed {
		return
	}
	b.reading = r
	for _, f := range []struct{ latest, kept *balancer.Figure }{{&r.Load, &b.load}, {&r.Util, &b.util}, {&r.Level, &b.level}} {
		if f.latest.At != 0 && !math.IsNaN(f.latest.Value) && !math.IsInf(f.latest.Value, 0) { // JSON knows neither
			*f.kept = *f.latest
		}
	}
	if r.Version != "" || r.At == 0 { // nobody reads it any more
		c.brain.Version(r.Backend, r.Version)
	}
	if r.Load.At != 0 {
		c.brain.Observe(r.Backend, r.Load, c.now())
	}
}

// Answered takes in a broker's answer to CONNECT. It may be called from the event loops; it does not allocate.
func (c *Cluster) Answered(a *proxy.Answer) {
	if a.Late {
		return // it was learned when it came
	}
	e := health.ConnackEvent(a.Version, a.Code)
	now, known := c.answered(a, e)
	if !known {
		return
	}
	client := uint64(0)
	if e == health.ServerFailed || e == health.Busy {
		client = classOf(a.ClientID)
	}
	c.terms.Load().outliers.Observe(a.Backend, e, client, now)
	if wrong, ok := wrongOf(e); ok {
		c.options.Observer.DialFailed(c.options.Name, a.Backend, wrong)
	}
}

// answered is the part of Answered that needs the mutex. It answers false if nothing is to be learned.
func (c *Cluster) answered(a *proxy.Answer, e health.Event) (now int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = c.now()
	b := c.backends[a.Backend]
	if b == nil || c.doubtful(now) {
		return now, false
	}
	if wrong, ok := wrongOf(e); ok {
		b.failures[wrong]++
		if wrong != proxy.Busy { // which is no failure
			b.lastWrong = wrong
		}
	} else if a.Code == 0 {
		b.latency.add(a.Took, now)
	}
	return now, true
}

// wrongOf is what is counted for a CONNACK that does not lie with the client.
func wrongOf(e health.Event) (proxy.Outcome, bool) {
	switch e {
	case health.ServerFailed:
		return proxy.Rejected, true
	case health.Busy:
		return proxy.Busy, true
	case health.ConnectFailed, health.Silent, health.Answered:
	}
	return 0, false
}

// classOf tells clients apart for health.Outliers; 0 if that is impossible.
func classOf(clientID string) uint64 {
	if clientID == "" {
		return 0
	}
	return max(xxhash.Sum64String(clientID), 1)
}

// eventOf is what the end of a place says about the backend; false if it says nothing. What became of a client that
// got an answer was said by Answered.
func eventOf(o proxy.Outcome) (health.Event, bool) {
	switch o {
	case proxy.Refused, proxy.TimedOut, proxy.Unreachable, proxy.TLSFailed:
		return health.ConnectFailed, true
	case proxy.Stalled:
		return health.Silent, true
	case proxy.Served, proxy.ClientLeft, proxy.NoPort, proxy.NoDescriptor, proxy.Rejected, proxy.Moved, proxy.Busy, proxy.Redirected:
	}
	return 0, false
}

// vital tells the brain what is known about every backend. The mutex is held.
func (c *Cluster) vital(now int64) {
	c.judge(now)
	median := usual(c.p95s(now))
	for _, b := range c.current {
		c.brain.Vital(b.name, c.vitalsOf(b, median, now))
	}
}

// judge lets the outliers judge what has happened to clients.
func (c *Cluster) judge(now int64) {
	s := c.brain.Snapshot()
	serving := func(name string) bool {
		i := s.Index(name)
		return i >= 0 && s.Backends[i].Phase.Serves()
	}
	c.opinions = c.terms.Load().outliers.Judge(now, serving, c.opinions[:0])
	for i := range c.opinions {
		if b := c.backends[c.opinions[i].Backend]; b != nil {
			b.opinion = c.opinions[i]
		}
	}
}

// vitalsOf are the vitals of a backend. median is the usual latency of all backends, 0 if there is none.
func (c *Cluster) vitalsOf(b *backend, median time.Duration, now int64) balancer.Vitals {
	v := balancer.Vitals{ConnectFailures: b.opinion.Failures, Level: b.level, Util: b.util, Terminating: b.leaving}
	_, v.Drain = c.orders[b.name]
	if !b.check.At.IsZero() {
		b.check.AddTo(&v)
	}
	if p95, ok := b.latency.p95(now); ok && median > 0 {
		v.Latency = balancer.Figure{Value: float64(p95) / float64(max(median, leastLatency)), At: b.latency.last}
	}
	return v
}
