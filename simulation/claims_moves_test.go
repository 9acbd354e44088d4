package simulation

import (
	"math"
	"sync"
	"testing"
	"time"
)

func TestClaimScaleOut(t *testing.T) { prove(t, scaleOut) }
func TestClaimRolling(t *testing.T)  { prove(t, rolling6) }
func TestClaimHot(t *testing.T)      { prove(t, hotBroker) }

// movers are who is compared where clients are moved.
func moverColumns() []string {
	return []string{"mqttlb", "round robin", "least connections", "plain hash", "EMQX-style"}
}

// contest runs a scenario for all contenders.
func contest(s Scenario) []*Result {
	var out []*Result
	for _, name := range Contenders() {
		out = append(out, must(Run(s, name, nil)))
	}
	return out
}

// column reads a figure from every result.
func column(results []*Result, value func(r *Result) float64) []float64 {
	var out []float64
	for _, r := range results {
		out = append(out, value(r))
	}
	return out
}

func withinOf(r *Result) float64 {
	if !r.Balanced {
		return math.Inf(1)
	}
	return r.Within.Seconds()
}

var scaleOut = sync.OnceValue(func() claim {
	results := contest(Scenario{
		Backends: 6, Clients: times(100_000), Groups: 100, GroupSize: 6, Event: Join, Rate: float64(times(100)), Duration: time.Hour, Seed: 1,
	})
	return claim{
		test:    "TestClaimScaleOut",
		says:    "A seventh broker gets its share with the least number of disconnects, and everybody stays sticky",
		model:   "100 000 clients, among them 100 groups of 6; 100 disconnects a second at most. In disconnects least connections and EMQX are equal; the difference is where clients come back later. What is missing from 100 % are clients of the new broker that were not moved because all were within 5 %: they go there when they reconnect. mqttlb lets the new broker settle for half a minute and then ramps it up.",
		columns: moverColumns(),
		figures: []figure{
			{what: "disconnects", limit: absent(), values: column(results, func(r *Result) float64 { return float64(r.Disconnects) })},
			{what: "in terms of the minimum", decimals: 2, limit: 1.02, values: column(results, func(r *Result) float64 { return float64(r.Disconnects) / float64(r.Minimum) })},
			{what: "clients moved twice or more", limit: 0, values: column(results, func(r *Result) float64 { return float64(r.MovedTwice) })},
			{what: "most disconnects of one client", limit: 1, values: column(results, func(r *Result) float64 { return float64(r.Worst) })},
			{what: "later reconnects on the same broker", unit: " %", decimals: 1, limit: 99, least: true, values: column(results, func(r *Result) float64 { return 100 * r.SameNode })},
			{what: "… of the clients that were moved", unit: " %", decimals: 1, limit: 100, least: true, values: column(results, func(r *Result) float64 { return 100 * r.SameNodeMoved })},
			{what: "time until within 5 %", unit: " s", limit: absent(), values: column(results, withinOf)},
			{what: "largest difference between two brokers' members of a group", limit: 1, values: column(results, func(r *Result) float64 { return float64(r.GroupSpread) })},
		},
	}
})

var rolling6 = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimRolling",
		says:    "A rolling update disconnects hardly anybody twice",
		model:   "60 000 clients on 6 brokers that are restarted one after the other, with and without a seventh one for the time of the update, until all are within 5 % again. The least possible is 1.17 with a surge and 1.33 without; least connections and EMQX reach that too, because every broker is back and empty before the next one goes; without a drain the clients of a broker come back all at once. Stickiness is lost for everybody: after an update clients sit where there was room, and go home when they reconnect.",
		columns: moverColumns(),
	}
	for _, surge := range []bool{true, false} {
		results := contest(Scenario{
			Backends: 6, Clients: times(60_000), GroupSize: 1, Event: Rolling, Rate: float64(times(100)), Surge: surge, Duration: 2 * time.Hour, Seed: 3,
		})
		name, limits := "with a surge: ", []float64{1.2, 1.1}
		if !surge {
			name, limits = "without: ", []float64{1.4, 1.35}
		}
		c.figures = append(c.figures,
			figure{what: name + "disconnects per client", decimals: 2, limit: limits[0], values: column(results, func(r *Result) float64 { return float64(r.Disconnects) / float64(r.Clients) })},
			figure{what: "… until the last restart, before the brokers are evened out", decimals: 2, limit: absent(), values: column(results, func(r *Result) float64 { return float64(r.During) / float64(r.Clients) })},
			figure{what: "clients hit twice or more", unit: " %", limit: absent(), values: column(results, func(r *Result) float64 { return 100 * float64(r.MovedTwice) / float64(r.Clients) })},
			figure{what: "most disconnects of one client", limit: absent(), values: column(results, func(r *Result) float64 { return float64(r.Worst) })},
			figure{what: "peak load of a broker in terms of the mean before", decimals: 2, limit: limits[1], values: column(results, func(r *Result) float64 { return r.PeakLoad })},
			figure{what: "most connects in one second", limit: float64(times(200)), values: column(results, func(r *Result) float64 { return float64(r.PeakConnects) })},
			figure{what: "time until within 5 %", unit: " min", limit: absent(), values: column(results, func(r *Result) float64 { return withinOf(r) / 60 })},
		)
	}
	return c
})

// leastLoad is random eviction that knows where the load is: clients go to the broker with the least.
func leastLoad(w *world) (contender, error) {
	return &plain{w: w, pick: func(_ int32, tried []int) int {
		best := -1
		for b := range w.brokers {
			if w.usable(b, tried) && (best < 0 || w.brokers[b].load < w.brokers[best].load) {
				best = b
			}
		}
		return best
	}}, nil
}

var hotBroker = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimHot",
		says:    "A hot broker is cooled with few disconnects",
		model:   "20 000 clients on 6 brokers, 1200 of them in groups of 5, cost = traffic × lognormal(0.5); the clients of one broker become so busy that it has 1.5 times the mean load. mqttlb moves members of shared subscriptions first, 1 a second, as long as the broker is HOT. Random evictions (10 a second, next to the least loaded broker) and the costliest clients first, if somebody knew them, until the broker has at most 1.05 times the mean; means of 5 runs. Round robin, least connections and EMQX balance connections: they do not notice, and least connections sends an evicted client back at once.",
		columns: []string{"mqttlb", "random evictions", "costliest first"},
	}
	for _, load := range []struct {
		name, what   string
		moves, after float64
	}{{"heavy", "1 % are 50 times as busy", 175, 1.1}, {"pareto", "Pareto 1.2", 175, 1.1}, {"equal", "all equal", absent(), absent()}} {
		var moves, after [3]float64
		runs := times(5)
		for run := range runs {
			s := Scenario{
				Backends: 6, Clients: 20_000, Groups: 240, GroupSize: 5, Event: Hot, Rate: 10, Duration: 30 * time.Minute, Seed: uint64(run),
			}
			s.Load = must(LoadNamed(load.name))
			if load.name == "equal" {
				s.Load.Sigma = 0.5
			}
			for k, enter := range []func(w *world) (contender, error){
				func(w *world) (contender, error) { return newBrained(w, brainOptions(w)) }, leastLoad,
			} {
				w := play(s, enter, func(*world) {})
				total, n := w.sum(true)
				moves[k] += float64(w.record.disconnects) / float64(runs)
				after[k] += w.brokers[0].load * float64(n) / total / float64(runs)
				if k == 1 {
					moves[2] += float64(w.record.needed) / float64(runs)
				}
			}
		}
		after[2] = 1 + tolerance
		c.figures = append(c.figures,
			figure{what: load.what + ": disconnects", limit: load.moves, values: moves[:]},
			figure{what: "load of the broker afterwards in terms of the mean", decimals: 2, limit: load.after, values: after[:]},
		)
	}
	return c
})
