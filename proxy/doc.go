// Package proxy carries bytes. It listens, reads each client's CONNECT, asks a Placer for a backend,
// sends that backend a PROXY header and the client's own bytes, and then relays both ways until one
// side ends. It knows nothing of clusters, discovery, health or HTTP: what it needs from them is the
// Placer, and what it has to tell it tells the Observer.
//
//	p, err := proxy.New(proxy.Options{
//		Listeners: []proxy.Listener{{Name: "mqtt", Address: ":1883", Placer: cluster}},
//		Loops:     runtime.NumCPU(),
//		Observer:  observer,
//		Log:       log,
//	})
//	…
//	p.Start()
//	defer p.Close()
//
// # How to read it
//
//	proxy.go     the Proxy: listeners, start, stop, limits
//	loop.go      the event loop: waits, dispatches, ends sessions
//	accept.go    new connections: which loop, or shed
//	session.go   what a session is, with the picture of its states      ← the heart, begin here
//	admission.go who is let in, waits, or is refused: admissionqueue.go, admissionclients.go, admissionpending.go
//	dial.go      from the first byte to a connected backend
//	failover.go  the broker's answer, and the next candidate if it is "not now"
//	sources.go   the local addresses from which backends are dialled
//	relay.go     bytes both ways, backpressure, and how a session ends  ← and go on here
//	debts.go     which backends are alive although they do not read
//	eviction.go  which sessions could move elsewhere, and how to ask for it
//	farewell.go  how mqttlb itself ends a session so that nobody is harmed, stage by stage
//	header.go    the PROXY protocol v2 header that backends get
//	proxyin.go   the PROXY header that a load balancer in front sends
//	placer.go    the types that pass between this package and its users
//	listener.go  a listener that is open; reconfigure.go changes which there are
//	memory.go    what is done when memory is scarce
//	stats.go     counters and lists for others to look at
//	flow.go      the traffic of each session
//	packetsize.go, keepalive.go  what else a client must keep to
//	accesslog.go one line per connection
//	poll_linux.go, sys_linux.go, sockopt_linux.go, slab.go, timer.go, buffer.go  the tools
//
// # Who owns what
//
// There is one goroutine per loop, and a loop owns its sessions outright: no lock in a session, no
// session ever touched by another goroutine. Others hand a loop a function (loop.do), and the loop runs
// it between events. Whatever a loop calls must not block: Placer, Observer, match functions.
//
// A session holds no buffer while nothing is pending. Bytes are read into the loop's one buffer and
// written to the other side at once; only what the other side refuses is kept, and while it is, nothing
// more is read from this side.
//
// # Invariants
//
// They are the I1 … I6 of protocol.md: every byte delivered is the byte sent, in order; no byte reaches a
// backend before a complete CONNECT; a CONNECT reaches a second backend only if the first got no byte of
// it or has declined it with a whole CONNACK; nothing is put into the stream of bytes but between two packets, at its end; both sides end within 5 s of each
// other; two descriptors a session and a fixed number of goroutines.
//
// # How to add
//
// What must move a session from outside (as eviction does, or hand-over) is a command to the loop that owns it, and
// a flag or state in session.go. A stage of eviction is a constant, a time and a case or two in farewell.go. A new kind of leg (TLS) replaces what read, write and flush in relay.go
// do with its descriptor. A new reason to send a client away is a constant in placer.go.
package proxy
