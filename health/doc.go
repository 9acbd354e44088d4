// Package health finds out which backends work: by asking them (probes over MQTT, HTTP and TCP) and by
// watching what happens to clients (outliers in real traffic). It knows nothing of discovery or of load
// figures; they meet in cluster.
//
//	                  every interval
//	Set(backends) ──▶ Checker ──▶ Prober.Probe(ctx, Target) ──▶ Result
//	                     │  rise, fall, freeze, jitter
//	                     └──▶ Report ──▶ AddTo ──▶ balancer.Vitals ──▶ balancer.PhaseRules
//	events of traffic ──▶ Outliers ──▶ Judge ──────────▶ ┘  Passed, FailedChecks, Drain, ConnectFailures
//
// A checker runs until its context ends:
//
//	probe, err := health.NewMQTT(health.MQTTOptions{Instance: "lb-1"})
//	…
//	checker, err := health.NewChecker(health.Options{Prober: probe, Report: func(r health.Report) { … }})
//	…
//	go checker.Run(ctx)
//	checker.Set(backends) // whenever the set changes
//
// # What a probe proves
//
// TCP proves that the kernel of the broker's host accepts connections, which it does for a broker that
// hangs, too. HTTP proves what the endpoint says; HiveMQ's readiness and EMQX's availability check say
// it well. MQTT, the default, does what a client does: CONNECT, CONNACK, DISCONNECT, through the same TLS
// and behind the same PROXY header. It says goodbye, so that no broker logs a lost client.
//
// A probe passes, fails, or passes with a remark: Drain (the broker wants to get rid of its clients),
// Unsettled (it is not ready for clients yet) or a Note for the operator. Which CONNACK means what stands
// in connack.go, in one table for probes and for traffic.
//
// # What traffic proves
//
// Outliers count what happens to clients. Failed connects, silence after CONNECT and CONNACKs that blame
// the broker count against a backend, an answer clears it, and refused credentials never count. Once per
// second:
//
//	opinions = outliers.Judge(now, serves, opinions[:0])
//	for _, o := range opinions {
//		vitals[o.Backend].ConnectFailures = o.Failures
//	}
//
// Traffic alone takes at most half of the backends out of service, and one client alone none. After a
// freeze of this process (Options.Frozen), call Forgive.
//
// # How to add a probe
//
// One file with a type that has Probe, made by a New function that refuses bad options. Its rules:
//   - Return as soon as ctx is done. The Checker gives ctx the timeout, and waits for the probe when it
//     stops.
//   - Bound everything that is read; what comes back is a stranger's word, also in error texts: quote it.
//   - Keep no state of a backend. What should be remembered until the next probe of the same backend
//     goes into Result, and the Checker hands it back in Target.
//   - Count nothing: rise, fall and what a freeze does to a result are the Checker's.
//   - Leave neither connection nor goroutine behind.
//
// Use Dialing to connect: it knows about deadlines, TLS and the PROXY header. Several probes that must
// all pass are an All.
//
// # Concurrency
//
// Probers are called from several goroutines at once, for different backends. Set may be called from any
// goroutine; Report and Frozen are called from the goroutine of Run, one at a time. Outliers may be used
// from any goroutine. Nothing here outlives Run.
package health
