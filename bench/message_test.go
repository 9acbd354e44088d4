package main

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestMessageStamp(t *testing.T) {
	t.Parallel()
	m := newMessage(levelMQTT5, 64)
	m.stamp(1234*time.Microsecond, 7)
	if at, err := m.sentAt(m.bytes, 7); at != 1234*time.Microsecond || err != nil {
		t.Errorf("got %v, %v, want 1.234ms", at, err)
	}
	if _, err := m.sentAt(m.bytes, 8); !errors.Is(err, errOtherEcho) {
		t.Errorf("someone else's echo: got %v, want %v", err, errOtherEcho)
	}
	other := bytes.Clone(m.bytes)
	other[0] |= 1
	if _, err := m.sentAt(other, 7); !errors.Is(err, errOtherEcho) {
		t.Errorf("changed header: got %v, want %v", err, errOtherEcho)
	}
}

func TestSplitter(t *testing.T) {
	t.Parallel()
	const length, frames = 5, 4
	stream := []byte("aaaaabbbbbcccccddddd")
	for first := range len(stream) + 1 {
		for second := first; second <= len(stream); second++ {
			s := newSplitter(2, length)
			// Another connection's half frame must not mix in.
			if frame, _ := s.next(1, []byte("xx")); frame != nil {
				t.Fatalf("half a frame: got %q", frame)
			}
			var got []byte
			n := 0
			for _, in := range [][]byte{stream[:first], stream[first:second], stream[second:]} {
				for len(in) > 0 {
					var frame []byte
					if frame, in = s.next(0, in); frame == nil {
						break
					}
					got = append(got, frame...)
					n++
				}
			}
			if n != frames || !bytes.Equal(got, stream) {
				t.Fatalf("cut at %d and %d: got %d frames, %q", first, second, n, got)
			}
		}
	}
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	s := schedule{start: time.Second, rate: 3}
	if got, want := s.due(3_000_000), time.Second+1_000_000*time.Second; got != want {
		t.Errorf("due after a million seconds: got %v, want %v", got, want)
	}
	for n := range 10 {
		if gap := s.due(n+1) - s.due(n); gap < time.Second/3-1 || gap > time.Second/3+1 {
			t.Errorf("gap after message %d: got %v, want a third of a second", n, gap)
		}
	}
}
