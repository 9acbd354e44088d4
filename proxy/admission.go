package proxy

import (
	"hash/maphash"
	"sync/atomic"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// An admission is what all connections of a listener share, on all loops and whatever happens to the listener of that
// name: who is here and who wants to come in.
type admission struct {
	*gate
	contests contests
	routes   map[string]*gate // of its routes, by name; guarded by Proxy.mu
}

// A gate is what the connections of a listener, or of a route, share that are held to limits together.
type gate struct {
	open    atomic.Int64 // connections
	queue   *queue
	clients *clients
}

func newAdmission(loops int) *admission {
	return &admission{gate: newGate(loops), contests: contests{seed: maphash.MakeSeed()}, routes: make(map[string]*gate)}
}

func newGate(loops int) *gate { return &gate{queue: newQueue(loops), clients: newClients()} }

// consider decides about a client whose CONNECT is complete and parsed into l.connect: it is let in, waits, or is
// refused. opening is CONNECT and whatever the client has sent behind it already. (Of an opaque session it is the
// ClientHello, and l.connect is empty.)
func (l *loop) consider(s *session, opening []byte) {
	s.clientID = string(l.connect.ClientID)
	s.version = l.connect.Version
	ln := s.listener
	if !l.takeRoute(s) {
		l.refuseUnrouted(s)
		return
	}
	if !s.enterRoute() {
		l.turnAway(s, RefusedRouteConnections)
		return
	}
	if ln.PacketSize > 0 {
		if _, over := oversized(mqttparse.Tracker{}, opening[l.connect.Len:], ln.PacketSize); over {
			l.turnAway(s, RefusedPacketSize)
			return
		}
	}
	if s.clientID != "" {
		if ln.shared.contests.see(l.now, s.contested(), s.remote.Addr()) {
			l.observer.Contested(Contest{Listener: ln.Name, ClientID: s.clientID, Remote: s.remote})
		}
		if why := l.claim(s); why != "" {
			l.turnAway(s, why)
			return
		}
	}
	queue, rate := s.queue()
	if rate == 0 {
		l.admit(s, opening)
		return
	}
	passes, t := queue.enter(l.now, s.remote.Addr(), ticket{loop: l.id, index: s.index, generation: s.generation})
	switch {
	case passes:
		l.admit(s, opening)
	case t == nil:
		l.turnAway(s, RefusedConnectRate)
	default:
		l.wait(s, t, opening)
	}
}

// claim holds the client id to its limits.
func (l *loop) claim(s *session) Refusal {
	clients, rate, most := s.clients()
	if rate == 0 && most == 0 {
		return ""
	}
	why := clients.claim(l.now, s.clientID, rate, most)
	s.claimed = why == ""
	return why
}

// wait keeps a client in line. Nothing more is read from it, so that TCP holds back what it sends.
func (l *loop) wait(s *session, t *ticket, opening []byte) {
	queue := l.shared(s)
	if s.backend.out == nil && !l.hold(s, opening) {
		queue.leave(t)
		return
	}
	l.reading--
	s.state = stateWaiting
	l.tickets[s.index] = t
	l.waiting[queue]++
	l.timers.set(s, l.now, s.listener.ConnectWait)
	if l.admitAgain == 0 {
		l.admitAgain = l.now + admitPause
	}
	l.finishWaiting(s)
}

// shared is the queue of the session's listener, or of its route.
func (l *loop) shared(s *session) *queue {
	queue, _ := s.queue()
	return queue
}

// admitPause is how often a loop with waiting sessions asks who may pass.
const admitPause = int64(10 * time.Millisecond)

// admitWaiting lets those of the loop in whose turn it is.
func (l *loop) admitWaiting() {
	if l.admitAgain == 0 || l.now < l.admitAgain {
		return
	}
	for q := range l.waiting {
		l.verdicts = q.fetch(l.now, l.id, l.verdicts)
		l.carryOut(q)
	}
	l.admitAgain = 0
	if len(l.waiting) > 0 {
		l.admitAgain = l.now + admitPause
	}
}

// carryOut does what the queue has decided.
func (l *loop) carryOut(q *queue) {
	unused := 0
	for _, v := range l.verdicts {
		s := l.sessions.find(v.index, v.generation&generationMask)
		switch {
		case s == nil || s.state != stateWaiting:
			if v.passes {
				unused++
			}
		case !v.passes:
			l.turnAway(s, RefusedConnectRate)
		default:
			l.readmit(s)
		}
	}
	if unused > 0 {
		q.returned(unused)
	}
}

// readmit lets a client in that has waited.
func (l *loop) readmit(s *session) {
	l.timers.clear(s)
	opening := s.backend.out.bytes()
	if err := l.recall(s, opening); err != nil {
		l.refuse(s, EndLimit, RefusedConnectRate) // it was parsed once before it waited, so this cannot be
		return
	}
	l.admit(s, opening)
}

// finishWaiting handles events of a client that waits. One that has ended its connection, or its half of it, has
// given up.
func (l *loop) finishWaiting(s *session) {
	if s.client.has(hungUp | ended | erred) {
		l.finish(s, EndClient)
	}
}

// turnAway refuses a client that has sent its CONNECT, with CONNACK if that is wanted.
func (l *loop) turnAway(s *session, why Refusal) {
	if s.listener.RefuseWithConnack {
		if answer := mqttparse.AppendConnack(l.scratch[:0], s.version, connackFor(why)); len(answer) > 0 {
			l.say(s, answer)
		}
	}
	l.refuse(s, EndLimit, why)
}

// connackFor says what the client is told; it is a reason for MQTT 5, and as near as it gets for the others.
func connackFor(why Refusal) mqttparse.Refusal {
	if why == RefusedConnectRate || why == RefusedClientRate {
		return mqttparse.ConnectionRateExceeded
	}
	if why == RefusedClientConnections {
		return mqttparse.QuotaExceeded
	}
	if why == RefusedPacketSize {
		return mqttparse.PacketTooLarge
	}
	if why == RefusedNoRoute {
		return mqttparse.NotAuthorized
	}
	return mqttparse.ServerUnavailable
}

// leaveAdmission settles the accounts of a session that is let in, or ends.
func (l *loop) leaveAdmission(s *session) {
	switch s.state {
	case stateReading:
		l.reading--
	case stateWaiting:
		q := l.shared(s)
		q.leave(l.tickets[s.index])
		delete(l.tickets, s.index)
		if l.waiting[q]--; l.waiting[q] == 0 {
			delete(l.waiting, q)
		}
	case stateFree, stateDialing, stateAsking, stateRelaying, stateClosing:
		return
	}
	l.held -= heldBy(s)
}

// Waiting is the number of clients of each listener that have sent CONNECT and wait to be let in, by name.
func (p *Proxy) Waiting() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting := make(map[string]int, len(p.listeners))
	for _, ln := range p.listeners {
		waiting[ln.Name] = ln.shared.queue.length()
	}
	return waiting
}
