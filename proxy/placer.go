package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A Placer says where a client goes. cluster implements it.
type Placer interface {
	// Place chooses a backend for one attempt to connect. It is called from the event loops, possibly
	// from several at once, and must not block. ErrNoBackend, also wrapped, ends the attempts.
	Place(Request) (Target, error)
	// Release gives a place back: exactly once for every Place that returned no error. clientID is the one
	// that was placed.
	Release(clientID string, t Target, o Outcome)
}

// A Learner is a Placer that wants to know which shared-subscription groups clients consume, as SUBSCRIBE and
// UNSUBSCRIBE tell.
type Learner interface {
	// Subscribed is called when the groups have changed that the session of a client consumes, if Learn is set in its
	// Target: in the order of subscribing, none when it has left the last one. It returns the target that counts from now
	// on, which Release gets. It is called from the event loops and must not block. It may keep the names.
	Subscribed(clientID string, t Target, groups []string) Target
}

// A Namer is a Placer that wants to know which client ids brokers give to MQTT 5 clients that come without one.
type Namer interface {
	// Named is called when the broker of t has given a client an id with which the client may come again, to find its
	// session, until lives after its connection has ended. It is called from the event loops and must not block. To all
	// other methods the client goes on to be one without an id.
	Named(clientID string, t Target, lives time.Duration)
	// Parted is called when that connection has ended, before Release.
	Parted(clientID string, t Target, o Outcome)
}

// ErrNoBackend is what a Placer returns when no backend (or no further one) can take the client.
var ErrNoBackend = errors.New("no backend can take the client")

// These errors are ErrNoBackend with a reason.
var (
	// ErrBackendFull: all that could have as many connections as they may.
	ErrBackendFull = fmt.Errorf("%w: all have as many connections as they may", ErrNoBackend)
	// ErrRetryBudget: too many clients have tried a further backend lately.
	ErrRetryBudget = fmt.Errorf("%w: the retry budget is used up", ErrNoBackend)
	// ErrOverloaded: the cluster is overloaded and takes in those first whom it knows.
	ErrOverloaded = fmt.Errorf("%w: the cluster is overloaded", ErrNoBackend)
)

// A Request asks a Placer for a backend.
type Request struct {
	ClientID string
	// Connect is the client's whole CONNECT. It is valid during the call only.
	Connect *mqttparse.Connect
	Remote  netip.AddrPort
	// Tried names the backends that have failed this client during this connect, oldest first.
	Tried []string
}

// A Target is a place on a backend.
type Target struct {
	Backend *Backend
	Reason  balancer.Reason
	// Rate is the traffic of the client in bytes per second, both ways together: what the Placer remembers of it, later
	// what was measured last. Noted tells that the Placer wants to hear of it in any case; see Proxy.Flows.
	Rate  float32
	Noted bool
	// Learn asks for Learner.Subscribed. Learned tells that the group in Reason is what was learned, now or before.
	Learn, Learned bool
	// Another tells that the Placer could name a further backend if this one does not take the client. The client gets no
	// byte then before the broker has answered, see failover.go.
	Another bool
	// Redirect asks that the client is sent to Backend.Advertised and not relayed. It is relayed all the same if it cannot
	// be told that: before MQTT 5, or if the packet is larger than it takes.
	Redirect bool
}

// A Backend is what the data plane needs to know about a broker. It is immutable: the Placer hands
// out one and the same Backend to all clients of a broker, and a new one when anything about it changes.
type Backend struct {
	Cluster string
	Name    string
	Address netip.AddrPort
	// Advertised is host:port where clients reach the broker without mqttlb; empty if nobody wants to know.
	Advertised string
	// Sources are the local addresses to dial from; nil leaves the choice to the kernel.
	Sources *Sources
	// Header is the PROXY header to send first; nil sends none.
	Header *Header
	// TLS is how connections are encrypted, but for those of clients whose bytes are passed through undecrypted, which
	// are already; nil leaves them plain. The Header goes before it, in clear.
	TLS *BackendTLS
	// Host is the name or the IP address for which the broker's certificate should be; only with TLS.
	Host string
	// DialTimeout bounds connecting, all attempts of a client together. One that leaves Another has half of what is left.
	DialTimeout time.Duration
	// FirstByteTimeout bounds the silence between CONNECT and the broker's first byte; 0 is no bound.
	FirstByteTimeout time.Duration
}

// An Outcome says how a place was used. Its String is a metric label.
type Outcome uint8

// The outcomes. All but Served, ClientLeft, Rejected, Moved, Busy and Redirected are failures of the backend or of the way to it.
// Rejected may be one: that depends on the code of CONNACK, see Answer.
const (
	Served       Outcome = iota // the connection was established and has ended
	ClientLeft                  // the client went away while its backend was dialled
	Refused                     // ECONNREFUSED or RST
	TimedOut                    // no answer within DialTimeout
	Unreachable                 // no route, or another error of the network
	NoPort                      // this host has no local port left towards the backend
	NoDescriptor                // this process has no descriptor left
	Stalled                     // connected, but silent after CONNECT for FirstByteTimeout
	Rejected                    // the broker has answered CONNECT with another code than 0
	Moved                       // the connection was established, and Evict has ended it
	Busy                        // the broker has declined the client, and another one is asked
	Redirected                  // the client was told to go there without mqttlb
	TLSFailed                   // no TLS with it: its certificate, or what it has said, is not what it should be
)

// String is the metric label of the outcome.
func (o Outcome) String() string {
	switch o {
	case Served:
		return "served"
	case ClientLeft:
		return "client_left"
	case Refused:
		return "refused"
	case TimedOut:
		return "timeout"
	case Unreachable:
		return "unreachable"
	case NoPort:
		return "no_local_port"
	case NoDescriptor:
		return "no_descriptor"
	case Stalled:
		return "stalled"
	case Rejected:
		return "rejected"
	case Moved:
		return "moved"
	case Busy:
		return "busy"
	case Redirected:
		return "redirected"
	case TLSFailed:
		return "tls_failed"
	}
	return "unknown"
}

// An Observer hears what happens to connections. Its methods are called from the event loops, from
// several at once, and must not block.
type Observer interface {
	// Answered is called when a broker's CONNACK has come, and passed through unless it was Swallowed.
	Answered(Answer)
	// Ended is called once for every session, whether it got as far as a backend or not.
	Ended(Record)
	// Shed is called for a connection that was closed at accept, before it became a session.
	Shed(listener string, why Refusal)
	// Contested is called for a CONNECT whose client id two addresses use in turn.
	Contested(Contest)
	// Handshook is called when a TLS handshake has ended, well or not.
	Handshook(Handshake)
}

// A Contest is a CONNECT with a client id that clients at two addresses take from each other, over and over.
type Contest struct {
	Listener string
	// ClientID is as the client sent it.
	ClientID string
	// Remote is who has it now.
	Remote netip.AddrPort
}

// An Answer is a broker's answer to CONNECT.
type Answer struct {
	Listener string
	Cluster  string
	Backend  string
	// ClientID is as the client sent it.
	ClientID string
	// Code is the return code (3.x) or reason code (5) of CONNACK.
	Code byte
	// Version is the protocol level of the client. It is 0, as is Code, for a client whose bytes are passed through
	// undecrypted: its broker has sent something, and no more is known.
	Version byte
	// After is the time from accept to CONNACK.
	After time.Duration
	// Took is the part of it that the broker needed: from the first byte that was sent to it to CONNACK.
	Took time.Duration
	// Swallowed tells that the client has not got it: another backend is asked. Late tells of a swallowed one that is
	// passed on after all, because no other backend has taken the client.
	Swallowed, Late bool
}

// A Record is the story of one connection.
type Record struct {
	Listener string
	// Route is empty if the client has none. SNI is the server name in its ClientHello, empty if there is none.
	Route, SNI string
	Remote     netip.AddrPort
	// Via is the load balancer that has told of Remote with a PROXY header; invalid if there was no header.
	Via netip.AddrPort
	// ClientID is as the client sent it: not escaped, not cut. If Assigned, it is what the broker has given to the client.
	ClientID string
	Assigned bool
	// Version is the protocol level from CONNECT, 0 if there was none.
	Version byte
	// Target is where the client was sent; its Backend is nil if it was never sent anywhere.
	Target Target
	// UniqueID is what the PROXY header carried as such, empty if it did not. If it came with a PROXY header from the load
	// balancer in front and is no text, it is in hex.
	UniqueID string
	// Attempts is how many backends were dialled.
	Attempts int
	// Connack is the code of the broker's CONNACK, -1 if there was none.
	Connack int
	// Answered tells that the backend has sent something to a client whose bytes are passed through undecrypted.
	Answered bool
	// Lasted is the time since accept.
	Lasted time.Duration
	// Bytes and Packets count what was read, indexed by Direction.
	Bytes, Packets [2]uint64
	// End says who ended the connection.
	End End
	// Refusal says why mqttlb sent the client away; empty if it did not.
	Refusal Refusal
	// Moment says what an eviction, or the stop of mqttlb, has cut. It is MomentNone for all other ends.
	Moment Moment
}

// A Direction of travel.
type Direction uint8

// The directions.
const (
	Up   Direction = iota // client to backend
	Down                  // backend to client
)

// An End says who or what ended a session.
type End uint8

// The ends.
const (
	EndNone       End = iota // has not ended
	EndClient                // the client closed or vanished
	EndBackend               // the backend closed or vanished
	EndTimeout               // a deadline of mqttlb passed
	EndLimit                 // a limit of mqttlb was reached
	EndProtocol              // what the client sent cannot be the start of an MQTT connection
	EndDial                  // no backend could be reached
	EndShutdown              // mqttlb is stopping
	EndEvicted               // Evict has ended it, for the client to come again
	EndRedirected            // the client was told to go to its backend without mqttlb
	EndProbe                 // it was no client: the load balancer in front has looked whether mqttlb is here
)

// String is the name in the access log.
func (e End) String() string {
	switch e {
	case EndNone:
		return "none"
	case EndClient:
		return "client"
	case EndBackend:
		return "backend"
	case EndTimeout:
		return "timeout"
	case EndLimit:
		return "limit"
	case EndProtocol:
		return "protocol"
	case EndDial:
		return "dial"
	case EndShutdown:
		return "shutdown"
	case EndEvicted:
		return "evicted"
	case EndRedirected:
		return "redirected"
	case EndProbe:
		return "probe"
	}
	return "unknown"
}

// A Moment is what was under way on a connection when mqttlb ended it.
type Moment uint8

// The moments, from gentle to rough.
const (
	MomentNone     Moment = iota // mqttlb did not end it
	MomentQuiet                  // nothing at all
	MomentBoundary               // no packet; an exchange may have waited for its second half
	MomentForced                 // anything, perhaps half a packet
)

// String is the name in the access log and the label in metrics; empty for MomentNone.
func (m Moment) String() string {
	switch m {
	case MomentNone:
		return ""
	case MomentQuiet:
		return "quiet"
	case MomentBoundary:
		return "boundary"
	case MomentForced:
		return "forced"
	}
	return "unknown"
}

// A Refusal is why mqttlb sent a client away, as a metric label. Malformed openings use the name of
// their mqttparse.Kind.
type Refusal string

// The refusals that do not come from the parser.
const (
	RefusedConnectTimeout     Refusal = "connect_timeout"     // CONNECT was not complete in time
	RefusedConnectSize        Refusal = "connect_size"        // CONNECT is larger than connect_size
	RefusedProxyUntrusted     Refusal = "proxy_untrusted"     // only load balancers may connect, and it is none of them
	RefusedProxyHeader        Refusal = "proxy_header"        // the load balancer's PROXY header is missing, wrong, or late; or nobody expects one
	RefusedIncomplete         Refusal = "incomplete"          // the client left before its CONNECT was complete
	RefusedConnections        Refusal = "connections"         // the listener's limit is reached
	RefusedConnectRate        Refusal = "connect_rate"        // its CONNECT was not let in within connect_wait, or too many wait
	RefusedClientRate         Refusal = "client_rate"         // its client id connects too often
	RefusedClientConnections  Refusal = "client_connections"  // its client id has as many connections as it may have
	RefusedPacketSize         Refusal = "packet_size"         // it has sent a packet that is too large
	RefusedKeepAlive          Refusal = "keep_alive"          // it was silent for longer than its keep alive allows
	RefusedPendingConnections Refusal = "pending_connections" // too many are without a CONNECT, and it is so for longest
	RefusedPendingBytes       Refusal = "pending_bytes"       // the memory for CONNECTs is used up
	RefusedMemory             Refusal = "memory"              // the process comes near its limit of memory
	RefusedDescriptors        Refusal = "descriptors"         // the process has no descriptor left
	RefusedNoBackend          Refusal = "no_backend"          // the cluster has nobody who could take the client
	RefusedDialFailed         Refusal = "backend_unreachable" // every candidate failed
	RefusedBackendFull        Refusal = "backend_full"        // every backend has as many connections as it may
	RefusedOverloaded         Refusal = "overloaded"          // the cluster is overloaded, and does not know the client
	RefusedRetryBudget        Refusal = "retry_budget"        // a candidate failed, and too many clients try a further one
	RefusedFirstByte          Refusal = "first_byte_timeout"  // the broker did not answer CONNECT
	RefusedShutdown           Refusal = "shutdown"            // mqttlb is stopping
	RefusedUpgrade            Refusal = "websocket_request"   // no HTTP request that makes a WebSocket
	RefusedUpgradeSize        Refusal = "websocket_size"      // … but one that is too large
	RefusedPath               Refusal = "websocket_path"      // it asks for another path
	RefusedOrigin             Refusal = "websocket_origin"    // it is a page of a site that may not connect
	RefusedSubprotocol        Refusal = "websocket_protocol"  // it does not offer the sub-protocol mqtt
	RefusedFrame              Refusal = "websocket_frame"     // what it sends is no WebSocket, or text
	RefusedNotTLS             Refusal = "not_tls"             // it does not speak TLS where it must
	RefusedHello              Refusal = "client_hello"        // its ClientHello is malformed or too large
	RefusedUnknownName        Refusal = "unknown_name"        // no route leads to the server name in its ClientHello, or to none
	RefusedNoRoute            Refusal = "no_route"            // no route leads to what it says in CONNECT
	RefusedRouteConnections   Refusal = "route_connections"   // its route has as many connections as it may
)
