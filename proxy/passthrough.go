package proxy

import (
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// A listener that passes TLS through reads the client's ClientHello and nothing more: the server name in it says which
// route is the client's, and the broker gets all bytes as they came. Nobody here knows what they mean. So such a session,
// which is called opaque, has no client id, its packets are not followed, and it stays with the backend that took the
// connection. mqttlb ends it with FIN in both directions, whatever is under way.

// passThrough goes on with a client whose ClientHello is complete, on a listener that does not decrypt. opening is what
// the client has sent, the ClientHello first.
func (l *loop) passThrough(s *session, hello clientHello, opening []byte) {
	s.opaque = true
	s.security = &security{sni: hello.name(), alpn: hello.protocol()}
	s.will = balancer.PromptWill // for all that anybody knows
	l.connect = mqttparse.Connect{}
	l.consider(s, opening)
}

// recall makes l.connect what it was when the session was let in, or had to wait. opening is what it has sent until
// then.
func (l *loop) recall(s *session, opening []byte) (err error) {
	l.connect = mqttparse.Connect{}
	if !s.opaque {
		l.connect, err = mqttparse.ParseConnect(opening)
	}
	return err
}

// unrecognizedName is a fatal alert that tells a client that nobody of that name is here (RFC 6066, 3).
func unrecognizedName() []byte { return []byte{21, 3, 3, 0, 2, 2, 112} }

// refuseName sends a client away whose server name nobody here bears.
func (l *loop) refuseName(s *session) {
	l.say(s, unrecognizedName())
	l.hearOut(s, EndProtocol, RefusedUnknownName)
}

// passOpaque lets the counters see a chunk of an opaque session that has been read.
func (l *loop) passOpaque(s *session, d Direction, chunk []byte) {
	l.bytes[d] += uint64(len(chunk))
	if d == Up || s.answered {
		return
	}
	if s.state == stateRelaying {
		l.timers.clear(s) // of the first byte
	}
	s.answered = true
	l.observer.Answered(l.answer(s, s.target.Backend, 0))
}
