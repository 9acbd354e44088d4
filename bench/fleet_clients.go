package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// fleetPatience is how long a client waits for its connection and CONNACK together.
	fleetPatience = 10 * time.Second

	// A client whose connection has ended by itself, or could not be had, waits for a time between these two.
	shortestPause, longestPause = 200 * time.Millisecond, time.Second
)

// What happens to a client of a fleet.
type fleetEventKind int

const (
	clientUp     fleetEventKind = iota // CONNACK has arrived
	clientCut                          // its connection was ended by the other side
	clientLeft                         // it has ended its connection itself
	clientFailed                       // an attempt to connect has failed
)

type fleetEvent struct {
	at     time.Time
	client string
	kind   fleetEventKind
}

// A fleetPlan says how the clients of a fleet behave. All systems get the same.
type fleetPlan struct {
	ids      []string
	lifetime time.Duration // how long a client stays connected, in the mean; 0: for ever
	atOnce   bool          // a client that was cut comes back without a pause
}

// fleetClients keep themselves connected. They can all be ended by the context of run.
type fleetClients struct {
	fleetPlan
	target netip.AddrPort
	gate   chan struct{} // bounds how many connect at once at the beginning

	mu     sync.Mutex
	events []fleetEvent
}

func newFleetClients(plan fleetPlan, target netip.AddrPort) *fleetClients {
	return &fleetClients{fleetPlan: plan, target: target, gate: make(chan struct{}, establishAtOnce)}
}

// run returns when ctx has ended and all clients are gone.
func (f *fleetClients) run(ctx context.Context) {
	var running sync.WaitGroup
	for n := range f.ids {
		running.Go(func() { f.live(ctx, n) })
	}
	running.Wait()
}

// live is the life of client n.
func (f *fleetClients) live(ctx context.Context, n int) {
	const seed = 20
	random := rand.New(rand.NewPCG(seed, uint64(n)))
	id := f.ids[n]
	f.gate <- struct{}{}
	gated := true
	for ctx.Err() == nil {
		conn, err := f.connect(ctx, n)
		if err == nil {
			f.note(id, clientUp)
			if gated {
				gated = false
				<-f.gate
			}
			err = f.stay(ctx, conn, random)
			_ = conn.Close()
			if ctx.Err() != nil {
				return
			}
			kind := clientCut
			if errors.Is(err, errClientLeft) {
				kind = clientLeft
			}
			f.note(id, kind)
			if f.atOnce {
				continue
			}
		} else {
			f.note(id, clientFailed)
		}
		pause := shortestPause + time.Duration(random.Int64N(int64(longestPause-shortestPause)))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	if gated {
		<-f.gate
	}
}

// fleetAddress is the address of client n. Each has its own, as devices have, so that a proxy that hashes addresses can
// do that as well as one that hashes client identifiers.
func fleetAddress(n int) net.IP {
	const perNet, perSubnet = 250 * 250, 250
	return net.IPv4(127, byte(1+n/perNet), byte(n/perSubnet%perSubnet), byte(1+n%perSubnet))
}

// connect returns a connection on which CONNACK has arrived.
func (f *fleetClients) connect(ctx context.Context, n int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: fleetAddress(n)}, KeepAlive: -1}
	conn, err := d.DialContext(ctx, "tcp4", f.target.String())
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := shakeHands(conn, f.ids[n]); err != nil || !stop() {
		_ = conn.Close()
		return nil, errors.Join(err, ctx.Err())
	}
	return conn, nil
}

func shakeHands(conn net.Conn, id string) error {
	if _, err := conn.Write(connectPacket(levelMQTT311, id, benchKeepAlive)); err != nil {
		return err
	}
	const smallest = 16 // of bufio; nothing follows CONNACK
	first, body, err := readPacket(bufio.NewReaderSize(conn, smallest))
	switch {
	case err != nil:
		return err
	case first != 0x20 || len(body) < 2:
		return fmt.Errorf("no CONNACK but %#x", first)
	case body[1] != 0:
		return fmt.Errorf("refused with code %d", body[1])
	}
	return nil
}

// stay waits for the end of a connection: the other side's, or the client's own when its time is over.
func (f *fleetClients) stay(ctx context.Context, conn net.Conn, random *rand.Rand) error {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if f.lifetime > 0 {
		life := time.Duration(random.ExpFloat64() * float64(f.lifetime))
		if err := conn.SetReadDeadline(time.Now().Add(life)); err != nil {
			return err
		}
	}
	var in [64]byte
	for {
		_, err := conn.Read(in[:])
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			_, _ = conn.Write(disconnectPacket)
			return errClientLeft
		}
		if err != nil {
			return err
		}
	}
}

func (f *fleetClients) note(id string, kind fleetEventKind) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, fleetEvent{at: time.Now(), client: id, kind: kind})
}

// history is what has happened so far, in order.
func (f *fleetClients) history() []fleetEvent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clip(f.events)
}
