//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A soakBroker sends back what it gets.
type soakBroker struct {
	t             *testing.T
	name, address string

	mu     sync.Mutex
	awake  *sync.Cond
	asleep bool
	slept  time.Time // when it was asleep last
	ln     net.Listener
	number int
	guests map[int]*soakGuest // that are connected
}

// A soakGuest is a connection to a soakBroker.
type soakGuest struct {
	c        *net.TCPConn
	hit      atomic.Bool  // the broker has reset it
	returned atomic.Int64 // bytes that were sent back
	gone     chan struct{}
}

// open makes the broker accept connections.
func (b *soakBroker) open() {
	ln, err := net.Listen("tcp", b.address)
	if err != nil {
		b.t.Errorf("broker %s cannot come back: %v", b.name, err)
		return
	}
	b.mu.Lock()
	b.ln = ln
	b.mu.Unlock()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(c.(*net.TCPConn))
		}
	}()
}

// kill resets all connections and accepts none any more.
func (b *soakBroker) kill() {
	b.mu.Lock()
	if b.ln != nil {
		_ = b.ln.Close()
	}
	b.mu.Unlock()
	b.cut(1 << 30)
	b.resume()
}

// cut resets up to n connections.
func (b *soakBroker) cut(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.guests {
		if n--; n < 0 {
			return
		}
		g.hit.Store(true)
		_ = g.c.SetLinger(0)
		_ = g.c.Close()
	}
}

// stop makes the broker do nothing, as SIGSTOP does; the kernel goes on for it.
func (b *soakBroker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asleep = true
}

func (b *soakBroker) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.asleep {
		b.asleep, b.slept = false, time.Now()
	}
	b.awake.Broadcast()
}

// work returns when the broker is not stopped.
func (b *soakBroker) work() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.asleep {
		b.awake.Wait()
	}
}

// stoppedLately tells whether an eviction may have met a broker that did nothing.
func (b *soakBroker) stoppedLately() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.asleep || time.Since(b.slept) < 15*time.Second
}

func (b *soakBroker) guest(number int) *soakGuest {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g := b.guests[number]; g != nil {
		return g
	}
	// It has gone in the meantime, which only happens to those that were hit, or moved at once.
	gone := &soakGuest{gone: make(chan struct{})}
	gone.hit.Store(true)
	close(gone.gone)
	return gone
}

func (b *soakBroker) serve(c *net.TCPConn) {
	defer c.Close()
	packet, err := readPacket(c)
	b.work()
	if err != nil {
		return
	}
	o, err := parseOpening(packet)
	if err != nil {
		return
	}
	if strings.HasPrefix(o.id, "mqttlb-health-") {
		_, _ = c.Write(connack(o.version, 0))
		_, _ = io.Copy(io.Discard, c)
		return
	}
	g := &soakGuest{c: c, gone: make(chan struct{})}
	defer close(g.gone)
	b.mu.Lock()
	b.number++
	number := b.number
	b.guests[number] = g
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.guests, number)
	}()
	hello := append(connack(o.version, 0), publish("", fmt.Appendf(nil, "%s %d", b.name, number))...)
	if _, err := c.Write(hello); err != nil {
		return
	}
	for buffer := make([]byte, 8<<10); ; {
		b.work()
		n, err := c.Read(buffer)
		b.work()
		if n > 0 {
			if _, err := c.Write(buffer[:n]); err != nil {
				return
			}
			g.returned.Add(int64(n))
		}
		if err != nil {
			return
		}
	}
}
