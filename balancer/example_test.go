package balancer_test

import (
	"fmt"

	"github.com/mqttlb/mqttlb/balancer"
)

func ExampleNew() {
	strategy, err := balancer.New("client-hash", balancer.Options{BoundedLoad: 1.25})
	if err != nil {
		fmt.Println(err)
		return
	}
	snapshot := balancer.NewSnapshot(1, "secret", []balancer.Backend{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}})
	seats := balancer.NewSeats(snapshot)
	for range 2 {
		i, why := strategy.Pick(balancer.Client{ID: "sensor-17"}, snapshot, seats)
		fmt.Println(snapshot.Backends[i].Name, why)
		seats.Take(i)
	}
	// Output:
	// n2 home by hash
	// n2 home by hash
}

// The second choice is what the client gets when the first does not accept its connection.
func ExampleSeats_tried() {
	strategy, _ := balancer.New("client-hash", balancer.Options{})
	snapshot := balancer.NewSnapshot(1, "secret", []balancer.Backend{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}})
	seats := balancer.NewSeats(snapshot)
	for {
		i, why := strategy.Pick(balancer.Client{ID: "sensor-17"}, snapshot, seats)
		if i < 0 {
			fmt.Println(why)
			return
		}
		fmt.Println(snapshot.Backends[i].Name, why)
		seats.Tried = append(seats.Tried, i)
	}
	// Output:
	// n2 home by hash
	// n3 away from home: n2 did not accept the connection
	// n1 away from home: n2 did not accept the connection
	// no backend can take a client
}
