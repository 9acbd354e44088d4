//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// both runs two things at once and reports the errors of both.
func both(t *testing.T, first, second func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- first() }()
	if err := second(); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMessagesOfEverySizeArriveAsSent(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	s := open(t, l, broker, opening{id: "sizes"})
	// Around the lengths of the remaining length, the proxy's reads, and far beyond.
	for i, size := range []int{
		0, 1, 2, 127, 128, 1<<14 - 1, 1 << 14, 1<<16 - 1, 1 << 16,
		128<<10 - 1, 128 << 10, 128<<10 + 1, 1 << 20, 1<<21 + 1, 5 << 20,
	} {
		payload := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(payload)
		message := publish("e2e", payload)
		for direction, ends := range map[string][2]*net.TCPConn{"up": {s.client, s.broker}, "down": {s.broker, s.client}} {
			t.Run(fmt.Sprintf("%d_%s", size, direction), func(t *testing.T) {
				both(t, func() error { _, err := ends[0].Write(message); return err }, func() error {
					expect(t, ends[1], message)
					return nil
				})
			})
		}
	}
	s.client.Close()
	expectFIN(t, s.broker, patience)
}

func TestStreamsInChunksOfRandomSizeArriveAsSent(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	var all sync.WaitGroup
	for i := range byte(24) {
		s := open(t, l, broker, opening{id: fmt.Sprint("random-", i)})
		carry(t, &all, stream{number: i, size: 1<<20 + int(i), chunk: 64 << (i % 11)}, s.client, s.broker)
		carry(t, &all, stream{number: 100 + i, size: 1<<20 - int(i), chunk: 64 << ((i + 5) % 11)}, s.broker, s.client)
	}
	s := open(t, l, broker, opening{id: "tiny"}) // a system call for every other byte is slow
	carry(t, &all, stream{number: 50, size: 32 << 10, chunk: 3}, s.client, s.broker)
	carry(t, &all, stream{number: 51, size: 32 << 10, chunk: 3}, s.broker, s.client)
	all.Wait()
}

// carry sends and checks a stream in the background.
func carry(t *testing.T, all *sync.WaitGroup, s stream, from, to *net.TCPConn) {
	t.Helper()
	all.Go(func() {
		if err := s.send(from, new(tap)); err != nil {
			t.Errorf("stream %d: send: %v", s.number, err)
		}
	})
	all.Go(func() {
		if _, err := s.check(to); err != nil {
			t.Errorf("stream %d: receive: %v", s.number, err)
		}
	})
}

// A flood is an endless stream that nobody reads yet.
type flood struct {
	stream
	tap
	to      *net.TCPConn
	stopped chan error
}

// pour begins a flood.
func pour(number byte, from, to *net.TCPConn) *flood {
	f := &flood{stream: stream{number: number}, to: to, stopped: make(chan error, 1)}
	go func() {
		err := f.send(from, &f.tap)
		_ = from.CloseWrite()
		f.stopped <- err
	}()
	return f
}

// stall waits until backpressure has stopped the flood.
func (f *flood) stall(t *testing.T) {
	t.Helper()
	const still = 250 * time.Millisecond
	last, since := int64(0), time.Now()
	eventually(t, patience, "the writer is stopped by backpressure", func() bool {
		if n := f.sent.Load(); n != last || n == 0 {
			last, since = n, time.Now()
		}
		return time.Since(since) > still
	})
}

// drain ends the flood and checks every byte of it.
func (f *flood) drain() error {
	f.closed.Store(true)
	n, err := f.check(f.to)
	if err := errors.Join(err, <-f.stopped); err != nil {
		return fmt.Errorf("stream %d: %w", f.number, err)
	}
	if sent := int(f.sent.Load()); n != sent {
		return fmt.Errorf("stream %d: %d bytes arrived, %d were sent", f.number, n, sent)
	}
	return nil
}

func TestBothDirectionsFullAtOnceDoNotBlockEachOther(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	s := open(t, l, broker, opening{id: "full"})
	up, down := pour(1, s.client, s.broker), pour(2, s.broker, s.client)
	up.stall(t)
	down.stall(t)
	both(t, up.drain, down.drain)
}

// Not parallel: the memory of a process is told apart better without other load.
func TestSlowReadersDoNotCostMemory(t *testing.T) {
	for _, slow := range []string{"client", "broker"} {
		t.Run(slow, func(t *testing.T) {
			broker := newStub(t, "a")
			l := startLB(t, settings{backends: []backend{broker.backend()}})
			before := l.rss(t)
			var floods [16]*flood
			for i := range floods {
				s := open(t, l, broker, opening{id: fmt.Sprint("slow-", i)})
				if slow == "client" {
					floods[i] = pour(byte(i), s.broker, s.client)
				} else {
					floods[i] = pour(byte(i), s.client, s.broker)
				}
			}
			for _, f := range floods {
				f.stall(t)
			}
			// A session holds back one read of 128 KiB at most: 2 MiB here. The rest is the runtime's.
			if grown := l.rss(t) - before; grown > memory(20<<20) {
				t.Errorf("memory grew by %d KiB for %d sessions with a slow %s", grown>>10, len(floods), slow)
			}
			for _, f := range floods {
				if err := f.drain(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// memory is a bound of resident memory; the race detector needs several times as much.
func memory(bytes int) int {
	if underRace {
		return 8 * bytes
	}
	return bytes
}
