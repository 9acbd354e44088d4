package cluster

import (
	"runtime"
	"slices"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// learnedClients is how many clients are remembered with their groups, some 150 bytes each.
const learnedClients = 100_000

// A Lesson is a client of which is known to which group it belongs.
type Lesson struct{ ClientID, Group string }

// Subscribed implements proxy.Learner. A client is in one group: the one that it is in if it still consumes it, else the
// first of those that it consumes. It counts from now on, where the client is, and is remembered for its next CONNECT.
// That ends when the client leaves the last group, but not when it disconnects.
func (c *Cluster) Subscribed(clientID string, t proxy.Target, groups []string) proxy.Target {
	terms := c.terms.Load()
	if !terms.learn || len(clientID) > maxMatched {
		return t // nobody wants to know any more
	}
	group := ""
	if t.Learned && slices.Contains(groups, t.Reason.Group) {
		group = t.Reason.Group
	} else if i := slices.IndexFunc(groups, nameable[string]); i >= 0 {
		group = groups[i]
	}
	next := group
	if group == "" {
		next = terms.identify(clientID, nil).group // a rule behind counts again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remember(clientID, group)
	if now, was := c.now(), t.Reason.Group; was != next {
		if was != "" {
			c.brain.Dismiss(memberOf(clientID, was), t.Backend.Name, now)
			t.Reason.Group = ""
		}
		if next != "" {
			next = c.brain.Groups().Name(next)
			if c.brain.Enroll(memberOf(clientID, next), t.Backend.Name, now) {
				t.Reason.Group = next
			}
		}
	}
	t.Learned = group != "" && t.Reason.Group != ""
	return t
}

// memberOf is a client that is connected, as a member of a group.
func memberOf(clientID, group string) balancer.Client {
	return balancer.Client{ID: clientID, Group: group, Ordinal: -1}
}

// teachable tells whether the groups matter that the client consumes: no rule before Learn has named one, and it is
// placed by groups at all. The mutex is held.
func (c *Cluster) teachable(client *balancer.Client, who identity) bool {
	return who.learned && (!client.Persistent || !c.options.Placement.NodeScope)
}

// remember notes the group of a client for its next CONNECT; none forgets it. The mutex is held.
func (c *Cluster) remember(clientID, group string) {
	known := c.learned.Peek(clientID)
	switch {
	case group != "":
		c.learned.Learn(clientID, c.brain.Groups().Name(group))
	case known != "":
		c.learned.Forget(clientID)
	}
	if known != c.learned.Peek(clientID) {
		c.lessons++
	}
}

// Learn notes that a client has subscribed to $share/<group>/…: from its next CONNECT on it is a member, if one of
// the rules is Learn. The clients that were longest not asked for are forgotten beyond 100 000. Both strings are
// kept.
func (c *Cluster) Learn(clientID, group string) {
	if !c.terms.Load().learn || !nameable(group) || len(clientID) > maxMatched {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.remember(clientID, group)
}

// Lessons are the clients that are remembered with their groups, in no order, and the number of the changes so far.
func (c *Cluster) Lessons() (list []Lesson, changes uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes = c.lessons
	list = make([]Lesson, 0, c.learned.Len())
	for id, group := range c.learned.Some() {
		list = append(list, Lesson{id, group})
		if len(list)%lessonsPerLock == 0 {
			c.mu.Unlock()
			runtime.Gosched() // or those who wait would hardly ever be faster than this loop
			c.mu.Lock()
		}
	}
	return list, changes
}

// lessonsPerLock is how many clients are copied while others wait for the mutex: some 0.1 ms.
const lessonsPerLock = 1024

// Changes is the number that Lessons would return.
func (c *Cluster) Changes() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lessons
}
