package proxy

// Before its CONNECT is complete, nobody knows who a client is, and whether it is one. What such connections may use
// is bounded (protocol.md, 2.4). When that is used up, the oldest of them gives way: a client sends CONNECT within
// milliseconds, and who has not done so for longest is the least likely to be one.
const (
	// pendingShare is the part of all sessions that may be without a CONNECT, 1 in so many.
	pendingShare = 10
	// pendingMost and pendingLeast bound that number.
	pendingMost, pendingLeast = 20_000, 64
	// pendingBytes bounds the memory for incomplete CONNECTs and for complete ones that wait.
	pendingBytes = 64 << 20
	// securedBytes is what crypto/tls holds of a client whose handshake is done, with a record that is not complete.
	securedBytes = 16 << 10
)

// A pendingName names a session that was reading once.
type pendingName struct{ index, generation uint32 }

// pendingLimit is how many sessions of one loop may be without a CONNECT.
func pendingLimit(sessions int64, loops int) int {
	all := max(min(sessions/pendingShare, pendingMost), pendingLeast)
	return int(max(all/int64(loops), 1))
}

// beginReading counts a new session as one without a CONNECT. The oldest such goes if there are too many.
func (l *loop) beginReading(s *session) {
	l.reading++
	if l.reading > l.proxy.pendingPerLoop {
		l.shedOldest(RefusedPendingConnections)
	}
	if len(l.pending) >= 2*l.reading+pendingLeast {
		l.forgetSettled()
	}
	l.pending = append(l.pending, pendingName{s.index, s.generation})
}

// shedOldest ends the session that has been without a CONNECT for longest.
func (l *loop) shedOldest(why Refusal) {
	for i, name := range l.pending {
		if s := l.named(name); s != nil {
			l.pending = l.pending[i+1:]
			l.refuse(s, EndLimit, why)
			return
		}
	}
	l.pending = l.pending[:0]
}

// forgetSettled drops the names of sessions that are further by now, or have ended.
func (l *loop) forgetSettled() {
	kept := l.pending[:0]
	for _, name := range l.pending {
		if l.named(name) != nil {
			kept = append(kept, name)
		}
	}
	l.pending = kept
}

// named returns the session if it is still without a CONNECT.
func (l *loop) named(n pendingName) *session {
	if s := l.sessions.find(n.index, n.generation&generationMask); s != nil && s.state == stateReading {
		return s
	}
	return nil
}

// hold keeps bytes of a session that cannot go anywhere yet. If that needs more memory than there may be, the oldest
// sessions without a CONNECT end for it; it reports false if this one is among them.
func (l *loop) hold(s *session, chunk []byte) bool {
	l.held -= heldBy(s)
	s.backend.out = l.pool.add(s.backend.out, chunk)
	l.held += heldBy(s)
	return l.makeRoom(s)
}

// makeRoom ends the oldest sessions without a CONNECT as long as too much is held; false if this one is among them.
func (l *loop) makeRoom(s *session) bool {
	for l.held > pendingBytes/len(l.proxy.loops) {
		l.shedOldest(RefusedPendingBytes)
		if s.state == stateFree {
			return false
		}
	}
	return true
}

// unhold gives back what is held of a session.
func (l *loop) unhold(s *session) {
	l.held -= heldBy(s)
	l.pool.put(s.backend.out)
	s.backend.out = nil
	l.held += heldBy(s)
}

// heldBy is the memory that a session without a place holds.
func heldBy(s *session) int {
	held := 0
	if s.backend.out != nil {
		held = cap(s.backend.out.data)
	}
	if s.security != nil && !s.opaque {
		held += securedBytes
	}
	return held
}
