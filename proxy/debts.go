package proxy

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A broker under overload protection stops reading from clients that send too much, for as long as it sees fit. TCP
// tells that by a closed window, and the client has to wait. TCP_USER_TIMEOUT would take it for death: it also runs
// while the peer answers every probe of its closed window (tcp(7); with 2 s the connection is gone after 2.3 s). So
// whoever has been sent something is looked at again before that time is over, and as long as he lives and does not
// read, the timeout is off for him. A cut cable is found as before: what is in flight then is not answered.
//
// Clients get no such patience. One that does not read for clientUserTimeout is given up: what is kept for it in the
// kernel is memory that anybody could claim otherwise.

// Debts are who has been sent something lately, in the order in which they are to be looked at.
type debts struct {
	queue []debtor
	first int // of those that are still to come
	info  unix.TCPInfo
}

// A debtor is a session whose backend may not have acknowledged everything.
type debtor struct {
	index, generation uint32
	at                int64 // when to look, on the loop's clock
}

// looksPerTimeout is how often a leg is looked at within its user timeout. Once would do if nothing were ever late.
const looksPerTimeout = 3

// owe notes that the backend of s has been sent something.
func (l *loop) owe(s *session) {
	if s.backend.has(watched) {
		return
	}
	s.backend.set(watched)
	l.lookLater(s)
}

func (l *loop) lookLater(s *session) {
	l.debts.queue = append(l.debts.queue, debtor{s.index, s.generation & generationMask, l.now + int64(l.proxy.userTimeout)/looksPerTimeout})
}

// due is when somebody is to be looked at next; false if nobody is.
func (b *debts) due() (at int64, ok bool) {
	if b.first == len(b.queue) {
		return 0, false
	}
	return b.queue[b.first].at, true
}

// next takes the first debtor whose time has come.
func (b *debts) next(now int64) (debtor, bool) {
	if at, ok := b.due(); !ok || at > now {
		return debtor{}, false
	}
	d := b.queue[b.first]
	b.first++
	if b.first > len(b.queue)/2 { // each is moved once at most, on average
		b.queue = b.queue[:copy(b.queue, b.queue[b.first:])]
		b.first = 0
	}
	return d, true
}

// looksPerRound bounds how many legs are looked at before the others get their turn.
const looksPerRound = 256

// lookAtDebts looks at the legs whose time has come.
func (l *loop) lookAtDebts() {
	for range looksPerRound {
		d, ok := l.debts.next(l.now)
		if !ok {
			return
		}
		if s := l.sessions.find(d.index, d.generation); s != nil && s.backend.has(open) && s.backend.has(watched) {
			l.look(s)
		}
	}
}

// look decides whether the backend of s gets patience.
func (l *loop) look(s *session) {
	g, i := &s.backend, &l.debts.info
	if !tcpInfo(g.fd, i) {
		g.clear(watched)
		return
	}
	switch waits := waitsForReader(i); {
	case waits && !g.has(patient):
		g.set(patient)
		setUserTimeout(int(g.fd), 0)
	case !waits && g.has(patient):
		g.clear(patient)
		setUserTimeout(int(g.fd), l.proxy.userTimeout)
	}
	if i.Unacked == 0 && i.Notsent_bytes == 0 {
		g.clear(watched) // it has everything
		return
	}
	l.lookLater(s)
}

// waitsForReader tells that bytes wait for nothing but the peer's window, and that the peer lives: it has answered
// the probes of its window, but perhaps for the last one, which may be on its way.
func waitsForReader(i *unix.TCPInfo) bool {
	return i.Unacked == 0 && i.Notsent_bytes > 0 && i.Probes <= 1
}

// tcpInfo fills in what the kernel knows about a connection.
func tcpInfo(fd int32, i *unix.TCPInfo) bool {
	*i = unix.TCPInfo{} // an older kernel knows less
	size := uint32(unsafe.Sizeof(*i))
	_, _, errno := syscall.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(unsafe.Pointer(i)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0
}
