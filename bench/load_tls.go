package main

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The loads over TLS use crypto/tls and a goroutine for each client. That costs the generator more than the loads
// without TLS, which matters little: what counts is the proxy's CPU time, which is read apart.

// A tlsCrowd is many clients over TLS at work at the same time.
type tlsCrowd struct {
	work    atomic.Int64
	ending  atomic.Bool
	failed  chan error // the first
	running sync.WaitGroup

	mutex    sync.Mutex
	latency  histogram
	openedAt time.Duration // from when latencies count; 0 before
	clock    clock
}

func newTLSCrowd() *tlsCrowd { return &tlsCrowd{failed: make(chan error, 1), clock: startClock()} }

// fail ends the load.
func (t *tlsCrowd) fail(err error) {
	select {
	case t.failed <- err:
	default:
	}
}

// done counts one piece of work that began at the given time.
func (t *tlsCrowd) done(began time.Duration) {
	now := t.clock.now()
	t.work.Add(1)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if t.openedAt > 0 && began >= t.openedAt {
		t.latency.record(now - began)
	}
}

// measure watches the crowd for the measured time.
func (t *tlsCrowd) measure(c loadConfig) (result loadResult, err error) {
	if err := t.pause(c.warmup); err != nil {
		return result, err
	}
	start, err := c.meter.read()
	if err != nil {
		return result, err
	}
	before := t.work.Load()
	t.mutex.Lock()
	t.openedAt = t.clock.now()
	t.mutex.Unlock()
	if err := t.pause(c.duration); err != nil {
		return result, err
	}
	end, err := c.meter.read()
	result.usage, result.Work = end.since(start), float64(t.work.Load()-before)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	result.setLatency(&t.latency)
	return result, err
}

func (t *tlsCrowd) pause(d time.Duration) error {
	select {
	case err := <-t.failed:
		return err
	case <-time.After(d):
		return nil
	}
}

// connectTLS is connect over TLS: all handshakes are full ones.
func connectTLS(c loadConfig) (loadResult, error) {
	d, t := newTLSDialer(c), newTLSCrowd()
	defer t.running.Wait()
	defer t.ending.Store(true)
	for range c.connections {
		t.running.Go(func() {
			for !t.ending.Load() {
				began := t.clock.now()
				s, err := d.open()
				if err != nil {
					t.fail(err)
					return
				}
				t.done(began)
				s.leave()
			}
		})
	}
	return t.measure(c)
}

// pingPongTLS is pingPong over TLS.
func pingPongTLS(c loadConfig) (loadResult, error) {
	all, err := openTLS(newTLSDialer(c), c.connections)
	if err != nil {
		return loadResult{}, err
	}
	t := newTLSCrowd()
	defer func() {
		t.ending.Store(true)
		for _, s := range all {
			_ = s.socket.Close()
		}
		t.running.Wait()
	}()
	for i, s := range all {
		t.running.Go(func() {
			if err := s.pingPong(t, newMessage(c.level, c.payload), i); !t.ending.Load() {
				t.fail(err)
			}
		})
	}
	return t.measure(c)
}

func (s *tlsSession) pingPong(t *tlsCrowd, m message, sender int) error {
	echo := make([]byte, len(m.bytes))
	for !t.ending.Load() {
		m.stamp(t.clock.now(), sender)
		if _, err := s.Write(m.bytes); err != nil {
			return err
		}
		if _, err := io.ReadFull(s, echo); err != nil {
			return err
		}
		sent, err := m.sentAt(echo, sender)
		if err != nil {
			return err
		}
		t.done(sent)
	}
	return nil
}

// openTLS opens so many sessions, establishAtOnce at a time.
func openTLS(d *tlsDialer, count int) ([]*tlsSession, error) {
	all, errs := make([]*tlsSession, count), make([]error, count)
	var next atomic.Int64
	var running sync.WaitGroup
	for range min(count, establishAtOnce) {
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if all[i], errs[i] = d.open(); errs[i] != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return all, errors.Join(errs...)
}

// idleTLS is idle over TLS. The generator keeps no more of a session than its socket, so that it needs little memory
// itself.
func idleTLS(c loadConfig) (loadResult, error) {
	p, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer p.close()
	d := newTLSDialer(c)
	return watchIdle(c, p, func(fds []int, count int) ([]int, error) {
		for count > 0 {
			some := min(count, establishAtOnce)
			count -= some
			sessions, err := openTLS(d, some)
			if err != nil {
				return fds, err
			}
			for _, s := range sessions {
				fd, err := s.bare()
				if err != nil {
					return fds, fmt.Errorf("keep a socket: %w", err)
				}
				if err := p.add(fd, unix.EPOLLIN, int32(len(fds))); err != nil {
					return fds, err
				}
				fds = append(fds, fd)
			}
		}
		return fds, nil
	})
}
