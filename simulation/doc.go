// Package simulation plays a cluster of brokers, its clients, and what balances them, with a clock of its own.
// It answers two questions: what would happen to this fleet if a broker joined, left or was updated, and is
// what we claim about the brain of mqttlb true. The first is the command mqttlb simulate, the second are the
// tests TestClaim… of this package, which also write the table of docs/placement.md.
//
//	s := simulation.Scenario{Backends: 6, Clients: 20_000, Event: simulation.Join, Rate: 100, Duration: 30 * time.Minute}
//	r, err := simulation.Run(s, "mqttlb", nil)
//	fmt.Println(r.Disconnects, "disconnects,", r.Minimum, "are needed")
//
// # What is real and what is a model
//
// The contender called mqttlb is balancer.Brain, the code that runs in production; nothing of it is written a
// second time here. Everything else is a model (algorithms.md, 4.2, 4.4, 5 and 10):
//
//	clients    cost their broker something all the time; they come back after a delay, exponential with a mean
//	           of 2 s; evicted ones always do
//	brokers    report the mean load of five minutes every 15 s with 3 % noise, and how busy they are every 5 s;
//	           what a client costs is known to nobody: its traffic times a lognormal factor, unless loads are equal
//	others     round robin, least connections and a plain hash have no planner: whoever runs them evicts random
//	           clients from the fullest brokers until these are even. emqx is the coordinated eviction of EMQX
//	           behind least connections
//
// # How a run goes
//
// All clients connect, ten minutes pass, then comes the event; from there on everything is counted until the
// duration is over. A last part tells how sticky the placement is: clients drop at random and come back.
//
// The same scenario and seed give the same result: there is no clock, no goroutine and no map that is walked
// through. Steps are 100 ms.
//
//	scenario.go    what is simulated: sizes, loads, events
//	world.go       clients, brokers and time; fleet.go makes the clients
//	events.go      what happens: join, leave, rolling update, hot broker
//	contender.go   the seam; plain.go, emqx.go and mqttlb.go are behind it
//	result.go      what is counted
//	chart.go       a picture of the results
package simulation
