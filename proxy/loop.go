package proxy

import (
	"cmp"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A loop carries the bytes of its sessions. It is one goroutine that owns everything in this struct
// but the two groups at its end; no session is ever touched by anybody else.
type loop struct {
	id        int
	proxy     *Proxy
	observer  Observer
	log       *slog.Logger
	poller    *poller
	listeners []*acceptor
	reserve   int32 // a descriptor to spend when there is no other
	sessions  slab
	timers    *wheel
	pool      pool
	postponed []*session        // those whose turn was over before their bytes were
	buffer    []byte            // what read fills
	scratch   []byte            // where an opening is put together
	records   []byte            // of TLS, on their way to a socket
	frame     []byte            // where one of a WebSocket is; nil while there is none
	connect   mqttparse.Connect // the one that is being handled; valid as long as the bytes it was parsed from
	now       int64             // nanoseconds on the proxy's clock, read once per wake-up
	stopped   bool

	handedOver  int64 // when it last gave a new connection to another loop
	acceptAgain int64 // when a pause in accepting ends; 0 if there is none

	pending    []pendingName      // sessions without a CONNECT, the oldest first, and some that were
	reading    int                // how many those are without the some
	held       int                // bytes of memory that they hold, and those that wait
	waiting    map[*queue]int     // sessions that wait, by where
	tickets    map[uint32]*ticket // … and with what, by index
	admitAgain int64              // when to look whose turn it is; 0 if nobody waits
	verdicts   []verdict          // that are being carried out

	bytes    [2]uint64 // by Direction
	packets  [2]mqttparse.Counts
	dialled  uint32     // PROXY headers made, for their unique ids
	oddities [32]uint64 // CONNECTs with each deviation from the standard, by bit of mqttparse.Nonconforming
	trimmed  uint64     // PROXY headers from which something was left out

	naming map[uint32][]byte // of sessions, by index, whose CONNACK may tell their ids: what has come of it

	shaker   shaker // of TLS handshakes with clients
	upstream shaker // … and with backends

	debts debts // of those that have been sent something lately

	shares *mqttparse.Subscriptions // lent to sessions; nil while there is none

	// Other goroutines ask the loop to do something.
	mu       sync.Mutex
	commands []func(*loop)
	closed   bool // no command will be run any more

	load atomic.Int64 // sessions; other goroutines look
}

func newLoop(id int, p *Proxy) (*loop, error) {
	poller, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &loop{
		id: id, proxy: p, observer: p.observer, log: p.log, poller: poller, reserve: reserveDescriptor(),
		timers: newWheel(), buffer: make([]byte, readSize), scratch: make([]byte, 0, 4<<10), waiting: make(map[*queue]int), tickets: make(map[uint32]*ticket),
	}, nil
}

// run serves events until the loop is told to stop.
func (l *loop) run() {
	for !l.stopped {
		asleep := l.now
		events := l.await()
		l.now = l.proxy.clock()
		l.timers.excuse(asleep, l.now)
		for i := range events {
			l.dispatch(&events[i])
		}
		// A deadline yields to bytes that came in time. If the kernel may have more to tell, they come first.
		if len(events) < len(l.poller.events) || l.timers.overdue(l.now) > leniency {
			l.timers.expire(l.now, l.expired)
		}
		l.resumeAccepting()
		l.admitWaiting()
		l.retryHandshakes()
		l.lookAtDebts()
		l.resume()
	}
	l.close()
}

// await returns the next events; none if a session waits for its next turn and there is no other.
func (l *loop) await() []unix.EpollEvent {
	at, ok := l.timers.due()
	for _, again := range [...]int64{l.acceptAgain, l.admitAgain, l.shaker.again, l.upstream.again} {
		if again > 0 && (!ok || again < at) {
			at, ok = again, true
		}
	}
	if look, owed := l.debts.due(); owed && (!ok || look < at) {
		at, ok = look, true
	}
	if ok {
		l.poller.alarm(l.now, at)
	}
	if len(l.postponed) > 0 {
		return l.poller.peek()
	}
	return l.poller.wait(l.now)
}

func (l *loop) dispatch(e *unix.EpollEvent) {
	k, generation, index := untoken(eventToken(e))
	switch k {
	case kindWake:
		l.poller.acknowledge()
		l.runCommands()
	case kindClock:
		// Its work is done after the events: a deadline yields to bytes that came in time.
	case kindListener:
		l.acceptFrom(l.listeners[index])
	case kindClient:
		if s := l.sessions.find(index, generation); s != nil {
			s.client.note(e.Events)
			l.advance(s)
		}
	case kindBackend:
		if s := l.sessions.find(index, generation); s != nil && s.backend.has(open) {
			s.backend.note(e.Events)
			l.advance(s)
		}
	}
}

// note takes over what the kernel says about a leg.
func (g *leg) note(events uint32) {
	if events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		g.set(readable | incoming)
	}
	if events&unix.EPOLLOUT != 0 {
		g.set(writable)
	}
	if events&unix.EPOLLRDHUP != 0 {
		g.set(hungUp)
	}
	if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		g.set(erred | writable) // let the next call on the socket say what is wrong
	}
}

// advance gives a session that has news its chance to act on them.
func (l *loop) advance(s *session) {
	switch s.state {
	case stateReading:
		l.readEntry(s)
	case stateWaiting:
		l.finishWaiting(s)
	case stateDialing:
		l.finishDial(s)
	case stateAsking:
		l.ask(s)
	case stateRelaying, stateClosing:
		l.relay(s)
	case stateFree:
	}
}

// expired handles a deadline that has passed.
func (l *loop) expired(s *session) {
	if s.eviction != nil {
		l.outOfTime(s)
		return
	}
	switch s.state {
	case stateReading:
		if s.entry == entryRefused {
			l.finish(s, EndNone)
			return
		}
		l.refuse(s, EndTimeout, s.late())
	case stateWaiting:
		l.turnAway(s, RefusedConnectRate)
	case stateDialing:
		l.redial(s, TimedOut)
	case stateAsking, stateRelaying:
		if s.answered {
			l.checkSilence(s)
			return
		}
		l.refuse(s, EndTimeout, RefusedFirstByte)
	case stateClosing:
		l.finish(s, EndTimeout)
	case stateFree:
	}
}

// postpone gives the session another turn after all others had theirs.
func (l *loop) postpone(s *session) {
	if !s.queued {
		s.queued = true
		l.postponed = append(l.postponed, s)
	}
}

// resume gives those their turn that were postponed.
func (l *loop) resume() {
	if len(l.postponed) == 0 {
		return
	}
	waiting := l.postponed
	l.postponed = nil
	for _, s := range waiting {
		if s.queued { // a session that has ended meanwhile is not
			s.queued = false
			l.advance(s)
		}
	}
	if l.postponed == nil {
		l.postponed = waiting[:0] // keep the array
	}
}

// register makes the poller report a leg's events.
func (l *loop) register(s *session, g *leg, interest uint32) {
	if err := l.poller.add(g.fd, interest, token(s.kindOf(g), s.generation, s.index)); err != nil {
		l.log.Error("cannot watch a connection", slog.Any("error", err))
		g.set(broken)
	}
}

// refuse ends a session for a reason of mqttlb's own, unless it has been refused before and is only heard out.
func (l *loop) refuse(s *session, who End, why Refusal) {
	if s.end == EndNone {
		s.refusal = why
	}
	l.finish(s, who)
}

// finish ends a session: both connections are closed, the place is given back, the story is told, and
// the slot is free. who is EndNone when the session has noted before who ended it.
func (l *loop) finish(s *session, who End) {
	l.keep(s, KeptGone)
	if s.end == EndNone {
		s.end = who
	}
	l.timers.clear(s)
	l.abandonHandshake(s)
	l.abandonUpstream(s, nil)
	l.leaveAdmission(s)
	for _, g := range [...]*leg{&s.client, &s.backend} {
		if g.has(open) {
			l.hangUp(s, g)
		}
		l.pool.put(g.out)
		l.dropLayer(g)
	}
	l.forgetOpening(s)
	if s.target.Backend != nil {
		l.unlearn(s)
		l.part(s)
		s.placer().Release(s.placedID(), s.target, s.outcome())
	}
	l.observer.Ended(l.record(s))
	if s.claimed {
		clients, _, _ := s.clients()
		clients.release(l.now, s.clientID)
	}
	s.leaveRoute()
	s.listener.leave()
	l.proxy.open.Add(-1)
	l.load.Add(-1)
	l.sessions.give(s)
}

// hangUp closes a leg.
func (l *loop) hangUp(s *session, g *leg) {
	if g.out == nil {
		l.endLayer(s, g)
	}
	l.poller.forget(g.fd)
	closeSocket(g.fd)
}

// outcome is how the session used the place that it holds.
func (s *session) outcome() Outcome {
	code, answered := s.backend.in.Connack()
	switch {
	case s.end == EndEvicted:
		return Moved
	case s.end == EndRedirected:
		return Redirected
	case s.refusal == RefusedFirstByte:
		return Stalled
	case s.refusal == RefusedDialFailed: // which it has said only after CONNECT was sent, see upstream.go
		return TLSFailed
	case s.state == stateDialing:
		return ClientLeft
	case answered && code != 0:
		return Rejected
	}
	return Served
}

func (l *loop) record(s *session) Record {
	r := Record{
		Listener: s.listener.Name,
		Route:    s.routeName(),
		SNI:      s.sni(),
		Remote:   s.remote,
		Via:      s.via(),
		ClientID: s.clientID,
		Assigned: s.assigned,
		Version:  s.version,
		Target:   s.target,
		Attempts: int(s.attempts),
		Connack:  -1,
		Lasted:   time.Duration(l.now - s.accepted),
		Bytes:    [2]uint64{s.client.bytes, s.backend.bytes},
		Packets:  [2]uint64{s.client.packets, s.backend.packets},
		End:      s.end,
		Refusal:  s.refusal,
		Answered: s.opaque && s.answered,
	}
	if b := s.target.Backend; b != nil && b.Header != nil {
		r.UniqueID = cmp.Or(s.upstreamID(), b.Header.uniqueOf(uint32(l.id), s.sequence))
	}
	if code, ok := s.backend.in.Connack(); ok {
		r.Connack = int(code)
	}
	if s.end == EndRedirected {
		r.Connack = mqttparse.UseAnotherServer
	}
	if rejection := s.rejection(); rejection != nil && s.target.Backend == nil { // it was passed on in the end
		r.Target, r.Connack = rejection.target, int(rejection.code)
	}
	if s.eviction != nil {
		r.Moment = s.eviction.moment
	}
	return r
}

// do has the loop call f, soon. It reports false when the loop has ended and will not.
func (l *loop) do(f func(*loop)) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.commands = append(l.commands, f)
	l.poller.interrupt()
	return true
}

func (l *loop) runCommands() {
	l.mu.Lock()
	commands := l.commands
	l.commands = nil
	l.mu.Unlock()
	for _, f := range commands {
		f(l)
	}
}

// close gives everything back after the last round, once.
func (l *loop) close() {
	l.mu.Lock()
	again := l.closed
	l.mu.Unlock()
	if again {
		return // the descriptors' numbers may belong to others by now
	}
	l.stopListening()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.runCommands()
	for i := range uint32(len(l.sessions.chunks) * slabSize) {
		if s := l.sessions.at(i); s.state != stateFree {
			l.finish(s, EndShutdown)
		}
	}
	if l.reserve >= 0 {
		closeSocket(l.reserve)
	}
	l.poller.close()
}
