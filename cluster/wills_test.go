package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

// How wills are dealt with, for a drain and for a rebalance.
func TestWillPolicies(t *testing.T) {
	t.Parallel()
	wills := []balancer.Will{balancer.NoWill, balancer.DelayedWill, balancer.PromptWill}
	for _, drain := range []bool{true, false} {
		for _, test := range []struct {
			policy   cluster.WillPolicy
			moved    [3]bool // by will
			suppress bool
		}{
			{cluster.SkipWill, [3]bool{true, true, false}, false},
			{cluster.PublishWill, [3]bool{true, true, true}, false},
			{cluster.SuppressWill, [3]bool{true, true, true}, true},
		} {
			o := cluster.MoveOptions{InFlight: 100, Auto: true, DrainWill: cluster.PublishWill, RebalanceWill: cluster.PublishWill}
			if drain {
				o.DrainWill = test.policy
			} else {
				o.RebalanceWill = test.policy
			}
			f := newFleet(t, mine(o), 0, "n1", "n2", "n3")
			for i := range 150 {
				f.add(&client{id: fmt.Sprint("device-", i), will: wills[i%3]})
			}
			f.run(2 * time.Second)
			if drain {
				if err := f.Drain("n1", 0); err != nil {
					t.Fatal(err)
				}
			} else {
				f.Apply(set("n1", "n2", "n3", "n4"))
			}
			f.run(2 * time.Minute)
			var moved [3]bool
			for _, e := range f.evicted {
				moved[f.clients[e.ClientID].will] = true
				if e.Suppress != test.suppress || e.Notify != 0 || e.Force {
					t.Fatalf("drain %t, policy %d: got %+v", drain, test.policy, e.Eviction)
				}
			}
			if moved != test.moved {
				t.Errorf("drain %t, policy %d: got clients moved by will %v, want %v", drain, test.policy, moved, test.moved)
			}
			if !drain {
				continue
			}
			status, stay := f.backend("n1"), f.on("n1")
			if (stay > 0) == test.moved[balancer.PromptWill] || status.Drain == nil || status.Drain.Kept["will"] != stay {
				t.Errorf("policy %d: got %d clients left, and %+v", test.policy, stay, status.Drain)
			}
			if f.looks > 30 {
				t.Errorf("policy %d: got %d looks at all sessions in two minutes, want few: nobody can be moved any more", test.policy, f.looks)
			}
			if told := f.logged("come to an end") != ""; told == test.moved[balancer.PromptWill] {
				t.Errorf("policy %d: got told %t that wills keep clients there", test.policy, told)
			}
		}
	}
}

// Clients are told why they have to go if that is wanted.
func TestNotify(t *testing.T) {
	t.Parallel()
	f := newFleet(t, mine(cluster.MoveOptions{InFlight: 100, Auto: true, Notify: true}), 300, "n1", "n2", "n3")
	f.run(2 * time.Second)
	f.Apply(set("n1", "n2", "n3", "n4"))
	f.run(20 * time.Second)
	if err := f.Drain("n1", 0); err != nil {
		t.Fatal(err)
	}
	f.run(20 * time.Second)
	first, last := f.evicted[0], f.evicted[len(f.evicted)-1]
	if first.Notify != 0x98 || first.Text != "rebalancing" || last.Notify != 0x8B || last.Text != "draining" {
		t.Errorf("got %+v and %+v, want 0x98 for rebalancing and 0x8B for draining", first.Eviction, last.Eviction)
	}
}
