package simulation

import (
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestClaimRemoval(t *testing.T)   { prove(t, removal) }
func TestClaimDrain(t *testing.T)     { prove(t, drain) }
func TestClaimSmallJoin(t *testing.T) { prove(t, smallJoin) }

// A course is what came of a run in which clients were moved.
type course struct {
	w     *world
	moves []int // disconnects until each second from the event on
}

// follow runs a scenario with mqttlb and notes its course.
func follow(s Scenario, o balancer.MoverOptions, event func(w *world, b *brained)) course {
	var b *brained
	var c course
	c.w = play(s, func(w *world) (contender, error) {
		b = must(newBrained(w, brainOptions(w)))
		b.mover = balancer.NewMover(b.brain, o, w.now)
		if event != nil {
			w.story = &once{w: w, act: func() { event(w, b) }}
		}
		return b, nil
	}, func(w *world) {
		if w.happened {
			c.moves = append(c.moves, w.record.disconnects)
		}
	})
	return c
}

// rate is the moves per second while the middle nine tenths of all were made: the beginning is a burst, and the end waits
// for the last to come back.
func (c course) rate() float64 {
	all, from, to := c.moves[len(c.moves)-1], 0, 0
	for second, n := range c.moves {
		if 20*n <= all {
			from = second
		}
		if 20*n <= 19*all {
			to = second
		}
	}
	return float64(c.moves[to]-c.moves[from]) / float64(max(1, to-from))
}

// twice counts the clients that were disconnected more than once.
func (c course) twice() (n int) {
	for i := range c.w.clients {
		if c.w.clients[i].forced > 1 {
			n++
		}
	}
	return n
}

// off is by which part a rate differs from what it should be.
func off(rate, want float64) float64 { return max(rate/want, want/rate) - 1 }

// emptied is the figures of a claim about a broker that was emptied, broker 0, which had so many clients.
func emptied(name string, c course, had int, rate float64) []figure {
	return []figure{
		{what: name + ": clients on it in the end", limit: 0, values: []float64{float64(len(c.w.brokers[0].clients))}},
		{what: "… disconnects for each client that it had", decimals: 2, limit: 1, values: []float64{float64(c.w.record.disconnects) / float64(had)}},
		{what: "… clients moved twice or more", limit: 0, values: []float64{float64(c.twice())}},
		{what: "… moves per second", decimals: 1, limit: absent(), values: []float64{c.rate()}},
		{what: "… how far that is from the configured rate", decimals: 1, unit: " %", limit: 15, values: []float64{100 * off(c.rate(), rate)}},
	}
}

var removal = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimRemoval",
		says:    "A broker that discovery does not name any more is emptied at the usual rate, and nobody moves twice",
		model:   "30 000 clients on 4 brokers, among them 100 groups of 6; one is taken out of the list and goes on working. One broker is emptied at half of the rate of the cluster, which is 100 a second here.",
		columns: []string{"mqttlb"},
	}
	had := 0
	s := Scenario{Backends: 4, Clients: times(30_000), Groups: 100, GroupSize: 6, Event: None, Rate: float64(times(100)), Duration: 20 * time.Minute, Seed: 4}
	run := follow(s, balancer.MoverOptions{Rate: s.Rate}, func(w *world, _ *brained) {
		had = len(w.brokers[0].clients)
		w.brokers[0].listed = false
	})
	c.figures = append(emptied("the broker", run, had, s.Rate/2),
		figure{what: "… largest difference between two others' members of a group, in the end", limit: 1, values: []float64{float64(run.w.spread())}})
	return c
})

var drain = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimDrain",
		says:    "A broker that an operator drains is emptied at the rate that was asked for, be it above that of the cluster",
		model:   "As before, but the broker stays in the list. Up to a fiftieth of all clients may be away at once; they come back after two seconds in the mean, so that more than 300 a second cannot be moved.",
		columns: []string{"mqttlb"},
	}
	for _, k := range []struct {
		name string
		rate float64
	}{{"10 a second", 10}, {"200 a second, twice that of the cluster", 200}} {
		had, rate := 0, k.rate*float64(times(1))
		s := Scenario{Backends: 4, Clients: times(30_000), Groups: 100, GroupSize: 6, Event: None, Rate: float64(times(100)), Duration: 20 * time.Minute, Seed: 5}
		run := follow(s, balancer.MoverOptions{Rate: s.Rate}, func(w *world, b *brained) {
			had = len(w.brokers[0].clients)
			b.known[0].now.Drain = true
			b.mover.SetRate(w.brokers[0].name, rate)
		})
		c.figures = append(c.figures, emptied(k.name, run, had, rate)...)
	}
	return c
})

var smallJoin = sync.OnceValue(func() claim {
	s := Scenario{Backends: 3, Clients: 1200, GroupSize: 1, Event: Join, Rate: 2, Duration: 20 * time.Minute, Seed: 6}
	run := follow(s, balancer.MoverOptions{Rate: s.Rate}, nil)
	fair := float64(s.Clients) / float64(s.Backends+1)
	return claim{
		test:    "TestClaimSmallJoin",
		says:    "A fourth broker gets its share of a small cluster",
		model:   "1200 clients on 3 brokers, 2 moves a second. More than 24 clients may not be away at once, and the broker ramps up for two minutes, so that much more than that cannot be moved.",
		columns: []string{"mqttlb"},
		figures: []figure{
			{what: "disconnects in terms of the minimum", decimals: 2, limit: 1.05, values: []float64{float64(run.w.record.disconnects) / float64(run.w.record.needed)}},
			{what: "clients of the new broker in terms of its share", decimals: 2, limit: 0.95, least: true, values: []float64{float64(len(run.w.brokers[3].clients)) / fair}},
			{what: "clients moved twice or more", limit: 0, values: []float64{float64(run.twice())}},
			{what: "moves per second", decimals: 1, limit: absent(), values: []float64{run.rate()}},
			{what: "how far that is from the configured rate", decimals: 1, unit: " %", limit: 15, values: []float64{100 * off(run.rate(), s.Rate)}},
		},
	}
})
