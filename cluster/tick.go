package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	tickEvery    = time.Second                  // how often phases and state follow the time (algorithms.md, 6)
	predictEvery = 15 * time.Second             // how often there is a new forecast (algorithms.md, 7: scrape)
	predictAfter = int64(predictEvery) * 9 / 10 // a tick that comes a little early still counts
)

// RunClock calls Tick every second until ctx is done.
func (c *Cluster) RunClock(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			c.Tick()
		}
	}
}

// Tick lets the state of the cluster and the phases of its backends follow the time, and logs what has changed.
func (c *Cluster) Tick() {
	turns, circuits, stood := c.tick()
	if stood > 0 {
		c.log.Warn("the process stood still; what seems to have happened meanwhile does not count",
			slog.String("for", time.Duration(stood).Round(time.Second).String()))
	}
	for i := range turns {
		turns[i].log(c.log)
	}
	for i := range circuits {
		circuits[i].log(c.log)
	}
	c.returned()
	c.deliver()
	c.stir()
}

// tick returns what has changed, and how long the process stood still, if it has.
func (c *Cluster) tick() (turns []turn, circuits []circuitTurn, stood int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	stood = c.moveOn(now)
	c.flow(now)
	every := predictAfter
	if c.carried {
		every *= 2 // whoever measures is late, or gone
	}
	if c.predicted == 0 || now-c.predicted >= every {
		c.predict(now)
	}
	if c.options.Watched {
		c.vital(now)
	}
	c.endPlaces(now)
	changes := c.brain.Tick(now)
	c.align()
	c.forgetTheGone()
	for _, change := range changes {
		t := turn{Change: change}
		if b := c.backends[change.Backend]; b != nil {
			t.why, t.grave = c.whyNow(b, change.From, now), b.phase == balancer.Down || b.phase == balancer.Hot
			b.why = t.why
		} else if change.Backend == "" {
			c.since = time.Now()
			if c.brain.State().Forced {
				t.why = "an operator wants it"
			}
			t.grave = c.brain.State().Cluster >= balancer.Overloaded
		}
		turns = append(turns, t)
		c.tell(t.event())
	}
	c.followDrains(now)
	c.followLevelling()
	c.followLosses(now)
	return turns, c.followCircuits(now), stood
}

// A turn is a Change with its reason. Those that are grave are warnings.
type turn struct {
	balancer.Change
	why   string
	grave bool
}

func (t *turn) event() Event {
	e := Event{Kind: EventPhase, Backend: t.Backend, From: t.From, To: t.To, Reason: t.why}
	if t.Backend == "" {
		e.Kind = EventState
	}
	return e
}

func (t *turn) log(log *slog.Logger) {
	level := slog.LevelInfo
	if t.grave {
		level = slog.LevelWarn
	}
	from, to := slog.String("from", t.From), slog.String("to", t.To)
	if t.Backend == "" {
		log.LogAttrs(context.Background(), level, "the cluster's state has changed", from, to)
		return
	}
	log.LogAttrs(context.Background(), level, "a backend's phase has changed",
		slog.String("backend", t.Backend), from, to, slog.String("reason", t.why))
}

// Force makes the cluster have a state (balanced, scaling, rolling, overloaded, degraded) until Force("auto").
func (c *Cluster) Force(state string) error {
	f, err := balancer.ParseForce(state)
	if err != nil {
		return fmt.Errorf("cluster %s: %w", c.options.Name, err)
	}
	c.force(f)
	c.Tick()
	return nil
}

func (c *Cluster) force(f balancer.Force) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.brain.Force(f)
}

// A standstill of the process, suspended, or stopped by a signal: when it goes on, all deadlines have passed at once,
// and all figures are old, whatever the brokers did (protocol.md, 9.2: T2).
type standstill struct {
	ticked int64 // the last tick, 0 before the first
	ended  int64 // when the last standstill was noticed, 0 if there was none
}

const (
	noticeable   = int64(5 * time.Second)  // between two ticks
	doubtfulFor  = int64(2 * time.Second)  // after a standstill, nothing is blamed on a broker
	figuresAfter = int64(20 * time.Second) // … and figures need not be new
)

// doubtful tells whether the process stands still in these moments, as far as can be told from what is heard of.
func (s *standstill) doubtful(now int64) bool {
	return s.ticked != 0 && now-s.ticked > noticeable || s.ended != 0 && now-s.ended < doubtfulFor
}

// blind tells whether figures are missing because nobody could ask for them.
func (s *standstill) blind(now int64) bool {
	return s.ticked != 0 && now-s.ticked > noticeable || s.ended != 0 && now-s.ended < figuresAfter
}

// moveOn notes a tick, and forgets what happened around a standstill. It returns how long that was.
func (c *Cluster) moveOn(now int64) int64 {
	gap := now - c.ticked
	if c.ticked == 0 || gap <= noticeable {
		gap = 0
	}
	c.ticked = now
	if gap > 0 {
		c.ended = now
		c.terms.Load().outliers.Forgive()
		for _, b := range c.backends {
			b.latency = latencies{}
		}
	}
	return gap
}
