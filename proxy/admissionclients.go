package proxy

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// clients holds each client id to its limits: how often it connects, and how many connections have it at a time. It
// belongs to all loops, and knows ids by a hash only. An id that has no connection is forgotten as soon as that makes
// no difference, and earlier when there are too many.
type clients struct {
	mu             sync.Mutex
	seed           maphash.Seed
	known          map[uint64]*client
	oldest, newest *client // of those without a connection, in the order in which they lost it
	idle           int     // how many those are
}

// A client is one client id.
type client struct {
	key        uint64
	open       int   // connections
	due        int64 // when the next CONNECT would be in time, if each kept exactly to the rate
	prev, next *client
	idle       bool // it is in the list of those without a connection
}

// maxIdle bounds the ids that are remembered although they have no connection.
const maxIdle = 1 << 16

// clientBurst is how many CONNECTs a client may send at once after a quiet time: one, and one more because
// the first may have met a broker that was just going away.
const clientBurst = 2

func newClients() *clients {
	return &clients{seed: maphash.MakeSeed(), known: make(map[uint64]*client)}
}

// claim counts a CONNECT, unless the client has as many connections as it may have, or connects too often. rate is
// in CONNECTs per second; for both, 0 is no bound. Who was not refused must release.
func (c *clients) claim(now int64, id string, rate float64, most int) Refusal {
	key := maphash.String(c.seed, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	who := c.known[key]
	if who == nil {
		who = &client{key: key}
	}
	if most > 0 && who.open >= most {
		return RefusedClientConnections
	}
	if rate > 0 {
		interval := float64(time.Second) / rate
		ahead := max(clientBurst, rate) - 1 // CONNECTs
		if float64(now) < float64(who.due)-ahead*interval {
			return RefusedClientRate
		}
		who.due = max(who.due, now) + int64(interval)
	}
	c.known[key] = who
	c.unlist(who)
	who.open++
	return ""
}

// release counts the end of a connection.
func (c *clients) release(now int64, id string) {
	key := maphash.String(c.seed, id)
	c.mu.Lock()
	defer c.mu.Unlock()
	who := c.known[key]
	if who == nil {
		return
	}
	if who.open--; who.open > 0 {
		return
	}
	c.list(who)
	for c.oldest != nil && (c.oldest.due <= now || c.idle > maxIdle) {
		gone := c.oldest
		c.unlist(gone)
		delete(c.known, gone.key)
	}
}

func (c *clients) list(who *client) {
	who.idle, who.prev = true, c.newest
	if c.newest != nil {
		c.newest.next = who
	} else {
		c.oldest = who
	}
	c.newest = who
	c.idle++
}

func (c *clients) unlist(who *client) {
	if !who.idle {
		return
	}
	if who.prev != nil {
		who.prev.next = who.next
	} else {
		c.oldest = who.next
	}
	if who.next != nil {
		who.next.prev = who.prev
	} else {
		c.newest = who.prev
	}
	who.idle, who.prev, who.next = false, nil, nil
	c.idle--
}

// contests finds client ids that two devices use in turn: each takes the session over from the other, which comes
// again at once, and so on. It belongs to all loops. It remembers where an id was seen last, for as many ids as it
// has slots; one that is fought over comes so often that it keeps its slot.
type contests struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots [contestSlots]sighting
}

// A sighting is where an id was seen last, and how often it has moved within a minute.
type sighting struct {
	id, from uint64 // hashes
	since    int64  // when the minute began, on the loops' clock
	moves    int
}

const (
	contestSlots = 4096
	// contestMoves is how often an id must change its address within contestSpan to be contested: more often than
	// somebody who walks from one network into another.
	contestMoves = 6
	contestSpan  = int64(time.Minute)
)

// see notes a CONNECT and reports whether its client id is contested.
func (c *contests) see(now int64, id string, from netip.Addr) bool {
	key, place := maphash.String(c.seed, id), maphash.Comparable(c.seed, from)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.slots[key%contestSlots]
	switch {
	case s.id != key:
		*s = sighting{id: key, from: place, since: now}
		return false
	case s.from == place:
		return false
	case now-s.since > contestSpan:
		s.since, s.moves = now, 0
	}
	s.from = place
	s.moves++
	return s.moves >= contestMoves
}
