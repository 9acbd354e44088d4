package cluster

import "github.com/mqttlb/mqttlb/proxy"

// holding is what a connection that carries nothing counts for, in bytes per second: about what its PINGREQ and its
// PINGRESP make. So there is always some traffic to predict from, in one and the same unit: where clients are
// silent, or as long as nobody has measured them, the number of connections is what counts.
const holding = 1.0

// HeavyFloor is the traffic of a client in bytes per second from which on Carried wants to hear of it.
func (c *Cluster) HeavyFloor() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.brain.HeavyFloor()
}

// Carried takes in what the connections of the cluster carry, those of other clusters are ignored, and makes a new
// forecast of it. Call it every 15 s or so. Until somebody does, connections are counted instead.
func (c *Cluster) Carried(f *proxy.Flows) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.carried = true
	for _, b := range c.backends {
		b.traffic = 0
	}
	for i := range f.Backends {
		if x := &f.Backends[i]; x.Cluster == c.options.Name && c.backends[x.Backend] != nil {
			c.backends[x.Backend].traffic = x.Rate
		}
	}
	c.flow(now)
	for i := range f.Clients {
		if x := &f.Clients[i]; x.Cluster == c.options.Name {
			c.brain.Note(x.ClientID, x.Backend, x.Rate)
		}
	}
	c.predict(now)
}

// flow tells the brain what is carried now: what was measured last, with the connections that there are now.
func (c *Cluster) flow(now int64) {
	for _, b := range c.current {
		c.brain.Traffic(b.name, b.traffic+holding*float64(c.brain.Connections(b.name)), now)
	}
}

// predict makes a new forecast. It follows a measurement: a forecast is taken to have seen the traffic of all that
// are connected, and for one that has not, the heavy clients of the last seconds would not exist.
func (c *Cluster) predict(now int64) {
	if c.blind(now) {
		return
	}
	c.brain.Predict(now)
	c.predicted = now
}
