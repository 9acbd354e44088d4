package cluster_test

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// The last good membership is better than none.
func TestEmptySetIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b"))
	before := r.Status()
	r.Apply(nil)
	r.Apply([]balancer.Backend{})
	if after := r.Status(); after.Generation != before.Generation || len(after.Backends) != 2 || !after.Discovered.Equal(before.Discovered) {
		t.Errorf("got %+v, want %+v", after, before)
	}
	if got := strings.Count(r.log.String(), "level=WARN msg=\"discovery returned no backend; keeping the last known ones\" cluster=hivemq\n"); got != 2 {
		t.Errorf("got %d warnings, want 2 in\n%s", got, r.log)
	}
}

// A set with one address that cannot be used is refused whole: neither its other backends nor their new
// addresses count.
func TestBadAddressIsRefusedWhole(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "broker:1883", "10.0.0.1", "10.0.0.256:1883", ":1883", "10.0.0.1:65536"} {
		r := newRig(t, cluster.Options{Strategy: "least-connections"})
		r.Apply(set("a", "b"))
		r.Apply([]balancer.Backend{
			{Name: "a", Address: "192.0.2.1:1883"},
			{Name: "b", Address: bad},
			{Name: "c", Address: "192.0.2.3:1883"},
			{Name: "d", Address: "192.0.2.4:1883"},
		})
		want := map[string]string{"a": "10.0.0.1:1883", "b": "10.0.0.2:1883"}
		status := r.Status()
		if status.Generation != 1 || len(status.Backends) != len(want) {
			t.Errorf("%q: got generation %d, backends %+v, want generation 1 with a and b", bad, status.Generation, status.Backends)
		}
		for _, b := range status.Backends {
			if b.Address != want[b.Name] {
				t.Errorf("%q: the status shows %s at %s, want %s", bad, b.Name, b.Address, want[b.Name])
			}
		}
		for range len(want) {
			if b := r.place("c").Backend; b.Address.String() != want[b.Name] {
				t.Errorf("%q: clients of %s go to %s, want %s", bad, b.Name, b.Address, want[b.Name])
			}
		}
		if !strings.Contains(r.log.String(), "level=ERROR msg=\"discovery returned an address that is not IP:port; the membership stays as it was\" cluster=hivemq backend=b") {
			t.Errorf("%q: got no error in\n%s", bad, r.log)
		}
	}
}

// Whoever wonders why a backend that has left is not being emptied yet is told.
func TestAbsenceIsShown(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "round-robin", Moves: cluster.MoveOptions{Absence: 30 * time.Second}})
	r.Apply(set("a", "b"))
	r.place("one")
	r.place("two")
	r.Apply(set("a", "b")[1:])
	if got, want := r.backend("a").Why, "discovery does not name it any more; its clients go if that is so for 30s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A backend that leaves keeps its connections and gets no new ones; it vanishes with the last of them. One
// that returns before that is the same as before.
func TestBackendLeavesAndReturns(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "least-connections"})
	r.Apply(set("a", "b"))
	one, two := r.place("one"), r.place("two")
	onA, onAID := one, "one"
	if onA.Backend.Name != "a" {
		onA, onAID = two, "two"
	}
	r.Apply(set("a", "b")[1:])
	if b := r.backend("a"); b.Phase != "draining" || !b.Removed || b.Why != "discovery does not name it any more" ||
		b.Connections != 1 || b.Weight != 0 || b.Share != 0 {
		t.Errorf("after it left: got %+v, want it draining with 1 connection and no weight", b)
	}
	if s := r.Status(); s.Connections != 2 || s.Generation != 2 {
		t.Errorf("got %d connections in generation %d, want 2 in 2", s.Connections, s.Generation)
	}
	for range 10 {
		if got := r.place("c").Backend.Name; got != "b" {
			t.Fatalf("got a place on %s, which has left", got)
		}
	}

	r.Apply(set("a", "b"))
	if b := r.backend("a"); b.Phase != "ready" || b.Removed || b.Connections != 1 || b.Placed != 1 {
		t.Errorf("after it returned: got %+v, want ready with its connection and its history", b)
	}
	again := r.place("c")
	if again.Backend != onA.Backend {
		t.Errorf("got %+v, want the same backend as before, %+v", again.Backend, onA.Backend)
	}

	r.Apply(set("a", "b")[1:])
	r.Release(onAID, onA, proxy.Served)
	if b := r.backend("a"); b.Connections != 1 {
		t.Errorf("got %d connections, want 1", b.Connections)
	}
	r.Release("c", again, proxy.Stalled)
	if s := r.Status(); len(s.Backends) != 1 || s.Backends[0].Name != "b" {
		t.Errorf("got %+v, want only b after the last connection of a has ended", s.Backends)
	}
	if len(r.heard.failures) != 1 {
		t.Errorf("got %q, want the failure of the backend that has left", r.heard.failures)
	}
}

// One that leaves without connections is gone at once.
func TestIdleBackendLeaves(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b", "c"))
	r.Release("x", r.place("x"), proxy.Served)
	r.Apply(set("b"))
	if s := r.Status(); len(s.Backends) != 1 || s.Backends[0].Name != "b" {
		t.Errorf("got %+v, want only b", s.Backends)
	}
}

// A broker that comes back with another address is the same broker: its clients keep their home, and those
// that are still on the old address give back what they took.
func TestNewAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a"))
	before := r.place("c")
	moved := []balancer.Backend{{Name: "a", Address: "[2001:db8::7]:1884", Capacity: 3, Labels: map[string]string{"version": "5"}}}
	r.Apply(moved)
	after := r.place("c")
	if after.Backend == before.Backend || before.Backend.Address.String() != "10.0.0.1:1883" || after.Backend.Address.String() != "[2001:db8::7]:1884" {
		t.Errorf("got %+v after %+v, want a new one with the new address", after.Backend, before.Backend)
	}
	if b := r.backend("a"); b.Connections != 2 || b.Address != "[2001:db8::7]:1884" || b.Weight != 3 || b.Labels["version"] != "5" {
		t.Errorf("got %+v, want 2 connections, the new address, weight and labels", b)
	}
	r.Release("c", before, proxy.Served)
	r.Release("c", after, proxy.Served)
	if b := r.backend("a"); b.Connections != 0 {
		t.Errorf("got %d connections, want 0", b.Connections)
	}
	r.Apply(moved)
	if again := r.place("c"); again.Backend != after.Backend {
		t.Error("got another target although nothing has changed")
	}
}

// The log tells who joins, moves and leaves, and nothing when nothing changes.
func TestChangesAreLogged(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.place("x")
	home := r.place("x").Backend.Name
	r.Apply(set("a", "b"))
	next := set("c", home)
	next[1].Address = "192.0.2.9:1883"
	r.Apply(next)
	r.Apply(next[:1])
	other := map[string]string{"a": "b", "b": "a"}[home]
	want := strings.NewReplacer("HOME", home, "OTHER", other).Replace(
		`level=INFO msg="backend joins" cluster=hivemq backend=a address=10.0.0.1:1883
level=INFO msg="backend joins" cluster=hivemq backend=b address=10.0.0.2:1883
level=INFO msg="backend has a new address" cluster=hivemq backend=HOME address=192.0.2.9:1883
level=INFO msg="backend joins" cluster=hivemq backend=c address=10.0.0.1:1883
level=INFO msg="backend leaves; it drains until its last connection ends" cluster=hivemq backend=OTHER connections=0
level=INFO msg="backend leaves; it drains until its last connection ends" cluster=hivemq backend=HOME connections=2
`)
	if got := r.log.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Run applies what discovery sends until there is no more.
func TestRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	sets := make(chan []balancer.Backend, 3)
	sets <- set("a")
	sets <- nil
	sets <- set("a", "b")
	close(sets)
	r.Run(sets)
	if s := r.Status(); s.Generation != 2 || len(s.Backends) != 2 {
		t.Errorf("got generation %d with %d backends, want 2 with 2", s.Generation, len(s.Backends))
	}
}

// gate is a log that is stuck until it is opened.
type gate chan struct{}

func (g gate) Write(b []byte) (int, error) {
	<-g
	return len(b), nil
}

// A log that nobody reads holds no client up.
func TestABlockedLogHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	stuck := make(gate)
	c, err := cluster.New(cluster.Options{Name: "hivemq", Strategy: "adaptive", Observer: deaf{}, Log: slog.New(slog.NewTextHandler(stuck, nil))})
	if err != nil {
		t.Fatal(err)
	}
	var applying sync.WaitGroup
	applying.Go(func() {
		c.Apply(set("a", "b"))
		c.Apply(set("b", "c"))
	})
	deadline := time.Now().Add(10 * time.Second)
	for !c.Ready() {
		if time.Now().After(deadline) {
			t.Fatal("got no backend within 10 s")
		}
		time.Sleep(time.Millisecond)
	}
	placed := make(chan error, 1)
	go func() {
		target, err := c.Place(request("device"))
		if err == nil {
			c.Release("device", target, proxy.Served)
		}
		placed <- err
	}()
	select {
	case err := <-placed:
		if err != nil {
			t.Errorf("got error %v, want a place", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("got no place within 10 s while the log is stuck")
	}
	close(stuck)
	applying.Wait()
}
