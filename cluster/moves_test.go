package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// A backend that joins gets its share with the smallest number of moves, at the rate, and nobody is moved twice.
func TestJoinIsLevelled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{Auto: true, Rate: 20, InFlight: 0.5, MinAge: time.Minute}), 1200, "n1", "n2", "n3")
	f.run(90 * time.Second)
	if len(f.evicted) > 0 || f.looks > 10 {
		t.Fatalf("before anything has changed: got %d evictions and %d looks at all sessions, want none and hardly any", len(f.evicted), f.looks)
	}
	f.Apply(set("n1", "n2", "n3", "n4"))
	f.run(2 * time.Minute)
	const share, goal = 300, 0.05
	for _, name := range []string{"n1", "n2", "n3", "n4"} {
		if n := f.on(name); !near(float64(n), share, goal+0.01) {
			t.Errorf("%s: got %d clients, want %d within 5 %%", name, n, share)
		}
	}
	if least := share * (1 - goal); float64(len(f.evicted)) > 1.05*least+1 {
		t.Errorf("got %d evictions, want at most 1.05 times the least number, %v", len(f.evicted), least)
	}
	if pace := f.pace(); !near(pace, 20, 0.15) {
		t.Errorf("got %.1f evictions per second, want 20 within 15 %%", pace)
	}
	f.withinRate(20, 27)
	f.nobodyTwice()
	s := f.Status().Moves
	if want := (cluster.MoveStatus{Moved: uint64(len(f.evicted)), Returned: uint64(len(f.evicted))}); s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if f.heard.evicted["levelling moved"] != len(f.evicted) || len(f.heard.returned) != len(f.evicted) {
		t.Errorf("got %v and %d returns told, want %d of each", f.heard.evicted, len(f.heard.returned), len(f.evicted))
	}
	for _, after := range f.heard.returned {
		if after != f.returns {
			t.Fatalf("got a return after %v, want %v", after, f.returns)
		}
	}
	if got := f.told(cluster.EventEviction); len(got) != len(f.evicted) || !strings.HasSuffix(got[0], "|n4|levelling") {
		t.Errorf("got %d events of evictions, the first %q", len(got), got[0])
	}
	if got := f.told(cluster.EventRebalance); len(got) != 2 || got[1] != fmt.Sprint(len(f.evicted), " clients moved; levelling has ended") {
		t.Errorf("got %q after %d evictions, want the begin and the end of it", got, len(f.evicted))
	}
}

// No more clients than allowed are away at once, as a part and as a number, and it goes on as soon as they are back.
func TestInFlight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		inFlight float64
		want     int
	}{{0.02, 10}, {0.05, 15}, {7, 7}} {
		f := newFleet(t, mine(cluster.MoveOptions{InFlight: test.inFlight, DrainWill: cluster.PublishWill}), 300, "n1", "n2", "n3")
		f.returns = 4 * time.Second
		f.run(2 * time.Second)
		if err := f.Drain("n1", 0); err != nil {
			t.Fatal(err)
		}
		paused := ""
		for range 60 {
			f.run(time.Second / 2)
			paused = max(paused, f.Status().Moves.Paused)
		}
		if f.maxAway != test.want {
			t.Errorf("in flight %v: got %d clients away at once, want %d", test.inFlight, f.maxAway, test.want)
		}
		if want := fmt.Sprintf("%d clients are away, and no more than %d may be", test.want, test.want); paused != want {
			t.Errorf("got paused %q, want %q", paused, want)
		}
		f.run(3 * time.Minute)
		if f.on("n1") != 0 {
			t.Errorf("got %d clients on n1, want none", f.on("n1"))
		}
	}
}

// In the states in which there is nowhere to go, and after a standstill, nobody is moved.
func TestPauses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 100}), 900, "n1", "n2", "n3")
	f.run(2 * time.Second)
	if err := f.Drain("n1", 10); err != nil {
		t.Fatal(err)
	}
	f.run(3 * time.Second)
	for _, state := range []string{"overloaded", "degraded"} {
		if err := f.Force(state); err != nil {
			t.Fatal(err)
		}
		before := len(f.evicted)
		f.run(10 * time.Second)
		if s := f.Status(); len(f.evicted) != before || before == 0 || s.Moves.Paused != "the cluster is "+state || s.State != state || !s.Forced {
			t.Errorf("got %d evictions after %d, %+v", len(f.evicted), before, s.Moves)
		}
		if err := f.Force("auto"); err != nil {
			t.Fatal(err)
		}
		f.run(2 * time.Second)
		if len(f.evicted) == before {
			t.Errorf("after state %s: got no further evictions", state)
		}
	}
	if err := f.Force("sleepy"); err == nil || !strings.Contains(err.Error(), "balanced, scaling") {
		t.Errorf("got %v, want the states that there are", err)
	}
	if got, want := f.told(cluster.EventState)[0], "balanced|overloaded|an operator wants it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	before := len(f.evicted)
	f.advance(time.Minute)
	f.run(29 * time.Second)
	if s := f.Status().Moves; len(f.evicted) != before || !strings.Contains(s.Paused, "stood still") {
		t.Errorf("after a standstill: got %d evictions, %+v, want none", len(f.evicted)-before, s)
	}
	f.run(3 * time.Second)
	if len(f.evicted) == before {
		t.Error("got no evictions half a minute after the standstill, want some")
	}
}

// Clients that do not come again are lost after five minutes: counted, listed, told, and logged without their names.
func TestLostClients(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 100}), 60, "n1", "n2", "n3")
	f.never = func(id string) bool { return strings.HasSuffix(id, "7") }
	f.run(2 * time.Second)
	lost := 0
	for id, c := range f.clients {
		if f.never(id) && c.target.Backend.Name == "n1" {
			lost++
		}
	}
	if err := f.Drain("n1", 0); err != nil || lost < 2 {
		t.Fatalf("got %v, and %d clients that will not come again", err, lost)
	}
	f.run(4*time.Minute + 50*time.Second)
	if s := f.Status().Moves; s.Lost != 0 || s.InFlight != lost {
		t.Errorf("before five minutes: got %+v, want %d in flight", s, lost)
	}
	f.run(20 * time.Second)
	s, list := f.Status().Moves, f.Lost(100)
	if s.Lost != uint64(lost) || s.InFlight != 0 || s.Returned != s.Moved-s.Lost || len(list) != lost || len(f.Lost(1)) != 1 {
		t.Errorf("got %+v and %+v, want %d lost", s, list, lost)
	}
	for _, l := range list {
		if !f.never(l.ClientID) || l.From != "n1" || l.To == "" || time.Until(l.At) > -5*time.Minute {
			t.Errorf("got %+v", l)
		}
	}
	if got := f.told(cluster.EventLost); len(got) != lost {
		t.Errorf("got events %q, want %d", got, lost)
	}
	if got := f.logged("not come again"); strings.Contains(got, "device") || !strings.Contains(got, "clients=") {
		t.Errorf("got %q, want a line without names", got)
	}
}

// A move that is not carried out is taken back: the client counts where it is, and is moved later.
func TestKeptClients(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 100}), 300, "n1", "n2", "n3")
	begin, tries := f.on("n1"), 0
	f.keep = func(proxy.Eviction) keepWhat {
		tries++
		return keepWhat{tries%2 == 0, proxy.KeptBusy}
	}
	f.run(2 * time.Second)
	if err := f.Drain("n1", 20); err != nil {
		t.Fatal(err)
	}
	f.run(10 * time.Second)
	s := f.Status().Moves
	if kept := f.heard.evicted["emptying busy"]; kept == 0 || int(s.Moved) != begin-f.on("n1") || s.InFlight > 20 {
		t.Errorf("got %v, %+v, and %d of %d clients left after %d tries", f.heard.evicted, s, f.on("n1"), begin, tries)
	}
	f.run(time.Minute)
	if s := f.Status().Moves; f.on("n1") != 0 || s.InFlight != 0 || int(s.Moved) != begin {
		t.Errorf("got %d clients on n1 and %+v, want none and nobody in flight", f.on("n1"), s)
	}
}

// Another rate counts at once, and so does everything else that may be reloaded.
func TestReloadOfMoveOptions(t *testing.T) {
	t.Parallel()
	o := mine(cluster.MoveOptions{Rate: 100, InFlight: 200})
	f := newFleet(t, o, 1500, "n1", "n2", "n3")
	f.run(2 * time.Second)
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	f.run(4 * time.Second)
	if pace := f.pace(); !near(pace, 50, 0.3) {
		t.Errorf("got %.1f evictions per second, want 50", pace)
	}
	f.evicted = nil
	o.Moves.Rate = 10
	o.Moves.Notify = true
	if err := f.Reconfigure(o); err != nil {
		t.Fatal(err)
	}
	if rate := f.backend("n1").Drain.Rate; rate != 5 {
		t.Errorf("got rate %v, want 5", rate)
	}
	f.run(20 * time.Second)
	if pace := f.pace(); !near(pace, 5, 0.15) || f.evicted[0].Notify == 0 {
		t.Errorf("got %.1f evictions per second, the first %+v, want 5 and a notice", pace, f.evicted[0].Eviction)
	}
	f.withinRate(5, 2)
	before := len(f.evicted)
	o.Moves.MinAge = time.Hour
	if err := f.Reconfigure(o); err != nil {
		t.Fatal(err)
	}
	f.run(10 * time.Second)
	if len(f.evicted) != before {
		t.Errorf("got %d evictions of clients that are too young", len(f.evicted)-before)
	}
}

// Several instances share the rates.
func TestInstancesShareTheRate(t *testing.T) {
	t.Parallel()
	o := mine(cluster.MoveOptions{Rate: 80, InFlight: 200})
	o.Groups = balancer.GroupOptions{Instances: 4}
	f := newFleet(t, o, 900, "n1", "n2", "n3")
	f.run(2 * time.Second)
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	f.run(20 * time.Second)
	if pace := f.pace(); !near(pace, 10, 0.15) {
		t.Errorf("got %.1f evictions per second, want a quarter of 40", pace)
	}
}

// A group that sits unevenly is repaired, whatever has told of it: the client id, or CONNECT when the client came.
func TestGroupsAreRepaired(t *testing.T) {
	t.Parallel()
	for _, byProperty := range []bool{false, true} {
		o := mine(cluster.MoveOptions{InFlight: 100, Auto: true})
		o.Rules = workers(false)
		o.Groups.Hold = -1
		if byProperty {
			o.Rules = []cluster.GroupRule{{UserProperty: "lb-group"}}
		}
		f := newFleet(t, o, 0, "n1")
		for i := range 12 {
			f.add(&client{id: fmt.Sprint("workers-", i), connect: mqttparse.ConnectOptions{
				Version: 5, UserProperties: [][2]string{{"lb-group", "workers"}},
			}})
		}
		f.run(2 * time.Second)
		f.Apply(set("n1", "n2", "n3"))
		plan, err := f.Rebalance(true, 2)
		if err != nil || plan.Total != 8 || len(plan.Moves) != 2 || plan.Moves[0].Group != "workers" || plan.Moves[0].Why != "spreading" ||
			plan.Moves[0].Reason != "group workers has 12 on n1, its share is 4" {
			t.Errorf("got %+v, %v, want 8 moves", plan, err)
		}
		f.run(2 * time.Minute)
		if got := []int{f.on("n1"), f.on("n2"), f.on("n3")}; !slices.Equal(got, []int{4, 4, 4}) || len(f.evicted) != 8 || f.maxAway != 1 {
			t.Errorf("by property %t: got %v with %d moves, %d at once, want 4 each with 8 moves, one at a time", byProperty, got, len(f.evicted), f.maxAway)
		}
	}
}

// What a rebalance would do is shown without anything happening; then it is done.
func TestRebalance(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 100, MinAge: time.Minute}), 900, "n1", "n2", "n3")
	if _, err := f.Rebalance(true, 10); err == nil || !strings.Contains(err.Error(), "nobody moves clients") {
		t.Errorf("got %v before anybody can move clients", err)
	}
	f.run(70 * time.Second)
	if plan, err := f.Rebalance(true, 10); err != nil || plan.Total != 0 || plan.Why != "every backend is within 5 % of its fair share" && !strings.Contains(plan.Why, "nobody is free") {
		t.Errorf("got %+v, %v, want nothing to do", plan, err)
	}
	f.Apply(set("n1", "n2", "n3", "n4"))
	f.run(20 * time.Second)
	plan, err := f.Rebalance(true, 5)
	if err != nil || plan.Total < 200 || len(plan.Moves) != 5 || plan.Cluster != "hivemq" || plan.State != "balanced" || plan.Why != "" {
		t.Fatalf("got %+v, %v, want more than 200 moves, and five of them", plan, err)
	}
	for _, m := range plan.Moves {
		if m.To != "n4" || m.From == "n4" || m.Why != "levelling" || m.Reason != "n4 has room, and is where the hash puts this client" {
			t.Errorf("got %+v, want a move to n4", m)
		}
	}
	f.run(20 * time.Second)
	if s := f.Status().Moves; len(f.evicted) != 0 || s.Levelling || s.Pending != 0 {
		t.Fatalf("after a dry run: got %d evictions and %+v, want none", len(f.evicted), s)
	}
	again, err := f.Rebalance(false, 5)
	if err != nil || again.Total != plan.Total || !slices.Equal(again.Moves, plan.Moves) {
		t.Errorf("got %+v, %v, want the same plan again", again, err)
	}
	f.run(time.Second)
	if s := f.Status().Moves; len(f.evicted) == 0 || !s.Levelling || s.Pending == 0 {
		t.Errorf("got %d evictions and %+v, want that it has begun", len(f.evicted), s)
	}
	f.run(time.Minute)
	if s := f.Status().Moves; s.Levelling || len(f.evicted) != plan.Total || !near(float64(f.on("n4")), 225, 0.06) {
		t.Errorf("got %+v after %d moves and %d clients on n4, want it to be done with %d", s, len(f.evicted), f.on("n4"), plan.Total)
	}
	if got := f.told(cluster.EventRebalance); len(got) != 2 || got[0] != "levelling begins: an operator wants it" {
		t.Errorf("got %q", got)
	}
}

// A backend that answers much more slowly than the others, or fails its check, gets nobody by plan.
func TestSlowDestinations(t *testing.T) {
	t.Parallel()
	for _, failing := range []bool{false, true} {
		o := mine(cluster.MoveOptions{InFlight: 100})
		o.Watched = failing
		f := newFleet(t, o, 300, "n1", "n2", "n3")
		for i, b := range set("n1", "n2", "n3") {
			if failing {
				f.Checked(health.Report{Backend: b.Name, Address: b.Address, At: time.Now(), Passed: i != 1, FailedChecks: i % 2})
				continue
			}
			for range 20 {
				took := 5 * time.Millisecond
				if i == 1 {
					took = 400 * time.Millisecond
				}
				f.Answered(&proxy.Answer{Backend: b.Name, Took: took})
			}
		}
		f.run(2 * time.Second)
		before := f.on("n2")
		if err := f.Drain("n1", 0); err != nil {
			t.Fatal(err)
		}
		f.run(10 * time.Second)
		if f.on("n2") != before || len(f.evicted) == 0 {
			t.Errorf("failing %t: got %d clients on the slow backend after %d, and %d evictions, want no more there, and some elsewhere",
				failing, f.on("n2"), before, len(f.evicted))
		}
	}
}
