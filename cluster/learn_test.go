package cluster_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

var learn = cluster.GroupRule{Learn: true}

// members lists the members of all groups as "group backend:members …".
func (r *rig) members() string {
	r.t.Helper()
	list, _ := r.Groups(1000)
	var parts []string
	for _, g := range list {
		part := g.Name
		for _, b := range g.Backends {
			if b.Members > 0 {
				part += fmt.Sprintf(" %s:%d", b.Backend, b.Members)
			}
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// Who subscribes is a member from that moment on, where it is, until it unsubscribes.
func TestSubscribed(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{learn}, Groups: balancer.GroupOptions{Hold: -1}})
	r.Apply(set("a", "b", "c"))
	target := r.place("c1")
	at := target.Backend.Name
	if !target.Learn || target.Learned || target.Reason.Group != "" {
		t.Fatalf("got %+v for a client that nobody knows, want it to be learned", target)
	}
	for _, step := range []struct {
		groups []string
		want   string // its group
	}{
		{[]string{"g"}, "g"},
		{[]string{"g", "h"}, "g"}, // it stays what it is …
		{[]string{"h", "g"}, "g"},
		{[]string{"h"}, "h"},                     // … as long as it can
		{[]string{strings.Repeat("x", 129)}, ""}, // no name
		{[]string{"", "i"}, "i"},                 // no name, and then one
		{nil, ""},
		{nil, ""},
		{[]string{"g"}, "g"},
	} {
		target = r.Subscribed("c1", target, step.groups)
		members := ""
		if step.want != "" {
			members = step.want + " " + at + ":1"
		}
		if got := r.members(); target.Reason.Group != step.want || target.Learned != (step.want != "") || got != members {
			t.Fatalf("%q: got group %q, learned %t, members %q, want group %q, members %q", step.groups, target.Reason.Group, target.Learned, got, step.want, members)
		}
		if x := r.Explain("c1", false); x.Group != step.want || x.Learned != (step.want != "") {
			t.Fatalf("%q: explained as of group %q, learned %t, want %q", step.groups, x.Group, x.Learned, step.want)
		}
		if n := r.Status().Learned; (n == 1) != (step.want != "") {
			t.Fatalf("%q: %d clients are known", step.groups, n)
		}
	}
	r.Release("c1", target, proxy.Served)
	if s := r.Status(); s.Connections+s.GroupMembers != 0 || s.Learned != 1 {
		t.Errorf("got %+v after it has left, want nobody but what was learned", s)
	}
	if again := r.place("c1"); again.Reason.Group != "g" || !again.Learned || !again.Reason.Grouped() {
		t.Errorf("got %+v when it comes again, want a place by its group", again.Reason)
	}
}

// The first rule that matches counts, and Learn is one of them.
func TestSubscribedAmongOtherRules(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rules         []cluster.GroupRule
		first         string // its group when it comes
		learn         bool
		after, before string // it subscribes, and unsubscribes
	}{
		"no rule":        {nil, "", false, "", ""},
		"the only rule":  {[]cluster.GroupRule{learn}, "", true, "learned", ""},
		"behind another": {[]cluster.GroupRule{by("^(?P<group>w)"), learn}, "w", false, "w", "w"},
		"before another": {[]cluster.GroupRule{learn, by("^(?P<group>w)")}, "w", true, "learned", "w"},
	} {
		r := newRig(t, cluster.Options{Rules: c.rules})
		r.Apply(set("a", "b"))
		target := r.place("w1")
		if target.Reason.Group != c.first || target.Learn != c.learn {
			t.Errorf("%s: got group %q, learn %t, want %q, %t", name, target.Reason.Group, target.Learn, c.first, c.learn)
		}
		if target.Learn {
			target = r.Subscribed("w1", target, []string{"learned"})
		}
		if target.Reason.Group != c.after {
			t.Errorf("%s: subscribed, got group %q, want %q", name, target.Reason.Group, c.after)
		}
		if target.Learn {
			target = r.Subscribed("w1", target, nil)
		}
		if target.Reason.Group != c.before {
			t.Errorf("%s: unsubscribed, got group %q, want %q", name, target.Reason.Group, c.before)
		}
		r.Release("w1", target, proxy.Refused)
		if s := r.Status(); s.Connections+s.GroupMembers != 0 {
			t.Errorf("%s: got %+v after it has left, want nobody", name, s)
		}
	}
}

// Nothing is learned of clients whose session is tied to its broker, nor after a reload has taken the rule away.
func TestSubscribedDoesNotMatter(t *testing.T) {
	t.Parallel()
	node := cluster.Options{Rules: []cluster.GroupRule{learn}, Placement: balancer.Options{NodeScope: true}}
	r := newRig(t, node)
	r.Apply(set("a"))
	for keeps, want := range map[bool]bool{true: false, false: true} {
		target, err := r.Place(requestOf(&mqttparse.ConnectOptions{ClientID: "c", CleanStart: !keeps}))
		if err != nil || target.Learn != want {
			t.Errorf("persistent %t: got learn %t, %v, want %t", keeps, target.Learn, err, want)
		}
	}
	target := r.place("d")
	if err := r.Reconfigure(cluster.Options{Strategy: "client-hash"}); err != nil {
		t.Fatal(err)
	}
	if got := r.Subscribed("d", target, []string{"g"}); got != target || r.members() != "" {
		t.Errorf("got %+v, members %q without a rule, want nothing learned", got, r.members())
	}
}

// TestSubscribedAccounting compares the members with those of a simple book-keeper, while clients come, subscribe,
// unsubscribe and go. In the end nothing is left but what was learned.
func TestSubscribedAccounting(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{learn}, Groups: balancer.GroupOptions{Hold: -1}})
		r.Apply(set(names...))
		held, remembered := make(map[string]proxy.Target), make(map[string]string)
		for range 600 {
			id := fmt.Sprint("c", rng.IntN(40))
			target, here := held[id]
			switch {
			case !here:
				held[id] = r.place(id)
				if got := held[id].Reason.Group; got != remembered[id] {
					t.Fatalf("seed %d: client %s came as of group %q, want %q", seed, id, got, remembered[id])
				}
			case rng.IntN(3) == 0:
				delete(held, id)
				r.Release(id, target, []proxy.Outcome{proxy.Served, proxy.ClientLeft, proxy.Stalled}[rng.IntN(3)])
			default:
				groups := []string{"g", "h", "i"}
				rng.Shuffle(len(groups), func(i, j int) { groups[i], groups[j] = groups[j], groups[i] })
				groups = groups[:rng.IntN(4)]
				held[id] = r.Subscribed(id, target, groups)
				if !slices.Contains(groups, remembered[id]) {
					remembered[id] = strings.Join(groups[:min(1, len(groups))], "")
				}
			}
			count := make(map[string]int)
			for id, target := range held {
				if remembered[id] != target.Reason.Group {
					t.Fatalf("seed %d: client %s is of group %q, want %q", seed, id, target.Reason.Group, remembered[id])
				}
				if g := target.Reason.Group; g != "" {
					count[g+" "+target.Backend.Name]++
				}
			}
			shown := make(map[string]int)
			list, _ := r.Groups(100)
			for _, g := range list {
				for _, b := range g.Backends {
					if b.Members > 0 {
						shown[g.Name+" "+b.Backend] = b.Members
					}
				}
			}
			if !maps.Equal(count, shown) {
				t.Fatalf("seed %d: got members %v, want %v", seed, shown, count)
			}
		}
		for id, target := range held {
			r.Release(id, target, proxy.Served)
		}
		if s := r.Status(); s.Connections+s.GroupMembers+s.Groups != 0 {
			t.Fatalf("seed %d: got %+v in the end, want nobody", seed, s)
		}
	}
}

// Twelve consumers with ids that tell nothing are on few brokers at first, and evenly spread when they come again, all
// at once or one by one.
func TestLearnedGroupsAreSpreadAtTheSecondConnect(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{true, false} {
		r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{learn}})
		r.Apply(set("a", "b", "c"))
		held := make(map[string]proxy.Target)
		for k := 0; len(held) < 12; k++ {
			id := fmt.Sprint("consumer", k)
			target := r.place(id)
			if target.Backend.Name == "c" {
				r.Release(id, target, proxy.Served)
				continue
			}
			held[id] = r.Subscribed(id, target, []string{"workers"})
		}
		for _, id := range slices.Sorted(maps.Keys(held)) {
			r.Release(id, held[id], proxy.Served)
			if !together {
				held[id] = r.place(id)
			}
		}
		if together {
			for id := range held {
				held[id] = r.place(id)
			}
		}
		if got, want := r.members(), "workers a:4 b:4 c:4"; got != want {
			t.Errorf("together %t: got %q, want %q", together, got, want)
		}
		for id, target := range held { // and it stays so, as they keep their seats now
			r.Release(id, target, proxy.Served)
			if again := r.place(id); again.Backend != target.Backend {
				t.Errorf("together %t: client %s went from %s to %s", together, id, target.Backend.Name, again.Backend.Name)
			}
		}
	}
}

// Lessons are what Learn needs to know as much again.
func TestLessons(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{learn}})
	r.Apply(set("a"))
	want := make(map[string]string)
	for i := range 3000 {
		id, group := fmt.Sprint("c", i), fmt.Sprint("g", i%7)
		r.Learn(id, group)
		want[id] = group
	}
	list, changes := r.Lessons()
	got := make(map[string]string)
	for _, l := range list {
		got[l.ClientID] = l.Group
	}
	if !maps.Equal(got, want) || len(list) != 3000 || changes != r.Changes() {
		t.Errorf("got %d lessons of %d clients, %d changes, want 3000, %d", len(list), len(got), changes, r.Changes())
	}
	r.Learn("c0", "g0")
	if r.Changes() != changes {
		t.Error("got a change from what was known")
	}
	r.Learn("c0", "g1")
	if r.Changes() != changes+1 {
		t.Error("got no change from what was not known")
	}
}

// BenchmarkSubscribed is a client that joins a group and leaves it.
func BenchmarkSubscribed(b *testing.B) {
	c := newCluster(b, cluster.Options{Strategy: "adaptive", Rules: []cluster.GroupRule{learn}})
	target, err := c.Place(request("c"))
	if err != nil {
		b.Fatal(err)
	}
	groups := []string{"workers"}
	b.ReportAllocs()
	for b.Loop() {
		target = c.Subscribed("c", target, groups)
		target = c.Subscribed("c", target, nil)
	}
}

var _ proxy.Learner = (*cluster.Cluster)(nil)
