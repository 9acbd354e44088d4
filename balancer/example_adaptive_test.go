package balancer_test

import (
	"fmt"

	"github.com/mqttlb/mqttlb/balancer"
)

// A cluster in which half of the brokers run hot: from the figures of one broker to the choice of a
// strategy.
func Example_states() {
	const second = int64(1e9)
	phases, states := balancer.DefaultPhaseRules(), balancer.DefaultStateRules()
	var life balancer.Life // of n1: ready
	for at := 5 * second; at <= 60*second; at += 5 * second {
		busy := balancer.Vitals{Passed: true, Util: balancer.Figure{Value: 0.91, At: at}}
		life = phases.Next(life, busy, at)
	}
	snap := balancer.NewSnapshot(1, "", []balancer.Backend{{Name: "n1", Phase: life.Phase}, {Name: "n2"}})
	situation := balancer.Survey(snap, balancer.NewSeats(snap), nil, 0)
	state := states.Next(balancer.State{}, situation, balancer.Force{}, 60*second)
	fmt.Println("n1 is", life.Phase)
	fmt.Println("the cluster is", state.Cluster)
	for _, kind := range []balancer.Kind{balancer.Persistent, balancer.Fleeting} {
		fmt.Println(kind, "clients:", balancer.Choice(state.Cluster, kind))
	}
	// Output:
	// n1 is hot
	// the cluster is overloaded
	// persistent clients: client-hash
	// fleeting clients: metric-wrr
}
