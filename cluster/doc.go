// Package cluster is one broker cluster at run time. It finds out which group a client belongs to, asks the
// balancer's Brain where it goes, joins what discovery, health checks, load figures and the clients' own connections
// tell about the brokers, lets the Brain follow the time, and answers the operator's questions.
//
//	knowledge   discovery ──▶ Apply ──▶ Brain.Join            who belongs to it ──▶ Members (health, scrape)
//	            health ─────▶ Checked ──┐
//	            scrape ─────▶ Scraped ──┼─▶ Brain.Vital       phases
//	            CONNACKs ───▶ Answered ─┤
//	            proxy ──────▶ Release ──┘
//	            scrape ─────▶ Scraped ──▶ Brain.Observe       forecast
//	                                  ──▶ Brain.Version       label of the backend
//	            proxy ──────▶ Carried ──▶ Brain.Traffic, Note, Predict
//	            clock ──────▶ Tick ─────▶ Brain.Tick ──▶ phases, state of the cluster ──▶ Snapshot (atomic pointer)
//	            operator ───▶ Drain, Resume, Force, Rebalance
//	decision    proxy ──▶ Place ──▶ rules: which group? ──▶ Brain.Place ──▶ Target
//	            proxy ──▶ Release ──▶ Brain.Release (the seat is free again, kept for a while, or never was one)
//	movement    clock ──▶ Move ──▶ Mover: who is to be looked at? ──▶ Carrier.Sittings (on the event loops, no lock)
//	                           ──▶ Mover: who goes now? ──▶ Carrier.Evict ──▶ Release as Moved, or kept
//
// # Who owns what
//
// One mutex guards the Brain and what is kept beside it: targets, counters, reports, and what was learned of clients.
// Its critical section is a few hundred nanoseconds and is entered three times per connection, never per packet;
// regular expressions are matched and observers are called outside of it, and nothing is logged in it. The count rises
// at the decision, not when the connection stands: of twenty clients that arrive together, each sees the nineteen
// others. What is to be logged or told as an Event meanwhile waits in the outbox.
//
// Whoever looks at all groups, of which there may be 65 536, lets go of the mutex every few hundred of them.
//
// # What counts against a backend
//
// Health checks, and what happens to clients, which health.Outliers judge: connects that fail, no byte after CONNECT,
// and a CONNACK that blames the broker. A CONNACK that blames the client never does (protocol.md, 3), and neither
// what this process did not see because it stood still. A broker that protects itself is counted as busy, and not as
// failing. Without anybody who checks (Options.Watched) nobody is taken out: nobody could tell when to take it in again.
// But whatever counts opens the circuit of the backend: for moments, clients go elsewhere if they can.
//
// # How to read it and how to add
//
//	cluster.go    Options, the Cluster                            ← begin here
//	members.go    the membership
//	place.go      Place and Release; intake.go, who has to come again later while there is no room
//	identify.go   which client is in which group; learn.go, what SUBSCRIBE tells about it
//	redirect.go   clients that are sent to their backend; assigned.go, those that have their id from it; memory.go
//	tick.go       the clock, and what happens when it stood still
//	breaker.go    who is kept from failing backends, and how many try a second one
//	watch.go      reports and answers, and the vitals that are made of them; latency.go, why.go
//	traffic.go    what connections carry
//	moves.go      who is moved now; moveoptions.go, how; losses.go, who has not come again
//	drain.go      backends that are to be empty
//	plan.go       rebalance, and why clients are moved, for people
//	events.go     what others hear of
//	reconfigure.go  other settings while it works
//	status.go     what operators see; show.go has the backends, groups.go the groups
//
// A source of backends belongs into discovery, a rule about who goes where into balancer, a probe into health, a load
// figure into metrics/scrape. This package only connects them; if it starts to decide, the rule is in the wrong room.
package cluster
