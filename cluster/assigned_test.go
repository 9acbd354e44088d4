package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// resuming is what the proxy asks for a client that comes with an id to find its session.
func resuming(id string) proxy.Request {
	return requestOf(&mqttparse.ConnectOptions{Version: 5, ClientID: id, SessionExpiry: 60})
}

// named places a client without an id somewhere else than where the hash of the one that it gets has its home.
func (r *rig) named(id string, lives time.Duration) proxy.Target {
	r.t.Helper()
	home := r.Explain(id, true).Backend
	for {
		target := mustPlace(r.t, r, requestOf(&mqttparse.ConnectOptions{Version: 5, SessionExpiry: 60}))
		if target.Backend.Name != home {
			r.Named(id, target, lives)
			return target
		}
		r.Release("", target, proxy.Served)
	}
}

// A client that comes again with the id that its broker has given to it goes to that broker, as long as its session lives.
func TestAssignedIDsAreSticky(t *testing.T) {
	t.Parallel()
	const lives = time.Hour
	for _, strategy := range []string{"client-hash", "adaptive", "round-robin"} {
		for _, c := range []struct {
			name  string
			away  time.Duration
			ended proxy.Outcome
			back  bool
		}{
			{"still connected", -1, 0, true},
			{"at once", 0, proxy.Served, true},
			{"while its session lives", lives - 1, proxy.Served, true},
			{"when its session is over", lives, proxy.Served, false},
			{"after it was moved", 0, proxy.Moved, false},
		} {
			r := newRig(t, cluster.Options{Strategy: strategy})
			r.Apply(set("a", "b", "c"))
			home := r.Explain("auto-1", true).Backend
			target := r.named("auto-1", lives)
			if got := r.Explain("auto-1", true); got.Backend != target.Backend.Name {
				t.Errorf("%s, %s: explain says %s (%s), want %s", strategy, c.name, got.Backend, got.Reason, target.Backend.Name)
			}
			r.advance(100 * lives) // the connection lasts longer than the session would
			if c.away >= 0 {
				r.Parted("auto-1", target, c.ended)
				r.Release("", target, c.ended)
				r.advance(c.away)
			}
			again := mustPlace(t, r, resuming("auto-1"))
			if got := again.Reason.Cause == balancer.Resumed; got != c.back {
				t.Errorf("%s, %s: got it placed on %s (%v), want resumed %v", strategy, c.name, again.Backend.Name, again.Reason, c.back)
			}
			if c.back && again.Backend != target.Backend || !c.back && strategy == "client-hash" && again.Backend.Name != home {
				t.Errorf("%s, %s: got it on %s, came from %s, home %s", strategy, c.name, again.Backend.Name, target.Backend.Name, home)
			}
		}
	}
}

// From its second connect on, its own CONNECT says how long its session lives, and where it goes its session goes.
func TestAssignedIDsLater(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	check := func(down string) {
		all := set("a", "b", "c")
		for i := range all {
			if all[i].Name == down {
				all[i].Phase = balancer.Down
			}
		}
		r.Apply(all)
	}
	check("")
	first := r.named("auto-1", time.Hour)
	r.Parted("auto-1", first, proxy.Served)
	r.Release("", first, proxy.Served)

	check(first.Backend.Name)
	elsewhere := mustPlace(t, r, resuming("auto-1"))
	if elsewhere.Backend == first.Backend {
		t.Fatalf("got it placed on %s, which is down", first.Backend.Name)
	}
	r.Release("auto-1", elsewhere, proxy.Served)
	check("")
	if got := mustPlace(t, r, resuming("auto-1")); got.Backend.Name != elsewhere.Backend.Name {
		t.Errorf("got it on %s, want it where its session has gone, %s", got.Backend.Name, elsewhere.Backend.Name)
	} else {
		r.Release("auto-1", got, proxy.Served)
	}
	r.advance(time.Minute) // as its CONNECT has said
	if got := mustPlace(t, r, resuming("auto-1")); got.Reason.Cause == balancer.Resumed {
		t.Errorf("got %v after its session has ended, want it forgotten", got.Reason)
	}
	if got := r.Status().Settled; got != 1 {
		t.Errorf("got %d clients remembered, want 1", got)
	}
}

// A client that gives up its session is an ordinary one.
func TestAssignedIDWithoutSession(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b", "c"))
	r.named("auto-1", time.Hour)
	clean := requestOf(&mqttparse.ConnectOptions{Version: 5, ClientID: "auto-1", CleanStart: true})
	if got := mustPlace(t, r, clean); got.Reason.Cause != balancer.Resumed {
		t.Errorf("got %v for the connect that ends the session, want it at its broker", got.Reason)
	}
	if got := r.Status().Settled; got != 0 {
		t.Errorf("got %d clients remembered, want 0", got)
	}
}

// What is remembered is bounded, in time and in number.
func TestAssignedIDsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b", "c"))
	target := r.named("auto-1", 1<<63-1)
	r.Parted("auto-1", target, proxy.Served)
	r.advance(7*24*time.Hour - 1)
	if got := r.Explain("auto-1", true).Backend; got != target.Backend.Name {
		t.Errorf("got %s after nearly a week, want %s", got, target.Backend.Name)
	}
	r.advance(1)
	if got := r.Explain("auto-1", true).Backend; got == target.Backend.Name {
		t.Errorf("got %s after a week, want it forgotten", got)
	}
	const limit = 100_000
	for i := range limit + 10 {
		r.Named(fmt.Sprint(i), target, time.Hour)
	}
	if got := r.Status().Settled; got != limit {
		t.Errorf("got %d clients remembered, want %d", got, limit)
	}
}
