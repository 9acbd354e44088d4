package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// a cluster in which a bit of everything has happened.
func eventful(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, cluster.Options{Strategy: "adaptive", Placement: balancer.Options{BoundedLoad: 1.25, Seed: 1}})
	r.Apply([]balancer.Backend{
		{Name: "hivemq-2", Address: "10.0.0.3:1883"},
		{Name: "hivemq-1", Address: "10.0.0.2:1883", Capacity: 2, Labels: map[string]string{"version": "4.40", "zone": "b"}},
		{Name: "hivemq-0", Address: "[2001:db8::1]:1883"},
	})
	for i := range 12 {
		id := fmt.Sprint("sensor-", i)
		target := r.place(id)
		switch i {
		case 3:
			r.Release(id, target, proxy.Refused)
			r.place(id, target.Backend.Name)
		case 4:
			r.Release(id, target, proxy.Stalled)
		case 5:
			r.Release(id, target, proxy.Served)
		}
	}
	r.Apply([]balancer.Backend{
		{Name: "hivemq-1", Address: "10.0.0.2:1883", Capacity: 2, Labels: map[string]string{"version": "4.40", "zone": "b"}, Phase: balancer.Hot},
		{Name: "hivemq-0", Address: "[2001:db8::1]:1883", Phase: balancer.Ramping, Ramp: 0.5},
		{Name: "hivemq-3", Address: "10.0.0.4:1883", Phase: balancer.Joining},
	})
	return r
}

func TestStatusGolden(t *testing.T) {
	t.Parallel()
	golden(t, "status.json", eventful(t).status())
	golden(t, "status_empty.json", newRig(t, cluster.Options{Name: "new"}).status())
}

func TestExplainGolden(t *testing.T) {
	t.Parallel()
	golden(t, "explain.json", eventful(t).Explain("sensor-2", false))
	golden(t, "explain_nobody.json", newRig(t, cluster.Options{}).Explain("sensor-2", false))
	alone := newRig(t, cluster.Options{})
	alone.Apply(set("a"))
	golden(t, "explain_alone.json", alone.Explain("sensor-2", false))
}

// What Explain says is what happens next, and asking changes nothing.
func TestExplainTellsWhatHappens(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"adaptive", "client-hash", "least-connections", "round-robin"} {
		r := newRig(t, cluster.Options{Strategy: strategy, Attempts: 10, Placement: balancer.Options{BoundedLoad: 1.25}})
		r.Apply(set("a", "b", "c", "d", "e"))
		for i := range 200 {
			id := fmt.Sprint("c", i)
			if i%4 == 0 {
				id = ""
			}
			before := r.status()
			e := r.Explain(id, false)
			r.Explain("somebody else", false)
			if got, want := fmt.Sprint(r.status()), fmt.Sprint(before); got != want {
				t.Fatalf("%s: got %s after Explain, want %s", strategy, got, want)
			}
			first := r.place(id)
			if e.Backend != first.Backend.Name || e.Address != first.Backend.Address.String() || e.Reason != first.Reason.String() || e.ClientID != id {
				t.Fatalf("%s, client %q: got %+v, then a place on %s (%v)", strategy, id, e, first.Backend.Name, first.Reason)
			}
			if len(e.Otherwise) != 4 {
				t.Fatalf("%s: got %d further choices of 5 backends, want 4", strategy, len(e.Otherwise))
			}
			if i%2 == 0 || strategy == "round-robin" || id == "" {
				continue // what comes after a turn depends on that turn
			}
			r.Release(id, first, proxy.Refused)
			second := r.place(id, first.Backend.Name)
			if got, want := e.Otherwise[0], (cluster.Choice{Backend: second.Backend.Name, Reason: second.Reason.String()}); got != want {
				t.Fatalf("%s, client %q: got second choice %+v, then %+v", strategy, id, got, want)
			}
		}
	}
}

// The list of further choices is bounded.
func TestExplainIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	var many []balancer.Backend
	for i := range 50 {
		many = append(many, balancer.Backend{Name: fmt.Sprint("n", i), Address: fmt.Sprintf("10.0.0.%d:1883", i)})
	}
	r.Apply(many)
	if got := len(r.Explain("c", false).Otherwise); got < 4 || got > 8 {
		t.Errorf("got %d further choices of 50 backends, want some and at most 8", got)
	}
}

func TestDiscoveredIsTheTimeOfTheLastSet(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	if got := r.Status().Discovered; !got.IsZero() {
		t.Errorf("before the first set: got %v, want none", got)
	}
	before := time.Now()
	r.Apply(set("a"))
	if got := r.Status().Discovered; got.Before(before) || got.After(time.Now()) {
		t.Errorf("got %v, want the time of Apply", got)
	}
}

// Somebody who asks again and finds the same set confirms it; before there is one, there is nothing to confirm.
func TestDiscoveredIsTheTimeOfTheLastConfirmation(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Confirmed()
	if got := r.Status().Discovered; !got.IsZero() {
		t.Errorf("before the first set: got %v, want none", got)
	}
	r.Apply(set("a"))
	applied := r.Status().Discovered
	r.Confirmed()
	if got := r.Status().Discovered; !got.After(applied) {
		t.Errorf("got %v, want later than %v", got, applied)
	}
}
