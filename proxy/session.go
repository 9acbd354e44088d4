package proxy

import (
	"net/netip"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A session is one client connection and, once it has a place, its connection to a backend. It is
// owned by one loop; nothing outside that loop ever touches it.
//
//	      CONNECT complete       CONNECT sent         CONNACK, unless "busy"              Evict
//	reading ───────────▶ dialing ─────────────▶ asking ─────────────▶ relaying ──────────────▶ evicting
//	   │  │              ▲ │ ▲ │ ▲                │                      │    ◀──────────────    │
//	   │  └─▶ waiting ───┘ │ └─┘ └────────────────┘ "busy"               │     never a moment    │ between two packets,
//	   │  too   │  at last │ next candidate                              │ one side has ended    │ or by force
//	   │  many  │          │                                             │                       │
//	   ▼        ▼          ▼                                             ▼                       │
//	  free ◀────┴──────────┴───────────────────────────────────────── closing ◀──────────────────┘
//	     malformed, too slow,           both sides have ended, or 5 s
//	     over a limit
//
// Whether a client whose CONNECT is complete goes on, waits, or is refused is decided in admission.go.
//
// A session asks only while another backend could be tried and the client allows for it, see failover.go; otherwise
// it relays from the moment at which CONNECT is sent.
//
// Evicting is no state of its own: it is relaying with an eviction that looks for a good moment. Once it has found
// one, the session is closing, and the eviction says in which order; see farewell.go.
//
// What each state listens to:
//
//	reading    bytes from the client, on some listeners those of a PROXY header first; the deadline of CONNECT
//	waiting    the client's end, but no bytes of it; whose turn it is; the deadline of the wait
//	dialing    the backend's connect, and its TLS handshake; the client's reset; the deadline of the attempt
//	asking     bytes from the backend; the end of either side; the deadline of the broker's first byte
//	relaying   everything, both ways; until the broker's first byte a deadline for that, later a clock that looks
//	           whether the client is silent for too long
//	evicting   the same; the deadline of the stage
//	closing    what is left, both ways, and FIN from the side that has not ended; the deadline closeGrace, or that
//	           of the stage
type session struct {
	index      uint32 // of the slot
	generation uint32 // of the slot's use
	state      state
	entry      entry // while reading
	end        End
	attempts   uint8  // backends dialled
	version    byte   // protocol level of the client
	answered   bool   // the broker's CONNACK has passed
	asks       bool   // another backend may be asked if this one declines, see failover.go
	assigned   bool   // the broker has given the client its id, see assigned.go
	queued     bool   // waits in loop.postponed for its next turn
	headerSize uint16 // bytes of PROXY header in front of what waits in backend.out
	sequence   uint32 // of the PROXY header, for its unique id
	connected  uint32 // when the backend got CONNECT, in microseconds after accepted
	began      uint32 // … when the first one was dialled, likewise
	expiry     uint32 // of the MQTT session, in seconds after the connection
	maxPacket  uint32 // that the client takes, in bytes; 0 is no bound
	unanswered int16  // SUBSCRIBE and AUTH of the client, less SUBACK and AUTH of the broker
	will       balancer.Will
	persistent bool   // the MQTT session outlives the connection
	claimed    bool   // its client id counts this connection
	routed     bool   // its route counts this connection
	opaque     bool   // its bytes are passed through undecrypted, see passthrough.go
	silent     uint8  // how often in a row the clock has found the client silent
	keepAlive  uint16 // of the client, in seconds; 0 if nobody watches it
	chosen     uint32 // which of the listener's routes is its own, from 1 on; 0 while it has none, see routes.go

	client, backend leg

	listener  *listener
	remote    netip.AddrPort // of the client; as a PROXY header tells, if there was one
	forwarded *forwarded     // what a PROXY header told; nil without one
	clientID  string
	target    Target      // Backend is nil without a place
	passed    *passedOver // nil unless a backend has failed this client
	accepted  int64       // when, on the loop's clock in nanoseconds
	measured  uint64      // bytes, both ways, when its traffic was last measured
	timer     timer
	refusal   Refusal
	eviction  *eviction                // nil unless the session is being evicted
	shares    *mqttparse.Subscriptions // nil unless there are any, or packets pass that may tell of some
	security  *security                // nil unless its client comes over TLS
}

type state uint8

const (
	stateFree state = iota
	stateReading
	stateWaiting
	stateDialing
	stateAsking
	stateRelaying
	stateClosing
)

// A leg is one of the two connections of a session. What a leg sends is read into the loop's buffer
// and written to the other leg at once; only what the other leg refuses is kept, in its out.
type leg struct {
	fd      int32
	is      legFlags
	layer   layer             // between the socket and MQTT; nil if there is none
	out     *buffer           // bytes this leg has not taken yet, as they go to the socket; nil while there are none
	in      mqttparse.Tracker // follows the packets that this leg sends
	bytes   uint64            // read from this leg
	packets uint64
}

type legFlags uint32

const (
	open     legFlags = 1 << iota // fd is valid
	readable                      // the kernel may have bytes for us
	writable                      // the socket took all we gave it last
	armed                         // the poller reports writability too
	hungUp                        // the kernel has seen the peer's FIN; there may be bytes before it
	erred                         // the kernel has an error to report; there may be bytes before it
	ended                         // the peer's FIN has been read: nothing more will come
	broken                        // the connection is dead: nothing more will come or go
	deaf                          // the peer takes nothing more
	finished                      // we have sent our FIN
	muted                         // what it still sends is read and thrown away: mqttlb ends the session
	watched                       // it is among the loop's debts
	patient                       // its TCP_USER_TIMEOUT is off, because it lives and does not read
	spoke                         // it has sent something since somebody looked
	incoming                      // like readable, but of the socket under a layer
	farewell                      // its layer has said what ends the stream
	shaking                       // of a backend: it is connected, and its TLS handshake is to come or under way
)

func (g *leg) has(f legFlags) bool { return g.is&f != 0 }
func (g *leg) set(f legFlags)      { g.is |= f }
func (g *leg) clear(f legFlags)    { g.is &^= f }

// over tells that nothing will flow on this leg any more, in either direction.
func (g *leg) over() bool {
	return g.has(broken) || g.has(ended) && (g.has(finished) || g.has(deaf))
}

// from returns the leg that bytes of this direction come from, to the one that they go to.
func (s *session) from(d Direction) *leg {
	if d == Up {
		return &s.client
	}
	return &s.backend
}

func (s *session) to(d Direction) *leg { return s.from(1 - d) }

// legOf is the opposite of kindOf.
func (s *session) legOf(k kind) *leg {
	if k == kindBackend {
		return &s.backend
	}
	return &s.client
}

// kindOf tells which of the two legs g is, for the poller.
func (s *session) kindOf(g *leg) kind {
	if g == &s.client {
		return kindClient
	}
	return kindBackend
}
