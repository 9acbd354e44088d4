package proxy

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A broker that answers CONNECT with "not now" has no session of the client, so that another one may be asked
// (protocol.md, 3). Until the answer is there, what the client has sent stays in memory, nothing more is read from it,
// and it hears nothing: it sees one CONNACK, that of the broker that has taken it in. In every other case, however
// doubtful, the answer passes and the session stays where it is: a broker that stalls, or whose connection is lost, may
// still take the client in.

// openingSize is the most that one read takes before CONNECT is complete. It bounds what a client can have pipelined
// behind its CONNECT, which is held with it.
const openingSize = 16 << 10

// maxRejection bounds a CONNACK that is held back, in bytes. A longer one passes.
const maxRejection = 16 << 10

// passedOver is what a session remembers of the backends that have not taken its client.
type passedOver struct {
	tried     []string   // their names, oldest first
	rejection *rejection // of the last that has declined the client, nil if none has
	opening   *buffer    // what was sent encrypted to the backend that is asked, see upstream.go; nil if it was not
}

// tried names the backends that have failed the client.
func (s *session) tried() []string {
	if s.passed == nil {
		return nil
	}
	return s.passed.tried
}

// rejection is that of the last backend that has declined the client, nil if none has.
func (s *session) rejection() *rejection {
	if s.passed == nil {
		return nil
	}
	return s.passed.rejection
}

// passOver notes that the present backend has failed the client.
func (s *session) passOver() {
	if s.passed == nil {
		s.passed = new(passedOver)
	}
	s.passed.tried = append(s.passed.tried, s.target.Backend.Name)
}

// A rejection is the last CONNACK with which a broker has refused a client that another one was asked to take. It is
// what the client gets if nobody does.
type rejection struct {
	target  Target
	connack []byte
	code    byte
}

// A meaning is what the beginning of a broker's answer to CONNECT means.
type meaning uint8

const (
	undecided meaning = iota // that shows with further bytes
	decided                  // the answer is the client's, whatever it is
	declined                 // the broker takes nobody at the moment: another one may be asked
)

// judge reads the beginning of an answer. If it is declined, connack is the whole CONNACK and code what it says.
func judge(answer []byte, version byte) (connack []byte, code byte, v meaning) {
	if len(answer) > 0 && answer[0] != byte(mqttparse.TypeConnack<<4) {
		return nil, 0, decided
	}
	body, at := 0, 1
	for more := true; more; at++ {
		switch {
		case at > 4: // there is no fifth byte of length
			return nil, 0, decided
		case at >= len(answer):
			return nil, 0, undecided
		}
		body |= int(answer[at]&0x7f) << (7 * (at - 1))
		more = answer[at] >= 0x80
	}
	switch {
	case body < 2 || at+body > maxRejection:
		return nil, 0, decided
	case len(answer) < at+2:
		return nil, 0, undecided
	case answer[at] != 0 || !declines(version, answer[at+1]):
		return nil, 0, decided
	case len(answer) < at+body:
		return nil, 0, undecided
	}
	return answer[:at+body], answer[at+1], declined
}

// declines tells whether the code of a CONNACK says that the broker is busy, full, or not the right one: nothing that
// lies with the client. Refused credentials are not among them, nor what a broker that speaks MQTT 3 makes of "full",
// which looks like refused credentials there.
func declines(version, code byte) bool {
	switch version {
	case 3, 4:
		return code == 3 // server unavailable
	case 5:
		switch code {
		case 0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F: // unavailable, busy, quota, use another server, moved, rate
			return true
		}
	}
	return false
}

// While a client has not taken what its layer has told it before CONNECT, the broker is not asked either: until the
// answer is judged, it is kept where those bytes wait.

// mayAsk tells whether the client with this CONNECT may be offered to another broker when one declines. With enhanced
// authentication packets go to and fro before CONNACK.
func mayAsk(c *mqttparse.Connect) bool {
	return !c.HasAuthMethod && c.Version >= 3 && c.Version <= 5
}

// ask waits for the broker's answer to CONNECT. Where the client has left or is about to, another broker is not asked.
func (l *loop) ask(s *session) {
	if s.client.has(hungUp|erred) || !l.push(s) {
		l.stay(s, nil)
		return
	}
	for s.backend.has(readable) {
		chunk := l.read(s, &s.backend, l.buffer)
		if len(chunk) == 0 {
			continue
		}
		answer := chunk
		if s.client.out != nil {
			s.client.out = l.pool.add(s.client.out, chunk)
			answer, chunk = s.client.out.bytes(), nil
		}
		connack, code, v := judge(answer, s.version)
		switch {
		case v == declined && s.attempts < maxAttempts && l.timeLeft(s) > 0:
			l.decline(s, connack, code)
			return
		case v != undecided:
			l.stay(s, chunk)
			return
		case chunk != nil:
			s.client.out = l.pool.add(nil, chunk)
		}
	}
	switch {
	case s.backend.has(broken) && s.client.out == nil && l.barred(s):
		l.redial(s, TLSFailed)
	case s.backend.has(ended | broken):
		l.stay(s, nil)
	}
}

// timeLeft is what the client has left of the time for connecting, all attempts together.
func (l *loop) timeLeft(s *session) time.Duration {
	began := time.Duration(s.began) * time.Microsecond
	return s.target.Backend.DialTimeout + began - time.Duration(l.now-s.accepted)
}

// dialTime bounds the attempt that begins. While there is another candidate it may have half of what is left.
func (l *loop) dialTime(s *session) time.Duration {
	left := l.timeLeft(s)
	if s.target.Another {
		left /= 2
	}
	return max(left, 0)
}

// push sends what the broker has not got yet of the opening, without forgetting what it has. It reports false when
// that is impossible.
func (l *loop) push(s *session) bool {
	if s.backend.layer != nil {
		if s.backend.out != nil {
			l.flush(&s.backend)
		}
		return true // if it takes nothing more, what it has said tells why
	}
	pending := s.backend.out.bytes()
	if len(pending) == 0 || !s.backend.has(writable) {
		return true
	}
	n, errno := send(s.backend.fd, pending)
	switch {
	case errno == 0:
		s.backend.out.from += n
	case errno != unix.EAGAIN:
		return false
	}
	if n < len(pending) {
		s.backend.clear(writable)
	}
	return true
}

// stay makes the session one of this broker, for better or worse. chunk is of its answer, behind what is held of it.
func (l *loop) stay(s *session, chunk []byte) {
	l.settleDown(s, chunk)
	l.relay(s)
}

func (l *loop) settleDown(s *session, chunk []byte) {
	s.state = stateRelaying
	l.forgetOpening(s)
	if s.backend.out != nil && len(s.backend.out.bytes()) == 0 {
		l.pool.put(s.backend.out)
		s.backend.out = nil
	}
	held := s.client.out
	if s.client.out = nil; held != nil {
		chunk = held.bytes()
	}
	if len(chunk) > 0 {
		l.follow(s, Down, chunk)
		l.write(s, &s.client, chunk)
	}
	l.pool.put(held)
}

// decline goes on to the next candidate: this broker has answered with a CONNACK that another one may better.
func (l *loop) decline(s *session, connack []byte, code byte) {
	s.passOver()
	s.passed.rejection = &rejection{target: s.target, connack: slices.Clone(connack), code: code}
	l.pool.put(s.client.out)
	s.client.out = nil
	a := l.answer(s, s.target.Backend, code)
	a.Swallowed = true
	l.observer.Answered(a)
	l.redial(s, Busy)
}

// passRejection gives the client the last CONNACK that was held back: nobody else has taken it.
func (l *loop) passRejection(s *session) {
	r := s.rejection()
	l.say(s, r.connack)
	s.backend.bytes, s.backend.packets = uint64(len(r.connack)), 1
	l.bytes[Down] += uint64(len(r.connack))
	l.packets[Down][mqttparse.TypeConnack]++
	a := l.answer(s, r.target.Backend, r.code)
	a.Late = true
	l.observer.Answered(a)
	l.finish(s, EndBackend)
}
