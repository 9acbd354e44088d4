package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// A stream is one session that sends large messages: how far it is, in bytes, each way.
type stream struct {
	sent, received int
	blocked        bool // the socket takes no more at this moment
}

// bulk sends large messages over few sessions, several under way on each, and counts bytes.
func bulk(c loadConfig) (loadResult, error) {
	s, err := openSessions(c)
	if err != nil {
		return loadResult{}, err
	}
	defer s.close()

	var result loadResult
	w := newWindow(c, s.clock)
	credit := c.inFlight * len(s.message.bytes)
	streams := make([]stream, len(s.fds))
	for i := range streams {
		if err := s.fill(i, &streams[i], credit); err != nil {
			return loadResult{}, err
		}
	}
	now := s.clock.now()
	for lastAnswer := now; !w.closed; {
		events, err := s.poller.wait(w.next(now))
		if err != nil {
			return loadResult{}, err
		}
		received := 0
		for i := range events {
			key := int(events[i].Fd)
			if events[i].Events&^unix.EPOLLOUT != 0 {
				in, err := s.receive(key)
				if err != nil {
					return loadResult{}, err
				}
				streams[key].received += len(in)
				received += len(in)
			}
			if err := s.fill(key, &streams[key], credit); err != nil {
				return loadResult{}, err
			}
		}
		now = s.clock.now()
		if received > 0 {
			lastAnswer = now
		} else if now-lastAnswer > stallLimit {
			return loadResult{}, errStalled
		}
		if w.measuring() {
			// Each byte that came back was forwarded twice.
			result.Work += 2 * float64(received)
		}
		if err := w.step(now); err != nil {
			return loadResult{}, err
		}
	}
	result.usage = w.usage()
	return result, nil
}

// fill sends on session i until as much is under way as may be.
func (s *sessions) fill(i int, one *stream, credit int) error {
	blocked := false
	for one.sent-one.received < credit {
		at := one.sent % len(s.message.bytes)
		room := credit - (one.sent - one.received)
		n, errno := send(s.fds[i], s.message.bytes[at:min(at+room, len(s.message.bytes))])
		if errno == unix.EAGAIN {
			blocked = true
			break
		}
		if errno != 0 {
			return fmt.Errorf("send: %w", errno)
		}
		one.sent += n
	}
	if blocked == one.blocked {
		return nil
	}
	one.blocked = blocked
	events := uint32(unix.EPOLLIN)
	if blocked {
		events |= unix.EPOLLOUT
	}
	return s.poller.change(s.fds[i], events, int32(i))
}
