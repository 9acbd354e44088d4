package simulation

import (
	"math/rand/v2"
	"strconv"
)

// A client is one client of the fleet.
type client struct {
	id         string
	group      int32 // its number, or -1
	ordinal    int32 // in the group
	persistent bool
	will       bool
	rate, cost float64 // bytes a second in units of the least client, and load in the same unit

	broker  int32 // where it is, or -1
	was     int32 // where it was last
	seat    int32 // position among the clients of its broker
	forced  int32 // how often it was disconnected against its will since the event
	dropped bool  // on its own; it is on its way back
	since   int64 // when it connected
}

// fleet makes the clients of a scenario. The first are members of groups: consumers with persistent sessions
// and without a will. Of the others, three in ten have a persistent session.
func fleet(s Scenario) []client {
	random := rand.New(rand.NewPCG(s.Seed, 2))
	clients := make([]client, s.Clients)
	members := s.Groups * s.GroupSize
	for i := range clients {
		c := &clients[i]
		c.broker, c.was, c.group = -1, -1, -1
		c.rate, c.cost = s.Load.draw(random.NormFloat64, random.Float64)
		will, persistent := random.Float64() < s.Wills, random.Float64() < 0.3
		if i < members {
			c.group, c.ordinal = int32(i/s.GroupSize), int32(i%s.GroupSize)
			c.id = "worker-" + strconv.Itoa(int(c.group)) + "-" + strconv.Itoa(int(c.ordinal))
			c.persistent = true
			continue
		}
		c.id = "device-" + strconv.Itoa(i-members)
		c.will, c.persistent = will, persistent
	}
	return clients
}
