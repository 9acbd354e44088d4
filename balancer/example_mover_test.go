package balancer_test

import (
	"fmt"
	"slices"

	"github.com/mqttlb/mqttlb/balancer"
)

// A broker is drained: the mover says whom to send away now, and each comes again where it said.
func ExampleMover() {
	brain, err := balancer.NewBrain(balancer.BrainOptions{Key: "secret"}, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	brain.Join([]balancer.Backend{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}, 0)
	var sessions []balancer.Session
	for _, id := range []string{"boiler", "fan", "meter", "pump", "valve"} {
		c := balancer.Client{ID: id, Ordinal: -1, Persistent: true}
		i, _ := brain.Place(c, nil, 0)
		sessions = append(sessions, balancer.Session{Client: c, Backend: brain.Snapshot().Backends[i].Name})
	}

	now := int64(120e9) // two minutes later
	brain.Join([]balancer.Backend{{Name: "n1"}, {Name: "n2", Phase: balancer.Draining}, {Name: "n3"}}, now)
	mover := balancer.NewMover(brain, balancer.MoverOptions{}, now)
	for range 50 {
		now += 100e6
		for _, m := range mover.Begin(slices.Values(sessions), now) {
			brain.Release(m.Client, m.From, balancer.Moved, now) // its connection has been closed …
			i, why := brain.Place(m.Client, nil, now)            // … and it comes again
			fmt.Println(m.Client.ID, m.From, "->", brain.Snapshot().Backends[i].Name, m.Why, why)
		}
	}
	fmt.Println(brain.Connections("n2"), "are left on n2")
	// Output:
	// boiler n2 -> n3 emptying moved here by plan
	// fan n2 -> n1 emptying moved here by plan
	// meter n2 -> n3 emptying moved here by plan
	// valve n2 -> n3 emptying moved here by plan
	// 0 are left on n2
}
