package proxy

import (
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A Handle names one session of this process, for as long as that session lives. 0 names none.
type Handle uint64

// A handle is 11 bits loop, plus 1 so that no handle is 0, 24 bits index and 29 bits generation of the slot.
const (
	handleIndexBits      = 24
	handleGenerationBits = 29
)

func newHandle(loop int, s *session) Handle {
	return Handle(loop+1)<<(handleIndexBits+handleGenerationBits) | Handle(s.index)<<handleGenerationBits |
		Handle(s.generation&generationMask)
}

// loop is the id of the session's loop; of none if h is 0.
func (h Handle) loop() int { return int(h>>(handleIndexBits+handleGenerationBits)) - 1 }

// lookUp returns the session that h, a handle of this loop, names; nil if it has ended.
func (l *loop) lookUp(h Handle) *session {
	return l.sessions.find(uint32(h>>handleGenerationBits)&(1<<handleIndexBits-1), uint32(h)&generationMask)
}

// A Sitting is one session that relays, as whoever decides who should move sees it.
type Sitting struct {
	Handle   Handle
	ClientID string
	Version  byte
	// Persistent tells that the MQTT session outlives the connection.
	Persistent bool
	Target     Target
	// Age is the time since accept.
	Age time.Duration
	// Will is what the broker does with the client's will when the connection is closed without DISCONNECT.
	Will balancer.Will
	// Shared tells that it is known to consume a shared subscription; only where Target.Learn is set.
	Shared bool
}

func willOf(c *mqttparse.Connect) balancer.Will {
	switch {
	case !c.Will:
		return balancer.NoWill
	case c.WillDelay > 0 && c.SessionExpiry > 0: // a delay exists in MQTT 5 only
		return balancer.DelayedWill
	}
	return balancer.PromptWill
}

// Sittings returns the sessions for which want answers true: those that relay, whose broker has accepted them, and
// that are not being evicted. want is called on the event loops: it must be quick and must not block or keep its
// argument. Sessions that come or go meanwhile may or may not be among them.
func (p *Proxy) Sittings(want func(*Sitting) bool) []Sitting {
	var found []Sitting
	for _, l := range p.loops {
		p.visit(l, func(l *loop, from, end uint32) bool {
			for i := from; i < end; i++ {
				s := l.sessions.at(i)
				if s.state != stateRelaying || s.eviction != nil || !s.accepts() {
					continue
				}
				if sitting := l.sitting(s); want(&sitting) {
					found = append(found, sitting)
				}
			}
			return true
		})
	}
	return found
}

// accepts tells that the broker has answered CONNECT with code 0, and the client has its answer. That a broker has
// answered at all is what can be known of an opaque session.
func (s *session) accepts() bool {
	if s.opaque {
		return s.answered
	}
	code, ok := s.backend.in.Connack()
	return ok && code == 0
}

func (l *loop) sitting(s *session) Sitting {
	return Sitting{
		Handle:     newHandle(l.id, s),
		ClientID:   s.placedID(),
		Version:    s.version,
		Persistent: s.persistent,
		Target:     s.target,
		Age:        time.Duration(l.now - s.accepted),
		Will:       s.will,
		Shared:     s.shared(),
	}
}

// An Eviction asks to end one session so gently that its client comes again without harm (protocol.md, 4.5 to 4.7).
// Where it goes then must be settled before: some clients are back at once.
type Eviction struct {
	Session Handle
	// ClientID is who the session belongs to; if it is somebody else, nothing happens.
	ClientID string
	// Suppress sends the broker a DISCONNECT in the name of the client, so that a PromptWill is not published.
	Suppress bool
	// Notify is the reason code of a DISCONNECT to a client that speaks MQTT 5; 0 sends none. Text is its reason
	// string, and left out of it if the client would not take so large a packet.
	Notify byte
	Text   string
	// Force cuts the connection in the middle of a packet or an exchange rather than give up.
	Force bool
}

// A Kept is why a session was not evicted. Its String is a metric label.
type Kept uint8

// The reasons.
const (
	KeptGone      Kept = iota // the session has ended by itself
	KeptProtected             // no CONNACK yet, a SUBSCRIBE without its SUBACK, an authentication going on, or not MQTT
	KeptBusy                  // it never stood between two packets, or is being evicted already
)

// String is the metric label.
func (k Kept) String() string {
	switch k {
	case KeptGone:
		return "gone"
	case KeptProtected:
		return "protected"
	case KeptBusy:
		return "busy"
	}
	return "unknown"
}

// Evict begins to end sessions and returns at once. A session that is ended so has End EndEvicted in its Record, and
// Release gets the outcome Moved. For every other one kept is called, exactly once; it is called on the event loops
// and must not block. (When the Proxy is closed or the handle is none, it is called before Evict returns.)
//
// A session that is being evicted already goes on with that, and is KeptBusy for any other eviction. Without CONNACK
// a session is KeptProtected, even by Force.
func (p *Proxy) Evict(list []Eviction, kept func(Eviction, Kept)) {
	parts := make([][]Eviction, len(p.loops))
	for i := range list {
		id := list[i].Session.loop()
		if id < 0 || id >= len(parts) {
			kept(list[i], KeptGone)
			continue
		}
		parts[id] = append(parts[id], list[i])
	}
	for id, part := range parts {
		if len(part) == 0 {
			continue
		}
		if p.loops[id].do(func(l *loop) { l.evict(part, kept) }) {
			continue
		}
		for i := range part {
			kept(part[i], KeptGone)
		}
	}
}

// evict begins these evictions of sessions of the loop.
func (l *loop) evict(list []Eviction, kept func(Eviction, Kept)) {
	for i := range list {
		s := l.lookUp(list[i].Session)
		switch {
		case s == nil || s.placedID() != list[i].ClientID || s.state == stateClosing && s.eviction == nil:
			kept(list[i], KeptGone)
		case s.eviction != nil:
			kept(list[i], KeptBusy)
		case s.state != stateRelaying || !s.accepts():
			kept(list[i], KeptProtected)
		default:
			l.seek(s, &eviction{Eviction: list[i], kept: kept, end: EndEvicted})
		}
	}
}
