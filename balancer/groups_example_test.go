package balancer_test

import (
	"fmt"

	"github.com/mqttlb/mqttlb/balancer"
)

// Four consumers of one group on three brokers; one of them goes and returns within its lease.
func ExampleGroups() {
	s := balancer.NewSnapshot(1, "secret", []balancer.Backend{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}})
	seats := balancer.NewSeats(s)
	groups := balancer.NewGroups(balancer.GroupOptions{Hold: 30_000_000_000})

	consumer := func(k int) balancer.Client {
		return balancer.Client{ID: fmt.Sprint("consumer-", k), Group: "workers", Ordinal: -1}
	}
	at := make([]int, 4)
	for k := range at {
		at[k], _ = groups.Place(consumer(k), s, seats, 0)
		seats.Take(at[k])
	}
	fmt.Println(seats.Live[0]+seats.Live[1]+seats.Live[2], "members, at most",
		max(seats.Live[0], seats.Live[1], seats.Live[2]), "on one broker")

	groups.Release(consumer(2), s.Backends[at[2]].Name, balancer.Left, 1_000_000_000)
	i, why := groups.Place(consumer(2), s, seats, 20_000_000_000)
	fmt.Println(i == at[2], why.Cause == balancer.SeatLease)
	fmt.Println(len(groups.Repair(s, seats, 20_000_000_000)), "moves to repair")
	// Output:
	// 4 members, at most 2 on one broker
	// true true
	// 0 moves to repair
}
