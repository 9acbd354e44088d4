package cluster

import (
	"log/slog"
	"slices"
	"time"
)

// losses is what has been told of lost clients.
type losses struct {
	told   int   // as events
	logged int   // in the log …
	at     int64 // … and when
}

// lossesEvery is the time between two lines of the log about lost clients. The lines do not name them: that is for the
// access log, which knows what may be shown of client ids, and for Lost.
const lossesEvery = int64(time.Minute)

// followLosses tells of clients that have been moved and have not come again. The mutex is held.
func (c *Cluster) followLosses(now int64) {
	l := &c.losses
	count, latest := c.mover.Lost()
	if count > l.told {
		for _, x := range latest[max(0, len(latest)-(count-l.told)):] {
			c.tell(Event{
				Kind: EventLost, Backend: x.From, ClientID: x.Client, From: x.From, To: x.To,
				Reason: "it was moved and has not come again within five minutes",
			})
		}
		l.told = count
	}
	if l.told > l.logged && (l.at == 0 || now-l.at >= lossesEvery) {
		c.say(slog.LevelWarn, "clients that were moved have not come again within five minutes", slog.Int("clients", l.told-l.logged))
		l.logged, l.at = l.told, now
	}
}

// returned passes on how long the clients were away that have come again.
func (c *Cluster) returned() {
	for _, after := range c.returns() {
		c.options.Observer.Returned(c.options.Name, time.Duration(after))
	}
}

func (c *Cluster) returns() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mover.Returns())
}
