package proxy

import (
	"errors"
	"time"
)

// An entry is what a client has to say before its CONNECT, and that itself: the steps of stateReading, in this order.
// A listener has those that it is configured for. All of them together are bounded by ConnectTimeout, and admission
// counts whoever is in one as pending.
type entry uint8

const (
	entryAccepted  entry = iota
	entryHeader          // the PROXY header of the load balancer in front, see proxyin.go
	entryHello           // its ClientHello is collected
	entryHandshake       // a goroutine shakes hands, see handshake.go
	entryUpgrade         // its HTTP request for a WebSocket
	entryConnect         // its CONNECT: nothing is left before it
	entryRefused         // it is refused; what it still sends is read until it has ended, for it to hear why
)

// wants tells whether the clients of this listener have to take this step.
func (ln *listener) wants(e entry) bool {
	switch e {
	case entryHeader:
		return ln.Trusted != nil
	case entryHello:
		return ln.TLS != nil
	case entryHandshake:
		return ln.TLS != nil && ln.TLS.Mode == TLSTerminate
	case entryUpgrade:
		return ln.WebSocket != nil
	case entryConnect:
		return true
	case entryAccepted, entryRefused:
	}
	return false
}

// nextEntry goes on to the client's next step, and begins it: its bytes may be there already.
func (l *loop) nextEntry(s *session) {
	for s.entry++; !s.listener.wants(s.entry); s.entry++ {
	}
	switch s.entry {
	case entryHello, entryConnect, entryAccepted, entryRefused:
	case entryHeader:
		l.timers.set(s, l.now, min(s.listener.ConnectTimeout, headerInTimeout))
	case entryHandshake:
		l.beginHandshake(s)
		return
	case entryUpgrade:
		l.beginUpgrade(s)
	}
	if s.state == stateReading {
		l.readEntry(s)
	}
}

// readEntry reads what the client's present step waits for.
func (l *loop) readEntry(s *session) {
	switch s.entry {
	case entryHeader:
		l.collectHeader(s)
	case entryHello:
		l.collectHello(s)
	case entryHandshake:
		l.followHandshake(s)
	case entryUpgrade:
		l.readUpgrade(s)
	case entryConnect, entryAccepted:
		l.readConnect(s)
	case entryRefused:
		l.readRefused(s)
	}
}

// earlyReads is how often a client is read before the others get their turn, while it takes its steps.
const earlyReads = 8

// collectHello reads the client's ClientHello. Who is silent or dribbles costs no goroutine.
func (l *loop) collectHello(s *session) {
	for s.client.has(readable) {
		chunk := l.readEarly(s)
		if len(chunk) > 0 {
			if !l.hold(s, chunk) {
				return
			}
			hello, err := parseClientHello(s.backend.out.bytes())
			malformed, refused := errors.AsType[*helloError](err)
			switch {
			case err == nil && !s.listener.knowsName(hello.name()):
				l.refuseName(s)
				return
			case err == nil && s.listener.TLS.Mode == TLSPassthrough:
				l.passThrough(s, hello, s.backend.out.bytes())
				return
			case err == nil:
				s.client.bytes = 0 // they are counted where they are MQTT
				l.nextEntry(s)
				return
			case refused:
				l.refuse(s, EndProtocol, malformed.why)
				return
			}
		}
		if s.client.has(ended | broken) {
			l.leaveEarly(s)
			return
		}
	}
}

// hearing bounds how long a client that is refused with an alert may take to end.
const hearing = 2 * time.Second

// hearOut ends a session after an alert: with FIN, and then it is waited for the client to end as well. Closing the
// socket at once could reset the connection, and the client would not hear why it is refused.
func (l *loop) hearOut(s *session, who End, why Refusal) {
	s.end, s.refusal, s.entry = who, why, entryRefused
	if who == EndClient {
		l.finish(s, EndNone) // which knows
		return
	}
	shutdownWrite(s.client.fd)
	s.client.set(finished | readable)
	l.timers.set(s, l.now, hearing)
	l.readRefused(s)
}

// readRefused throws away what a client that is refused has still sent.
func (l *loop) readRefused(s *session) {
	for moved := 0; s.client.has(readable) && !s.client.has(ended|broken); {
		if moved >= turn {
			l.postpone(s)
			return
		}
		moved += len(l.recvRaw(&s.client, l.buffer))
	}
	if s.client.has(ended | broken) {
		l.finish(s, EndNone)
	}
}

// late is why a client is refused whose time for the present step is over.
func (s *session) late() Refusal {
	switch s.entry {
	case entryHeader:
		return RefusedProxyHeader
	case entryHandshake:
		return RefusedTLSTimeout
	case entryAccepted, entryHello, entryUpgrade, entryConnect, entryRefused:
	}
	return RefusedConnectTimeout
}
