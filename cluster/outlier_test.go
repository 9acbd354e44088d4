package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// fail lets clients fail on a backend, each with an id of its own, or all with the same one.
func (r *rig) fail(name string, n int, o proxy.Outcome, sameID bool) {
	for i := range n {
		id := fmt.Sprint("f", i)
		if sameID {
			id = "f"
		}
		var tried []string
		for _, b := range r.Status().Backends {
			if b.Name != name {
				tried = append(tried, b.Name)
			}
		}
		r.Release(id, r.place(id, tried...), o)
	}
}

// answer is a CONNACK for each of n clients.
func (r *rig) answer(name string, n int, version, code byte, took time.Duration) {
	for i := range n {
		r.Answered(&proxy.Answer{Cluster: "hivemq", Backend: name, ClientID: fmt.Sprint("f", i), Version: version, Code: code, After: 2 * took, Took: took})
	}
}

// What happens to clients takes a backend out although its checks pass: refused connections, silence and errors of
// the broker do, what the clients are to blame for does not, nor does a broker that protects itself.
func TestOutliers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(r *rig)
		want    string
		failed  string
	}{
		"refused":    {func(r *rig) { r.fail("a", 5, proxy.Refused, true) }, "a down (5 of 5 clients failed, the last: refused)", "refused:5"},
		"not enough": {func(r *rig) { r.fail("a", 4, proxy.TimedOut, false) }, "a ready", "timeout:4"},
		"interrupted": {func(r *rig) {
			r.fail("a", 4, proxy.Refused, false)
			r.answer("a", 1, 4, 0, 1)
			r.fail("a", 4, proxy.Refused, false)
		}, "a ready", "refused:8"},
		"silent":       {func(r *rig) { r.fail("a", 5, proxy.Stalled, false) }, "a down (5 of 5 clients failed, the last: stalled)", "stalled:5"},
		"one client":   {func(r *rig) { r.fail("a", 9, proxy.Stalled, true) }, "a ready", "stalled:9"},
		"server error": {func(r *rig) { r.answer("a", 5, 5, 0x83, 1) }, "a down (5 of 5 clients failed, the last: rejected)", "rejected:5"},
		"busy":         {func(r *rig) { r.answer("a", 50, 5, 0x97, 1); r.answer("a", 50, 4, 3, 1) }, "a ready", "busy:100"},
		"wrong password": {func(r *rig) {
			r.answer("a", 50, 5, 0x86, 1)
			r.answer("a", 50, 4, 5, 1)
			r.fail("a", 50, proxy.Rejected, false)
		}, "a ready", ""},
		"this host":  {func(r *rig) { r.fail("a", 9, proxy.NoPort, false); r.fail("a", 9, proxy.NoDescriptor, false) }, "a ready", "no_descriptor:9 no_local_port:9"},
		"the client": {func(r *rig) { r.fail("a", 9, proxy.ClientLeft, false); r.fail("a", 9, proxy.Served, false) }, "a ready", ""},
		"all of them": {func(r *rig) {
			for _, name := range []string{"a", "b", "c"} {
				r.fail(name, 9, proxy.Refused, false)
			}
		}, "a down (9 of 9 clients failed, the last: refused)", "refused:9"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := watched(t, cluster.Options{})
			r.Apply(set("a", "b", "c"))
			r.passes("a", "b", "c")
			r.ticks(1)
			test.happens(r)
			r.ticks(1)
			r.wantPhases("then", test.want+", b ready, c ready")
			got := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(r.backend("a").Failures), "map["), "]")
			if got != test.failed {
				t.Errorf("got failures %q, want %q", got, test.failed)
			}
			if want := len(r.heard.failures); test.failed == "" && want != 0 {
				t.Errorf("got told of %d failures, want none", want)
			}
			if strings.Contains(test.want, "down") {
				r.ticks(12)
				r.wantPhases("12 s later", "a joining (checks pass), b ready, c ready")
			}
		})
	}
}

// A member that the broker has rejected never had its seat.
func TestARejectedMemberKeepsNoSeat(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false)})
	r.Apply(set("a", "b"))
	for o, leased := range map[proxy.Outcome]int{proxy.Served: 1, proxy.Rejected: 0} {
		r.Release("worker-1", r.place("worker-1"), o)
		list, _ := r.Groups(10)
		got := 0
		for _, g := range list {
			got += g.Leased
		}
		if got != leased {
			t.Errorf("%v: got %d leases, want %d", o, got, leased)
		}
		r.advance(time.Minute)
	}
}

// The process stands still for a minute: all deadlines pass at once and all figures are old, and nothing comes of it.
func TestStandstill(t *testing.T) {
	t.Parallel()
	for _, tickFirst := range []bool{false, true} {
		r := watched(t, cluster.Options{Strategy: "adaptive"})
		r.Apply(set("a", "b", "c"))
		r.passes("a", "b", "c")
		r.scrape(40, map[string]float64{"a": 0.5, "b": 0.3, "c": 0.3})
		r.Carried(&proxy.Flows{})
		r.advance(time.Minute)
		if tickFirst {
			r.Tick()
		}
		r.Carried(&proxy.Flows{})
		for _, name := range []string{"a", "b", "c"} {
			r.fail(name, 9, proxy.Stalled, false)
			r.fail(name, 9, proxy.TimedOut, false)
			r.answer(name, 9, 5, 0x80, time.Minute)
			r.answer(name, 20, 5, 0, time.Minute)
		}
		r.Tick()
		r.ticks(1)
		r.wantPhases("afterwards", "a ready, b ready, c ready")
		if b := r.backend("a"); b.ConnackSeconds != 0 {
			t.Errorf("got %v s for CONNACK, want nothing", b.ConnackSeconds)
		}
		for range 4 {
			r.scrape(15, map[string]float64{"a": 0.5, "b": 0.3, "c": 0.3})
			r.Carried(&proxy.Flows{})
		}
		if got := r.logged("state has changed"); got != "" {
			t.Errorf("got %s, want no change", got)
		}
		want := `level=WARN msg="the process stood still; what seems to have happened meanwhile does not count" cluster=hivemq for=1m0s` + "\n"
		if got := r.logged("stood still"); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		r.fail("a", 5, proxy.Refused, false)
		r.ticks(1)
		r.wantPhases("in earnest", "a down (5 of 5 clients failed, the last: refused), b ready, c ready")
	}
}
