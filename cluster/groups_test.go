package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

func TestGroupsGolden(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false)})
	r.Apply([]balancer.Backend{
		{Name: "n1", Address: "10.0.0.1:1883"},
		{Name: "n2", Address: "10.0.0.2:1883", Capacity: 2},
		{Name: "n3", Address: "10.0.0.3:1883"},
		{Name: "n4", Address: "10.0.0.4:1883", Phase: balancer.Draining},
	})
	for i := range 8 {
		target := r.place(fmt.Sprint("worker-", i))
		if i < 2 {
			r.Release(fmt.Sprint("worker-", i), target, proxy.Served)
		}
	}
	r.place("backend-1")
	r.place("device") // of no group
	r.Apply([]balancer.Backend{
		{Name: "n1", Address: "10.0.0.1:1883"},
		{Name: "n2", Address: "10.0.0.2:1883", Capacity: 2},
		{Name: "n4", Address: "10.0.0.4:1883"},
	})
	list, more := r.Groups(10)
	if more {
		t.Error("got told of more groups than 10")
	}
	golden(t, "groups.json", list)
	r.advance(time.Hour)
	list, _ = r.Groups(10)
	golden(t, "groups_later.json", list)
}

// The list is cut at the limit, in the order of the names.
func TestGroupsAreLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: []cluster.GroupRule{by(`^(?P<group>g\d+)`)}})
	r.Apply(set("a", "b"))
	const groups = 1000 // more than are looked at in one go
	for i := range groups {
		r.place(fmt.Sprintf("g%03d", (i*7)%groups))
	}
	for _, limit := range []int{0, 1, 10, groups - 1, groups, groups + 1} {
		list, more := r.Groups(limit)
		if want := min(limit, groups); len(list) != want || more != (limit < groups) {
			t.Fatalf("limit %d: got %d groups and more %t, want %d and %t", limit, len(list), more, want, limit < groups)
		}
		for i, g := range list {
			if want := fmt.Sprintf("g%03d", i); g.Name != want || g.Members != 1 {
				t.Fatalf("limit %d: got %+v at %d, want %s with one member", limit, g, i, want)
			}
		}
	}
}

// The spread is that of the worst group.
func TestGroupSpread(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Rules: workers(false), Groups: balancer.GroupOptions{Hold: -1}})
	r.Apply(set("a", "b", "c"))
	if got := r.GroupSpread(); got != 0 {
		t.Errorf("got %d without groups, want 0", got)
	}
	held := make(map[string]proxy.Target)
	for i := range 12 {
		for _, group := range []string{"even", "uneven"} {
			id := fmt.Sprint(group, "-", i)
			held[id] = r.place(id)
		}
	}
	if got := r.GroupSpread(); got != 0 {
		t.Errorf("got %d with 4 members on each backend, want 0", got)
	}
	for i := range 12 {
		id := fmt.Sprint("uneven-", i)
		if held[id].Backend.Name == "b" {
			r.Release(id, held[id], proxy.Served)
		}
	}
	if got := r.GroupSpread(); got != 4 {
		t.Errorf("got %d after the 4 members on one backend have left, want 4", got)
	}
}
