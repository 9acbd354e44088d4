//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A swarm is thousands of clients that come again by themselves whenever they are cut. One goroutine serves them
// all: the race detector does not bear as many goroutines as there are clients. It notes what happens to whom.
type swarm struct {
	t     *testing.T
	to    *unix.SockaddrInet4
	delay func() time.Duration // from the end of a connection until the client comes again
	poll  int
	ended chan struct{}

	mu      sync.Mutex
	members []*member
	waiting []*member // who is to come, at once or later
	here    int       // who has its CONNACK
	coming  int       // who is on the way for the first time
	refused int       // connections that ended before CONNACK
	backs   int       // how often somebody has come again
	notes   []note
	ending  bool
	buffer  []byte
}

// A member is one client of a swarm.
type member struct {
	id       string
	opening  []byte // CONNECT
	wish     []byte // what it sends after CONNACK, such as SUBSCRIBE
	number   int
	fd       int // -1 while it has no connection
	stage    stage
	due      time.Time
	was      bool   // it has been here before
	heard    []byte // of the packet that has begun, until CONNACK is there
	received int    // bytes after CONNACK, of this connection
}

// A stage is how far a member has come.
type stage uint8

const (
	absent stage = iota
	dialling
	asking  // CONNECT is sent
	present // CONNACK is there
)

// manners are how a swarm behaves.
type manners struct {
	prefix string                    // of client ids
	named  []string                  // client ids, in place of prefix and number
	wish   func(version byte) []byte // what each sends after CONNACK, such as SUBSCRIBE; nil is nothing
	delay  func() time.Duration      // until a client that was cut comes again; nil is 0 to 200 ms
}

// atOnce is the delay of clients that come again as fast as they can, as those of paho for Go do.
func atOnce() time.Duration { return 0 }

// atFirst bounds how many members of a swarm come for the first time at once.
const atFirst = 200

// swarmOf connects n clients, half of them with MQTT 3.1.1 and half with MQTT 5, and waits until they are here.
func swarmOf(t *testing.T, l *lb, n int, m manners) *swarm {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp4", l.address)
	if err != nil {
		t.Fatal(err)
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	s := &swarm{
		t: t, to: &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}, delay: m.delay,
		poll: poll, ended: make(chan struct{}), buffer: make([]byte, 4096),
	}
	if s.delay == nil {
		s.delay = unhurried()
	}
	for i := range n {
		o := opening{id: m.prefix + "-" + strconv.Itoa(i), version: byte(v311 + i%2)}
		if m.named != nil {
			o.id = m.named[i]
		}
		c := &member{id: o.id, opening: o.bytes(), number: i, fd: -1}
		if m.wish != nil {
			c.wish = m.wish(o.version)
		}
		s.members, s.waiting = append(s.members, c), append(s.waiting, c)
	}
	go s.run()
	t.Cleanup(s.end)
	inTime(t, 2*patience, fmt.Sprintf("%d clients are here", n), func() bool { return s.present() == n })
	return s
}

// inTime is eventually for what takes long: it does not ask so often.
func inTime(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	eventually(t, within, what, func() bool {
		if holds() {
			return true
		}
		time.Sleep(100 * time.Millisecond)
		return false
	})
}

// unhurried are delays from 0 to 200 ms, the same in every run.
func unhurried() func() time.Duration {
	n := 0
	return func() time.Duration {
		n += 7919
		return time.Duration(n%201) * time.Millisecond
	}
}

func (s *swarm) run() {
	defer close(s.ended)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.poll, events, s.patience())
		if err != nil && !errors.Is(err, unix.EINTR) {
			s.t.Errorf("wait for the clients: %v", err)
			return
		}
		if !s.turn(events[:max(n, 0)]) {
			return
		}
	}
}

// patience is for how many milliseconds nobody wants to do anything by itself.
func (s *swarm) patience() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		return 5
	}
	return 50 // until it is looked whether all is over
}

func (s *swarm) turn(events []unix.EpollEvent) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		for _, m := range s.members {
			s.drop(m)
		}
		unix.Close(s.poll)
		return false
	}
	for i := range events {
		s.attend(s.members[events[i].Fd])
	}
	now := time.Now()
	waiting := s.waiting
	s.waiting = nil
	for _, m := range waiting {
		switch {
		case now.Before(m.due) || !m.was && s.coming >= atFirst:
			s.waiting = append(s.waiting, m)
		default:
			s.dial(m)
		}
	}
	return true
}

func (s *swarm) dial(m *member) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		s.t.Errorf("client %s has no socket: %v", m.id, err)
		m.due = time.Now().Add(time.Second)
		s.waiting = append(s.waiting, m)
		return
	}
	m.fd, m.stage, m.heard, m.received = fd, dialling, m.heard[:0], 0
	if !m.was {
		s.coming++
	}
	if err := unix.Connect(fd, s.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		s.lose(m, torn)
		return
	}
	s.watch(m, unix.EPOLL_CTL_ADD, unix.EPOLLOUT)
}

func (s *swarm) watch(m *member, how int, what uint32) {
	if err := unix.EpollCtl(s.poll, how, m.fd, &unix.EpollEvent{Events: what, Fd: int32(m.number)}); err != nil {
		s.t.Errorf("watch the socket of client %s: %v", m.id, err)
	}
}

// attend does what a member's socket is ready for.
func (s *swarm) attend(m *member) {
	switch m.stage {
	case dialling:
		if code, err := unix.GetsockoptInt(m.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			s.lose(m, torn)
			return
		}
		s.note(m, knocks)
		if _, err := unix.Write(m.fd, m.opening); err != nil {
			s.lose(m, torn)
			return
		}
		m.stage = asking
		s.watch(m, unix.EPOLL_CTL_MOD, unix.EPOLLIN)
	case asking, present:
		s.listen(m)
	case absent:
	}
}

func (s *swarm) listen(m *member) {
	for {
		n, err := unix.Read(m.fd, s.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			s.lose(m, torn)
			return
		case n == 0:
			s.lose(m, cut)
			return
		case m.stage == present:
			m.received += n
		default:
			s.answered(m, s.buffer[:n])
		}
	}
}

// answered takes in a part of CONNACK, or all of it and what follows.
func (s *swarm) answered(m *member, b []byte) {
	m.heard = append(m.heard, b...)
	size := whole(m.heard)
	if size == 0 {
		return
	}
	if m.heard[0] != 0x20 || m.heard[3] != 0 {
		s.t.Errorf("client %s got %x instead of an accepting CONNACK", m.id, m.heard)
	}
	m.received = len(m.heard) - size
	m.stage = present
	s.here++
	if m.was {
		s.backs++
		s.note(m, back)
	} else {
		s.coming--
	}
	m.was = true
	if len(m.wish) > 0 {
		_, _ = unix.Write(m.fd, m.wish) // whoever has closed meanwhile tells the next Read
	}
}

// whole is the size of the packet that b begins with, 0 if it is not all there.
func whole(b []byte) int {
	size, shift := 0, 0
	for i := 1; i < len(b) && i < 5; i++ {
		size |= int(b[i]&0x7f) << shift
		shift += 7
		if b[i]&0x80 == 0 {
			if size += i + 1; size <= len(b) {
				return size
			}
			return 0
		}
	}
	return 0
}

// lose notes the end of a connection that the client did not want.
func (s *swarm) lose(m *member, how happening) {
	was := m.stage
	s.drop(m)
	now := time.Now()
	m.stage, m.due = absent, now.Add(s.delay())
	if was == present {
		s.note(m, how)
		s.here--
	} else {
		s.refused++
		m.due = now.Add(100 * time.Millisecond) // even the hastiest pauses when it is not let in
		if !m.was {
			s.coming--
		}
	}
	s.waiting = append(s.waiting, m)
}

func (s *swarm) drop(m *member) {
	if m.fd >= 0 {
		hangUp(s.poll, m.fd)
		m.fd = -1
	}
}

// end disconnects all clients.
func (s *swarm) end() {
	s.mu.Lock()
	s.ending = true
	s.mu.Unlock()
	<-s.ended
}

// present is how many clients have their CONNACK.
func (s *swarm) present() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.here
}

// returns is how often a client has come again.
func (s *swarm) returns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backs
}

// again makes all clients disconnect and come again.
func (s *swarm) again() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.members {
		if m.stage == present {
			s.drop(m)
			s.here--
			m.stage, m.due = absent, time.Now().Add(s.delay())
			s.waiting = append(s.waiting, m)
		}
	}
}

// stay makes clients that are cut from now on stay away.
func (s *swarm) stay() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = func() time.Duration { return time.Hour }
}
