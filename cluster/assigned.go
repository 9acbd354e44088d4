package cluster

import (
	"math"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// A client without an id goes wherever the strategy for anonymous clients says. If it speaks MQTT 5 and keeps its
// session, it comes again with the id that its broker has given to it, and no hash of that id says where it was. So this
// is remembered, for as long as the session may live.

const (
	// settledClients is how many such clients are remembered, some 200 bytes each.
	settledClients = 100_000
	// longestStay bounds how long after its connection one is, whatever the broker promises.
	longestStay = 7 * 24 * time.Hour
	stillThere  = math.MaxInt64
)

// A settled is where the session of a client is that has got its id from a broker.
type settled struct {
	backend string
	lives   time.Duration // after its connection
	until   int64         // stillThere while it is connected
}

// Named implements proxy.Namer.
func (c *Cluster) Named(clientID string, t proxy.Target, lives time.Duration) {
	if len(clientID) > maxMatched {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled.note(clientID, settled{backend: t.Backend.Name, lives: min(lives, longestStay), until: stillThere})
}

// Parted implements proxy.Namer.
func (c *Cluster) Parted(clientID string, t proxy.Target, o proxy.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsettle(clientID, t.Backend.Name, o, c.now())
}

// where is the backend that has the session of a client that has got its id from it; empty for all others. The mutex is
// held.
func (c *Cluster) where(clientID string, now int64) string {
	if x := c.settled.peek(clientID); x != nil && now < x.until {
		return x.backend
	}
	return ""
}

// settle notes where such a client is now that it has come again; expiry is that of its CONNECT, in seconds. The mutex
// is held.
func (c *Cluster) settle(client *balancer.Client, backend string, expiry uint32) {
	if client.At == "" {
		return
	}
	if !client.Persistent {
		c.settled.forget(client.ID) // there will be no session to come back to
		return
	}
	c.settled.note(client.ID, settled{backend: backend, lives: min(time.Duration(expiry)*time.Second, longestStay), until: stillThere})
}

// unsettle lets the time run for which such a client is expected back. One that we have moved belongs elsewhere from now
// on. The mutex is held.
func (c *Cluster) unsettle(clientID, backend string, o proxy.Outcome, now int64) {
	x := c.settled.peek(clientID)
	switch {
	case x == nil || x.backend != backend:
	case o == proxy.Moved:
		c.settled.forget(clientID)
	default:
		x.until = now + int64(x.lives)
	}
}
