package cluster

import (
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// An intake is what protects a cluster in state OVERLOADED from newcomers. There is nowhere to go for anybody then, so
// who has something in the cluster comes first: a session, a place in a group, or messages that it has counted on before.
// Of the others so many per second are taken in, and the rest is refused, to come again later (algorithms.md, 6).
// It is a bucket of tokens that holds those of a second.
type intake struct {
	tokens float64
	at     int64
}

// turnsAway tells whether a client that has just come has to come again later. The mutex is held.
func (c *Cluster) turnsAway(client *balancer.Client, now int64) bool {
	rate := c.options.OverloadedConnects
	if rate == 0 || c.brain.State().Cluster != balancer.Overloaded || c.brain.Regular(*client, now) {
		return false
	}
	return !c.intake.takes(rate, now)
}

// takes tells whether one more may come in, and counts it.
func (i *intake) takes(rate float64, now int64) bool {
	most := max(1, rate)
	if i.at == 0 {
		i.tokens = most
	}
	i.tokens = min(most, i.tokens+rate*time.Duration(now-i.at).Seconds())
	i.at = now
	if i.tokens < 1 {
		return false
	}
	i.tokens--
	return true
}
