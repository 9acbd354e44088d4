package main

import (
	"testing"
	"time"
)

// TestNothingAllocates covers what runs for every message. (It is not parallel: it counts the process's allocations.)
func TestNothingAllocates(t *testing.T) {
	m := newMessage(levelMQTT311, 64)
	e, out := newEcho(false), make([]byte, 0, 1024)
	s := newSplitter(1, len(m.bytes))
	var h histogram
	clock := startClock()
	n := testing.AllocsPerRun(100, func() {
		m.stamp(clock.now(), 0)
		echo, err := e.feed(m.bytes, out)
		if err != nil {
			t.Fatal(err)
		}
		for _, half := range [][]byte{echo[:10], echo[10:]} {
			frame, _ := s.next(0, half)
			if frame == nil {
				continue
			}
			sent, err := m.sentAt(frame, 0)
			if err != nil {
				t.Fatal(err)
			}
			h.record(clock.now() - sent)
		}
	})
	if n != 0 {
		t.Errorf("allocations per message: got %v, want 0", n)
	}
	if h.count == 0 || h.quantile(1) > time.Second {
		t.Errorf("got %d latencies, the largest %v", h.count, h.largest)
	}
}
