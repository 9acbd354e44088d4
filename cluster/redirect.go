package cluster

import (
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// With Options.Redirect a client of MQTT 5 is told the advertised address of its backend, and goes there by itself. From
// then on nobody here knows of it, so those stay with mqttlb of whom it must know: clients without an id, which could not
// be recognised, and members of groups, which are spread by what is seen of the others.
//
// Most clients do not follow. One that comes again soon is relayed, and so is every later connect of it until it was
// away for that long: nobody is sent to and fro.
//
// A hash asks nobody who is where, and neither does a turn; but whoever counts connections, as least-connections does,
// would send all clients to one backend if those that were sent there did not count. So their places are kept for a
// while: such a strategy then counts the clients of the last minute beside those that are relayed.

const (
	// relayFor is how long a client that has come is not sent away again.
	relayFor = int64(10 * time.Minute)
	// placeFor is how long the place of one that was sent away is kept for strategies that count.
	placeFor = int64(time.Minute)
	// sentClients bounds the clients that are remembered, some 150 bytes each; sentPlaces the places that are kept.
	sentClients = 100_000
	sentPlaces  = 1 << 16
	// placesPerTick bounds how many places end at a time.
	placesPerTick = 4096

	// advertiseLabel is the label of a backend with the address under which clients reach it.
	advertiseLabel = "advertise"
)

// redirects are the clients that were sent to their backends lately.
type redirects struct {
	clients *memory[sent]
	places  []*keptPlace // the one that ends first comes first
	count   uint64       // of all
}

// A sent is one of these clients.
type sent struct {
	last  int64      // when it has come
	place *keptPlace // nil if none is kept
}

// A keptPlace is a connection that mqttlb does not see.
type keptPlace struct {
	client, backend string
	until           int64
	ended           bool
}

// advertised is the address under which clients reach a backend: what its label says, else the host and port by which
// it was found.
func advertised(b *balancer.Backend) string {
	if label := b.Labels[advertiseLabel]; reachable(label) {
		return label
	}
	at, err := netip.ParseAddrPort(b.Address)
	if err != nil || b.Host == "" {
		return b.Address
	}
	_, port, _ := net.SplitHostPort(at.String())
	return net.JoinHostPort(b.Host, port)
}

// reachable tells whether text is host:port. The configuration is checked when it is read, other sources are not.
func reachable(text string) bool {
	host, port, err := net.SplitHostPort(text)
	n, wrong := strconv.ParseUint(port, 10, 16)
	return err == nil && host != "" && wrong == nil && n > 0
}

// secluded tells whether an advertised address can be reached from the same network at most.
func secluded(address string) bool {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return false
	}
	ip := at.Addr().Unmap()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified()
}

// eligible tells whether a client may be sent to its backend at all, if it speaks MQTT 5. The mutex is held.
func (c *Cluster) eligible(client *balancer.Client) bool {
	return c.options.Redirect && client.ID != "" && len(client.ID) <= maxMatched && client.Group == ""
}

// redirects tells whether this client is sent to its backend, and remembers it. The mutex is held.
func (c *Cluster) redirects(r *proxy.Request, client *balancer.Client, b *backend, now int64) bool {
	if r.Connect.Version != 5 || len(r.Tried) > 0 || !c.eligible(client) || b.target.Advertised == "" {
		return false
	}
	x := c.sent.clients.peek(client.ID)
	again := x != nil && now-x.last < relayFor
	c.sent.clients.note(client.ID, sent{last: now})
	return !again
}

// cameBack gives up the place that is kept for a client: it is here. The mutex is held.
func (c *Cluster) cameBack(clientID string, now int64) {
	if x := c.sent.clients.peek(clientID); x != nil && x.place != nil {
		c.endPlace(x.place, now)
		x.place = nil
	}
}

// holdPlace keeps the place of a client that was sent away. It reports false if nothing is known of the client any more.
// The mutex is held.
func (c *Cluster) holdPlace(clientID, backend string, now int64) bool {
	x := c.sent.clients.peek(clientID)
	if x == nil || x.place != nil && !x.place.ended {
		return false
	}
	if len(c.sent.places) >= sentPlaces {
		c.endPlace(c.sent.places[0], now)
		c.sent.places[0] = nil
		c.sent.places = c.sent.places[1:]
	}
	x.place = &keptPlace{client: clientID, backend: backend, until: now + placeFor}
	c.sent.places = append(c.sent.places, x.place)
	return true
}

// endPlaces ends those places whose time is over. The mutex is held.
func (c *Cluster) endPlaces(now int64) {
	for n := 0; n < placesPerTick && len(c.sent.places) > 0; n++ {
		p := c.sent.places[0]
		if !p.ended && p.until > now {
			return
		}
		c.endPlace(p, now)
		c.sent.places[0] = nil
		c.sent.places = c.sent.places[1:]
	}
	if len(c.sent.places) == 0 {
		c.sent.places = nil
	}
}

// endPlace ends one. The mutex is held.
func (c *Cluster) endPlace(p *keptPlace, now int64) {
	if p.ended {
		return
	}
	p.ended = true
	c.brain.Release(memberOf(p.client, ""), p.backend, balancer.Left, now)
	c.align()
	c.forget(p.backend)
}
