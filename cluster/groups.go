package cluster

import (
	"runtime"
	"slices"

	"github.com/mqttlb/mqttlb/balancer"
)

// A GroupStatus shows who of one shared-subscription group sits where.
type GroupStatus struct {
	Name string `json:"group"`
	// Members are connected now; Leased are the seats that are kept for members that are away.
	Members int `json:"members"`
	Leased  int `json:"leased"`
	// Spread is the greatest difference of members between two usable backends of equal weight: 0 or 1 is as even
	// as it gets.
	Spread int `json:"spread"`
	// Backends are sorted by name. Those with neither members nor a share are left out.
	Backends []GroupShare `json:"backends"`
	// Elsewhere counts members on backends that discovery does not name any more.
	Elsewhere int `json:"elsewhere,omitempty"`
}

// A GroupShare is the part of a group on one backend.
type GroupShare struct {
	Backend string `json:"backend"`
	Members int    `json:"members"`
	Leased  int    `json:"leased"`
	// Share is the part of the members that the weights give to the backend, 0…1; 0 if it takes none.
	Share float64 `json:"share"`
}

// groupsPerLock is how many groups are looked at while clients wait for the mutex: some 0.1 ms. All that there can
// be, 65 536, take 30 ms.
const groupsPerLock = 256

// Groups lists the groups that have a seat in the order of their names, at most limit of them. more tells that
// there are more.
func (c *Cluster) Groups(limit int) (list []GroupStatus, more bool) {
	var names []string
	c.eachGroup(func(v *balancer.GroupView) { names = append(names, v.Name) })
	slices.Sort(names)
	if more = len(names) > limit; more {
		names = names[:limit]
	}
	list = make([]GroupStatus, 0, len(names))
	for some := range slices.Chunk(names, groupsPerLock) {
		list = c.showGroups(list, some)
	}
	return list, more
}

// Group shows one group; known tells whether it has a seat.
func (c *Cluster) Group(name string) (g GroupStatus, known bool) {
	list := c.showGroups(nil, []string{name})
	if len(list) == 0 {
		return g, false
	}
	return list[0], true
}

func (c *Cluster) showGroups(list []GroupStatus, names []string) []GroupStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, s, shares := c.now(), c.brain.Snapshot(), c.brain.FairShares()
	for _, name := range names {
		v, known := c.brain.Group(name, now)
		if !known {
			continue // it has ended in the meantime
		}
		g := GroupStatus{Name: v.Name, Members: v.Members, Leased: v.Away, Spread: v.Spread, Elsewhere: v.Elsewhere, Backends: []GroupShare{}}
		for i := range s.Backends {
			if v.Live[i]+v.Leased[i] > 0 || shares[i] > 0 {
				g.Backends = append(g.Backends, GroupShare{Backend: s.Backends[i].Name, Members: v.Live[i], Leased: v.Leased[i], Share: shares[i]})
			}
		}
		list = append(list, g)
	}
	return list
}

// GroupSpread is the largest GroupStatus.Spread of all groups.
func (c *Cluster) GroupSpread() int {
	spread := 0
	c.eachGroup(func(v *balancer.GroupView) { spread = max(spread, v.Spread) })
	return spread
}

// eachGroup looks at all groups and lets clients in between.
func (c *Cluster) eachGroup(look func(*balancer.GroupView)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for v := range c.brain.AllGroups(c.now()) {
		look(v)
		if n++; n%groupsPerLock == 0 {
			c.mu.Unlock()
			runtime.Gosched() // or those who wait would hardly ever be faster than this loop
			c.mu.Lock()
		}
	}
}
