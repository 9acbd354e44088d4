package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// connect has so many clients at a time go through a whole short life: connect, CONNECT, CONNACK, DISCONNECT, close.
// Each is another client with another identifier. The clients close with FIN, as real ones do: with RST there would be no
// TIME_WAIT, but the proxies would take paths through their code that are not the usual ones.
func connect(c loadConfig) (loadResult, error) {
	p, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer p.close()
	d := newDialer(p, c.target, c.level)
	clock := startClock()

	workers := make([]worker, c.connections)
	for i := range workers {
		if err := workers[i].begin(d, i, clock.now()); err != nil {
			return loadResult{}, err
		}
	}
	defer func() {
		for i := range workers {
			_ = unix.Close(workers[i].shake.fd)
		}
	}()

	var result loadResult
	var latency histogram
	w := newWindow(c, clock)
	now := clock.now()
	for lastAnswer := now; !w.closed; {
		events, err := p.wait(w.next(now))
		if err != nil {
			return loadResult{}, err
		}
		for i := range events {
			key := int(events[i].Fd)
			one := &workers[key]
			accepted, err := d.advance(&one.shake, int32(key), one.client)
			if err != nil {
				return loadResult{}, fmt.Errorf("client %d: %w", one.client, err)
			}
			if !accepted {
				continue
			}
			now = clock.now()
			lastAnswer = now
			if w.measuring() {
				result.Work++
				if one.began >= w.openedAt {
					latency.record(now - one.began)
				}
			}
			one.leave()
			if err := one.begin(d, key, clock.now()); err != nil {
				return loadResult{}, err
			}
		}
		if now = clock.now(); now-lastAnswer > stallLimit {
			return loadResult{}, errStalled
		}
		if err := w.step(now); err != nil {
			return loadResult{}, err
		}
	}
	result.usage = w.usage()
	result.setLatency(&latency)
	return result, nil
}

// A worker is one client after the other.
type worker struct {
	shake  handshake
	client int // number of the present client
	began  time.Duration
}

func (w *worker) begin(d *dialer, key int, now time.Duration) error {
	w.began, w.client = now, d.clients
	return d.begin(&w.shake, int32(key))
}

// leave ends the session in good order. The answer to DISCONNECT is the end of the connection, nobody waits for it.
func (w *worker) leave() {
	_, _ = send(w.shake.fd, disconnectPacket)
	_ = unix.Close(w.shake.fd)
}
