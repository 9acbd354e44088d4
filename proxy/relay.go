package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	// readSize is the most that one read takes. Larger reads cost less CPU per byte; this is also the
	// most that a leg ever holds back for a peer that reads slowly.
	readSize = 128 << 10
	// layeredSize is that towards a leg with a layer, whose records and frames take some room of their own.
	layeredSize = readSize - 4<<10
	// turn is how much one session may move in one direction before the others get their turn.
	turn = 512 << 10
	// closeGrace bounds the life of a session of which one side has ended (protocol.md, I5).
	closeGrace = 5 * time.Second
)

// relay moves what can be moved in both directions, then looks whether the session has come to an end.
func (l *loop) relay(s *session) {
	l.pump(s, Up)
	l.pump(s, Down)
	if s.client.has(deaf) && s.client.has(readable) && s.refusal == "" {
		l.pump(s, Up) // the client broke while it was written to; its last words are still unread
	}
	l.settle(s)
	if s.eviction != nil {
		l.proceed(s)
	}
}

// pump carries bytes of one direction until the source has no more, the destination takes no more, or
// the session's turn is over.
func (l *loop) pump(s *session, d Direction) {
	src, dst := s.from(d), s.to(d)
	for moved := 0; ; {
		if dst.out != nil && !l.flush(dst) {
			return // backpressure: what dst does not take is not read from src
		}
		if src.has(ended|muted) && !l.conclude(s, d) {
			return
		}
		if !src.has(readable) || src.has(ended|broken) {
			return
		}
		if moved >= turn {
			l.postpone(s)
			return
		}
		room := l.buffer
		if dst.layer != nil {
			room = room[:layeredSize]
		}
		if s.eviction != nil {
			if room = l.room(s, d); room == nil {
				return // it stands between two packets and waits there for the other direction
			}
		}
		chunk := l.read(s, src, room)
		if len(chunk) == 0 {
			moved += turn / 8 // a layer may have read much for nobody but itself
			continue          // drained, ended or broken: the flags know
		}
		moved += len(chunk)
		if src.layer != nil {
			moved += turn / 8 // small records and frames are more work than their bytes tell
		}
		if d == Up && s.listener.PacketSize > 0 {
			if chunk = s.screen(chunk); len(chunk) == 0 {
				return
			}
		}
		l.follow(s, d, chunk)
		if !dst.has(deaf | finished) { // else nobody takes it any more; reading on shows how src ends
			l.write(s, dst, chunk)
			if d == Up {
				l.owe(s)
			}
		}
		if s.refusal != "" {
			return
		}
	}
}

// settle draws the conclusion from how the legs have ended.
//
// An orderly FIN is passed on after the bytes before it, and the other side has closeGrace to end as
// well. An RST is passed on as RST, so that the broker sees what the client did and decides about the
// will by it; it is never turned into an orderly end, nor the other way round. But when mqttlb itself has begun
// to end the session, each side gets the orderly end that it is in for, whatever the other does.
func (l *loop) settle(s *session) {
	switch {
	case s.refusal != "":
		l.finish(s, EndLimit)
	case s.leaving():
		if s.client.over() && s.backend.over() {
			l.finish(s, EndNone)
		}
	case s.client.has(broken):
		l.reset(s, &s.backend, EndClient)
	case s.backend.has(broken) && l.barred(s):
		l.refuse(s, EndDial, RefusedDialFailed)
	case s.backend.has(broken):
		l.reset(s, &s.client, EndBackend)
	case s.client.over() && s.backend.over():
		l.finish(s, EndNone)
	case s.state == stateRelaying && s.client.has(ended):
		l.beginClosing(s, EndClient)
	case s.state == stateRelaying && s.backend.has(ended):
		l.beginClosing(s, EndBackend)
	}
}

// beginClosing notes who ended the session and starts the clock for the other side.
func (l *loop) beginClosing(s *session, who End) {
	l.keep(s, KeptGone)
	s.state, s.end = stateClosing, who
	l.timers.set(s, l.now, closeGrace)
}

// reset ends the session after one leg broke: the other gets what is left for it, as far as it takes
// it at once, and RST.
func (l *loop) reset(s *session, other *leg, who End) {
	if other.out != nil {
		l.flush(other)
	}
	if other.has(open) && !other.has(ended) {
		l.poller.forget(other.fd)
		closeWithReset(other.fd)
		other.clear(open)
	}
	l.finish(s, who)
}

// read takes what the leg has, and room has room for, which is the loop's buffer or a part of it. An
// empty result means that there is nothing now, or never again; the flags tell which.
func (l *loop) read(s *session, g *leg, room []byte) []byte {
	var chunk []byte
	if g.layer != nil {
		chunk = g.layer.take(l, s, g, room)
	} else {
		chunk = l.recvRaw(g, room)
	}
	if len(chunk) > 0 {
		g.bytes += uint64(len(chunk))
		g.set(spoke)
	}
	return chunk
}

// recvRaw is read from the socket.
func (l *loop) recvRaw(g *leg, room []byte) []byte {
	n, errno := recv(g.fd, room, 0)
	switch {
	case n > 0:
		if n < len(room) && !g.has(erred|deaf) {
			// A short read has emptied the socket: with edge-triggered events the next bytes will
			// announce themselves, and an announced FIN is all that is left.
			g.clear(readable)
			if g.has(hungUp) {
				g.set(ended)
			}
		}
		return room[:n]
	case errno == unix.EAGAIN:
		g.clear(readable)
	case errno == 0 && !g.has(deaf):
		g.clear(readable)
		g.set(ended)
	default:
		// An error, or the end of a connection whose error a failed write has already consumed.
		g.clear(readable)
		if !g.has(ended) {
			g.set(broken)
		}
	}
	return nil
}

// write gives chunk to the leg and keeps what its socket refuses.
func (l *loop) write(s *session, g *leg, chunk []byte) {
	if g.layer != nil {
		g.layer.give(l, s, g, chunk)
		return
	}
	l.sendRaw(s, g, chunk)
}

// sendRaw is write to the socket. What waits for it already goes first.
func (l *loop) sendRaw(s *session, g *leg, chunk []byte) {
	if g.has(deaf) {
		return
	}
	if g.out != nil {
		g.out = l.pool.add(g.out, chunk)
		return
	}
	n, errno := send(g.fd, chunk)
	if n == len(chunk) {
		return
	}
	if errno != 0 && errno != unix.EAGAIN {
		l.deafen(g)
		return
	}
	g.out = l.pool.add(g.out, chunk[n:])
	g.clear(writable)
	l.watchWrites(s, g)
}

// flush writes what is pending for the leg, encoded if it has a layer. It reports whether nothing is pending any more.
func (l *loop) flush(g *leg) bool {
	if !g.has(writable) {
		return false
	}
	pending := g.out.bytes()
	n, errno := send(g.fd, pending)
	switch {
	case n == len(pending):
		l.pool.put(g.out)
		g.out = nil
	case errno == 0 || errno == unix.EAGAIN:
		g.out.from += n
		g.clear(writable)
	default:
		l.deafen(g)
	}
	return g.out == nil
}

// deafen notes that the leg takes nothing more. What it sent before it died is still worth reading,
// so the error does not end it here: reading on will.
func (l *loop) deafen(g *leg) {
	g.set(deaf | readable)
	l.pool.put(g.out)
	g.out = nil
}

// watchWrites asks the poller for writability, once in the life of a leg. Registering anew makes the
// kernel look again, so room that came free in between is not missed.
func (l *loop) watchWrites(s *session, g *leg) {
	if g.has(armed) {
		return
	}
	g.set(armed)
	_ = l.poller.change(g.fd, interestReadWrite, token(s.kindOf(g), s.generation, s.index))
}

// finishWriting sends FIN to the leg after the last byte for it. If the leg has ended as well, the session
// is over and closing the socket does the same.
func finishWriting(g *leg) {
	if !g.has(finished | deaf | ended) {
		shutdownWrite(g.fd)
	}
	g.set(finished)
}

// follow lets the trackers and counters see a chunk that has been read.
func (l *loop) follow(s *session, d Direction, chunk []byte) {
	if s.opaque {
		l.passOpaque(s, d, chunk)
		return
	}
	src, n := s.from(d), &l.packets[d]
	before, stood := delicate(d, n), src.in
	var begun uint64
	if s.target.Learn {
		begun = n.Subscribing()
	}
	src.packets += uint64(src.in.Feed(chunk, n))
	if after := delicate(d, n); after != before {
		s.noteDelicate(d, int16(after-before))
	}
	if s.target.Learn && (n.Subscribing() != begun || stood.Subscribing()) {
		l.inspect(s, d, stood, chunk)
	}
	l.bytes[d] += uint64(len(chunk))
	if d == Down && !s.answered {
		l.noteAnswer(s)
		l.noteAssigned(s, stood, chunk)
		if s.answered {
			l.noteKeepAlive(s, chunk)
		}
	}
}

// noteAnswer handles the broker's first bytes: it lives, and once CONNACK is complete the connection
// is established.
func (l *loop) noteAnswer(s *session) {
	if s.state == stateRelaying {
		l.timers.clear(s) // of the first byte
	}
	code, ok := s.backend.in.Connack()
	if !ok {
		return
	}
	s.answered = true
	l.observer.Answered(l.answer(s, s.target.Backend, code))
}

// answer tells of a CONNACK that has come from a backend just now.
func (l *loop) answer(s *session, b *Backend, code byte) Answer {
	return Answer{
		Listener: s.listener.Name,
		Cluster:  b.Cluster,
		Backend:  b.Name,
		ClientID: s.clientID,
		Code:     code,
		Version:  s.version,
		After:    time.Duration(l.now - s.accepted),
		Took:     time.Duration(l.now-s.accepted) - time.Duration(s.connected)*time.Microsecond,
	}
}
