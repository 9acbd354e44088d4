package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

// ticks lets so many seconds pass, with a tick each.
func (r *rig) ticks(seconds int) {
	for range seconds {
		r.advance(time.Second)
		r.Tick()
	}
}

// The state follows what happens, is logged when it changes, and reaches the strategy.
func TestStateOfTheCluster(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive", Placement: balancer.Options{BoundedLoad: 1.25}})
	r.ticks(3) // before anything is known
	r.Apply(set("a", "b", "c"))
	began := r.Status().StateSince
	r.ticks(60)
	if s := r.Status(); s.State != "balanced" || !s.StateSince.Equal(began) || began.IsZero() {
		t.Errorf("got state %s since %v, want balanced since %v", s.State, s.StateSince, began)
	}
	versions := set("a", "b", "c")
	for i := range versions {
		versions[i].Labels = map[string]string{balancer.VersionLabel: fmt.Sprint("4.", 40+i/2)}
	}
	r.Apply(versions)
	r.ticks(1)
	s, e := r.Status(), r.Explain("device", false)
	if s.State != "rolling" || e.State != "rolling" || !s.StateSince.After(began) {
		t.Errorf("got state %s since %v, explained as %s, want rolling since later than %v", s.State, s.StateSince, e.State, began)
	}
	if target := r.place("device"); target.Reason.Strategy != "version-aware" || target.Backend.Name != "c" {
		t.Errorf("got %s by %+v, want the updated backend, c", target.Backend.Name, target.Reason)
	}
	r.Apply(set("a", "b", "c"))
	r.ticks(300)
	if got := r.Status().State; got != "balanced" {
		t.Errorf("got state %s long after the update, want balanced", got)
	}
	want := `level=INFO msg="the cluster's state has changed" cluster=hivemq from=balanced to=rolling
level=INFO msg="the cluster's state has changed" cluster=hivemq from=rolling to=balanced
`
	if got := r.logged("state has changed"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A backend that leaves with all its clients' connections makes room for unevenness: that is scaling.
func TestScalingAfterARemoval(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.Apply(set("a", "b", "c"))
	for i := range 300 {
		id := fmt.Sprint("device", i)
		target := r.place(id)
		if target.Backend.Name == "b" && i%3 > 0 {
			r.Release(id, target, 0)
		}
	}
	r.ticks(1)
	if got := r.Status().State; got != "balanced" {
		t.Errorf("got state %s while clients sit unevenly by themselves, want balanced", got)
	}
	r.Apply(set("a", "b"))
	r.ticks(1)
	if got := r.Status().State; got != "scaling" {
		t.Errorf("got state %s after a backend has left and the others are uneven, want scaling", got)
	}
	r.ticks(400)
	if got := r.Status().State; got != "balanced" {
		t.Errorf("got state %s when nothing has happened for minutes, want balanced", got)
	}
}

// logged returns the lines of the log that contain this.
func (r *rig) logged(what string) string {
	var b strings.Builder
	for line := range strings.Lines(r.log.String()) {
		if strings.Contains(line, what) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// RunClock ticks once a second, with a clock of its own if it is given none, until it is told to stop.
func TestRunClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newCluster(t, cluster.Options{Strategy: "adaptive"})
		versions := set("a", "b")
		versions[0].Labels, versions[1].Labels = map[string]string{balancer.VersionLabel: "1"}, map[string]string{balancer.VersionLabel: "2"}
		r.Apply(versions)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { r.RunClock(ctx) })
		state := func(after time.Duration) string {
			time.Sleep(after)
			synctest.Wait()
			return r.Status().State
		}
		if got := state(900 * time.Millisecond); got != "balanced" {
			t.Errorf("got state %s before the first tick, want balanced", got)
		}
		if got := state(200 * time.Millisecond); got != "rolling" {
			t.Errorf("got state %s after the first tick, want rolling", got)
		}
		r.Apply(set("a", "b"))
		if got := state(110 * time.Second); got != "rolling" {
			t.Errorf("got state %s before the update has been over for 120 s, want rolling", got)
		}
		if got := state(15 * time.Second); got != "balanced" {
			t.Errorf("got state %s after that, want balanced", got)
		}
		cancel()
		running.Wait()
	})
}

// While an update goes through the cluster, members may be away longer.
func TestLeaseWhileRolling(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive", Rules: workers(false)})
	versions := set("a", "b", "c")
	versions[0].Labels, versions[1].Labels = map[string]string{balancer.VersionLabel: "1"}, map[string]string{balancer.VersionLabel: "2"}
	r.Apply(versions)
	r.ticks(1)
	target := r.place("worker-1")
	r.Release("worker-1", target, 0)
	r.advance(119 * time.Second)
	if again := r.place("worker-1"); again.Reason.Cause != balancer.SeatLease || again.Backend != target.Backend {
		t.Errorf("got %s by %+v, want its seat on %s", again.Backend.Name, again.Reason, target.Backend.Name)
	}
}
