package simulation

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestClaimJoining(t *testing.T)    { prove(t, joining) }
func TestClaimFatClients(t *testing.T) { prove(t, fatClients) }

// inverse deals connections in a weighted rotation with weights of one over the last load figure.
type inverse struct {
	w        *world
	rotation balancer.Strategy
	snapshot *balancer.Snapshot
	seats    *balancer.Seats
	at       []int
}

func newInverse(w *world) (contender, error) {
	rotation, err := balancer.New("round-robin", balancer.Options{Seed: w.s.Seed})
	return &inverse{w: w, rotation: rotation}, err
}

func (v *inverse) place(int32, []int) int {
	i, _ := v.rotation.Pick(balancer.Client{}, v.snapshot, v.seats)
	return v.at[i]
}
func (v *inverse) gone(int32, int, ending) {}
func (v *inverse) moves() []int32          { return nil }

func (v *inverse) tick() {
	if v.snapshot != nil && v.w.now%scrapes != 0 && len(v.at) == len(v.w.brokers) {
		return
	}
	var set []balancer.Backend
	for b := range v.w.brokers {
		k := &v.w.brokers[b]
		figure := max(k.figure, 0.02) // one that has not reported yet, or is idle, is not infinitely attractive
		set = append(set, balancer.Backend{Name: k.name, Capacity: 1 / figure})
	}
	v.snapshot = balancer.NewSnapshot(1, "", set)
	v.seats = balancer.NewSeats(v.snapshot)
	v.at = make([]int, len(set))
	for b := range v.w.brokers {
		v.at[v.snapshot.Index(v.w.brokers[b].name)] = b
	}
}

// metricWRR is the strategy metric-wrr of mqttlb, without a Mover.
func metricWRR(w *world) (contender, error) {
	o := brainOptions(w)
	o.Strategy = "metric-wrr"
	return newUnmoved(w, o)
}

// idle keeps whoever is behind it from moving clients.
type idle struct{ contender }

func (idle) moves() []int32 { return nil }

func unmoved(enter func(w *world) *plain) func(w *world) (contender, error) {
	return func(w *world) (contender, error) { return idle{enter(w)}, nil }
}

var joining = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimJoining",
		says:    "metric-wrr does not flood a joining broker, although load figures are means of five minutes",
		model:   "A seventh broker joins six; 20 000 clients without stickiness, 1 % of them 50 times as busy, which reconnect every 5, 10 or 30 minutes; nobody is moved. The greatest load of the newcomer within 20 minutes in terms of its fair load, and its greatest part of a minute's connects; means of 3 runs.",
		columns: []string{"mqttlb", "round robin", "least connections", "1 / load"},
	}
	enter := []func(w *world) (contender, error){metricWRR, unmoved(newRoundRobin), unmoved(newLeastConnections), newInverse}
	for _, gap := range []time.Duration{5 * time.Minute, 10 * time.Minute, 30 * time.Minute} {
		load, connects := make([]float64, len(enter)), make([]float64, len(enter))
		runs := times(3)
		for k := range enter {
			for run := range runs {
				l, n := newcomer(enter[k], uint64(run), gap)
				load[k], connects[k] = load[k]+l/float64(runs), connects[k]+100*n/float64(runs)
			}
		}
		c.figures = append(c.figures,
			figure{what: fmt.Sprintf("reconnects every %.0f min: load", gap.Minutes()), decimals: 2, limit: 1.15, values: load},
			figure{what: "part of a minute's connects", unit: " %", limit: 50, values: connects},
		)
	}
	return c
})

// newcomer lets a broker join and returns the most that it gets of load and connects.
func newcomer(enter func(w *world) (contender, error), seed uint64, gap time.Duration) (load, connects float64) {
	s := Scenario{
		Backends: 6, Clients: 20_000, GroupSize: 1, Load: Load{Part: 0.01, Times: 50}, Event: Join, Rate: 100,
		Reconnect: gap, Duration: 20 * time.Minute, Seed: seed,
	}
	var minute [60][2]int // arrivals until each of the last 60 seconds: of the newcomer, of all
	play(s, enter, func(w *world) {
		if !w.happened {
			return
		}
		last := &w.brokers[len(w.brokers)-1]
		total, n := w.sum(true)
		load = max(load, last.load*float64(n)/total)
		arrived := [2]int{last.arrived, 0}
		for b := range w.brokers {
			arrived[1] += w.brokers[b].arrived
		}
		at := w.now / second
		if before := minute[at%60]; at >= w.start/second+60 && arrived[1] > before[1] {
			connects = max(connects, float64(arrived[0]-before[0])/float64(arrived[1]-before[1]))
		}
		minute[at%60] = arrived
	})
	return load, connects
}

// play runs a scenario until its end.
func play(s Scenario, enter func(w *world) (contender, error), watch func(w *world)) *world {
	w := must(newWorld(s, enter))
	w.record.every = 1 << 40
	w.connectAll()
	w.run(w.start+int64(s.Duration), func() { watch(w) })
	return w
}

var fatClients = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimFatClients",
		says:    "Some dozens of heavy clients do not make a broker the busiest",
		model:   "4000 clients on 6 brokers, 1 % of them 50 or 200 times as busy, cost = traffic × lognormal(0.5), which nobody knows; they reconnect every 30 minutes, nobody is moved. The last of three hours; means of 8 runs.",
		columns: []string{"mqttlb", "round robin", "least connections", "plain hash"},
	}
	enter := []func(w *world) (contender, error){
		func(w *world) (contender, error) { return newUnmoved(w, brainOptions(w)) },
		unmoved(newRoundRobin), unmoved(newLeastConnections), unmoved(newHash),
	}
	for _, heavier := range []float64{50, 200} {
		load, same := make([]float64, len(enter)), make([]float64, len(enter))
		runs := times(8)
		for k := range enter {
			for run := range runs {
				l, n := heaviest(enter[k], uint64(run), heavier)
				load[k], same[k] = load[k]+l/float64(runs), same[k]+100*n/float64(runs)
			}
		}
		c.figures = append(c.figures,
			figure{what: fmt.Sprintf("%.0f times as busy: load of the busiest broker in terms of the mean", heavier), decimals: 2, limit: 1.08, values: load},
			figure{what: "reconnects on the same broker", decimals: 1, unit: " %", limit: 99.5, least: true, values: same},
		)
	}
	return c
})

// heaviest runs a fleet with heavy clients for hours and returns the mean load of the busiest broker and the
// part of the reconnects that stayed, both in the last hour.
func heaviest(enter func(w *world) (contender, error), seed uint64, heavier float64) (load, same float64) {
	const hours = 3
	s := Scenario{
		Backends: 6, Clients: 4000, GroupSize: 1, Load: Load{Part: 0.01, Times: heavier, Sigma: 0.5}, Event: None,
		Rate: 100, Reconnect: 30 * time.Minute, Duration: hours * time.Hour, Seed: seed,
	}
	seconds := 0.0
	w := play(s, enter, func(w *world) {
		since := (w.now - w.start) / second
		if since == (hours-1)*3600 {
			w.record.returned, w.record.same = 0, 0
		}
		if since > (hours-1)*3600 {
			_, greatest := w.extremes(true)
			load += greatest
			seconds++
		}
	})
	return load / seconds, float64(w.record.same) / float64(w.record.returned)
}
