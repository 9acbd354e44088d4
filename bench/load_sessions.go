package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// stallLimit is how long a load may go without an answer before it counts as stuck.
const stallLimit = 5 * time.Second

var (
	errSessionEnded = errors.New("a session was ended by the other side")
	errStalled      = fmt.Errorf("no answer for %v", stallLimit)
	errBlocked      = errors.New("a message did not fit into an idle connection's socket buffer")
)

// A clock tells the time since it was started. It is cheaper than time.Now, which also reads the time of day.
type clock struct{ start time.Time }

func startClock() clock { return clock{time.Now()} }

func (c clock) now() time.Duration { return time.Since(c.start) }

// sessions are established MQTT connections with one message and one read buffer for all of them.
type sessions struct {
	poller  *poller
	fds     []int
	message message
	split   *splitter
	in      []byte
	clock   clock
}

func openSessions(c loadConfig) (*sessions, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	fds, err := newDialer(p, c.target, c.level).establish(nil, c.connections)
	if err != nil {
		return nil, err
	}
	m := newMessage(c.level, c.payload)
	return &sessions{
		poller:  p,
		fds:     fds,
		message: m,
		split:   newSplitter(len(fds), len(m.bytes)),
		in:      make([]byte, max(64<<10, 2*len(m.bytes))),
		clock:   startClock(),
	}, nil
}

func (s *sessions) close() {
	closeAll(s.fds)
	s.poller.close()
}

// send sends session i's next message, which counts from the time at.
func (s *sessions) send(i int, at time.Duration) error {
	s.message.stamp(at, i)
	n, errno := send(s.fds[i], s.message.bytes)
	switch {
	case errno == unix.EAGAIN || errno == 0 && n < len(s.message.bytes):
		return errBlocked
	case errno != 0:
		return fmt.Errorf("send: %w", errno)
	}
	return nil
}

// receive reads what session i has; nothing is no error.
func (s *sessions) receive(i int) ([]byte, error) {
	n, errno := recv(s.fds[i], s.in)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return nil, nil
	case errno != 0:
		return nil, fmt.Errorf("receive: %w", errno)
	case n == 0:
		return nil, errSessionEnded
	}
	return s.in[:n], nil
}

// A window is the measured part of a load: it opens after the warm-up and closes when its time is over.
type window struct {
	meter    meter
	clock    clock
	opensAt  time.Duration
	duration time.Duration

	open, closed bool
	start, end   reading
	openedAt     time.Duration // on the clock, after the readings were taken
}

func newWindow(c loadConfig, clock clock) *window {
	return &window{meter: c.meter, clock: clock, opensAt: clock.now() + c.warmup, duration: c.duration}
}

// step takes the readings that are due at now.
func (w *window) step(now time.Duration) (err error) {
	switch {
	case !w.open && now >= w.opensAt:
		w.open = true
		w.start, err = w.meter.read()
		w.openedAt = w.clock.now()
	case w.open && !w.closed && now >= w.openedAt+w.duration:
		w.closed = true
		w.end, err = w.meter.read()
	}
	return err
}

// measuring says whether the window is open at this moment.
func (w *window) measuring() bool { return w.open && !w.closed }

// next is how long to wait at most so that no reading is late.
func (w *window) next(now time.Duration) time.Duration {
	due := w.opensAt
	if w.open {
		due = w.openedAt + w.duration
	}
	return max(due-now, 0)
}

func (w *window) usage() usage { return w.end.since(w.start) }
