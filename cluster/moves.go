package cluster

import (
	"context"
	"iter"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// A Carrier holds the connections that can be moved. *proxy.Proxy is one.
type Carrier interface {
	Sittings(want func(*proxy.Sitting) bool) []proxy.Sitting
	Evict(list []proxy.Eviction, kept func(proxy.Eviction, proxy.Kept))
}

// moveEvery is how often the next moves are begun while there are some. A Mover needs it five times per second at least.
const moveEvery = 100 * time.Millisecond

// RunMoves moves clients until ctx is done. It looks whether there is anybody to be moved after every Tick, and at once
// when an operator wants it, so that a cluster at rest wakes nobody up for that.
func (c *Cluster) RunMoves(ctx context.Context, carrier Carrier) {
	defer c.carryNoMore()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.stirred:
		}
		c.Move(carrier)
		if c.moving() {
			t.Reset(moveEvery)
		}
	}
}

// stir makes RunMoves look whether there is anybody to be moved.
func (c *Cluster) stir() {
	select {
	case c.stirred <- struct{}{}:
	default: // it will look anyway
	}
}

// moving tells whether moves are pending or under way.
func (c *Cluster) moving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mover.Pending() > 0 || c.mover.Outstanding() > 0 || len(c.leaving) > 0
}

// carryNoMore forgets who has the connections.
func (c *Cluster) carryNoMore() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carrier = nil
}

// Move begins the moves that are due. While there is nothing to do it costs next to nothing: the connections are only
// looked at for a new plan.
func (c *Cluster) Move(carrier Carrier) {
	evictions, batch, need := c.nextMoves(carrier)
	if need != nil {
		sittings := c.gather(carrier, need)
		evictions, batch = c.newMoves(sittings)
	}
	if len(evictions) > 0 {
		carrier.Evict(evictions, func(e proxy.Eviction, why proxy.Kept) { c.kept(batch[e.Session], why) })
	}
	c.deliver()
}

// A batch is the moves that have begun together, for those that come to nothing.
type batch map[proxy.Handle]balancer.Move

// nextMoves begins the next moves of the present plan, unless a new one is to be made: then it returns what that needs.
func (c *Cluster) nextMoves(carrier Carrier) ([]proxy.Eviction, batch, *balancer.Need) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.carrier = carrier
	now := c.now()
	if need := c.mover.Need(now); need != nil {
		return nil, nil, need
	}
	evictions, moves := c.begin(nil, now)
	return evictions, moves, nil
}

// newMoves makes a plan for these sessions, and begins the first moves.
func (c *Cluster) newMoves(sittings []proxy.Sitting) ([]proxy.Eviction, batch) {
	terms := c.terms.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	return c.begin(c.sessions(terms, sittings, now), now)
}

// gather returns the sessions of this cluster that a plan has to look at. Which these are is decided on the event
// loops, without a lock.
func (c *Cluster) gather(carrier Carrier, need *balancer.Need) []proxy.Sitting {
	terms := c.terms.Load()
	return carrier.Sittings(func(s *proxy.Sitting) bool {
		if s.Target.Backend == nil || s.Target.Backend.Cluster != c.options.Name {
			return false
		}
		session := sessionOf(terms, s, c.options.Clock())
		return need.Of(&session)
	})
}

// sessions are the same for the planner. The mutex is held while they are looked at.
func (c *Cluster) sessions(terms *terms, sittings []proxy.Sitting, now int64) iter.Seq[balancer.Session] {
	return func(yield func(balancer.Session) bool) {
		for i := range sittings {
			s := sessionOf(terms, &sittings[i], now)
			if s.Client.Group != "" {
				s.Client.Group = c.brain.Groups().Name(s.Client.Group)
			}
			if !yield(s) {
				return
			}
		}
	}
}

// sessionOf is a session as it would be placed if the client came now. What rules find in the rest of CONNECT is known
// from when it did.
func sessionOf(terms *terms, s *proxy.Sitting, now int64) balancer.Session {
	who := terms.identify(s.ClientID, nil)
	client := balancer.Client{ID: s.ClientID, Group: who.group, Ordinal: who.ordinal, Persistent: s.Persistent}
	switch t := &s.Target; {
	case t.Learned && who.learned, !t.Learned && who.group == "":
		client.Group, client.Ordinal = t.Reason.Group, -1
	}
	return balancer.Session{
		Client: client, Backend: s.Target.Backend.Name, Handle: uint64(s.Handle), Since: now - int64(s.Age),
		Rate: float64(s.Target.Rate), Will: s.Will, Shared: s.Shared,
	}
}

// begin begins the next moves, after a new plan if there are sessions. The mutex is held.
func (c *Cluster) begin(sessions iter.Seq[balancer.Session], now int64) ([]proxy.Eviction, batch) {
	moves := c.mover.Begin(sessions, now)
	if len(moves) == 0 {
		return nil, nil
	}
	evictions, moving := make([]proxy.Eviction, len(moves)), make(batch, len(moves))
	for i := range moves {
		m := &moves[i]
		evictions[i] = c.options.Moves.eviction(m)
		moving[evictions[i].Session] = *m
		x := c.leaving[leaver{m.Client.ID, m.From}]
		x.n++
		if m.Why != balancer.Emptying {
			c.levelled++
		}
		x.why, x.to = m.Why, m.To
		c.leaving[leaver{m.Client.ID, m.From}] = x
	}
	return evictions, moving
}

// A leaver is a client that is being moved away from a backend; those without an id are one.
type leaver struct{ client, from string }

// leaving is why, where to, and how many they are.
type leaving struct {
	why balancer.Purpose
	to  string
	n   int
}

// leave ends the leaving of a client, be it gone or not. The mutex is held.
func (c *Cluster) leave(client, from string) (leaving, bool) {
	key := leaver{client, from}
	x, is := c.leaving[key]
	if x.n--; x.n > 0 {
		c.leaving[key] = x
	} else {
		delete(c.leaving, key)
	}
	return x, is
}

// kept takes back a move that was not carried out. It is called on the event loops.
func (c *Cluster) kept(m balancer.Move, why proxy.Kept) {
	c.stay(m)
	c.options.Observer.Evicted(c.options.Name, m.Why, why.String())
}

func (c *Cluster) stay(m balancer.Move) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leave(m.Client.ID, m.From)
	if m.Why != balancer.Emptying {
		c.levelled--
	}
	c.mover.Stay(m, c.now())
}

// moved notes that a client has left a backend because of a move. It is called on the event loops.
func (c *Cluster) moved(client, from string) {
	if x, known := c.gone(client, from); known {
		c.options.Observer.Evicted(c.options.Name, x.why, "moved")
	}
}

func (c *Cluster) gone(client, from string) (x leaving, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, known = c.leave(client, from); known {
		c.tell(Event{Kind: EventEviction, Backend: from, ClientID: client, From: from, To: x.to, Reason: x.why.String()})
	}
	return x, known
}

// MoveStatus shows what is being moved.
type MoveStatus struct {
	// Pending are the moves of the present plan that have not begun, InFlight the clients that are being moved or are
	// away because of it.
	Pending  int `json:"pending"`
	InFlight int `json:"in_flight"`
	// Moved counts the clients that were moved, Returned those of them that came again, Lost those that did not within
	// five minutes.
	Moved    uint64 `json:"moved"`
	Returned uint64 `json:"returned"`
	Lost     uint64 `json:"lost"`
	// Levelling tells that the backends are being levelled.
	Levelling bool `json:"levelling"`
	// Paused says why nothing is moved at the moment, empty if nothing keeps it.
	Paused string `json:"paused,omitempty"`
}

// moves shows what is being moved. The mutex is held.
func (c *Cluster) moves(now int64) MoveStatus {
	lost, _ := c.mover.Lost()
	s := MoveStatus{
		Pending: c.mover.Pending(), InFlight: c.mover.Outstanding(), Lost: uint64(lost),
		Levelling: c.levelling(), Paused: c.mover.Paused(now),
	}
	s.Moved, s.Returned = c.mover.Counts()
	for who, x := range c.leaving {
		if who.client == "" {
			s.InFlight += x.n // the Mover cannot know when they have left
		}
	}
	return s
}

// A LostClient was moved and has not come again within five minutes.
type LostClient struct {
	ClientID string    `json:"client_id"`
	From     string    `json:"from"`
	To       string    `json:"to,omitempty"`
	At       time.Time `json:"at"`
}

// Lost are the latest lost clients, at most limit, the latest first.
func (c *Cluster) Lost(limit int) []LostClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, latest := c.mover.Lost()
	now, list := c.now(), make([]LostClient, 0, min(limit, len(latest)))
	for i := len(latest) - 1; i >= 0 && len(list) < limit; i-- {
		list = append(list, c.lostClient(&latest[i], now))
	}
	return list
}

func (c *Cluster) lostClient(l *balancer.Lost, now int64) LostClient {
	return LostClient{ClientID: l.Client, From: l.From, To: l.To, At: time.Now().Add(-time.Duration(now - l.At))}
}
