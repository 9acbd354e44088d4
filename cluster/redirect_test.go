package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// v5 is what the proxy asks for a client of MQTT 5.
func v5(id string, tried ...string) proxy.Request {
	return requestOf(&mqttparse.ConnectOptions{Version: 5, ClientID: id, CleanStart: true}, tried...)
}

// sends places a client and tells whether it is sent to its backend; if so, its place is given back.
func (r *rig) sends(q proxy.Request) bool {
	r.t.Helper()
	target, err := r.Place(q)
	if err != nil {
		r.t.Fatalf("client %q: got error %v, want a place", q.ClientID, err)
	}
	o := proxy.Served
	if target.Redirect {
		o = proxy.Redirected
	}
	r.Release(q.ClientID, target, o)
	return target.Redirect
}

func TestWhoIsRedirected(t *testing.T) {
	t.Parallel()
	rules := workers(false)
	for _, c := range []struct {
		name    string
		off     bool
		request proxy.Request
		want    bool
	}{
		{"MQTT 5", false, v5("c"), true},
		{"MQTT 5 with a session", false, requestOf(&mqttparse.ConnectOptions{Version: 5, ClientID: "c", SessionExpiry: 60}), true},
		{"before authentication", false, requestOf(&mqttparse.ConnectOptions{Version: 5, ClientID: "c", AuthMethod: "SCRAM"}), true},
		{"switched off", true, v5("c"), false},
		{"MQTT 3.1.1", false, request("c"), false},
		{"without an id", false, v5(""), false},
		{"too long an id to remember", false, v5(strings.Repeat("x", 1025)), false},
		{"member of a group", false, v5("worker-1"), false},
		{"after a backend has failed", false, v5("c", "a"), false},
	} {
		r := newRig(t, cluster.Options{Redirect: !c.off, Rules: rules})
		r.Apply(set("a", "b", "c"))
		if got := r.sends(c.request); got != c.want {
			t.Errorf("%s: got redirected %v, want %v", c.name, got, c.want)
		}
		want := uint64(0)
		if c.want {
			want = 1
		}
		if got := r.Status().Redirected; got != want {
			t.Errorf("%s: the status counts %d redirected clients, want %d", c.name, got, want)
		}
	}
}

// A client that does not follow is relayed from its second connect on, however often it comes.
func TestNobodyIsSentToAndFro(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Redirect: true})
	r.Apply(set("a", "b"))
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{
		{0, true}, {0, false}, {time.Second, false}, {9 * time.Minute, false}, {9 * time.Minute, false}, // it came in between
		{10 * time.Minute, true}, {time.Second, false},
	} {
		r.advance(step.after)
		if got := r.sends(v5("c")); got != step.want {
			t.Errorf("after %v: got redirected %v, want %v", step.after, got, step.want)
		}
	}
}

// What is remembered is bounded: one that was longest away is sent away again, and the others are not.
func TestRedirectedClientsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Redirect: true})
	r.Apply(set("a", "b"))
	const limit = 100_000
	for i := range limit + 1 {
		r.sends(v5(fmt.Sprint(i)))
	}
	if r.sends(v5("1")) {
		t.Error("got the second of 100 001 clients redirected again, want it remembered")
	}
	if !r.sends(v5("0")) {
		t.Error("got the first of 100 001 clients relayed, want it forgotten")
	}
}

// Strategies that count connections count those that were sent away, too, for a minute; the others do not.
func TestRedirectedClientsCount(t *testing.T) {
	t.Parallel()
	for strategy, held := range map[string]int{"least-connections": 30, "client-hash": 0, "round-robin": 0} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, cluster.Options{Redirect: true, Strategy: strategy})
			r.Apply(set("a", "b", "c"))
			placed := make(map[string]int)
			for i := range 30 {
				target := mustPlace(t, r, v5(fmt.Sprint("c", i)))
				placed[target.Backend.Name]++
				r.Release(fmt.Sprint("c", i), target, proxy.Redirected)
			}
			for _, b := range []string{"a", "b", "c"} {
				if placed[b] == 0 || strategy != "client-hash" && placed[b] != 10 {
					t.Errorf("got %v, want all backends to get the same", placed)
				}
			}
			if got := r.Status().Connections; got != held {
				t.Errorf("got %d connections after 30 redirects, want %d", got, held)
			}
			// One of them comes back and is relayed: it counts once.
			target := mustPlace(t, r, v5("c0"))
			if got, want := r.Status().Connections, max(held, 1); got != want || target.Redirect {
				t.Errorf("got %d connections when one has come back, redirected %v, want %d and not", got, target.Redirect, want)
			}
			r.Release("c0", target, proxy.Served)
			r.advance(time.Minute)
			r.Tick()
			if got := r.Status().Connections; got != 0 {
				t.Errorf("got %d connections a minute later, want 0", got)
			}
		})
	}
}

func mustPlace(t *testing.T, r *rig, q proxy.Request) proxy.Target {
	t.Helper()
	target, err := r.Place(q)
	if err != nil {
		t.Fatalf("client %q: got error %v, want a place", q.ClientID, err)
	}
	return target
}

func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		backend balancer.Backend
		want    string
	}{
		{balancer.Backend{Address: "10.0.0.1:1883"}, "10.0.0.1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "10.0.0.1"}, "10.0.0.1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1.example"}, "n1.example:1883"},
		{balancer.Backend{Address: "[fd00::1]:1883", Host: "fd00::1"}, "[fd00::1]:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1", Labels: map[string]string{"advertise": "mqtt.example:8883"}}, "mqtt.example:8883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1", Labels: map[string]string{"advertise": ""}}, "n1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1", Labels: map[string]string{"advertise": "mqtt.example"}}, "n1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1", Labels: map[string]string{"advertise": ":8883"}}, "n1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883", Host: "n1", Labels: map[string]string{"advertise": "x:mqtt"}}, "n1:1883"},
	} {
		r := newRig(t, cluster.Options{Redirect: true})
		c.backend.Name = "a"
		r.Apply([]balancer.Backend{c.backend})
		if got := mustPlace(t, r, v5("c")).Backend.Advertised; got != c.want {
			t.Errorf("%+v: got %q, want %q", c.backend, got, c.want)
		}
		if got := r.Explain("c", false).Redirect; got != c.want {
			t.Errorf("%+v: explain says %q, want %q", c.backend, got, c.want)
		}
	}
	// The label may change while the address stays, and so may the setting.
	r := newRig(t, cluster.Options{Redirect: true})
	b := balancer.Backend{Name: "a", Address: "10.0.0.1:1883", Labels: map[string]string{"advertise": "one:1883"}}
	r.Apply([]balancer.Backend{b})
	b.Labels = map[string]string{"advertise": "two:1883"}
	r.Apply([]balancer.Backend{b})
	if got := mustPlace(t, r, v5("c")).Backend.Advertised; got != "two:1883" {
		t.Errorf("got %q after the label has changed, want two:1883", got)
	}
	if err := r.Reconfigure(cluster.Options{Strategy: "client-hash"}); err != nil {
		t.Fatal(err)
	}
	if mustPlace(t, r, v5("d")).Redirect {
		t.Error("got a client redirected after it was switched off, want it relayed")
	}
}

// Whoever is told an address that most clients cannot reach should know, once for each backend.
func TestAddressesThatClientsCannotReachAreLogged(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]int{"10.0.0.1:1883": 1, "127.0.0.1:1883": 1, "[fe80::1]:1883": 1, "192.0.2.1:1883": 0} {
		r := newRig(t, cluster.Options{Redirect: true})
		for range 2 {
			r.Apply([]balancer.Backend{{Name: "a", Address: address}})
		}
		if got := strings.Count(r.log.String(), "level=WARN"); got != want {
			t.Errorf("%s: got %d lines, want %d:\n%s", address, got, want, r.log)
		}
	}
	r := newRig(t, cluster.Options{})
	r.Apply(set("a"))
	if strings.Contains(r.log.String(), "level=WARN") {
		t.Errorf("got a line although nobody is redirected:\n%s", r.log)
	}
}
