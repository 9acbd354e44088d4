package cluster_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/proxy"
)

// A drain empties a backend at its rate, shows how far it is, and says when the backend can be stopped; afterwards the
// backend is taken back.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 200}), 1200, "n1", "n2", "n3")
	f.run(2 * time.Second)
	begin := f.on("n1")
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	if b := f.backend("n1"); b.Phase != "draining" || b.Why != "an operator wants it to be empty" || b.Drain == nil ||
		!b.Drain.Operator || b.Drain.By != "operator" || b.Drain.Rate != 50 || b.Drain.Begun != begin || b.Drain.Since.IsZero() {
		t.Errorf("got %+v, %+v, want a drain of %d clients", b, b.Drain, begin)
	}
	f.run(3 * time.Second)
	if b := f.backend("n1"); b.Connections == 0 || b.Connections > begin-50 || b.Drain.Begun != begin {
		t.Errorf("got %d connections and %+v, want some of %d to have left", b.Connections, b.Drain, begin)
	}
	f.run(20 * time.Second)
	if f.on("n1") != 0 || f.on("n2")+f.on("n3") != 1200 || len(f.evicted) != begin {
		t.Errorf("got %d clients on n1 and %d elsewhere after %d evictions, want 0 and 1200 after %d", f.on("n1"), f.on("n2")+f.on("n3"), len(f.evicted), begin)
	}
	if pace := f.pace(); !near(pace, 50, 0.15) {
		t.Errorf("got %.1f evictions per second, want 50 within 15 %%", pace)
	}
	f.withinRate(50, 10)
	f.nobodyTwice()
	for i := range 100 {
		f.add(&client{id: "late-" + number(i)})
	}
	if f.on("n1") != 0 {
		t.Errorf("got %d new clients on the backend that is drained, want none", f.on("n1"))
	}
	if got := f.logged("it can be stopped"); strings.Count(got, "backend=n1") != 1 {
		t.Errorf("got %q, want one line", got)
	}
	if err := f.Resume("n1"); err != nil {
		t.Fatal(err)
	}
	if b := f.backend("n1"); b.Phase != "ready" || b.Drain != nil {
		t.Errorf("got %+v, want it to be ready again", b)
	}
	got, want := append(f.told(cluster.EventDrain), f.told(cluster.EventResume)...), []string{
		"n1|an operator wants it to be empty, 50 clients per second", "n1|it is empty and can be stopped", "n1|an operator wants it to work again",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

// An order can change, outlasts the absence of the backend, and is the operator's alone to take back.
func TestOrders(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 200}), 1800, "n1", "n2", "n3")
	f.run(2 * time.Second)
	for _, rate := range []float64{5, 20, 120} {
		if err := f.Drain("n1", rate); err != nil {
			t.Fatal(err)
		}
		f.run(time.Second)
		f.evicted = nil
		f.run(1500 * time.Millisecond)
		if n, want := float64(len(f.evicted)), 1.5*rate; !near(n, want, 0.35) || f.backend("n1").Drain.Rate != rate {
			t.Errorf("rate %v: got %v evictions, want about %v", rate, n, want)
		}
	}
	f.Apply(set("n1", "n2", "n3")[1:])
	f.run(20 * time.Second)
	if s := f.Status(); len(s.Backends) != 2 {
		t.Fatalf("got %+v, want n1 to have gone", s.Backends)
	}
	f.Apply(set("n1", "n2", "n3"))
	if b := f.backend("n1"); b.Phase != "draining" || b.Drain == nil || b.Drain.Rate != 120 {
		t.Errorf("got %+v, want it to drain again", b)
	}
	f.Apply(set("n1", "n2", "n3")[1:])
	if err := f.Resume("n1"); err != nil {
		t.Errorf("got %v for a backend that is not there, but ordered", err)
	}
	f.Apply(set("n1", "n2", "n3"))
	if b := f.backend("n1"); b.Phase != "ready" {
		t.Errorf("got %+v, want it to work", b)
	}
}

// What cannot be done is refused, with what there is instead.
func TestDrainsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{}), 10, "n1", "n2", "n3")
	for _, do := range []func(string) error{func(b string) error { return f.Drain(b, 0) }, f.Resume} {
		if err := do("n9"); !errors.Is(err, cluster.ErrNoSuchBackend) || !strings.Contains(err.Error(), `"n9"; it has n1, n2, n3`) {
			t.Errorf("got %v, want the backends that there are", err)
		}
	}
	if err := f.Resume("n1"); err != nil {
		t.Errorf("got %v for a backend that does not drain, want nothing", err)
	}
	for _, name := range []string{"n1", "n2", "n1"} {
		if err := f.Drain(name, 0); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Drain("n3", 0); !errors.Is(err, cluster.ErrLastBackend) || f.backend("n3").Phase != "ready" {
		t.Errorf("got %v, want a refusal: nobody else takes clients", err)
	}
	leaving := set("n1", "n2", "n3")
	leaving[2].Phase = 4 // draining
	f.Apply(leaving)
	if b := f.backend("n3"); b.Drain == nil || b.Drain.By != "discovery" || b.Drain.Operator {
		t.Fatalf("got %+v, %+v, want discovery to drain it", b, b.Drain)
	}
	if err := f.Resume("n3"); !errors.Is(err, cluster.ErrNotOrdered) {
		t.Errorf("got %v, want a refusal: it is not the operator's drain", err)
	}
}

// Where backends are checked, a drain is a phase like any other, and a broker can ask for one itself.
func TestDrainOfWatchedBackends(t *testing.T) {
	t.Parallel()
	o := mine(cluster.MoveOptions{InFlight: 200})
	o.Watched = true
	f := newFleet(t, o, 300, "n1", "n2", "n3")
	check := func(drain bool) {
		for i, b := range set("n1", "n2", "n3") {
			f.Checked(health.Report{Backend: b.Name, Address: b.Address, At: time.Now(), Passed: true, Drain: drain && i == 1})
		}
	}
	check(false)
	f.run(2 * time.Second)
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	if b := f.backend("n1"); b.Phase != "draining" || b.Why != "an operator wants it to be empty" {
		t.Errorf("got %+v, want it to drain at once", b)
	}
	f.run(15 * time.Second)
	if f.on("n1") != 0 {
		t.Errorf("got %d clients on n1, want none", f.on("n1"))
	}
	if err := f.Resume("n1"); err != nil {
		t.Fatal(err)
	}
	check(true)
	f.run(2 * time.Second)
	if b := f.backend("n2"); b.Drain == nil || b.Drain.By != "health" || b.Drain.Operator {
		t.Errorf("got %+v, %+v, want the broker to have asked for it", b, b.Drain)
	}
	f.run(30 * time.Second)
	if f.on("n2") != 0 || f.backend("n1").Phase != "ready" {
		t.Errorf("got %d clients on n2, want none", f.on("n2"))
	}
	if got := strings.Join(f.told(cluster.EventPhase), "\n"); !strings.HasPrefix(got, "n1|ready|draining|an operator wants it to be empty\nn1|draining|ready|it is wanted again\nn2|ready|draining|the broker asks for it") {
		t.Errorf("got %q", got)
	}
}

// A backend that discovery does not name any more is emptied, and vanishes.
func TestBackendThatLeavesIsEmptied(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 200}), 300, "n1", "n2", "n3")
	f.run(2 * time.Second)
	begin := f.on("n1")
	f.Apply(set("n1", "n2", "n3")[1:])
	if b := f.backend("n1"); b.Drain == nil || b.Drain.By != "discovery" || b.Drain.Begun != begin {
		t.Errorf("got %+v, want it to drain", b)
	}
	f.run(20 * time.Second)
	if s := f.Status(); len(s.Backends) != 2 || len(f.evicted) != begin {
		t.Errorf("got %+v after %d evictions, want n1 to be gone", s.Backends, len(f.evicted))
	}
	if got := f.told(cluster.EventDrain); len(got) != 2 || got[1] != "n1|it is empty and can be stopped" {
		t.Errorf("got %q", got)
	}
}

// After the deadline those are cut off who cannot be moved gently, whatever their wills.
func TestDeadlineOfADrain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 200, DrainWill: cluster.SkipWill, Deadline: 30 * time.Second}), 0, "n1", "n2")
	for i := range 100 {
		f.add(&client{id: "device-" + number(i), will: []balancer.Will{balancer.NoWill, balancer.PromptWill}[i%2]})
	}
	f.keep = func(e proxy.Eviction) keepWhat {
		return keepWhat{!e.Force && strings.HasSuffix(e.ClientID, "4"), proxy.KeptBusy}
	}
	f.run(2 * time.Second)
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	f.run(28 * time.Second)
	left := f.on("n1")
	for _, e := range f.evicted {
		if e.Force {
			t.Fatalf("got %+v before the deadline", e.Eviction)
		}
	}
	if left == 0 {
		t.Fatal("got nobody left before the deadline, want those with wills")
	}
	f.evicted = nil
	f.run(20 * time.Second)
	if f.on("n1") != 0 || len(f.evicted) != left {
		t.Errorf("got %d clients on n1 and %d evictions, want none left of %d", f.on("n1"), len(f.evicted), left)
	}
	for _, e := range f.evicted {
		if !e.Force {
			t.Errorf("got %+v after the deadline, want it forced", e.Eviction)
		}
	}
}
