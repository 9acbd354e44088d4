package main

import "time"

// pingPong keeps one message under way on each session: whoever gets an echo sends the next at once. It shows the cost of
// a message when there is always work, and latencies that grow with the number of sessions and not with the proxy alone.
func pingPong(c loadConfig) (loadResult, error) {
	s, err := openSessions(c)
	if err != nil {
		return loadResult{}, err
	}
	defer s.close()

	var result loadResult
	var latency histogram
	w := newWindow(c, s.clock)
	for i := range s.fds {
		if err := s.send(i, s.clock.now()); err != nil {
			return loadResult{}, err
		}
	}
	now := s.clock.now()
	for lastAnswer := now; !w.closed; {
		events, err := s.poller.wait(w.next(now))
		if err != nil {
			return loadResult{}, err
		}
		answers := 0
		for i := range events {
			n, err := s.collect(int(events[i].Fd), w, &latency, s.send)
			if err != nil {
				return loadResult{}, err
			}
			answers += n
		}
		now = s.clock.now()
		if answers > 0 {
			lastAnswer = now
		} else if now-lastAnswer > stallLimit {
			return loadResult{}, errStalled
		}
		if w.measuring() {
			result.Work += float64(answers)
		}
		if err := w.step(now); err != nil {
			return loadResult{}, err
		}
	}
	result.usage = w.usage()
	result.setLatency(&latency)
	return result, nil
}

// collect takes session i's echoes and returns how many there were. After each it calls next, unless that is nil.
func (s *sessions) collect(i int, w *window, latency *histogram, next func(i int, at time.Duration) error) (int, error) {
	in, err := s.receive(i)
	if err != nil {
		return 0, err
	}
	echoes := 0
	for len(in) > 0 {
		var echo []byte
		if echo, in = s.split.next(i, in); echo == nil {
			break
		}
		now, err := s.observe(i, echo, w, latency)
		if err != nil {
			return 0, err
		}
		if next != nil {
			if err := next(i, now); err != nil {
				return 0, err
			}
		}
		echoes++
	}
	return echoes, nil
}

// observe records the latency of an echo if its message was sent in the measured time; so the readings that open the
// window delay none of those that count.
func (s *sessions) observe(i int, echo []byte, w *window, latency *histogram) (now time.Duration, err error) {
	sent, err := s.message.sentAt(echo, i)
	if err != nil {
		return 0, err
	}
	now = s.clock.now()
	if w.open && sent >= w.openedAt && sent < w.openedAt+w.duration {
		latency.record(now - sent)
	}
	return now, nil
}
