package cluster_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// A deaf observer hears nothing.
type deaf struct{}

func (deaf) Placed(string, balancer.Reason)           {}
func (deaf) DialFailed(string, string, proxy.Outcome) {}
func (deaf) Evicted(string, balancer.Purpose, string) {}
func (deaf) Returned(string, time.Duration)           {}

// newCluster returns a cluster of 6 backends that runs by the system's clock and tells nobody anything.
func newCluster(tb testing.TB, o cluster.Options) *cluster.Cluster {
	tb.Helper()
	o.Name, o.Observer, o.Log = "hivemq", deaf{}, slog.New(slog.DiscardHandler)
	o.Placement.BoundedLoad = 1.25
	c, err := cluster.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	c.Apply(set("a", "b", "c", "d", "e", "f"))
	return c
}

// requests are those of many clients, with ids made of this format.
func requests(format string) []proxy.Request {
	list := make([]proxy.Request, 1024)
	for i := range list {
		list[i] = request(fmt.Sprintf(format, i))
	}
	return list
}

// Clients of no group are placed without allocating, whatever the strategy and whatever rules do not match them. Not
// parallel, as it counts allocations.
func TestPlacingAllocatesNothing(t *testing.T) {
	for _, strategy := range balancer.Names() {
		for name, rules := range map[string][]cluster.GroupRule{"no rules": nil, "rules": {workers(true)[0], byUser("^(?P<group>svc)$"), {UserProperty: "g"}, {Learn: true}}} {
			c := newCluster(t, cluster.Options{Strategy: strategy, Rules: rules})
			list := requests("device%d")
			list[7] = requestOf(&mqttparse.ConnectOptions{
				Version: 5, ClientID: "device7", Username: "u", UserProperties: [][2]string{{"h", "x"}},
			})
			i := 0
			if n := testing.AllocsPerRun(2000, func() {
				r := list[i%len(list)]
				target, err := c.Place(r)
				if err != nil {
					t.Fatal(err)
				}
				c.Answered(&proxy.Answer{Cluster: "hivemq", Backend: target.Backend.Name, ClientID: r.ClientID, Version: 5, Code: byte(i%2) * 0x80, Took: 1})
				c.Release(r.ClientID, target, proxy.Outcome(i%9))
				i++
			}); n > 0 {
				t.Errorf("%s, %s: got %v allocations for a place, want 0", strategy, name, n)
			}
		}
	}
}

// BenchmarkPlace places and releases a client on 6 backends.
func BenchmarkPlace(b *testing.B) {
	numbered := workers(true)
	for _, c := range []struct {
		name, strategy, ids string
		rules               []cluster.GroupRule
	}{
		{"adaptive", "adaptive", "device%d", nil},
		{"client-hash", "client-hash", "device%d", nil},
		{"maglev", "maglev", "device%d", nil},
		{"metric-wrr", "metric-wrr", "device%d", nil},
		{"least-connections", "least-connections", "device%d", nil},
		{"anonymous", "adaptive", "%[1]s", nil},
		{"a rule that does not match", "adaptive", "device%d", numbered},
		{"member", "adaptive", "worker-%d", workers(false)},
		{"numbered member", "adaptive", "worker-%d", numbered},
	} {
		b.Run(c.name, func(b *testing.B) {
			made := newCluster(b, cluster.Options{Strategy: c.strategy, Rules: c.rules})
			list := requests(c.ids)
			if strings.HasPrefix(c.ids, "%[1]s") {
				list = []proxy.Request{request("")}
			}
			i := 0
			for b.Loop() {
				r := &list[i%len(list)]
				i++
				target, err := made.Place(*r)
				if err != nil {
					b.Fatal(err)
				}
				made.Release(r.ClientID, target, proxy.Served)
			}
		})
	}
}

// BenchmarkAnswered is what a CONNACK costs, beside the observer.
func BenchmarkAnswered(b *testing.B) {
	c := newCluster(b, cluster.Options{})
	a := proxy.Answer{Cluster: "hivemq", Backend: "c", ClientID: "device", Version: 5, Took: 3_141_592}
	for b.Loop() {
		c.Answered(&a)
	}
}

// BenchmarkPlaceWhileGroupsAreShown is what clients notice when somebody asks for all of 65 536 groups all the time.
func BenchmarkPlaceWhileGroupsAreShown(b *testing.B) {
	c := newCluster(b, cluster.Options{Strategy: "adaptive", Rules: []cluster.GroupRule{by(`^(?P<group>g\d+)-`)}})
	for i := range 1 << 18 {
		if _, err := c.Place(request(fmt.Sprintf("g%d-%d", i%(1<<16), i))); err != nil {
			b.Fatal(err)
		}
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				c.GroupSpread()
			}
		}
	}()
	r := request("device")
	for b.Loop() {
		target, err := c.Place(r)
		if err != nil {
			b.Fatal(err)
		}
		c.Release(r.ClientID, target, proxy.Served)
	}
	close(stop)
	<-ended
}
