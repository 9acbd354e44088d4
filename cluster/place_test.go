package cluster_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

func TestNewRefusesAnUnknownStrategy(t *testing.T) {
	t.Parallel()
	_, err := cluster.New(cluster.Options{Name: "hivemq", Strategy: "fastest"})
	if want := `cluster hivemq: unknown placement strategy "fastest"; known are adaptive, client-hash, maglev, metric-wrr, least-connections, round-robin, random`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// Without backends nobody gets a place, and the decision is told.
func TestPlaceWithoutBackends(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	if r.Ready() {
		t.Error("got a cluster that is ready without backends")
	}
	if target, err := r.Place(request("c")); !errors.Is(err, proxy.ErrNoBackend) || target.Backend != nil {
		t.Errorf("got %+v and error %v, want ErrNoBackend", target, err)
	}
	if r.heard.causes[balancer.NoBackend] != 1 {
		t.Errorf("got decisions %v, want one no_backend", r.heard.causes)
	}
	r.Apply(set("a"))
	if !r.Ready() {
		t.Error("got a cluster with a backend that is not ready")
	}
}

// The target carries what the data plane needs, and all clients of a backend share it.
func TestTargets(t *testing.T) {
	t.Parallel()
	header, err := proxy.NewHeader(proxy.HeaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	secured := new(proxy.BackendTLS)
	r := newRig(t, cluster.Options{Header: header, TLS: secured, FirstByteTimeout: 15 * time.Second})
	r.Apply(set("a"))
	one, two := r.place("one"), r.place("two")
	want := proxy.Backend{
		Cluster: "hivemq", Name: "a", Address: netip.MustParseAddrPort("10.0.0.1:1883"), Advertised: "10.0.0.1:1883", Header: header,
		DialTimeout: 3 * time.Second, FirstByteTimeout: 15 * time.Second, TLS: secured, Host: "10.0.0.1",
	}
	if *one.Backend != want {
		t.Errorf("got %+v, want %+v", *one.Backend, want)
	}
	if one.Backend != two.Backend {
		t.Error("got two targets for one backend, want both clients to share it")
	}
	if got := one.Reason; got != (balancer.Reason{Strategy: "client-hash", Cause: balancer.Home}) {
		t.Errorf("got reason %+v, want home by client-hash", got)
	}
}

// A client tries at most so many backends, each at most once, in its own order.
func TestAttempts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ attempts, want int }{{0, 3}, {1, 1}, {2, 2}, {4, 4}, {10, 4}} {
		r := newRig(t, cluster.Options{Attempts: c.attempts})
		r.Apply(set("a", "b", "c", "d"))
		var tried []string
		for {
			target, err := r.Place(request("c", tried...))
			if err != nil {
				if !errors.Is(err, proxy.ErrNoBackend) {
					t.Errorf("got error %v, want ErrNoBackend", err)
				}
				break
			}
			if slices.Contains(tried, target.Backend.Name) {
				t.Fatalf("got %s again after %v", target.Backend.Name, tried)
			}
			tried = append(tried, target.Backend.Name)
			r.Release("c", target, proxy.Refused)
		}
		if len(tried) != c.want {
			t.Errorf("attempts %d: got %v, want %d backends", c.attempts, tried, c.want)
		}
	}
}

// What one client has tried is forgotten with the next.
func TestTriedIsForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "least-connections"})
	r.Apply(set("a", "b"))
	if got := r.place("x", "a").Backend.Name; got != "b" {
		t.Errorf("got %s after a was tried, want b", got)
	}
	if got := r.place("y", "gone").Backend.Name; got != "a" {
		t.Errorf("got %s for the next client, want a", got)
	}
}

// Of clients that arrive together, each sees the others: the count rises with the decision, not when the
// connection stands.
func TestClientsThatArriveTogether(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{"least-connections", "round-robin"} {
		r := newRig(t, cluster.Options{Strategy: strategy})
		r.Apply(set("a", "b", "c", "d"))
		for i := range 20 {
			r.place(fmt.Sprint("c", i))
		}
		for _, b := range r.Status().Backends {
			if b.Connections != 5 {
				t.Errorf("%s: got %d of 20 clients on %s of 4 backends, want 5", strategy, b.Connections, b.Name)
			}
		}
	}
}

// How a place was used is counted by backend and told, except when it served or its client left.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a"))
	for _, o := range []proxy.Outcome{
		proxy.Served, proxy.ClientLeft, proxy.Refused, proxy.Refused, proxy.TimedOut,
		proxy.Unreachable, proxy.NoPort, proxy.NoDescriptor, proxy.Stalled, proxy.TLSFailed,
	} {
		r.Release("c", r.place("c"), o)
	}
	b := r.backend("a")
	want := map[string]uint64{"refused": 2, "timeout": 1, "unreachable": 1, "no_local_port": 1, "no_descriptor": 1, "stalled": 1, "tls_failed": 1}
	if fmt.Sprint(b.Failures) != fmt.Sprint(want) {
		t.Errorf("got failures %v, want %v", b.Failures, want)
	}
	if b.Connections != 0 || b.Placed != 10 {
		t.Errorf("got %d connections, %d placed, want 0 and 10", b.Connections, b.Placed)
	}
	told := []string{
		"hivemq a refused", "hivemq a refused", "hivemq a timeout", "hivemq a unreachable",
		"hivemq a no_local_port", "hivemq a no_descriptor", "hivemq a stalled", "hivemq a tls_failed",
	}
	if !slices.Equal(r.heard.failures, told) {
		t.Errorf("got told %q, want %q", r.heard.failures, told)
	}
}

// Stickiness is the share of the decisions about clients with an id that sent them home.
func TestStickiness(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b"))
	if got := r.Status().Sticky; got != 1 {
		t.Errorf("before the first client: got %v, want 1", got)
	}
	for i := range 3 {
		r.place(fmt.Sprint("c", i))
	}
	for range 10 {
		r.place("") // clients without an id have no home
	}
	if got := r.Status().Sticky; got != 1 {
		t.Errorf("all at home: got %v, want 1", got)
	}
	home := r.place("x").Backend.Name
	r.place("x", home)
	if got := r.Status().Sticky; got != 0.8 {
		t.Errorf("four of five at home: got %v, want 0.8", got)
	}
}
