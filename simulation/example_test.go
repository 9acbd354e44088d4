package simulation_test

import (
	"fmt"
	"time"

	"github.com/mqttlb/mqttlb/simulation"
)

// A broker joins three others, and somebody evicts clients until all four are even.
func ExampleRun() {
	s := simulation.Scenario{
		Backends: 3, Clients: 12_000, GroupSize: 1, Event: simulation.Join, Rate: 50, Duration: 30 * time.Minute, Seed: 1,
	}
	for _, name := range []string{"round-robin", "least-connections"} {
		r, err := simulation.Run(s, name, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %.0f times the disconnects that are needed\n", name, float64(r.Disconnects)/float64(r.Minimum))
	}
	// Output:
	// round-robin: 4 times the disconnects that are needed
	// least-connections: 1 times the disconnects that are needed
}
