package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// With every strategy, the members of a group are spread: never more than one apart while they arrive.
func TestMembersAreSpread(t *testing.T) {
	t.Parallel()
	for _, strategy := range balancer.Names() {
		r := newRig(t, cluster.Options{Strategy: strategy, Rules: workers(false), Placement: balancer.Options{BoundedLoad: 1.25}})
		r.Apply(set("a", "b", "c"))
		for i := range 40 {
			target := r.place(fmt.Sprint("worker-", i))
			if target.Reason.Strategy != "group-spread" || target.Reason.Group != "worker" {
				t.Errorf("%s: got reason %+v, want one of group-spread", strategy, target.Reason)
			}
			r.place(fmt.Sprint("device", i)) // everybody else goes by the strategy
			if g, _ := r.Groups(10); len(g) != 1 || g[0].Spread > 1 || g[0].Members != i+1 {
				t.Fatalf("%s: after %d arrivals got %+v, want a spread of 1 at most", strategy, i+1, g)
			}
		}
		if got := r.GroupSpread(); got != 1 {
			t.Errorf("%s: got a spread of %d with 40 members on 3 backends, want 1", strategy, got)
		}
	}
}

// Two members never meet while there is another backend, however many groups there are.
func TestPairsAreKeptApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{by(`^(?P<group>pair\d+)-`)}})
	r.Apply(set("a", "b", "c"))
	for g := range 200 {
		one, two := r.place(fmt.Sprintf("pair%d-1", g)), r.place(fmt.Sprintf("pair%d-2", g))
		if one.Backend == two.Backend {
			t.Errorf("got both members of group %d on %s", g, one.Backend.Name)
		}
	}
	if s := r.Status(); s.Groups != 200 || s.GroupMembers != 400 {
		t.Errorf("got %d groups with %d members, want 200 with 400", s.Groups, s.GroupMembers)
	}
}

// A member that comes back in time finds its seat, later it does not; one that its backend never took keeps none.
func TestLeases(t *testing.T) {
	t.Parallel()
	const lease = 30 * time.Second
	for name, c := range map[string]struct {
		hold  int64
		how   proxy.Outcome
		after time.Duration
		want  balancer.Cause
	}{
		"at once":           {0, proxy.Served, 0, balancer.SeatLease},
		"in time":           {0, proxy.Served, lease - 1, balancer.SeatLease},
		"too late":          {0, proxy.Served, lease, balancer.Emptiest},
		"client left":       {0, proxy.ClientLeft, time.Second, balancer.SeatLease},
		"backend failed":    {0, proxy.Refused, 0, balancer.Emptiest},
		"backend timed out": {0, proxy.TimedOut, 0, balancer.Emptiest},
		"backend stalled":   {0, proxy.Stalled, 0, balancer.Emptiest},
		"no lease":          {-1, proxy.Served, 0, balancer.Emptiest},
		"short lease":       {int64(time.Second), proxy.Served, time.Second, balancer.Emptiest},
		"long lease":        {int64(time.Minute), proxy.Served, lease, balancer.SeatLease},
	} {
		r := newRig(t, cluster.Options{Rules: workers(false), Groups: balancer.GroupOptions{Hold: c.hold}})
		r.Apply(set("a", "b", "c"))
		for i := range 9 {
			r.place(fmt.Sprint("worker-", i))
		}
		target := r.place("worker-9")
		r.Release("worker-9", target, c.how)
		r.advance(c.after)
		again := r.place("worker-9")
		if again.Reason.Cause != c.want || c.want == balancer.SeatLease && again.Backend != target.Backend {
			t.Errorf("%s: got %s because of %+v after %s, want cause %v", name, again.Backend.Name, again.Reason, target.Backend.Name, c.want)
		}
	}
}

// Whatever the way to a backend, the target names the group of a member, because Release needs it.
func TestTargetsNameTheGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{by(`^(?P<group>[a-z]+)-(?P<ord>\w+)$`)}, Attempts: 10})
	r.Apply(set("a", "b", "c"))
	causes := make(map[balancer.Cause]bool)
	see := func(target proxy.Target) proxy.Target {
		t.Helper()
		if target.Reason.Group != "worker" {
			t.Errorf("got reason %+v, want it to name the group", target.Reason)
		}
		causes[target.Reason.Cause] = true
		return target
	}
	seat := see(r.place("worker-0"))
	see(r.place("worker-0"))                                          // takes over
	see(r.place("worker-0", seat.Backend.Name))                       // retries elsewhere
	see(r.place("worker-x"))                                          // without a number
	r.Release("worker-1", see(r.place("worker-1")), proxy.ClientLeft) // …
	see(r.place("worker-1"))                                          // comes back
	owner := r.Explain("worker-2", false).Backend
	avoided := set("a", "b", "c")
	avoided[slices.IndexFunc(avoided, func(b balancer.Backend) bool { return b.Name == owner })].Phase = balancer.Draining
	r.Apply(avoided)
	see(r.place("worker-2"))
	want := []balancer.Cause{balancer.Avoided, balancer.Retried, balancer.TakenOver, balancer.SeatLease, balancer.OrdinalSeat, balancer.Emptiest}
	if got := slices.Sorted(maps.Keys(causes)); !slices.Equal(got, want) {
		t.Errorf("got causes %v, want %v", got, want)
	}
}

// A member for whom its group has no room is placed like anybody else. It has no seat, and when it goes, nobody
// loses one: not even another connection of the same client that has got a seat in the meantime.
func TestMembersWithoutRoom(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false), Groups: balancer.GroupOptions{MaxMembers: 2}})
	r.Apply(set("a"))
	one, two := r.place("worker-1"), r.place("worker-2")
	homeless := r.place("worker-3")
	if homeless.Reason != (balancer.Reason{Strategy: "client-hash", Cause: balancer.Home}) {
		t.Errorf("got %+v for one too many, want home by client-hash", homeless.Reason)
	}
	r.Release("worker-1", one, proxy.Refused)
	seated := r.place("worker-3")
	if seated.Reason.Group != "worker" {
		t.Errorf("got %+v when there is room again, want a seat in the group", seated.Reason)
	}
	members := func() int {
		t.Helper()
		list, _ := r.Groups(1)
		if len(list) == 0 {
			return 0
		}
		return list[0].Members
	}
	r.Release("worker-3", homeless, proxy.Served)
	if got := members(); got != 2 {
		t.Errorf("got %d members after the connection without a seat has ended, want 2", got)
	}
	r.Release("worker-3", seated, proxy.Refused)
	r.Release("worker-2", two, proxy.Refused)
	if s := r.Status(); members() != 0 || s.Connections != 0 || s.GroupMembers != 0 {
		t.Errorf("got %+v in the end, want nobody", s)
	}
}

// Where a session lives on one broker, its client goes home, whatever group it is in; the others are spread.
func TestPersistentMembersOfNodeScope(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false), Placement: balancer.Options{NodeScope: true}})
	r.Apply(set("a", "b", "c"))
	persistent := func(id string) proxy.Target {
		t.Helper()
		target, err := r.Place(requestOf(&mqttparse.ConnectOptions{ClientID: id}))
		if err != nil {
			t.Fatal(err)
		}
		return target
	}
	one := persistent("worker-1")
	if want := (balancer.Reason{Strategy: "client-hash", Cause: balancer.Home}); one.Reason != want {
		t.Errorf("got %+v, want %+v", one.Reason, want)
	}
	if e := r.Explain("worker-1", true); e.Kind != "persistent" || e.Group != "worker" || e.Backend != one.Backend.Name || e.Reason != one.Reason.String() {
		t.Errorf("explained as %+v, want home by hash", e)
	}
	if e := r.Explain("worker-1", false); e.Kind != "grouped" || e.Group != "worker" {
		t.Errorf("explained without a session as %+v, want a member", e)
	}
	two := r.place("worker-2")
	if two.Reason.Group != "worker" {
		t.Errorf("got %+v for a client without a session, want a seat in its group", two.Reason)
	}
	r.Release("worker-1", one, proxy.Served)
	r.Release("worker-2", two, proxy.Refused)
	if s := r.Status(); s.Connections+s.Groups+s.GroupMembers != 0 {
		t.Errorf("got %+v in the end, want nobody", s)
	}
}

// Members without a client id are spread too, and counted.
func TestNamelessMembers(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{byUser("^(?P<group>svc)$")}})
	r.Apply(set("a", "b", "c"))
	var held []proxy.Target
	for range 7 {
		target, err := r.Place(requestOf(&mqttparse.ConnectOptions{CleanStart: true, Username: "svc"}))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, target)
	}
	if g, _ := r.Groups(1); len(g) != 1 || g[0].Members != 7 || g[0].Spread != 1 {
		t.Errorf("got %+v, want 7 members as even as can be", g)
	}
	for _, target := range held {
		r.Release("", target, proxy.Served)
	}
	if g, _ := r.Groups(1); len(g) != 0 {
		t.Errorf("got %+v in the end, want none", g)
	}
}

// A crowd of 12 numbered workers behind four instances is spread exactly, without a word between them.
func TestOrdinalsOverInstances(t *testing.T) {
	t.Parallel()
	const instances = 4
	count := make(map[string]int)
	for i := range 12 {
		r := newRig(t, cluster.Options{Rules: workers(true), Groups: balancer.GroupOptions{Instance: i % instances, Instances: instances}})
		r.Apply(set("a", "b", "c"))
		count[r.place(fmt.Sprint("worker-", i)).Backend.Name]++
	}
	if fmt.Sprint(count) != "map[a:4 b:4 c:4]" {
		t.Errorf("got %v, want 4 each", count)
	}
}
