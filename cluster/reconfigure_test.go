package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// reconfigure must work.
func (r *rig) reconfigure(o cluster.Options) {
	r.t.Helper()
	if o.Key == "" {
		o.Key = "secret"
	}
	if err := r.Reconfigure(o); err != nil {
		r.t.Fatal(err)
	}
}

// someOptions are settings at random.
func someOptions(rng *rand.Rand) cluster.Options {
	names := balancer.Names()
	o := cluster.Options{
		Key: []string{"secret", "another"}[rng.IntN(2)], Strategy: names[rng.IntN(len(names))],
		Placement: balancer.Options{BoundedLoad: []float64{0, 1.25}[rng.IntN(2)], NodeScope: rng.IntN(3) == 0},
		Groups:    balancer.GroupOptions{Hold: int64(time.Duration(1+rng.IntN(10)) * time.Second)},
		Attempts:  1 + rng.IntN(5), DialTimeout: time.Duration(1+rng.IntN(3)) * time.Second,
		Load: balancer.LoadOptions{Gain: float64(rng.IntN(3))}, Outliers: health.OutlierRules{Volume: rng.IntN(3)},
	}
	switch rng.IntN(4) {
	case 0:
	case 1:
		o.Rules = append(workers(true), cluster.GroupRule{Learn: true})
	case 2:
		o.Rules = []cluster.GroupRule{by(`^(?P<group>c\d)`)}
	case 3:
		o.Rules = workers(false)
	}
	return o
}

// Whatever the settings become, the counts are those of a simple book-keeper, and in the end nothing is left.
func TestReconfigureKeepsTheBooks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 12))
			r := newRig(t, someOptions(rng))
			b := &book{t: t, r: r, current: make(map[string]bool), live: make(map[string]int)}
			for range 1500 {
				r.advance(time.Duration(rng.Int64N(int64(100 * time.Millisecond))))
				switch action := rng.IntN(100); {
				case action < 50:
					o := &mqttparse.ConnectOptions{ClientID: fmt.Sprint("c", rng.IntN(300)), CleanStart: rng.IntN(3) > 0}
					if rng.IntN(2) == 0 {
						o.ClientID = fmt.Sprintf("%c-%d", 'g'+rune(rng.IntN(3)), rng.IntN(60))
					}
					if !slices.ContainsFunc(b.held, func(p place) bool { return p.id == o.ClientID }) {
						b.connect(rng, o, 0.2, func(proxy.Target, []string) {})
					}
				case action < 90 && len(b.held) > 0:
					b.release(rng.IntN(len(b.held)), proxy.Outcome(rng.IntN(9)))
				case action < 93:
					r.Tick()
				case action < 96:
					b.apply(subset(rng))
				default:
					r.reconfigure(someOptions(rng))
					b.generation = r.Status().Generation
				}
				b.check()
				b.checkGroups()
			}
			for len(b.held) > 0 {
				b.release(0, proxy.Served)
			}
			b.check()
			r.advance(time.Minute)
			if list, _ := r.Groups(10); len(list) > 0 {
				t.Errorf("got groups %+v after everybody has left for longer than a lease, want none", list)
			}
		})
	}
}

// New settings decide about the next client; those that are here stay, and a seat that is kept is kept.
func TestReconfigureStrategy(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "round-robin", Rules: workers(false), Groups: balancer.GroupOptions{Hold: int64(time.Minute)}})
	r.Apply(set("a", "b", "c"))
	seat := r.place("w-1")
	for i := range 6 {
		r.place(fmt.Sprint("c", i))
	}
	r.Release("w-1", seat, proxy.Served)
	before := r.status()

	r.reconfigure(cluster.Options{Strategy: "client-hash", Rules: workers(false), Groups: balancer.GroupOptions{Hold: int64(time.Minute)}})
	after := r.status()
	if after.Strategy != "client-hash" || !reflect.DeepEqual(after.Backends, before.Backends) {
		t.Errorf("got %+v, want client-hash and the rest as before: %+v", after, before)
	}
	if again := r.place("w-1"); again.Reason.Cause != balancer.SeatLease || again.Backend.Name != seat.Backend.Name {
		t.Errorf("got %s (%v) for the member that comes again, want its seat on %s", again.Backend.Name, again.Reason, seat.Backend.Name)
	}
	model := newRig(t, cluster.Options{Strategy: "client-hash"})
	model.Apply(set("a", "b", "c"))
	for i := range 20 {
		id := fmt.Sprint("new", i)
		if got, want := r.place(id), model.place(id); got.Backend.Name != want.Backend.Name || got.Reason != want.Reason {
			t.Errorf("client %s: got %s (%v), want %s (%v)", id, got.Backend.Name, got.Reason, want.Backend.Name, want.Reason)
		}
	}
	if e := r.Explain("x", false); e.Strategy != "client-hash" {
		t.Errorf("got strategy %s explained, want client-hash", e.Strategy)
	}
}

// A client is what the rules made of it when it came: its seat is given back to the group that it was in then.
func TestReconfigureRules(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "adaptive", Rules: workers(false)})
	r.Apply(set("a", "b"))
	old := r.place("w-1")
	r.reconfigure(cluster.Options{Strategy: "adaptive", Rules: []cluster.GroupRule{by(`^(?P<group>w-\d)`)}})
	if list, _ := r.Groups(9); len(list) != 1 || list[0].Name != "w" || list[0].Members != 1 {
		t.Errorf("got groups %+v, want w with the member that it has", list)
	}
	next := r.place("w-2")
	if next.Reason.Group != "w-2" {
		t.Errorf("got group %q for a client that comes, want w-2 by the new rule", next.Reason.Group)
	}
	r.Release("w-1", old, proxy.Refused) // its seat is free at once
	r.Release("w-2", next, proxy.Refused)
	if list, _ := r.Groups(9); len(list) != 0 {
		t.Errorf("got groups %+v, want none", list)
	}
	r.reconfigure(cluster.Options{Strategy: "adaptive"})
	if got := r.place("w-1"); got.Reason.Group != "" {
		t.Errorf("got group %q without rules, want none", got.Reason.Group)
	}
}

// What was learned stays as long as a rule wants it.
func TestReconfigureLearning(t *testing.T) {
	t.Parallel()
	learn := cluster.Options{Strategy: "adaptive", Rules: []cluster.GroupRule{{Learn: true}}}
	r := newRig(t, cluster.Options{Strategy: "adaptive"})
	r.Apply(set("a", "b"))
	group := func() string { return r.Explain("c", false).Group }
	r.Learn("c", "g")
	r.reconfigure(learn)
	if got := group(); got != "" {
		t.Errorf("got group %q, want none: nobody wanted to learn", got)
	}
	r.Learn("c", "g")
	r.reconfigure(learn)
	if got := group(); got != "g" {
		t.Errorf("got group %q, want g", got)
	}
	r.reconfigure(cluster.Options{Strategy: "adaptive"})
	r.reconfigure(learn)
	if got := group(); got != "" {
		t.Errorf("got group %q, want it forgotten", got)
	}
}

// Timeouts, header and attempts count for the connects from now on; who changes nothing gets the same target.
func sources() *proxy.Sources { return proxy.NewSources([]netip.Addr{netip.MustParseAddr("10.0.0.5")}) }

func TestReconfigureTargets(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "client-hash"})
	r.Apply(set("a"))
	first, secured := r.place("c").Backend, new(proxy.BackendTLS)
	r.reconfigure(cluster.Options{Strategy: "client-hash"})
	if got := r.place("c").Backend; got != first {
		t.Errorf("got target %+v, want the same one as before: nothing has changed", got)
	}
	header, err := proxy.NewHeader(proxy.HeaderOptions{Instance: "i"})
	if err != nil {
		t.Fatal(err)
	}
	r.reconfigure(cluster.Options{Strategy: "client-hash", DialTimeout: time.Second, FirstByteTimeout: 2 * time.Second, Header: header, Attempts: 1})
	r.reconfigure(cluster.Options{Strategy: "client-hash", Sources: sources()})
	withSources := r.place("c").Backend
	if withSources.Sources == nil {
		t.Error("got no addresses to dial from, want those of the new settings")
	}
	r.reconfigure(cluster.Options{Strategy: "client-hash", Sources: sources()})
	if got := r.place("c").Backend; got != withSources {
		t.Error("got another target, want the same one with the same addresses: what they have counted goes on")
	}
	r.reconfigure(cluster.Options{Strategy: "client-hash", DialTimeout: time.Second, FirstByteTimeout: 2 * time.Second, Header: header, TLS: secured, Attempts: 1})
	want := *first
	want.DialTimeout, want.FirstByteTimeout, want.Header, want.TLS = time.Second, 2*time.Second, header, secured
	if got := r.place("c").Backend; *got != want {
		t.Errorf("got target %+v, want %+v", got, want)
	}
	if first.DialTimeout != 3*time.Second || first.Header != nil {
		t.Errorf("got %+v for connections that are here, want it as it was", first)
	}
	if _, err := r.Place(request("c", "a")); err == nil {
		t.Error("got a second attempt, want one alone")
	}
	r.Apply(set("a", "b"))
	for i := range 10 {
		if got := r.place(fmt.Sprint("d", i)).Backend; got.DialTimeout != time.Second || got.Header != header || got.TLS != secured {
			t.Errorf("got target %+v, want the new settings for one that joins too", got)
		}
	}
}

// A backend that ramps up goes on to ramp up, and one that is down stays down.
func TestReconfigureKeepsPhases(t *testing.T) {
	t.Parallel()
	o := cluster.Options{Strategy: "client-hash", Watched: true}
	r := newRig(t, o)
	r.time.Store(int64(time.Hour))
	checks := func(up map[string]bool) {
		for i, name := range []string{"a", "b", "c"} {
			report := health.Report{Backend: name, Address: fmt.Sprintf("10.0.0.%d:1883", i+1), Up: up[name], Passed: up[name], At: time.Now()}
			if !up[name] {
				report.FailedChecks = 3
			}
			r.Checked(report)
		}
		r.advance(time.Second)
		r.Tick()
	}
	r.Apply(set("a", "b"))
	checks(map[string]bool{"a": true, "b": false})
	r.Apply(set("a", "b", "c"))
	for range 40 {
		checks(map[string]bool{"a": true, "b": false, "c": true})
	}
	before := r.Status().Backends
	phases := []string{before[0].Phase, before[1].Phase, before[2].Phase}
	if !slices.Equal(phases, []string{"ready", "down", "ramping"}) {
		t.Fatalf("got phases %v, want ready, down and ramping", phases)
	}
	o.Strategy, o.Load.Gain = "least-connections", 2
	r.reconfigure(o)
	if after := r.Status().Backends; !reflect.DeepEqual(after, before) {
		t.Errorf("got %+v, want it as before: %+v", after, before)
	}
	o.Watched = false
	r.reconfigure(o)
	for _, b := range r.Status().Backends {
		if b.Phase != "ready" || b.Check != nil || b.Why != "" {
			t.Errorf("got %+v when nobody watches any more, want it ready, for no reason, and no check", b)
		}
	}
}

// What clients meet counts under new rules as well, for the backends that there are.
func TestReconfigureOutliers(t *testing.T) {
	t.Parallel()
	o := cluster.Options{Strategy: "round-robin", Watched: true}
	r := newRig(t, o)
	r.time.Store(int64(time.Hour))
	r.Apply(set("a", "b"))
	o.Outliers.Volume = 3
	r.reconfigure(o)
	for i := range 20 {
		target := r.place(fmt.Sprint("c", i))
		if target.Backend.Name == "a" {
			r.Release(fmt.Sprint("c", i), target, proxy.Refused)
		}
	}
	r.advance(time.Second)
	r.Tick()
	if b := r.backend("a"); b.Phase != "down" {
		t.Errorf("got %+v after ten refused clients, want it down", b)
	}
}

// A rotation goes on where it is, although whoever asks for it begins another one.
func TestReconfigureKeepsTheRotation(t *testing.T) {
	t.Parallel()
	o := cluster.Options{Strategy: "round-robin", Placement: balancer.Options{Seed: 1}}
	r, model := newRig(t, o), newRig(t, o)
	for _, one := range []*rig{r, model} {
		one.Apply(set("a", "b", "c"))
	}
	for i := range 20 {
		o.Placement.Seed = uint64(i)
		r.reconfigure(o)
		if got, want := r.place("").Backend.Name, model.place("").Backend.Name; got != want {
			t.Errorf("client %d: got %s, want %s as without Reconfigure", i, got, want)
		}
	}
}

// An error changes nothing, and is the one of New.
func TestReconfigureErrors(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "client-hash"})
	r.Apply(set("a", "b"))
	before := r.status()
	for _, c := range []struct {
		o    cluster.Options
		want string
	}{
		{cluster.Options{Strategy: "best", Attempts: 1}, `cluster hivemq: unknown placement strategy "best"`},
		{cluster.Options{Strategy: "client-hash", Rules: []cluster.GroupRule{{}}, Attempts: 1}, "cluster hivemq: group rule 1: want exactly one"},
		{cluster.Options{Strategy: "adaptive", Placement: balancer.Options{Anonymous: "best"}, Attempts: 1}, `cluster hivemq: unknown strategy "best"`},
	} {
		if err := r.Reconfigure(c.o); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got error %v, want %s", err, c.want)
		}
	}
	if after := r.status(); !reflect.DeepEqual(after, before) {
		t.Errorf("got %+v, want it as before: %+v", after, before)
	}
	r.place("c", "a") // a second attempt is still allowed
}

// Everything may happen while the settings change; the race detector watches, and in the end the books are even.
func TestReconfigureConcurrently(t *testing.T) {
	t.Parallel()
	r := newRig(t, someOptions(rand.New(rand.NewPCG(1, 1))))
	r.Apply(set(names...))
	var placing, all sync.WaitGroup
	stop := make(chan struct{})
	for g := range 3 {
		placing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 13))
			for range 1500 {
				id := fmt.Sprintf("%c-%d", 'g'+rune(rng.IntN(3)), rng.IntN(50))
				if target, err := r.Place(request(id)); err == nil {
					r.Answered(&proxy.Answer{Cluster: "hivemq", Backend: target.Backend.Name, ClientID: id, Version: 5, Took: time.Millisecond})
					r.Release(id, target, proxy.Outcome(rng.IntN(9)))
				}
			}
		})
	}
	for _, f := range []func(*rand.Rand){
		func(rng *rand.Rand) {
			if err := r.Reconfigure(someOptions(rng)); err != nil {
				t.Error(err)
			}
		},
		func(rng *rand.Rand) { r.Apply(subset(rng)) },
		func(*rand.Rand) { r.advance(time.Millisecond); r.Tick(); r.Learn("c1", "g") },
		func(*rand.Rand) { r.Explain("g-1", false); r.Status(); r.GroupSpread(); r.Ready() },
	} {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(7, 14))
			for {
				select {
				case <-stop:
					return
				default:
					f(rng)
				}
			}
		})
	}
	placing.Wait()
	close(stop)
	all.Wait()
	r.advance(time.Hour)
	r.Groups(1)
	if s := r.Status(); s.Connections != 0 || s.Groups != 0 || s.GroupMembers != 0 {
		t.Errorf("got %d connections, %d groups and %d members in the end, want none", s.Connections, s.Groups, s.GroupMembers)
	}
}
