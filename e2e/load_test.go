//go:build linux

package e2e

import (
	"fmt"
	"testing"
	"time"
)

// busyFirst is the load of three brokers.
func busyFirst() map[string]float64 { return map[string]float64{"a": 0.9, "b": 0.3, "c": 0.3} }

// watched is a slow check of health that changes nothing in the tests of load.
const watched = "health: {interval: 5s}\n"

func TestALoadedBrokerGetsFewerClientsByMetricWRR(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	e := newExporter(t, busyFirst())
	l := startLB(t, settings{backends: behind(brokers), cluster: watched + e.source("busy") + "placement: {strategy: metric-wrr}"})
	eventually(t, forecast, "the load weighs", func() bool { return l.views(t)["a"].Factor < 0.5 })
	gather(t, l, "any", 120)
	n := counts(l.homes(t), "any")
	if others := n["b"] + n["c"]; 3*n["a"] >= others {
		t.Errorf("the loaded broker has %d clients, the others %d", n["a"], others)
	}
	if n["b"] < 40 || n["c"] < 40 {
		t.Errorf("the clients are on %v", n)
	}
}

// Without a bound, as where a client spills to depends on who is there already.
func TestStickyClientsOfALoadedBrokerStayUnderAdaptive(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	e := newExporter(t, busyFirst())
	l := startLB(t, settings{backends: behind(brokers), cluster: watched + e.source("busy") + "placement: {bounded_load: 0}"})
	sticky := gather(t, l, "sticky", 90)
	before := l.homes(t)
	atLeast(t, before, "sticky", []string{"a", "b", "c"}, 15)
	eventually(t, forecast, "the load weighs", func() bool { return l.views(t)["a"].Factor < 0.8 })
	sticky.leave()
	eventually(t, patience, "the clients have left", func() bool { return len(l.homes(t)) == 0 })
	sticky.join(t, l, sticky.ids())
	for id, home := range l.homes(t) {
		if home != before[id] {
			t.Errorf("client %s is on broker %s, before on %s", id, home, before[id])
		}
	}
	nameless := brokers[0].present() // who is not sticky goes elsewhere
	for range 60 {
		connect(t, l, opening{version: v5}, "")
	}
	if n := brokers[0].present() - nameless; n > 15 {
		t.Errorf("%d of 60 clients without an id are on the loaded broker", n)
	}
	l.reach(t, forecast, "hot", "a") // after half a minute above 85 %
	sticky.unharmed(t)
}

func TestABrokerThatCallsItselfOverloadedGetsNoNewClients(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	e := newExporter(t, map[string]float64{"a": 0.4, "b": 0.4, "c": 0.4})
	l := startLB(t, settings{backends: behind(brokers), cluster: watched + e.source("busy")})
	old := gather(t, l, "old", 60)
	e.overload("b", 7)
	l.reach(t, patience, "hot", "b")
	gather(t, l, "new", 60)
	if n := counts(l.homes(t), "new"); n["b"] > 0 || n["a"] < 15 || n["c"] < 15 {
		t.Errorf("the new clients are on %v", n)
	}
	old.unharmed(t)
}

// Fault M1. What a broker reports may be missing or wrong in any way: what was known keeps its weight (until
// it is stale, after a minute), and nobody waits.
func TestFaultM1BadMetricsKeepTheWeights(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	e := newExporter(t, busyFirst())
	l := startLB(t, settings{
		backends: behind(brokers),
		cluster:  watched + e.source("rate(busy_seconds_total)") + "placement: {strategy: metric-wrr}",
	})
	eventually(t, forecast, "the load weighs", func() bool { return l.views(t)["a"].Factor < 0.5 })
	for i, fault := range []string{hangs, drips, floods, notANum, negative, breaks, resets} {
		before := e.questions("a")
		e.behave("a", fault)
		eventually(t, patience, "metrics are asked for in spite of: "+fault, func() bool { return e.questions("a") >= before+3 })
		began := time.Now()
		gather(t, l, fmt.Sprint("client-", i), 24).leave()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: it took %v to connect", fault, took)
		}
		if f := l.views(t)["a"].Factor; f >= 0.5 {
			t.Errorf("%s: the load of broker a weighs %v", fault, f)
		}
		if memory := l.rss(t) >> 20; memory > 150 && !underRace {
			t.Errorf("%s: mqttlb uses %d MiB", fault, memory)
		}
	}
	if n := brokers[0].seen("client-"); n > 7*6 {
		t.Errorf("the loaded broker got %d of %d clients", n, 7*24)
	}
}

// Fault M2: a broker that reports nothing is as good as the mean.
func TestFaultM2ABrokerWithoutMetricsIsNeutral(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	e := newExporter(t, busyFirst())
	e.behave("b", breaks)
	l := startLB(t, settings{backends: behind(brokers), cluster: watched + e.source("busy") + "placement: {strategy: metric-wrr}"})
	eventually(t, forecast, "the load weighs", func() bool { return l.views(t)["a"].Factor < 0.5 })
	if views := l.views(t); views["b"].Factor != 1 || views["c"].Factor <= 1 {
		t.Errorf("the loads weigh %v, want b neutral, and c preferred", views)
	}
	gather(t, l, "any", 90)
	if n := counts(l.homes(t), "any"); n["a"] >= n["b"] || n["b"] >= n["c"] {
		t.Errorf("the clients are on %v", n)
	}
}
