package cluster

import (
	"cmp"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// Run applies every set of backends that arrives, until the channel is closed.
func (c *Cluster) Run(sets <-chan []balancer.Backend) {
	for set := range sets {
		c.Apply(set)
	}
}

// Apply makes this the cluster's membership. An empty set is refused: the last good membership is
// better than none (protocol.md, I9). A backend that is not in the set any more drains: new clients do not go there,
// and it vanishes with its last connection. One that returns is the same one as before.
func (c *Cluster) Apply(set []balancer.Backend) {
	if len(set) == 0 {
		c.log.Warn("discovery returned no backend; keeping the last known ones")
		return
	}
	addresses, ok := c.check(set)
	if !ok {
		return
	}
	c.applying.Lock()
	defer c.applying.Unlock()
	news := c.join(set, addresses)
	if c.options.Members != nil {
		c.options.Members(set)
	}
	for i := range news {
		news[i].log(c.log)
	}
	c.deliver()
}

// Confirmed tells that discovery has found the same membership again.
func (c *Cluster) Confirmed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.applied.IsZero() {
		c.applied = time.Now()
	}
}

// check returns the addresses of the backends by name; false if the set cannot be used as a whole.
func (c *Cluster) check(set []balancer.Backend) (map[string]netip.AddrPort, bool) {
	addresses := make(map[string]netip.AddrPort, len(set))
	for i := range set {
		name := set[i].Name
		if _, twice := addresses[name]; twice {
			c.log.Error("discovery returned a name twice; the membership stays as it was", slog.String("backend", name))
			return nil, false
		}
		address, err := netip.ParseAddrPort(set[i].Address)
		if err != nil {
			c.log.Error("discovery returned an address that is not IP:port; the membership stays as it was",
				slog.String("backend", name), slog.String("address", set[i].Address))
			return nil, false
		}
		addresses[name] = address
	}
	return addresses, true
}

// A news is what a new set changes about a backend. It is logged when the mutex is not held any more: the log may
// block.
type news struct {
	backend, address string
	advertised       string // if clients are told, and only those of the same network can reach it
	connections      int
	moves, leaves    bool
}

func (n *news) log(log *slog.Logger) {
	backend, address := slog.String("backend", n.backend), slog.String("address", n.address)
	switch {
	case n.leaves:
		log.Info("backend leaves; it drains until its last connection ends", backend, slog.Int("connections", n.connections))
	case n.moves:
		log.Info("backend has a new address", backend, address)
	default:
		log.Info("backend joins", backend, address)
	}
	if n.advertised != "" {
		log.Warn("clients are sent to a private address, which others cannot reach; give the backend a label advertise",
			backend, slog.String("advertised", n.advertised))
	}
}

func (n *news) event() Event {
	e := Event{Kind: EventJoin, Backend: n.backend, Reason: "discovery names it, at " + n.address}
	switch {
	case n.leaves:
		e.Kind, e.Reason = EventLeave, "discovery does not name it any more; it has "+several(n.connections, "connection")
	case n.moves:
		e.Reason = "it has a new address, " + n.address
	}
	return e
}

// join makes the set the membership. It returns what that changes.
func (c *Cluster) join(set []balancer.Backend, addresses map[string]netip.AddrPort) (changes []news) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.applied.IsZero()
	c.set = set
	c.brain.Join(c.ordered(set), c.now())
	c.applied = time.Now()
	set = slices.SortedFunc(slices.Values(set), func(a, b balancer.Backend) int { return cmp.Compare(a.Name, b.Name) })
	for i := range set {
		s := &set[i]
		b := c.backends[s.Name]
		if b == nil {
			b = &backend{name: s.Name, failures: make(map[proxy.Outcome]uint64)}
			c.backends[s.Name] = b
		}
		joins, moves := c.enlist(b, s, addresses[s.Name])
		if joins || moves {
			n := news{backend: s.Name, address: s.Address, moves: moves}
			if to := b.target.Advertised; c.options.Redirect && secluded(to) {
				n.advertised = to
			}
			changes = append(changes, n)
		}
	}
	names, left := make([]string, 0, len(addresses)), []*backend(nil)
	for _, name := range slices.Sorted(maps.Keys(c.backends)) {
		if _, still := addresses[name]; still {
			names = append(names, name)
			continue
		}
		b := c.backends[name]
		if b.listed {
			left = append(left, b)
			changes = append(changes, news{backend: name, leaves: true, connections: c.brain.Connections(name)})
		}
		b.listed, b.leaving = false, false
	}
	c.terms.Load().outliers.Set(names)
	c.align()
	for _, b := range left {
		b.why = "discovery does not name it any more"
		if wait := c.options.Moves.Absence; wait > 0 {
			b.why += "; its clients go if that is so for " + wait.String()
		}
	}
	c.forgetTheGone()
	for _, b := range c.current {
		if !first && b.phase == balancer.Down && b.check.At.IsZero() && b.why == "" {
			b.why = "not checked yet"
		}
	}
	c.followDrains(c.now())
	c.followLevelling()
	for i := range changes {
		c.tell(changes[i].event())
	}
	return changes
}

// enlist takes over what discovery says about a backend. It tells whether that is new, or has a new address.
func (c *Cluster) enlist(b *backend, s *balancer.Backend, address netip.AddrPort) (joins, moves bool) {
	joins, moves = !b.listed, b.listed && b.target.Address != address
	if joins || moves {
		// Whatever was known was about another process.
		b.check, b.reading, b.latency, b.opinion = health.Report{}, scrape.Reading{}, latencies{}, health.Opinion{}
		b.load, b.util, b.level = balancer.Figure{}, balancer.Figure{}, balancer.Figure{}
	}
	if joins {
		b.since = time.Time{} // its phase begins, even if it is the one in which it left
	}
	if b.target == nil || b.target.Address != address || b.target.Advertised != advertised(s) || b.target.Host != hostOf(s) {
		b.target = &proxy.Backend{
			Cluster: c.options.Name, Name: s.Name, Address: address, Advertised: advertised(s), Sources: c.options.Sources, Header: c.options.Header,
			DialTimeout: c.options.DialTimeout, FirstByteTimeout: c.options.FirstByteTimeout,
			TLS: c.options.TLS, Host: hostOf(s),
		}
	}
	b.listed, b.address, b.leaving = true, s.Address, s.Phase == balancer.Draining
	return joins, moves
}

// hostOf is the name, or else the IP address, that a backend's certificate should have.
func hostOf(b *balancer.Backend) string {
	host, _, err := net.SplitHostPort(b.Address)
	if err != nil {
		host = b.Address
	}
	return cmp.Or(b.Host, host)
}

// align brings the cluster in line with the brain, whose snapshot may be a new one. The mutex is held.
func (c *Cluster) align() {
	s := c.brain.Snapshot()
	if s == c.snapshot.Load() {
		return
	}
	c.current = c.current[:0]
	for i := range s.Backends {
		b := c.backends[s.Backends[i].Name]
		if phase := s.Backends[i].Phase; b.since.IsZero() || phase != b.phase {
			b.phase, b.since, b.why = phase, time.Now(), ""
		}
		c.current = append(c.current, b)
	}
	c.snapshot.Store(s)
}

// forgetTheGone drops the backends that have left and whose last connection has ended. The mutex is held.
func (c *Cluster) forgetTheGone() {
	for name, b := range c.backends {
		if !b.listed {
			c.forget(name)
		}
	}
}

// forget drops a backend if it has left and its last connection has ended.
func (c *Cluster) forget(name string) {
	if c.brain.Connections(name) == 0 && c.brain.Snapshot().Index(name) < 0 {
		if b := c.backends[name]; b != nil && b.drain != nil && !b.drain.empty {
			c.drained(b)
		}
		delete(c.backends, name)
	}
}
