package proxy

import (
	"cmp"
	"crypto/tls"
	"slices"
	"time"
)

// A shaker is what a loop knows of the handshakes of its sessions with their clients, or with their backends.
type shaker struct {
	under []*handshake  // way, in the order in which they began
	queue []pendingName // sessions that could begin theirs and for which there was no room, the oldest first
	again int64         // when to look whether there is; 0 if nobody waits
}

// shakerOf returns the one for handshakes with these peers. Each has its own room: brokers that stall keep no client
// from its handshake, and the other way round.
func (l *loop) shakerOf(leg kind) *shaker {
	if leg == kindBackend {
		return &l.upstream
	}
	return &l.shaker
}

const (
	// mostHandshakes bounds the handshakes with clients that are under way on all loops together, for their memory: some
	// 30 KB each. There may be as many with backends.
	mostHandshakes = 2048
	// stalled is how long a peer may keep its handshake waiting when others want its place.
	stalled = int64(time.Second)
	// shakerPause is how often a loop whose places for handshakes are taken looks for one that stalls.
	shakerPause = int64(100 * time.Millisecond)
)

// beginHandshake begins the handshake of a client whose ClientHello is complete and held, or has it wait for its turn.
func (l *loop) beginHandshake(s *session) {
	l.timers.set(s, l.now, min(l.connectTimeLeft(s), s.listener.handshakeTimeout))
	l.queueHandshake(s, kindClient)
}

func (l *loop) queueHandshake(s *session, leg kind) {
	k := l.shakerOf(leg)
	k.queue = append(k.queue, pendingName{s.index, s.generation})
	if leg == kindBackend && len(k.under) >= l.proxy.handshakesPerLoop {
		k.again = cmp.Or(k.again, l.now+shakerPause) // a deadline may have led here, which must leave other sessions alone
		return
	}
	l.startHandshakes(leg)
}

// connectTimeLeft is what is left of the time within which CONNECT must be complete.
func (l *loop) connectTimeLeft(s *session) time.Duration {
	return max(s.listener.ConnectTimeout-time.Duration(l.now-s.accepted), 0)
}

// startHandshakes starts those whose turn it is. If there is no room, one whose peer stalls gives way.
func (l *loop) startHandshakes(leg kind) {
	k := l.shakerOf(leg)
	for len(k.queue) > 0 {
		s := l.queuedFor(k.queue[0], leg)
		if s != nil && len(k.under) >= l.proxy.handshakesPerLoop {
			shed := leg == kindClient || l.now >= k.again // who is passed over may want a place at the next backend at once
			k.again = l.now + shakerPause
			if shed {
				l.shedStalled(k)
			}
			return
		}
		k.queue = k.queue[1:]
		switch {
		case s == nil:
		case leg == kindBackend:
			l.startUpstream(s)
		default:
			l.startHandshake(s)
		}
	}
	k.queue, k.again = nil, 0
}

// queuedFor returns the session if it still waits for its handshake to begin.
func (l *loop) queuedFor(n pendingName, leg kind) *session {
	if leg == kindBackend {
		if s := l.sessions.find(n.index, n.generation&generationMask); s != nil && s.backend.has(shaking) && s.backend.layer == nil {
			return s
		}
		return nil
	}
	return l.named(n)
}

// retryHandshakes is startHandshakes when it is time to look again.
func (l *loop) retryHandshakes() {
	for _, leg := range [...]kind{kindClient, kindBackend} {
		if again := l.shakerOf(leg).again; again > 0 && l.now >= again {
			l.startHandshakes(leg)
		}
	}
}

// shedStalled ends the oldest handshake whose peer has kept it waiting for long. Its place is free a moment later.
func (l *loop) shedStalled(k *shaker) {
	for _, h := range k.under {
		waits := h.waits.Load()
		if s := l.handshaking(h); s != nil && waits > 0 && l.now-waits >= stalled {
			if h.leg == kindBackend {
				l.redial(s, TimedOut)
			} else {
				l.refuse(s, EndLimit, RefusedTLSStalled)
			}
			return
		}
	}
}

func (l *loop) startHandshake(s *session) {
	h := l.newHandshake(s, kindClient, s.listener.handshakes)
	h.collected = shortRecords(s.backend.out.bytes())
	l.unhold(s)
	t := &tlsLayer{socket: transport{handshake: h}}
	t.conn = tls.Server(&t.socket, s.listener.TLS.Config())
	l.runHandshake(s, h, t)
}

func (l *loop) newHandshake(s *session, leg kind, tokens chan struct{}) *handshake {
	return &handshake{
		loop: l, fd: s.legOf(leg).fd, name: pendingName{s.index, s.generation}, leg: leg, tokens: tokens, began: l.now,
		news: make(chan struct{}, 1), cancelled: make(chan struct{}),
	}
}

func (l *loop) runHandshake(s *session, h *handshake, t *tlsLayer) {
	h.layer = t
	s.legOf(h.leg).layer = t
	k := l.shakerOf(h.leg)
	k.under = append(k.under, h)
	l.proxy.running.Go(h.run)
}

// handshaking returns the session that waits for this handshake, nil if nobody does.
func (l *loop) handshaking(h *handshake) *session {
	s := l.sessions.find(h.name.index, h.name.generation&generationMask)
	if s != nil && s.legOf(h.leg).layer == layer(h.layer) {
		return s
	}
	return nil
}

// followHandshake tells the handshake of an event. A client that leaves before it has begun spares us the work.
func (l *loop) followHandshake(s *session) {
	if t, under := s.client.layer.(*tlsLayer); under {
		t.socket.handshake.tell()
	} else if s.client.has(hungUp | erred) {
		l.leaveEarly(s)
	}
}

// abandonHandshake is for a session that ends while its handshake is under way, if it is. The descriptor must not be
// closed while the handshake uses it; endHandshake will.
func (l *loop) abandonHandshake(s *session) {
	if s.state != stateReading || s.entry != entryHandshake || s.client.layer == nil {
		return
	}
	h := l.callOff(&s.client)
	l.tellHandshake(s, h, cmp.Or(s.refusal, RefusedShutdown))
}

// callOff ends the handshake of a leg, whose socket is not the leg's any more.
func (l *loop) callOff(g *leg) *handshake {
	h := g.layer.(*tlsLayer).socket.handshake
	g.layer = nil
	g.clear(open)
	close(h.cancelled)
	l.poller.forget(h.fd)
	return h
}

// endHandshake takes over from a handshake that has ended in one way or another.
func (l *loop) endHandshake(h *handshake, err error) {
	k := l.shakerOf(h.leg)
	if i := slices.Index(k.under, h); i >= 0 {
		k.under = slices.Delete(k.under, i, i+1)
	}
	switch s := l.handshaking(h); {
	case s == nil:
		l.poller.forget(h.fd)
		closeSocket(h.fd)
	case h.leg == kindBackend:
		l.endUpstream(s, h, err)
	case err != nil:
		s.client.layer = nil
		who, why := handshakeFailure(err)
		l.tellHandshake(s, h, why)
		l.hearOut(s, who, why)
	default:
		l.tellHandshake(s, h, "")
		state := h.layer.conn.ConnectionState()
		s.security = securityOf(&state)
		h.layer.park(l, &s.client)
		l.timers.set(s, l.now, l.connectTimeLeft(s))
		l.held += securedBytes
		if l.makeRoom(s) {
			l.nextEntry(s)
		}
	}
	l.startHandshakes(h.leg)
}

func (l *loop) tellHandshake(s *session, h *handshake, why Refusal) {
	state := Handshake{Listener: s.listener.Name, Refusal: why, Took: time.Duration(l.now - h.began)}
	if why == "" {
		c := h.layer.conn.ConnectionState()
		state.Version, state.Resumed = c.Version, c.DidResume
	}
	l.observer.Handshook(state)
}
