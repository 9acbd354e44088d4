package cluster_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// flows is the traffic of backends with one heavy client each, if it has more than nothing, and some others.
func flows(backends ...proxy.BackendFlow) *proxy.Flows {
	f := &proxy.Flows{}
	for _, b := range backends {
		if b.Cluster == "" {
			b.Cluster = "hivemq"
		}
		f.Backends = append(f.Backends, b)
	}
	return f
}

// heavy adds a client.
func heavy(f *proxy.Flows, id, backend string, rate float64) *proxy.Flows {
	f.Clients = append(f.Clients, proxy.ClientFlow{ClientID: id, Cluster: "hivemq", Backend: backend, Rate: rate})
	return f
}

// crowd places so many clients, and returns how many are on each backend.
func (r *rig) crowd(n int) map[string]int {
	on := make(map[string]int)
	for i := range n {
		on[r.place(fmt.Sprint("crowd-", i)).Backend.Name]++
	}
	return on
}

// even is the traffic of a crowd, each with the same.
func even(on map[string]int, rate float64) *proxy.Flows {
	f := &proxy.Flows{}
	for name, n := range on {
		f.Backends = append(f.Backends, proxy.BackendFlow{Cluster: "hivemq", Backend: name, Sessions: n, Rate: rate * float64(n)})
	}
	return f
}

// A client that carries much is placed by load when it comes again, and until it carries little for a while.
func TestHeavyClients(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b", "c"))
	if got := r.HeavyFloor(); !math.IsInf(got, 1) {
		t.Errorf("got floor %v before anything was measured, want none", got)
	}
	on := r.crowd(900)
	fat := r.place("fat")
	r.ticks(15)
	r.Carried(even(on, 10))
	floor := r.HeavyFloor()
	if floor < 20 || floor > 30 {
		t.Errorf("got floor %v where everybody carries 10 bytes/s, want two to three times that", floor)
	}
	kind := func(id string) string { return r.Explain(id, false).Kind }
	name := fat.Backend.Name
	r.Carried(heavy(even(on, 10), "fat", name, 100))
	if got := kind("fat"); got != "fat" {
		t.Errorf("got kind %s for a client that carries ten times as much as others, want fat", got)
	}
	r.Carried(heavy(even(on, 10), "fat", name, 30))
	if got := kind("fat"); got != "fat" {
		t.Errorf("got kind %s for one that has been fat and carries three times as much, want fat", got)
	}
	r.Carried(heavy(even(on, 10), "other", name, 30))
	if got := kind("other"); got != "fleeting" {
		t.Errorf("got kind %s for one that carries three times as much, want fleeting", got)
	}
	r.Release("fat", fat, proxy.Served)
	r.Carried(even(on, 10))
	back := r.place("fat")
	if back.Reason.Strategy != "fat-aware" || !back.Noted || back.Rate < 29 || back.Rate > 31 {
		t.Errorf("got %+v for a fat client that comes back, want it placed by load, with its traffic", back)
	}
	if light := r.place("light"); light.Noted || light.Rate != 0 {
		t.Errorf("got %+v for somebody of whom nothing is known", light)
	}
	r.Carried(heavy(even(on, 10), "fat", back.Backend.Name, 11))
	if got := kind("fat"); got != "fleeting" {
		t.Errorf("got kind %s for one that was fat, want fleeting", got)
	}
}

// In a small cluster every client has a notable share of the traffic, and nobody is heavy for that.
func TestNobodyIsHeavyAmongEquals(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b", "c"))
	on := r.crowd(30)
	for range 5 {
		r.ticks(15)
		f := even(on, 1000)
		for i := range 30 {
			id := fmt.Sprint("crowd-", i)
			heavy(f, id, r.Explain(id, false).Backend, 800+float64(i*20))
		}
		r.Carried(f)
	}
	for i := range 30 {
		if e := r.Explain(fmt.Sprint("crowd-", i), false); e.Kind != "fleeting" || e.Reason != "home by hash" {
			t.Errorf("got %s as %s, want it home by its hash", e.Kind, e.Reason)
		}
	}
}

// Where figures are as they were, what has come since decides: bytes where there are any, else connections.
func TestTrafficCorrectsFigures(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"bytes": 1000, "silent clients": 0, "nobody measures": -1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, cluster.Options{Strategy: "metric-wrr"})
			r.time.Store(int64(time.Hour))
			r.Apply(set("a", "b", "c"))
			on := r.crowd(300)
			fresh := func(n int) {
				for range n {
					for _, name := range []string{"a", "b", "c"} {
						r.Scraped(scrape.Reading{Backend: name, Load: r.figure(0.5), At: r.Now()})
					}
					r.ticks(15)
					if rate >= 0 {
						r.Carried(even(on, rate))
					}
				}
			}
			fresh(24)
			if b := r.backend("a"); b.LoadFactor < 0.98 || b.LoadFactor > 1.02 || math.Abs(b.BytesPerSecond-max(0, rate)*float64(on["a"])) > 1 {
				t.Errorf("got factor %v and %v bytes/s where all are equal, want 1 and what was measured", b.LoadFactor, b.BytesPerSecond)
			}
			for i := range 50 {
				id := fmt.Sprint("new-", i)
				r.place(id, "b", "c")
				on["a"]++
			}
			fresh(2)
			a, b := r.backend("a"), r.backend("b")
			if a.LoadFactor > 0.6 || b.LoadFactor < 1.2 || a.Load.Predicted < 0.6 {
				t.Errorf("got factors %v and %v with a predicted load of %v after half as many have come to a again, want less than 0.6 and more than 1.2", a.LoadFactor, b.LoadFactor, a.Load.Predicted)
			}
		})
	}
}

// What others carry, and what is carried for backends that are not there, does not count.
func TestTrafficOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b"))
	r.ticks(1)
	f := flows(
		proxy.BackendFlow{Backend: "a", Sessions: 1, Rate: 5}, proxy.BackendFlow{Backend: "gone", Sessions: 1, Rate: 7},
		proxy.BackendFlow{Cluster: "other", Backend: "b", Sessions: 9, Rate: 1e9},
	)
	f.Clients = []proxy.ClientFlow{{ClientID: "x", Cluster: "other", Backend: "b", Rate: 1e8}}
	r.Carried(f)
	if a, b := r.backend("a"), r.backend("b"); a.BytesPerSecond != 5 || b.BytesPerSecond != 0 {
		t.Errorf("got %v and %v bytes/s, want 5 and 0", a.BytesPerSecond, b.BytesPerSecond)
	}
	if got := r.Explain("x", false).Kind; got != "fleeting" {
		t.Errorf("got kind %s for a heavy client of another cluster, want fleeting", got)
	}
	r.Carried(flows())
	if a := r.backend("a"); a.BytesPerSecond != 0 {
		t.Errorf("got %v bytes/s when nothing is carried any more, want 0", a.BytesPerSecond)
	}
}

// Whoever measures makes the forecasts; when that ends, they go on.
func TestForecastsGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "metric-wrr"})
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b"))
	r.Carried(flows(proxy.BackendFlow{Backend: "a", Sessions: 1, Rate: 5}))
	loads := map[string]float64{"a": 0.8, "b": 0.2}
	r.scrape(40, loads)
	if got := r.backend("a").LoadFactor; got > 0.5 {
		t.Errorf("got factor %v 40 s after the last measurement, want the figures to count", got)
	}
}

// A Members function hears of what was taken over, and of nothing else.
func TestMembersAreTold(t *testing.T) {
	t.Parallel()
	var told []string
	r := newRig(t, cluster.Options{Members: func(set []balancer.Backend) {
		names := ""
		for _, b := range set {
			names += b.Name
		}
		told = append(told, names)
	}})
	r.Apply(set("b", "a"))
	r.Apply(nil)
	r.Apply([]balancer.Backend{{Name: "x", Address: "nowhere"}})
	r.Apply(set("c"))
	if got, want := fmt.Sprint(told), "[ba c]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
