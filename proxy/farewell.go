package proxy

import (
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// An eviction is how mqttlb ends a session that both sides would go on with. It goes through these stages:
//
//	awaitQuiet      both directions stand between two packets, no exchange is open, nothing has moved for 200 ms?
//	    │ 5 s
//	awaitBoundary   each direction is held where a packet ends, until both are there
//	    │ 2 s: KeptBusy, or by Force                                  ← up to here the session can go on
//	stopUp          the client is not heard any more; the broker gets what is left, perhaps DISCONNECT, and FIN
//	    │ 2 s
//	drainDown       the client gets what the broker has still to say, until its FIN
//	    │ 2 s
//	endDown         the broker does not end: the client gets the rest of the packet that has begun
//	    │ 3 s: cut
//	goodbye         the client got perhaps DISCONNECT, and FIN; now its own FIN is awaited
//	    │ 5 s
//	 closed
//
// A stage is over as soon as what it waits for has come. While the session can still go on, an end that comes from
// one of the two sides goes before.
type eviction struct {
	Eviction
	kept    func(Eviction, Kept) // nil if nobody wants to know
	end     End                  // of the session, when it is done
	moment  Moment
	stage   stage
	hurried bool      // there is little time left to be gentle
	said    [2]bool   // by Direction: the last words
	until   int64     // when awaitQuiet ends, on the loop's clock
	moved   [2]uint64 // bytes, by Direction, when awaitQuiet looked last
}

type stage uint8

const (
	awaitQuiet stage = iota
	awaitBoundary
	stopUp
	drainDown
	endDown
	goodbye
)

// stageTimes bound the stages.
type stageTimes [goodbye + 1]time.Duration

// usualTimes are those of protocol.md, 4.5 and 4.6. endDown is what drainDown has left of closeGrace.
func usualTimes() stageTimes {
	return stageTimes{
		awaitQuiet: 5 * time.Second, awaitBoundary: 2 * time.Second,
		stopUp: 2 * time.Second, drainDown: 2 * time.Second, endDown: closeGrace - 2*time.Second, goodbye: closeGrace,
	}
}

const (
	// silence is how long nothing may move before a session counts as quiet.
	silence = 200 * time.Millisecond
	// hurriedTime is the most that the two stages that only wait may take when there is little time.
	hurriedTime = time.Second
)

// stageTime bounds the stage in which the eviction is.
func (l *loop) stageTime(e *eviction) time.Duration {
	d := l.proxy.stageTimes[e.stage]
	if e.hurried && e.stage <= awaitBoundary {
		d = min(d, hurriedTime)
	}
	return d
}

// leaving tells that mqttlb has begun to end the session: there is no way back.
func (s *session) leaving() bool { return s.eviction != nil && s.eviction.stage >= stopUp }

// seek begins an eviction.
func (l *loop) seek(s *session, e *eviction) {
	s.eviction = e
	if s.lost() {
		l.giveUp(s) // there will never be a good moment
		return
	}
	e.until = l.now + int64(l.stageTime(e))
	l.listen(s)
}

// listen notes what has moved so far, to see after a while whether it was all.
func (l *loop) listen(s *session) {
	s.eviction.moved = [2]uint64{s.client.bytes, s.backend.bytes}
	l.timers.set(s, l.now, silence)
}

// hurry shortens an eviction and makes it certain.
func (l *loop) hurry(s *session) {
	e := s.eviction
	if e.hurried {
		return
	}
	e.hurried, e.Force = true, true
	switch e.stage {
	case awaitQuiet:
		e.until = min(e.until, l.now+int64(l.stageTime(e)))
	case awaitBoundary:
		l.timers.set(s, l.now, l.stageTime(e))
	case stopUp, drainDown, endDown, goodbye:
	}
}

// enter begins a stage. What it waits for may be there already, so the session gets another turn.
func (l *loop) enter(s *session, next stage) {
	s.eviction.stage = next
	l.timers.set(s, l.now, l.stageTime(s.eviction))
	l.postpone(s)
}

// leave begins the end at this moment.
func (l *loop) leave(s *session, at Moment) {
	if s.opaque && at == MomentBoundary {
		at = MomentForced // nobody knows where packets end
	}
	s.eviction.moment = at
	s.state, s.end = stateClosing, s.eviction.end
	s.client.set(muted)
	l.enter(s, stopUp)
}

// giveUp ends the search for a good moment.
func (l *loop) giveUp(s *session) {
	switch {
	case s.eviction.Force:
		l.leave(s, MomentForced)
	case s.lost() || s.unanswered > 0:
		l.keep(s, KeptProtected)
	default:
		l.keep(s, KeptBusy)
	}
}

// keep ends an eviction that can still be ended, if there is one. The session goes on, or ends in another way.
func (l *loop) keep(s *session, why Kept) {
	e := s.eviction
	if e == nil || s.leaving() {
		return
	}
	s.eviction = nil
	l.timers.clear(s)
	l.watchSilence(s)
	l.postpone(s) // a direction that was held has something to read
	if e.kept != nil {
		e.kept(e.Eviction, why)
	}
}

// proceed looks whether the stage is over, after the session has had its turn.
func (l *loop) proceed(s *session) {
	switch s.eviction.stage {
	case awaitQuiet: // is for the clock to say
	case awaitBoundary:
		if s.betweenPackets() && s.backend.out == nil && s.unanswered <= 0 {
			l.leave(s, MomentBoundary)
		}
	case stopUp:
		if s.backend.has(finished) {
			l.enter(s, drainDown)
		}
	case drainDown, endDown:
		down := &s.backend.in
		switch {
		case s.client.has(finished):
			l.enter(s, goodbye)
		case s.backend.has(muted):
		case s.backend.has(broken) || s.eviction.stage == endDown && (down.AtBoundary() || down.Lost()):
			s.backend.set(muted) // nothing more comes, or must come: the client gets what is left, and FIN
			l.postpone(s)
		}
	case goodbye:
		if s.client.over() {
			l.finish(s, EndNone)
		}
	}
}

// outOfTime handles the deadline of a stage.
func (l *loop) outOfTime(s *session) {
	e := s.eviction
	switch e.stage {
	case awaitQuiet:
		switch {
		case s.lost():
			l.giveUp(s)
		case s.quiet():
			l.leave(s, MomentQuiet)
		case l.now >= e.until:
			l.enter(s, awaitBoundary)
		default:
			l.listen(s)
		}
	case awaitBoundary:
		l.giveUp(s)
	case stopUp:
		e.moment = MomentForced
		l.deafen(&s.backend)
		l.postpone(s)
	case drainDown:
		if s.client.has(broken | deaf) {
			l.finish(s, EndNone) // nobody is left to drain for
			return
		}
		l.enter(s, endDown)
	case endDown:
		e.moment = MomentForced
		l.finish(s, EndNone)
	case goodbye:
		l.finish(s, EndNone)
	}
}

// lost tells that what at least one side sends is not MQTT: nothing is known of packets any more.
func (s *session) lost() bool { return s.client.in.Lost() || s.backend.in.Lost() }

func (s *session) betweenPackets() bool { return s.client.in.AtBoundary() && s.backend.in.AtBoundary() }

// quiet tells that nothing is under way, and nothing has moved since listen.
func (s *session) quiet() bool {
	return s.betweenPackets() && s.client.out == nil && s.backend.out == nil && s.unanswered <= 0 &&
		mqttparse.Open(&s.client.in, &s.backend.in) == 0 && mqttparse.Open(&s.backend.in, &s.client.in) == 0 &&
		s.eviction.moved == [2]uint64{s.client.bytes, s.backend.bytes}
}

// delicate counts the packets with which a direction opens (up) or ends (down) what an eviction must not fall into:
// a subscription and an authentication. It counts those of all sessions of the loop; what a chunk adds is its own.
func delicate(d Direction, n *mqttparse.Counts) uint64 {
	if d == Up {
		return n[mqttparse.TypeSubscribe] + n[mqttparse.TypeAuth]
	}
	return n[mqttparse.TypeSuback] + n[mqttparse.TypeAuth]
}

// noteDelicate takes in how many of those packets have passed. An AUTH of the broker that comes first, as while the
// client gets in, is made up for by the client's answer.
func (s *session) noteDelicate(d Direction, n int16) {
	if d == Down {
		n = -n
	}
	s.unanswered += n
}

// room is what the next read of a direction may fill while the session is being evicted; nil if it must not read.
// Where a direction is to be held, a read takes no more than the rest of the packet that has begun: what is behind it
// stays in the socket and can still be delivered if the session goes on. But a side that is about to end by itself
// has its say.
func (l *loop) room(s *session, d Direction) []byte {
	src := s.from(d)
	held := s.eviction.stage == awaitBoundary || s.eviction.stage == endDown && d == Down
	if !held || src.has(erred|hungUp|muted) {
		return l.buffer
	}
	if src.in.AtBoundary() {
		return nil
	}
	if src.in.Lost() {
		return l.buffer
	}
	if src.layer != nil {
		return l.buffer[:min(src.in.Rest(), len(l.buffer))]
	}
	n, _ := recv(src.fd, l.buffer, unix.MSG_PEEK)
	if n <= 0 {
		return l.buffer // let the read find out why
	}
	return l.buffer[:restOfPacket(src.in, l.buffer[:n])]
}

// restOfPacket is how many of the bytes belong to the packet in which t stands.
func restOfPacket(t mqttparse.Tracker, bytes []byte) int {
	return sort.Search(len(bytes), func(n int) bool {
		t := t
		return t.Feed(bytes[:n], nil) > 0 || t.AtBoundary()
	})
}

// conclude ends a direction whose source has ended, once dst has taken everything: with FIN, and before it with what
// mqttlb says itself at the end of an eviction. It reports false while that is on its way.
func (l *loop) conclude(s *session, d Direction) bool {
	dst := s.to(d)
	if dst.has(finished) {
		return true
	}
	if s.leaving() && !s.eviction.said[d] && !dst.has(deaf|broken) {
		s.eviction.said[d] = true
		if words := l.lastWords(s, d); len(words) > 0 {
			l.write(s, dst, words)
			if dst.out != nil {
				return false
			}
		}
	}
	if !l.endLayer(s, dst) {
		return false
	}
	finishWriting(dst)
	return true
}

// lastWords are what mqttlb puts behind the last packet of a direction before it ends it; usually nothing. Nothing is
// ever put into a packet, before the broker has accepted the client, or behind a DISCONNECT; nor when one of the two
// does not speak MQTT: such a session is closed and no more.
func (l *loop) lastWords(s *session, d Direction) []byte {
	e := s.eviction
	if s.opaque || !s.accepts() || s.lost() || !s.from(d).in.AtBoundary() || s.client.in.Disconnected() || s.backend.in.Disconnected() {
		return nil
	}
	switch {
	case d == Up && e.Suppress && s.will == balancer.PromptWill:
		// A DelayedWill is better left alone: if the client comes again, it is not published, and if not, it should be.
		return mqttparse.AppendClientDisconnect(l.scratch[:0])
	case d == Down && e.Notify != 0 && s.version == 5:
		words := mqttparse.AppendDisconnect(l.scratch[:0], e.Notify, e.Text, s.maxPacket)
		if len(words) == 0 {
			words = mqttparse.AppendDisconnect(words, e.Notify, "", s.maxPacket)
		}
		return words
	}
	return nil
}
