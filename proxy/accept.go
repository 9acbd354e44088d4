package proxy

import (
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// acceptBatch bounds the connections taken in one go, so that a storm of new clients does not keep
// those that are here waiting.
const acceptBatch = 16

// An acceptor is one loop's socket of a listener. Every loop has its own, and the kernel spreads the
// connections over them (SO_REUSEPORT).
type acceptor struct {
	fd       int32
	listener *listener
}

// acceptFrom takes the connections that wait on a listening socket.
func (l *loop) acceptFrom(a *acceptor) {
	for range acceptBatch {
		if a.fd < 0 {
			return // closed by a command of this very round
		}
		fd, remote, errno := accept(a.fd)
		switch errno {
		case 0:
			l.welcome(a.listener, fd, remote)
		case unix.EAGAIN:
			return
		case unix.EMFILE, unix.ENFILE:
			if !l.shedWithReserve(a) {
				l.pauseAccepting()
				return
			}
		default:
			// ECONNABORTED and its like concern that one connection, which is gone.
		}
	}
}

// welcome decides about a new connection: it is shed when a limit is reached, else it becomes a session
// of this loop or of a lighter one.
func (l *loop) welcome(ln *listener, fd int32, remote netip.AddrPort) {
	if why := l.proxy.reserveSession(ln); why != "" {
		closeSocket(fd)
		l.observer.Shed(ln.Name, why)
		return
	}
	if to := l.lighter(); to != l {
		to.load.Add(1)
		if to.do(func(to *loop) { to.open(ln, fd, remote) }) {
			return
		}
		to.load.Add(-1)
	}
	l.load.Add(1)
	l.open(ln, fd, remote)
}

// handOverPause bounds how often a loop hands connections over: in a storm of short ones the other loop's
// wake-ups would cost more than the balance is worth, and over many the kernel's chance is even anyway.
const handOverPause = int64(2 * time.Millisecond)

// lighter returns the loop that should take the next connection. The kernel spreads by chance; a few heavy
// connections would otherwise share one core half of the time.
func (l *loop) lighter() *loop {
	if l.now-l.handedOver < handOverPause {
		return l
	}
	to := l.proxy.lightest(l)
	if to != l {
		l.handedOver = l.now
	}
	return to
}

// open starts a session. Its slot in the limits is reserved already.
func (l *loop) open(ln *listener, fd int32, remote netip.AddrPort) {
	s := l.sessions.take()
	s.state = stateReading
	s.listener = ln
	s.remote = remote
	s.accepted = l.now
	s.client.fd = fd
	s.client.is = open | readable | writable // readable: the bytes are usually there already
	l.register(s, &s.client, interestRead)
	l.timers.set(s, l.now, ln.ConnectTimeout)
	if ln.Trusted != nil && !l.trusts(s) {
		return
	}
	l.beginReading(s)
	l.nextEntry(s)
}

// shedWithReserve gets rid of one waiting connection when the process has no descriptor left: without
// it, the listening socket would stay ready for ever and the loop would spin. It reports false when
// not even that works.
func (l *loop) shedWithReserve(a *acceptor) bool {
	if l.reserve < 0 {
		l.reserve = reserveDescriptor()
		return false
	}
	closeSocket(l.reserve)
	fd, _, errno := accept(a.fd)
	if errno == 0 {
		closeSocket(fd)
		l.observer.Shed(a.listener.Name, RefusedDescriptors)
	}
	l.reserve = reserveDescriptor()
	return errno == 0
}

// acceptPause is how long a loop does not listen after it could neither take nor shed a connection.
const acceptPause = 100 * time.Millisecond

// pauseAccepting leaves the connections in the kernel's queue for a moment: a listening socket that nobody
// can serve stays ready, and the loop would do nothing but try.
func (l *loop) pauseAccepting() {
	l.acceptAgain = l.now + int64(acceptPause)
	l.watchListeners(0)
}

// resumeAccepting listens again when the pause is over.
func (l *loop) resumeAccepting() {
	if l.acceptAgain == 0 || l.now < l.acceptAgain {
		return
	}
	l.acceptAgain = 0
	l.watchListeners(unix.EPOLLIN)
}

func (l *loop) watchListeners(interest uint32) {
	for i, a := range l.listeners {
		if a.fd >= 0 {
			_ = l.poller.change(a.fd, interest, token(kindListener, 0, uint32(i)))
		}
	}
}

// reserveDescriptor opens a descriptor whose only use is to be closed; -1 if there is none.
func reserveDescriptor() int32 {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return int32(fd)
}

// listenOn makes this loop accept connections for a listener.
func (l *loop) listenOn(ln *listener, fd int32) error {
	a := &acceptor{fd: fd, listener: ln}
	index := slices.IndexFunc(l.listeners, func(a *acceptor) bool { return a.fd < 0 })
	if index < 0 {
		index = len(l.listeners)
		l.listeners = append(l.listeners, a)
	}
	interest := uint32(unix.EPOLLIN)
	if l.acceptAgain > 0 {
		interest = 0 // resumeAccepting will set it
	}
	if err := l.poller.add(fd, interest, token(kindListener, 0, uint32(index))); err != nil {
		return err
	}
	l.listeners[index] = a
	return nil
}

// stopListening closes the listening sockets.
func (l *loop) stopListening() {
	for _, a := range l.listeners {
		l.stopListeningOn(a)
	}
}

// stopListeningOn closes a listening socket. Connections that wait in its queue are taken first: closing would
// reset them.
func (l *loop) stopListeningOn(a *acceptor) {
	if a.fd < 0 {
		return
	}
	for {
		fd, remote, errno := accept(a.fd)
		if errno != 0 {
			break
		}
		l.welcome(a.listener, fd, remote)
	}
	l.poller.remove(a.fd)
	closeSocket(a.fd)
	a.fd = -1
}
