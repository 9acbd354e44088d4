package main

import (
	"fmt"
	"time"
)

// pacedBurst bounds how many overdue messages are sent before the echoes get their turn.
const pacedBurst = 64

// A schedule says when each message of an open load is due: evenly, whether or not earlier ones have been answered.
type schedule struct {
	start time.Duration
	rate  int // per second
}

func (s schedule) due(n int) time.Duration {
	return s.start + time.Duration(n)*time.Second/time.Duration(s.rate)
}

// paced sends a fixed number of messages per second, evenly and in turn over the sessions. A latency counts from the time
// at which the message was due: when the other side stops for a while, every message that ought to have been sent
// meanwhile shows it (no coordinated omission).
func paced(c loadConfig) (loadResult, error) {
	s, err := openSessions(c)
	if err != nil {
		return loadResult{}, err
	}
	defer s.close()

	var result loadResult
	var latency histogram
	w := newWindow(c, s.clock)
	plan := schedule{start: s.clock.now(), rate: c.rate}
	sent, answered := 0, 0
	for lastAnswer := plan.start; !w.closed || answered < sent; {
		now := s.clock.now()
		if err := w.step(now); err != nil {
			return loadResult{}, err
		}
		wait := stallLimit
		if !w.closed {
			for burst := 0; burst < pacedBurst && plan.due(sent) <= now; burst++ {
				if err := s.send(sent%len(s.fds), plan.due(sent)); err != nil {
					return loadResult{}, fmt.Errorf("%w at %d messages per second", err, c.rate)
				}
				sent++
			}
			now = s.clock.now()
			wait = min(w.next(now), max(plan.due(sent)-now, 0))
		}
		events, err := s.poller.wait(wait)
		if err != nil {
			return loadResult{}, err
		}
		echoes := 0
		for i := range events {
			n, err := s.collect(int(events[i].Fd), w, &latency, nil)
			if err != nil {
				return loadResult{}, err
			}
			echoes += n
		}
		answered += echoes
		if w.measuring() {
			result.Work += float64(echoes)
		}
		if now = s.clock.now(); echoes > 0 || sent == answered {
			lastAnswer = now
		} else if now-lastAnswer > stallLimit {
			return loadResult{}, fmt.Errorf("%w, %d messages are missing", errStalled, sent-answered)
		}
	}
	result.usage = w.usage()
	result.setLatency(&latency)
	return result, nil
}
