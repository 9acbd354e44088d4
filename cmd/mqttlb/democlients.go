package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A demoFleet is all clients of the demo. They stand in a ring: each subscribes to what the one before it
// publishes, so that every message has exactly one receiver, on whichever broker that may be.
type demoFleet struct {
	address  netip.AddrPort // of mqttlb
	pace     demoPace
	seats    *demoSeats
	clients  []*demoClient
	speaking chan struct{} // closed when the clients may begin to publish
	running  sync.WaitGroup
}

// A demoClient is one device. It has a library that keeps it connected.
type demoClient struct {
	fleet *demoFleet
	index int
	id    string
	up    atomic.Bool // connected and subscribed

	mu      sync.Mutex
	conn    *net.TCPConn // the latest
	planned bool         // the device itself has ended that one
}

// Every fourth client is an old one.
const demoOldClients = 4

// demoTraffic is how many messages per second all clients together should publish, within the bounds of
// how often one of them does.
const (
	demoTraffic     = 200
	demoMinInterval = time.Second
	demoMaxInterval = 5 * time.Second
)

func newDemoFleet(address netip.AddrPort, pace demoPace, seats *demoSeats) *demoFleet {
	f := &demoFleet{address: address, pace: pace, seats: seats, speaking: make(chan struct{})}
	for i, id := range seats.ids {
		f.clients = append(f.clients, &demoClient{fleet: f, index: i, id: id})
	}
	return f
}

// start lets the clients connect, one after another. They live until ctx ends.
func (f *demoFleet) start(ctx context.Context) {
	for i, c := range f.clients {
		begin := f.pace.ramp * time.Duration(i) / time.Duration(len(f.clients))
		f.running.Go(func() {
			if demoPause(ctx, begin) {
				c.run(ctx)
			}
		})
	}
}

// wait returns when all clients have ended.
func (f *demoFleet) wait() { f.running.Wait() }

// speak lets the clients begin to publish.
func (f *demoFleet) speak() { close(f.speaking) }

// reconnect makes a device leave and come back, as devices do.
func (f *demoFleet) reconnect(client int) { f.clients[client].drop() }

func (c *demoClient) run(ctx context.Context) {
	link, err := c.open(ctx)
	if err != nil {
		return // the client is missed, and the story does not go on
	}
	defer link.close()
	select {
	case <-c.fleet.speaking:
	case <-ctx.Done():
		return
	}
	interval := time.Duration(len(c.fleet.clients)) * time.Second / demoTraffic
	interval = min(max(interval, demoMinInterval), demoMaxInterval)
	for n := 0; demoPause(ctx, interval/2+rand.N(interval)); n++ {
		if !c.up.Load() {
			continue
		}
		c.fleet.seats.count(func(t *demoTotals) { t.Published++ })
		// An error means that the connection was lost, and is reported as such.
		_ = link.publish(ctx, demoTopic+c.id, fmt.Sprintf(`{"trip": %d}`, n))
	}
}

const demoTopic = "demo/"

func (c *demoClient) open(ctx context.Context) (demoLink, error) {
	link := linkV5
	if c.index%demoOldClients == demoOldClients-1 {
		link = linkV3
	}
	n := len(c.fleet.clients)
	before := c.fleet.clients[(c.index+n-1)%n].id
	return link(ctx, c.id, demoTopic+before, c.fleet.address.String(), demoLinkEvents{
		dial: c.dial,
		up:   func() { c.up.Store(true) },
		down: c.down,
		message: func(topic string) {
			if from, ok := c.fleet.seats.index[strings.TrimPrefix(topic, demoTopic)]; ok {
				c.fleet.seats.delivered(from, c.index)
			}
		},
	})
}

// dial opens a connection. After the first one it waits a moment, differently long each time: clients that
// come back all at once are a problem of their own.
func (c *demoClient) dial(ctx context.Context) (net.Conn, error) {
	c.mu.Lock()
	again := c.conn != nil
	c.mu.Unlock()
	if again && !demoPause(ctx, rand.N(c.fleet.pace.reconnect)) {
		return nil, ctx.Err()
	}
	dialer := net.Dialer{Timeout: demoAnswerTime}
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, c.fleet.address)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conn, c.planned = conn, false
	return conn, nil
}

// drop makes the library believe that the other side has closed the connection. It would not reconnect
// after a connection that is closed on its own side.
func (c *demoClient) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		c.planned = true
		_ = c.conn.CloseRead()
	}
}

// down hears from the library that a connection has ended.
func (c *demoClient) down() {
	c.up.Store(false)
	c.mu.Lock()
	planned := c.planned
	c.mu.Unlock()
	if !planned {
		c.fleet.seats.count(func(t *demoTotals) { t.Lost++ })
	}
}

// demoPause waits, and tells whether ctx is still alive.
func demoPause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
