package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// An overloaded cluster takes in at a bounded rate the clients of which it has nothing, and all the others.
func TestAnOverloadedClusterTakesThoseFirstWhomItKnows(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{
		OverloadedConnects: 10,
		Rules:              workers(false),
	})
	r.Apply(set("a", "b", "c"))
	r.passes("a", "b", "c")
	newcomers := func(n int) (in int) {
		t.Helper()
		for i := range n {
			id := fmt.Sprint("device", i)
			target, err := r.Place(request(id))
			switch {
			case err == nil:
				in++
				r.Release(id, target, proxy.Served)
			case !errors.Is(err, proxy.ErrOverloaded) || !errors.Is(err, proxy.ErrNoBackend):
				t.Fatalf("got %v, want that the cluster is overloaded", err)
			}
		}
		return in
	}
	r.scrape(20, map[string]float64{"a": 0.3, "b": 0.3, "c": 0.3})
	if got := newcomers(100); got != 100 {
		t.Errorf("%s: got %d of 100 clients in, want all", r.Status().State, got)
	}
	r.scrape(60, map[string]float64{"a": 0.95, "b": 0.95, "c": 0.3})
	if got := r.Status().State; got != "overloaded" {
		t.Fatalf("got state %s, want overloaded", got)
	}
	if got := newcomers(100); got != 10 {
		t.Errorf("at once: got %d of 100 newcomers in, want 10", got)
	}
	r.advance(500 * time.Millisecond)
	if got := newcomers(100); got != 5 {
		t.Errorf("half a second later: got %d of 100 newcomers in, want 5", got)
	}
	for i := range 50 {
		persistent := requestOf(&mqttparse.ConnectOptions{ClientID: fmt.Sprint("session", i)})
		if _, err := r.Place(persistent); err != nil {
			t.Fatalf("a client with a session: %v", err)
		}
		if _, err := r.Place(request(fmt.Sprint("backend-", i))); err != nil {
			t.Fatalf("a member of a group: %v", err)
		}
	}
	if err := r.Reconfigure(cluster.Options{Name: "hivemq", Watched: true}); err != nil {
		t.Fatal(err)
	}
	if got := newcomers(100); got != 100 {
		t.Errorf("without the bound: got %d of 100 clients in, want all", got)
	}
}
