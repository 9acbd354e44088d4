package simulation

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestClaimFlapping(t *testing.T) { prove(t, flapping) }
func TestClaimReaction(t *testing.T) { prove(t, reaction) }

// A wave is a value around zero that forgets where it was with a time constant, sampled every 5 s.
type wave struct {
	random        *rand.Rand
	value         float64
	spread, holds float64
}

func (v *wave) next() float64 {
	a := math.Exp(-5 / v.holds)
	v.value = a*v.value + v.spread*math.Sqrt(1-a*a)*v.random.NormFloat64()
	return v.value
}

func waves(seed uint64, holds float64) []wave {
	out := make([]wave, 6)
	for i := range out {
		out[i] = wave{random: rand.New(rand.NewPCG(seed, uint64(i))), spread: 0.04, holds: holds}
	}
	return out
}

// watched is a Brain with six brokers, whose health is told to it.
func watched(now int64) *balancer.Brain {
	b := must(balancer.NewBrain(balancer.BrainOptions{Watched: true}, now))
	b.Join(equal(6), now)
	return b
}

// busy tells a Brain how busy backend i is.
func busy(b *balancer.Brain, i int, part float64, now int64) {
	b.Vital(b.Snapshot().Backends[i].Name, balancer.Vitals{Passed: true, Util: balancer.Figure{Value: part, At: now}})
}

// hots counts the hot backends.
func hots(b *balancer.Brain) int {
	n := 0
	for i := range b.Snapshot().Backends {
		if b.Snapshot().Backends[i].Phase == balancer.Hot {
			n++
		}
	}
	return n
}

// A threshold is the usual way to tell who is overloaded: above one limit until below another.
type threshold struct {
	enter, leave float64
	above        [6]bool
	any          bool
	changes      int
}

func (h *threshold) look(parts []float64) {
	any := false
	for i, p := range parts {
		if p >= h.enter {
			h.above[i] = true
		} else if p < h.leave {
			h.above[i] = false
		}
		any = any || h.above[i]
	}
	if any != h.any {
		h.any = any
		h.changes++
	}
}

var flapping = sync.OnceValue(func() claim {
	c := claim{
		test:    "TestClaimFlapping",
		says:    "A cluster that is busy but not overloaded does not flap",
		model:   "6 brokers at 74 % with noise of 4 %, sampled every 5 s; changes a day.",
		columns: []string{"mqttlb", "one threshold, 80 %", "85 % to enter, 75 % to leave"},
	}
	for _, run := range []struct {
		what  string
		holds float64
		days  int
	}{{"noise that lasts 30 s", 30, 4}, {"noise that lasts 10 min", 600, 14}} {
		days := int64(times(run.days))
		brain, noises := watched(5*second), waves(13, run.holds)
		plain := []threshold{{enter: 0.8, leave: 0.8}, {enter: 0.85, leave: 0.75}}
		hot, cluster, parts := threshold{enter: 1, leave: 1}, 0, make([]float64, 6)
		for now := 10 * second; now < days*86400*second; now += 5 * second {
			for i := range parts {
				parts[i] = 0.74 + noises[i].next()
				busy(brain, i, parts[i], now)
			}
			for _, change := range brain.Tick(now) {
				if change.Backend == "" {
					cluster++
				}
			}
			hot.look([]float64{float64(hots(brain))})
			for k := range plain {
				plain[k].look(parts)
			}
		}
		day := func(n int) float64 { return float64(n) / float64(days) }
		c.figures = append(c.figures,
			figure{what: run.what + ": changes of \"one is hot\"", decimals: 1, limit: 15, values: []float64{day(hot.changes), day(plain[0].changes), day(plain[1].changes)}},
			figure{what: "changes of the cluster's state", decimals: 1, limit: 15, values: []float64{day(cluster), absent(), absent()}},
		)
	}
	return c
})

var reaction = sync.OnceValue(func() claim {
	var one, half, mean float64
	runs := times(200)
	for run := range runs {
		a, b, c := step90(uint64(run))
		one, half, mean = one+a/float64(runs), half+b/float64(runs), mean+c/float64(runs)
	}
	return claim{
		test:    "TestClaimReaction",
		says:    "An overload is noticed within 45 seconds",
		model:   "6 brokers step from 60 to 90 % with noise of 4 %; the mean of 200 runs. The same rules with figures that are means of five minutes, as exporters give them, are for comparison.",
		columns: []string{"mqttlb", "with means of five minutes"},
		figures: []figure{
			{what: "a broker is HOT after", unit: " s", limit: 45, values: []float64{one, mean}},
			{what: "the cluster is OVERLOADED after", unit: " s", limit: 45, values: []float64{half, absent()}},
		},
	}
})

// step90 lets the load step from 60 to 90 % and returns after how many seconds one backend is hot, the cluster
// is overloaded, and one is hot by means of five minutes.
func step90(seed uint64) (one, overloaded, byMean float64) {
	const start = 1000 * second
	fast, slow, noises := watched(5*second), watched(5*second), waves(seed, 30)
	var past [60]float64
	sum := 0.0
	for now, n := start-600*second, 0; one == 0 || overloaded == 0 || byMean == 0; now, n = now+5*second, n+1 {
		level := 0.6
		if now >= start {
			level = 0.9
		}
		for i := range noises {
			part := level + noises[i].next()
			busy(fast, i, part, now)
			if i == 0 {
				sum += part - past[n%60]
				past[n%60] = part
				busy(slow, 0, sum/60, now)
			}
		}
		fast.Tick(now)
		slow.Tick(now)
		after := max(float64(now-start)/float64(second), 0.1)
		if one == 0 && fast.Snapshot().Backends[0].Phase == balancer.Hot {
			one = after
		}
		if overloaded == 0 && fast.State().Cluster == balancer.Overloaded {
			overloaded = after
		}
		if byMean == 0 && hots(slow) > 0 {
			byMean = after
		}
	}
	return one, overloaded, byMean
}
