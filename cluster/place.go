package cluster

import (
	"errors"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/proxy"
)

// Place implements proxy.Placer.
func (c *Cluster) Place(r proxy.Request) (proxy.Target, error) {
	terms := c.terms.Load()
	if len(r.Tried) >= terms.attempts {
		return proxy.Target{}, proxy.ErrNoBackend
	}
	who := terms.identify(r.ClientID, r.Connect)
	t, err := c.place(&r, who, terms)
	if !errors.Is(err, proxy.ErrRetryBudget) && !errors.Is(err, proxy.ErrOverloaded) {
		c.options.Observer.Placed(c.options.Name, t.Reason)
	}
	return t, err
}

// place decides and counts; the target has no backend but a reason if nobody can take the client.
func (c *Cluster) place(r *proxy.Request, who identity, terms *terms) (proxy.Target, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	again := len(r.Tried) > 0
	if again && !c.retries.left(now) {
		return proxy.Target{}, proxy.ErrRetryBudget
	}
	learned := ""
	if who.learned {
		learned = c.learned.Group(r.ClientID)
	}
	client := c.member(r.ClientID, r.Connect.Persistent(), who, learned)
	if !again && c.turnsAway(&client, now) {
		return proxy.Target{}, proxy.ErrOverloaded
	}
	client.At = c.where(r.ClientID, now)
	c.cameBack(r.ClientID, now)
	c.shun(terms.outliers, now)
	i, why := c.brain.Place(client, r.Tried, now)
	if i < 0 {
		return proxy.Target{Reason: why}, refusal(why)
	}
	if again {
		c.retries.spend()
	} else {
		c.retries.came()
	}
	b := c.current[i]
	terms.outliers.Goes(b.name, now)
	b.placed++
	if client.ID != "" {
		c.named++
		if why.Cause.Sticky() {
			c.sticky++
		}
	}
	c.settle(&client, b.name, r.Connect.SessionExpiry)
	rate := c.brain.Rate(client.ID)
	return proxy.Target{
		Backend: b.target, Reason: why, Rate: float32(rate), Noted: rate > 0,
		Learn: c.teachable(&client, who), Learned: learned != "" && why.Group != "",
		Another:  c.another(i, &client, len(r.Tried), terms.attempts, now),
		Redirect: c.redirects(r, &client, b, now),
	}, nil
}

// Release implements proxy.Placer. The group of the client is the one that decided: where its group had no room
// for it, the client has no seat to give back.
func (c *Cluster) Release(clientID string, t proxy.Target, o proxy.Outcome) {
	client := memberOf(clientID, t.Reason.Group)
	name := t.Backend.Name
	now, doubtful := c.release(client, name, t.Reason, o)
	if o == proxy.Moved {
		c.moved(clientID, name)
	}
	if e, telling := eventOf(o); telling && !doubtful {
		class := uint64(0)
		if e == health.Silent {
			class = classOf(clientID)
		}
		c.terms.Load().outliers.Observe(name, e, class, now)
	}
	if failed(o) {
		c.options.Observer.DialFailed(c.options.Name, name, o)
	}
}

func (c *Cluster) release(client balancer.Client, name string, why balancer.Reason, o proxy.Outcome) (now int64, doubtful bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = c.now()
	c.unsettle(client.ID, name, o, now)
	if o == proxy.Redirected {
		c.sent.count++
		if why.Cause == balancer.Fewest && c.holdPlace(client.ID, name, now) {
			return now, c.doubtful(now)
		}
	}
	c.brain.Release(client, name, leaveOf(o), now)
	if failed(o) {
		b := c.backends[name]
		b.failures[o]++
		b.lastWrong = o
	}
	c.align()
	c.forget(name)
	return now, c.doubtful(now)
}

// failed tells whether a place could not be used for a reason that does not lie with the client. Rejected is not
// among them: Answered knows the code.
func failed(o proxy.Outcome) bool {
	switch o {
	case proxy.Refused, proxy.TimedOut, proxy.Unreachable, proxy.NoPort, proxy.NoDescriptor, proxy.Stalled, proxy.TLSFailed:
		return true
	case proxy.Served, proxy.ClientLeft, proxy.Rejected, proxy.Moved, proxy.Busy, proxy.Redirected:
	}
	return false
}

// leaveOf says what becomes of the seat of a member of a group. A backend that has failed never took the client, and
// one that has rejected it, for whatever reason, did not either: the seat is free at once. Otherwise whoever has no
// right to connect could keep seats from those who have. One whom we have moved has its seat elsewhere.
func leaveOf(o proxy.Outcome) balancer.Leave {
	if failed(o) || o == proxy.Rejected || o == proxy.Busy || o == proxy.Moved {
		return balancer.Moved
	}
	return balancer.Left
}
