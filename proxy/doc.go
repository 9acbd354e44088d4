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
//	entry.go     what clients say before their CONNECT: ClientHello, handshake, WebSocket
//	layer.go     what may lie between a socket and MQTT
//	tls.go       TLS as such a layer; handshake.go how one begins, shaker.go how many, tlsrefusal.go why one fails
//	upstream.go  TLS towards the backends
//	clienthello.go the name that a TLS client asks for; passthrough.go clients that are not decrypted; hellorecords.go
//	             how a large ClientHello costs no memory for ever
//	routes.go    which clients of a listener go to which cluster
//	relay.go     bytes both ways, backpressure, and how a session ends  ← and go on here
//	redirect.go  clients that go to their backend without mqttlb
//	assigned.go  the client ids that brokers give; learn.go, who consumes shared subscriptions
//	debts.go     which backends are alive although they do not read
//	eviction.go  which sessions could move elsewhere, and how to ask for it
//	farewell.go  how mqttlb itself ends a session so that nobody is harmed, stage by stage
//	header.go    the PROXY protocol v2 header that backends get: headeraddress.go, headertls.go
//	proxyin.go   the PROXY header that a load balancer in front sends
//	placer.go    the types that pass between this package and its users
//	listener.go  a listener that is open, inherit_linux.go if systemd has opened it; reconfigure.go changes which there are
//	memory.go    what is done when memory is scarce
//	websocket.go MQTT over WebSocket, with its HTTP request (websocketupgrade.go) and its frames (websocketframes.go)
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
// more is read from this side. (A client's TLS keeps what crypto/tls needs, see tls.go.)
//
// A TLS handshake runs in a goroutine of its own, which ends with it. Their number is bounded.
//
// # Invariants
//
// They are the I1 … I6 of protocol.md: every byte delivered is the byte sent, in order; no byte reaches a
// backend before a complete CONNECT; a CONNECT reaches a second backend only if the first got no byte of
// it, has declined it with a whole CONNACK, or has ended the TLS handshake instead of looking at it; nothing is put into
// the stream of bytes but between two packets, at its end; both sides end within 5 s of each other; two descriptors a
// session and a fixed number of goroutines, but for handshakes.
//
// # How to add
//
// What must move a session from outside (as eviction does, or hand-over) is a command to the loop that owns it, and
// a flag or state in session.go. A stage of eviction is a constant, a time and a case or two in farewell.go. What changes how
// a leg's bytes look on the wire is a layer, see layer.go, and if clients have to say something for it first, an entry. A new reason to send a client away is a constant in placer.go.
package proxy
