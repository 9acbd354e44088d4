package cluster

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A Status shows a cluster at one moment.
type Status struct {
	Name     string `json:"name"`
	Strategy string `json:"strategy"`
	// State is the state of the cluster: balanced, scaling, rolling, overloaded or degraded; StateSince is when it
	// began.
	State      string    `json:"state"`
	StateSince time.Time `json:"state_since,omitzero"`
	// Forced tells that an operator has set the state.
	Forced bool `json:"forced,omitempty"`
	// Generation grows with every change of the membership, of a phase or of a ramp.
	Generation  uint64          `json:"generation"`
	Backends    []BackendStatus `json:"backends"`
	Connections int             `json:"connections"`
	// Groups counts the shared-subscription groups, GroupMembers their members that have a client id and are
	// connected or have a seat that is kept for them.
	Groups       int `json:"groups"`
	GroupMembers int `json:"group_members"`
	// Learned counts the clients that are remembered with the group that they have subscribed to.
	Learned int `json:"learned_clients,omitempty"`
	// Settled counts the clients that are remembered because their broker has given them their id.
	Settled int `json:"assigned_clients,omitempty"`
	// Redirected counts the clients that were told to go to their backend without mqttlb.
	Redirected uint64 `json:"redirected,omitempty"`
	// Sticky is the share of clients with an id that went where they belong, 0…1: home by their hash, or back to
	// their seat in their group. It is 1 while nobody has come.
	Sticky float64 `json:"sticky_ratio"`
	// Discovered is when discovery last confirmed the membership.
	Discovered time.Time `json:"discovered,omitzero"`
	// Moves shows what is being moved.
	Moves MoveStatus `json:"moves"`
}

// Status describes the cluster, backends sorted by name.
func (c *Cluster) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, now := c.brain.Snapshot(), c.now()
	status := Status{
		Name: c.options.Name, Strategy: c.options.Strategy, State: c.brain.State().Cluster.String(), StateSince: c.since,
		Generation: s.Generation, Sticky: c.stickiness(), Discovered: c.applied,
	}
	status.Forced, status.Moves = c.brain.State().Forced, c.moves(now)
	status.Groups, status.GroupMembers = c.brain.Groups().Len()
	status.Learned, status.Settled, status.Redirected = c.learned.Len(), c.settled.len(), c.sent.count
	for _, name := range slices.Sorted(maps.Keys(c.backends)) {
		b := c.show(c.backends[name], s, now)
		status.Backends = append(status.Backends, b)
		status.Connections += b.Connections
	}
	c.showCircuits(status.Backends, now)
	return status
}

func (c *Cluster) stickiness() float64 {
	if c.named == 0 {
		return 1
	}
	return float64(c.sticky) / float64(c.named)
}

// Exhausted is how often the local addresses that backends are dialled from had no port left.
func (c *Cluster) Exhausted() map[netip.Addr]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.options.Sources.Exhausted()
}

// Ready tells that the cluster knows at least one backend.
func (c *Cluster) Ready() bool { return len(c.snapshot.Load().Backends) > 0 }

// An Explanation says where a client would go now, and why.
type Explanation struct {
	Cluster  string `json:"cluster"`
	ClientID string `json:"client_id"`
	Strategy string `json:"strategy"`
	// State is the state of the cluster, see Status.
	State string `json:"state"`
	// Group is the client's shared-subscription group, as far as its id tells: what rules find in user names and user
	// properties is known only when the client connects.
	Group string `json:"group,omitempty"`
	// Learned tells that the group is known from what the client has subscribed to.
	Learned bool `json:"learned,omitempty"`
	// Kind is what the client is to the placement: grouped, fat (causes a notable part of the load), persistent or
	// fleeting (with and without a session that outlives the connection), or anonymous (without an id).
	Kind string `json:"kind"`
	// Backend is empty when nobody can take the client.
	Backend string `json:"backend"`
	Address string `json:"address,omitempty"`
	Reason  string `json:"reason"`
	// Redirect is the address to which the client would be sent, if it speaks MQTT 5 and does not come from there; empty
	// if it is relayed.
	Redirect string `json:"redirect,omitempty"`
	// Otherwise is where the client would go if that backend left, and then the next, to the end.
	Otherwise []Choice `json:"otherwise"`
}

// A Choice is a backend with the reason for it.
type Choice struct {
	Backend string `json:"backend"`
	Reason  string `json:"reason"`
}

// maxExplained bounds the second, third, … choices that Explain lists.
const maxExplained = 8

// Explain decides for a client without placing it. persistent tells whether the client keeps its session when it is
// away, which CONNECT would tell.
func (c *Cluster) Explain(clientID string, persistent bool) Explanation {
	who := c.terms.Load().identify(clientID, nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	learned := ""
	if who.learned {
		learned = c.learned.Peek(clientID)
	}
	client := c.member(clientID, persistent, who, learned)
	s, now := c.brain.Snapshot(), c.now()
	client.At = c.where(clientID, now)
	c.shun(c.terms.Load().outliers, now)
	e := Explanation{
		Cluster: c.options.Name, ClientID: clientID, Strategy: c.options.Strategy, State: c.brain.State().Cluster.String(),
		Group: client.Group, Learned: learned != "", Kind: c.kind(client).String(),
	}
	var tried []string
	for range maxExplained {
		i, why := c.brain.Preview(client, tried, now)
		switch {
		case i < 0 && e.Backend == "":
			e.Reason = why.String()
			return e
		case i < 0:
			return e
		case e.Backend == "":
			e.Backend, e.Address, e.Reason = s.Backends[i].Name, s.Backends[i].Address, why.String()
			if c.eligible(&client) {
				e.Redirect = c.current[i].target.Advertised
			}
		default:
			e.Otherwise = append(e.Otherwise, Choice{Backend: s.Backends[i].Name, Reason: why.String()})
		}
		tried = append(tried, s.Backends[i].Name)
	}
	return e
}

// kind is the kind of a client.
func (c *Cluster) kind(client balancer.Client) balancer.Kind {
	rate := c.brain.Rate(client.ID)
	switch {
	case client.Group != "" && (!client.Persistent || !c.options.Placement.NodeScope):
		return balancer.Grouped
	case client.ID == "":
		return balancer.Anonymous
	case rate > 0 && rate >= c.brain.HeavyFloor():
		return balancer.Fat
	case client.Persistent:
		return balancer.Persistent
	}
	return balancer.Fleeting
}
