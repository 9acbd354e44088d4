// Package balancer decides where a client goes and who should move. It is the brain of mqttlb and it is pure: no
// socket, no clock, no log, no goroutine. Time and randomness come in as arguments, so the same input always
// gives the same decision, and every decision can be tested as a table.
//
// # The three inputs of a decision
//
//	Client     who asks: the client id and what else is known about it
//	Snapshot   which backends exist, in which phase, with which weight; immutable
//	Seats      how many connections each backend holds right now, and which backends this client
//	           has already tried; owned by the caller, who changes it between decisions
//
// A Strategy maps these to a backend and to a Reason that a person can read:
//
//	s, _ := balancer.New("client-hash", balancer.Options{BoundedLoad: 1.25})
//	snap := balancer.NewSnapshot(1, "secret", []balancer.Backend{{Name: "n1"}, {Name: "n2"}})
//	i, why := s.Pick(balancer.Client{ID: "sensor-17"}, snap, balancer.NewSeats(snap))
//	fmt.Println(snap.Backends[i].Name, why) // n2 home by hash
//
// # The rooms
//
// The package is a set of small machines. Each can be used and tested alone; Brain puts them together, and is what
// cluster drives.
//
//	strategies      Strategy, New, Adaptive    where one client goes, given the three inputs
//	groups          Groups, Learned            shared-subscription groups: who has which seat, and for how long
//	                                           after it has left
//	loads           Loads, Forecast, Figure    brokers' old figures and our own fresh traffic, made into a load and
//	                                           a factor on the weight of each backend
//	heavy clients   Heavy, Rate                the few clients that make most of the load
//	phases          PhaseRules, Vitals, Life   one backend: DOWN, JOINING, RAMPING, READY, HOT, DRAINING
//	states          StateRules, Survey, State  the cluster: BALANCED, SCALING, ROLLING, OVERLOADED, DEGRADED
//	brain           Brain                      all of the above for one cluster, and the seats of all clients
//	planner         Brain.Plan, Need, Move     who should move where: away from draining and hot backends, members
//	                                           of uneven groups, clients whose home has come
//	mover           Mover                      which of these moves to begin now, within a budget
//
// The files of a room begin with its name: plan.go says what a plan is, planner.go makes one, planspread.go, planlevel.go
// and plancool.go hold one reason to move each; mover.go, moverbudget.go and moverround.go are the mover, brain*.go the brain
// with its doors, group*.go the groups, seat*.go who sits where. A strategy is a file of its own.
//
// Knowledge flows through them like this:
//
//	discovery ─▶ Join ──┐                     ┌─▶ Snapshot ─▶ Place ─▶ backend, Reason
//	health ────▶ Vital ─┼─▶ Tick: phase, state┤                 ▲
//	figures ─▶ Observe ─┴─▶ Predict: Forecast ┴─▶ Plan ─▶ Mover ┘ the next Place goes where the plan said
//
// # What all strategies promise
//
// A backend that is down, has left, or has failed this client already, is never picked. Of the others a ready or ramping one
// within its bound comes first, then those that are full or hot, then those that join or drain. Nobody is turned
// away while any is left. Stable names decide, and the weights; neither addresses nor the order of discovery do.
// Pick allocates nothing, except with the first client after a new snapshot. Preview says what Pick would and leaves
// no trace. A backend that has left, which discovery does not name any more, is in a Snapshot only for as long as it
// holds connections, so that plans empty it: every decision is as if it were not there.
//
// Several instances of mqttlb share no state, so it matters what else a strategy promises:
//
//	strategy           instances agree                          a client comes back to its backend
//	client-hash        yes, as far as they agree who is full    yes: home
//	maglev             the same                                 yes: home
//	adaptive           as the strategy that it chooses          as the strategy that it chooses
//	version-aware      if their counts are equal                mostly, among the updated backends
//	fat-aware          if their figures and memories are equal  while no other is lighter by more than 3 %
//	group-spread       by ordinals; else each keeps the quota   within the lease of its seat
//	least-connections  if their counts are equal                no
//	metric-wrr         no: they are to begin differently        no
//	round-robin        no: the same                             no
//	random             no: the same                             no
//
// Version-aware and fat-aware work inside adaptive, and group-spread is Groups: New does not know them. A strategy of
// the lower lines, given the same Options.Seed and the same calls, decides the same again. Cause.Sticky tells of
// one decision whether it is of the kind that comes back.
//
// Where sessions live on one broker (Options.NodeScope), persistent clients go home under client-hash, maglev and
// adaptive whatever phase or load home has, and whatever state the cluster is in; only while home is down or does not
// accept them they go elsewhere. The slow start of a backend does not change who is at home there.
//
// # Who may call what
//
// A Snapshot may be read by anyone, and so may a Forecast. Everything else, a Strategy, a Seats, a Brain with its
// Mover, belongs to one caller at a time: cluster calls Place while it holds its mutex, so that the count rises with
// the pick and not after the dial. Otherwise twenty clients that arrive together would all see the same empty backend.
// Only Prepare, for a strategy that computes something for every new snapshot, may run beside it.
//
// # How to add a strategy
//
// Write one file with a type that has Pick, add one line to the registry in strategy.go, and one to the table above.
// The shared rules are in the function rank of snapshot.go, so that a strategy only says which of two equally fit
// backends is better. Whatever the registry holds is put through the histories of strategies_quick_test.go, which
// check all that is promised here. A strategy that has a turn to take implements Previewer, one that uses load
// figures Follower.
package balancer
