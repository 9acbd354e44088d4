package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// watched is a cluster whose backends are checked.
func watched(t *testing.T, o cluster.Options) *rig {
	t.Helper()
	o.Watched = true
	r := newRig(t, o)
	r.time.Store(int64(time.Hour)) // 0 is no time
	return r
}

// passes and fails report a check of each of these backends, whose addresses are those of the status.
func (r *rig) passes(names ...string) {
	for _, name := range names {
		r.Checked(health.Report{Backend: name, Address: r.backend(name).Address, Up: true, Passed: true, PassedChecks: 2, Latency: 3 * time.Millisecond, At: time.Now()})
	}
}

func (r *rig) fails(name, why string, failed int) {
	r.Checked(health.Report{
		Backend: name, Address: r.backend(name).Address, Up: failed < 3, FailedChecks: failed, Err: why,
		Latency: time.Second, At: time.Now(),
	})
}

// phases shows phases with what began them.
func (r *rig) phases() string {
	var list []string
	for _, b := range r.Status().Backends {
		text := b.Name + " " + b.Phase
		if b.Why != "" {
			text += " (" + b.Why + ")"
		}
		list = append(list, text)
	}
	return strings.Join(list, ", ")
}

func (r *rig) wantPhases(when, want string) {
	r.t.Helper()
	if got := r.phases(); got != want {
		r.t.Errorf("%s: got %s\nwant %s", when, got, want)
	}
}

// The backends of the first list work until a check says otherwise. One that joins later is looked at, settles, and
// ramps up; every step is logged with its reason.
func TestABackendJoins(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.wantPhases("at first", "a ready, b ready")
	r.ticks(10)
	r.wantPhases("before any check", "a ready, b ready")
	r.passes("a", "b")
	r.Apply(set("a", "b", "c"))
	r.wantPhases("discovered", "a ready, b ready, c down (not checked yet)")
	r.ticks(5)
	if b := r.backend("c"); b.Check != nil || b.Phase != "down" {
		t.Errorf("got %+v before the first check, want down", b)
	}
	r.passes("c")
	r.ticks(1)
	r.wantPhases("checked", "a ready, b ready, c joining (checks pass)")
	r.ticks(29)
	r.wantPhases("29 s later", "a ready, b ready, c joining (checks pass)")
	r.ticks(1)
	r.wantPhases("settled", "a ready, b ready, c ramping (healthy for 30s)")
	if b := r.backend("c"); b.Weight != 0.1 || b.PhaseSince.IsZero() || b.Check == nil || !b.Check.Passed || b.Check.Seconds != 0.003 {
		t.Errorf("got %+v, want weight 0.1 at the beginning of the ramp, and the check", b)
	}
	r.ticks(60)
	if b := r.backend("c"); b.Weight != 0.5 {
		t.Errorf("got weight %v in the middle of the ramp, want 0.5", b.Weight)
	}
	r.ticks(60)
	r.wantPhases("ramped", "a ready, b ready, c ready (its ramp is over)")
	want := `level=INFO msg="a backend's phase has changed" cluster=hivemq backend=c from=down to=joining reason="checks pass"
level=INFO msg="a backend's phase has changed" cluster=hivemq backend=c from=joining to=ramping reason="healthy for 30s"
level=INFO msg="a backend's phase has changed" cluster=hivemq backend=c from=ramping to=ready reason="its ramp is over"
`
	if got := r.logged("phase has changed"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A backend that fails its checks gets no clients, and comes back as one that joins. When all fail, clients are
// refused, and everything recovers by itself.
func TestABackendFails(t *testing.T) {
	t.Parallel()
	phases := balancer.DefaultPhaseRules()
	phases.Settle, phases.Ramp = int64(10*time.Second), 0
	r := watched(t, cluster.Options{Phases: phases})
	r.Apply(set("a", "b"))
	r.passes("a", "b")
	r.ticks(1)
	r.fails("a", "connection refused", 1)
	r.fails("a", "connection refused", 2)
	r.ticks(1)
	r.wantPhases("after two failures", "a ready, b ready")
	r.fails("a", "connection refused", 3)
	r.ticks(1)
	r.wantPhases("after three", "a down (3 checks failed: connection refused), b ready")
	if got, want := r.logged("phase has changed"), `level=WARN msg="a backend's phase has changed" cluster=hivemq backend=a from=ready to=down reason="3 checks failed: connection refused"`+"\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for i := range 50 {
		if got := r.place(fmt.Sprint("c", i)).Backend.Name; got != "b" {
			t.Fatalf("got a place on %s, which is down", got)
		}
	}
	r.fails("b", "no answer", 3)
	r.ticks(1)
	if _, err := r.Place(request("c")); !errors.Is(err, proxy.ErrNoBackend) {
		t.Errorf("got error %v while all are down, want %v", err, proxy.ErrNoBackend)
	}
	r.passes("a")
	r.ticks(1)
	if got := r.place("c").Backend.Name; got != "a" {
		t.Errorf("got a place on %s, want a: joining is better than nobody", got)
	}
	r.passes("b")
	r.ticks(15)
	r.wantPhases("afterwards", "a ready (its ramp is over), b ready (its ramp is over)")
}

// Without anybody who checks, nobody goes down.
func TestNobodyChecks(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b"))
	for range 20 {
		target := r.place("c")
		r.Release("c", target, proxy.Refused)
	}
	r.fails("a", "no answer", 100)
	r.ticks(5)
	r.Apply(set("a", "b", "c"))
	r.ticks(1)
	r.wantPhases("after failures", "a ready, b ready, c ready")
}

// A broker that asks for its clients to be taken elsewhere is left alone until it does not any more.
func TestABrokerWantsToBeLeft(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.passes("a", "b")
	r.ticks(1)
	r.Checked(health.Report{Backend: "a", Address: "10.0.0.1:1883", Up: true, Passed: true, Drain: true, Note: "use another server", At: time.Now()})
	r.ticks(1)
	r.wantPhases("asked", "a draining (the broker asks for it), b ready")
	if b := r.backend("a"); b.Check.Note != "use another server" {
		t.Errorf("got check %+v, want its note", b.Check)
	}
	r.passes("a")
	r.ticks(1)
	r.wantPhases("afterwards", "a ready (it is wanted again), b ready")
}

// A report is about one address, and what is known about a backend ends with it.
func TestANewAddressIsAnotherProcess(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.fails("a", "no answer", 2)
	r.Scraped(scrape.Reading{Backend: "a", Load: r.figure(0.5), Util: r.figure(0.5), At: r.Now()})
	moved := set("a", "b")
	moved[0].Address = "10.0.0.9:1883"
	r.Apply(moved)
	r.Checked(health.Report{Backend: "a", Address: "10.0.0.1:1883", FailedChecks: 3, Err: "late", At: time.Now()})
	r.Checked(health.Report{Backend: "x", Address: "10.0.0.1:1883", FailedChecks: 3, At: time.Now()})
	r.ticks(1)
	r.wantPhases("after a late report", "a ready, b ready")
	if b := r.backend("a"); b.Check != nil || b.Load != nil {
		t.Errorf("got %+v, want nothing of the old address", b)
	}
}

// A member that flaps every second never settles, so nobody is sent there and back.
func TestAMemberFlaps(t *testing.T) {
	t.Parallel()
	r := watched(t, cluster.Options{})
	r.Apply(set("a", "b"))
	r.passes("a", "b")
	r.ticks(1)
	for range 100 {
		r.Apply(set("a", "b", "c"))
		r.passes("c")
		r.ticks(1)
		for i := range 20 {
			id := fmt.Sprint("c", i)
			target := r.place(id)
			if target.Backend.Name == "c" {
				t.Fatal("got a place on a backend that comes and goes")
			}
			r.Release(id, target, proxy.Served)
		}
		r.Apply(set("a", "b"))
		r.ticks(1)
	}
}
