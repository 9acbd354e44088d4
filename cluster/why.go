package cluster

import (
	"fmt"
	"strconv"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// whyNow says in words why a backend is in its phase, which has just begun. The mutex is held.
func (c *Cluster) whyNow(b *backend, before string, now int64) string {
	r := &c.options.Phases
	switch b.phase {
	case balancer.Down:
		if n := b.check.FailedChecks; n >= r.FailedChecks {
			return several(n, "check") + " failed: " + b.check.Err
		}
		o := &b.opinion
		return fmt.Sprintf("%d of %s failed, the last: %s", o.Failed, several(o.Attempts, "client"), b.lastWrong)
	case balancer.Joining:
		return "checks pass"
	case balancer.Ramping:
		return "healthy for " + time.Duration(r.Settle).String()
	case balancer.Hot:
		return c.whyHot(b, now)
	case balancer.Draining:
		_, ordered := c.orders[b.name]
		switch {
		case ordered:
			return wantedEmpty
		case b.leaving:
			return "discovery says that it is going"
		case b.check.Drain:
			return "the broker asks for it"
		}
		return "somebody wants it"
	case balancer.Ready:
		switch before {
		case balancer.Ramping.String():
			return "its ramp is over"
		case balancer.Hot.String():
			return "cool for " + time.Duration(r.CoolFor).String()
		case balancer.Draining.String():
			return "it is wanted again"
		}
	}
	return ""
}

// whyHot names the figure that has made a backend hot.
func (c *Cluster) whyHot(b *backend, now int64) string {
	r := &c.options.Phases
	fresh := func(f balancer.Figure) bool { return f.At != 0 && now-f.At <= r.Stale }
	switch {
	case fresh(b.level) && b.level.Value >= r.HotLevel:
		return "overload level " + number(b.level.Value)
	case fresh(b.util) && b.util.Value >= r.HotUtil:
		return "load " + number(b.util.Value) + " for " + time.Duration(r.HotFor).String()
	}
	if p95, ok := b.latency.p95(now); ok {
		return "CONNACK takes " + p95.Round(time.Millisecond).String() + ", much longer than elsewhere"
	}
	return "overloaded"
}

// number writes a figure for people.
func number(f float64) string { return strconv.FormatFloat(f, 'g', 3, 64) }

// several writes a number of things.
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
