package proxy

import (
	"errors"
	"iter"
	"math"
	"math/bits"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// readConnect collects the client's CONNECT. Nothing reaches a backend before it is complete.
func (l *loop) readConnect(s *session) {
	for reads := 0; s.client.has(readable); reads++ {
		if reads == earlyReads {
			l.postpone(s)
			return
		}
		chunk, opening, ok := l.readMore(s)
		if !ok {
			return
		}
		if len(chunk) > 0 {
			var err error
			l.connect, err = mqttparse.ParseConnect(opening)
			malformed, refused := errors.AsType[*mqttparse.SyntaxError](err)
			switch {
			case l.connect.Len > s.listener.ConnectSize:
				l.refuse(s, EndLimit, RefusedConnectSize)
				return
			case err == nil:
				l.consider(s, opening)
				return
			case refused:
				l.refuse(s, EndProtocol, Refusal(malformed.Kind.String()))
				return
			}
			if s.backend.out == nil && !l.hold(s, chunk) {
				return
			}
		}
		switch {
		case s.refusal != "": // its layer has found what is wrong
			l.finish(s, EndProtocol)
			return
		case s.client.has(ended | broken):
			l.leaveEarly(s)
			return
		}
	}
}

// admit takes the client in: its CONNECT is complete and parsed into l.connect. opening is CONNECT and
// whatever the client has sent behind it already.
func (l *loop) admit(s *session, opening []byte) {
	l.leaveAdmission(s)
	s.persistent, s.expiry = l.connect.Persistent(), l.connect.SessionExpiry
	if !s.opaque {
		s.will = willOf(&l.connect)
	}
	s.maxPacket = l.connect.MaxPacketSize
	if s.listener.KeepAlive {
		s.keepAlive = l.connect.KeepAlive
	}
	s.state = stateDialing
	if l.connect.KeepAlive == 0 { // or nobody knows
		keepClientAlive(int(s.client.fd))
	}
	for odd := range oddities(l.connect.Nonconforming) {
		l.oddities[odd]++
	}
	l.follow(s, Up, opening)
	s.began = l.sinceAccept(s)
	l.dial(s, opening)
}

// sinceAccept is the time in microseconds, as far as it fits.
func (l *loop) sinceAccept(s *session) uint32 {
	return uint32(min((l.now-s.accepted)/int64(time.Microsecond), math.MaxUint32))
}

// oddities yields the numbers of the bits that are set.
func oddities(n mqttparse.Nonconforming) iter.Seq[int] {
	return func(yield func(int) bool) {
		for ; n != 0; n &= n - 1 {
			if !yield(bits.TrailingZeros32(uint32(n))) {
				return
			}
		}
	}
}

// dial tries a backend for the client whose CONNECT is in l.connect. A CONNECT goes to a second one only while the first
// has not got a byte of it (protocol.md, 3), or has said that it takes nobody at the moment, see failover.go: a broker
// that stalls and wakes up later would take the session over.
func (l *loop) dial(s *session, opening []byte) {
	target, err := s.placer().Place(Request{ClientID: s.clientID, Connect: &l.connect, Remote: s.remote, Tried: s.tried()})
	if err != nil {
		l.refuseUnplaced(s, err)
		return
	}
	s.target = target
	if target.Redirect && l.redirect(s) {
		return
	}
	s.asks = target.Another && mayAsk(&l.connect) && (s.client.out == nil || l.flush(&s.client))
	l.learnOpening(s, opening)
	s.attempts++
	l.prepareOpening(s, opening)
	fd, errno := l.dialBackend(target.Backend)
	if errno != 0 && errno != unix.EINPROGRESS {
		l.redial(s, outcomeOf(errno))
		return
	}
	s.backend.fd, s.backend.is = fd, open|writable
	if s.encrypts() {
		l.timers.set(s, l.now, l.dialTime(s))
	}
	switch l.sendOpening(s) {
	case openingSent:
		interest := uint32(interestRead)
		if s.backend.has(armed) {
			interest = interestReadWrite
		}
		l.register(s, &s.backend, interest)
		l.advance(s)
	case openingWaits:
		s.backend.clear(writable)
		s.backend.set(armed)
		l.timers.set(s, l.now, l.dialTime(s))
		l.register(s, &s.backend, interestReadWrite)
	case openingSecured:
		l.register(s, &s.backend, interestRead)
		l.secure(s)
	case openingFailed:
		l.redial(s, Refused)
	}
}

// redial gives up the place that has failed and goes on to the next candidate, with what the failed
// one did not get. The Placer ends this when there is none left.
func (l *loop) redial(s *session, why Outcome) {
	l.timers.clear(s)
	l.abandonUpstream(s, errLate)
	if s.backend.has(open) {
		l.hangUp(s, &s.backend)
	}
	l.dropLayer(&s.backend)
	l.recallOpening(s)
	s.backend = leg{out: s.backend.out}
	if why != Busy {
		s.passOver()
	}
	s.placer().Release(s.clientID, s.target, why)
	late := l.timeLeft(s) <= 0
	s.target, s.state = Target{}, stateDialing
	if why == NoDescriptor {
		l.sendOff(s, EndLimit, RefusedDescriptors) // another candidate would need one too
		return
	}
	opening := s.backend.out.data[s.headerSize:] // also what a broker that has declined the client has got of it
	if err := l.recall(s, opening); err != nil || s.attempts >= maxAttempts || late {
		l.sendOff(s, EndDial, RefusedDialFailed)
		return
	}
	l.dial(s, opening)
}

// maxAttempts bounds the candidates that one client may try, whatever the Placer says.
const maxAttempts = 16

// prepareOpening puts what the backend gets first into s.backend.out: the PROXY header, CONNECT, and
// what is pipelined behind it. One buffer, because one write must carry them all: brokers exist that
// reject a header which arrives in two segments (protocol.md, D8).
func (l *loop) prepareOpening(s *session, opening []byte) {
	l.scratch = append(l.header(l.scratch[:0], s), opening...)
	held := s.backend.out
	s.backend.out = l.pool.add(nil, l.scratch)
	l.pool.put(held) // opening may have lived in it
}

// header appends the PROXY header for the session, if its backend wants one.
func (l *loop) header(dst []byte, s *session) []byte {
	s.headerSize = 0
	h := s.target.Backend.Header
	if h == nil {
		return dst
	}
	facts := l.headerFacts(s)
	dst, trimmed := h.append(dst, &facts)
	if trimmed {
		l.trimmed++
	}
	s.headerSize = uint16(len(dst))
	return dst
}

type openingResult uint8

const (
	openingSent    openingResult = iota // the backend has it, or has begun to take it
	openingWaits                        // the connection is not established yet
	openingFailed                       // no connection, and no byte has left
	openingSecured                      // the connection is established, and TLS comes first
)

// sendOpening tries to send what prepareOpening made. Over loopback the connection is established
// before connect() returns, which saves a wake-up; elsewhere the socket says EAGAIN until it is.
func (l *loop) sendOpening(s *session) openingResult {
	if s.encrypts() {
		switch errno := connected(s.backend.fd); errno {
		case 0:
			return openingSecured
		case unix.EAGAIN, unix.ENOTCONN:
			return openingWaits
		default:
			return openingFailed
		}
	}
	pending := s.backend.out.bytes()
	n, errno := send(s.backend.fd, pending)
	switch {
	case errno == unix.EAGAIN || errno == unix.ENOTCONN:
		return openingWaits
	case errno != 0:
		return openingFailed
	}
	l.opened(s)
	switch {
	case n < len(pending):
		s.backend.out.from += n
		s.backend.clear(writable)
		l.watchWrites(s, &s.backend)
	case s.asks:
		s.backend.out.from += n // and what the next candidate may need stays
	default:
		l.pool.put(s.backend.out)
		s.backend.out = nil
	}
	return openingSent
}

// opened notes that CONNECT is on its way to the backend.
func (l *loop) opened(s *session) {
	s.state = stateRelaying
	if s.asks {
		s.state = stateAsking
	}
	s.connected = l.sinceAccept(s)
	if wait := s.target.Backend.FirstByteTimeout; wait > 0 {
		l.timers.set(s, l.now, wait)
	} else {
		l.timers.clear(s)
	}
}

// finishDial handles events while a backend is being dialled.
func (l *loop) finishDial(s *session) {
	if s.client.has(erred) {
		l.finish(s, EndClient) // it has reset the connection: nobody waits for the answer any more
		return
	}
	if s.backend.has(shaking) {
		s.followUpstream()
		return
	}
	if !s.backend.has(writable) && !s.backend.has(erred|hungUp) {
		return
	}
	switch l.sendOpening(s) {
	case openingSent:
		l.advance(s)
	case openingSecured:
		l.secure(s)
	case openingFailed:
		l.redial(s, Refused)
	case openingWaits:
		s.backend.clear(writable)
	}
}

// refuseUnplaced sends a client away for whom there is no backend, or no further one.
func (l *loop) refuseUnplaced(s *session, err error) {
	why, answer := RefusedNoBackend, mqttparse.ServerUnavailable
	switch {
	case errors.Is(err, ErrRetryBudget):
		why = RefusedRetryBudget
	case s.attempts > 0:
		why = RefusedDialFailed
	case errors.Is(err, ErrBackendFull):
		why = RefusedBackendFull
	case errors.Is(err, ErrOverloaded):
		why, answer = RefusedOverloaded, mqttparse.ServerBusy
	}
	if s.rejection() == nil && s.listener.RefuseWithConnack {
		l.say(s, mqttparse.AppendConnack(l.scratch[:0], s.version, answer))
	}
	l.sendOff(s, EndDial, why)
}

// sendOff ends a session that no backend has taken. If one has declined it, the client hears that.
func (l *loop) sendOff(s *session, who End, why Refusal) {
	if s.rejection() != nil {
		l.passRejection(s)
		return
	}
	l.refuse(s, who, why)
}

// say gives the client its only answer before the end. What it has sent meanwhile is read first: closing a socket with
// unread bytes resets the connection, and the answer with it.
func (l *loop) say(s *session, answer []byte) {
	for moved := 0; s.client.has(readable) && !s.client.has(ended|broken) && moved < turn; {
		moved += len(l.read(s, &s.client, l.buffer))
	}
	l.write(s, &s.client, answer) // as good as it gets: the socket's buffer is empty, it fits
	l.endLayer(s, &s.client)
}

// outcomeOf names what a failed connect() means.
func outcomeOf(errno syscall.Errno) Outcome {
	switch errno {
	case unix.ECONNREFUSED, unix.ECONNRESET:
		return Refused
	case unix.ETIMEDOUT:
		return TimedOut
	case unix.EADDRNOTAVAIL, unix.EADDRINUSE:
		return NoPort
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return NoDescriptor
	}
	return Unreachable
}
