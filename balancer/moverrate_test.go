package balancer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// paced is a world in which the clients of n0 are moved and come back so quickly that only the rate counts.
func paced(t *testing.T, seed uint64, o MoverOptions, clients int) *planWorld {
	t.Helper()
	o.InFlight = 0.5
	w := newPlanWorld(t, seed, BrainOptions{Watched: true, Strategy: "round-robin"}, o, 4)
	w.delay = 0.05
	for _, name := range []string{"n1", "n2", "n3"} { // all begin on n0
		w.vitals[name] = Vitals{FailedChecks: 9}
	}
	w.run(1, nil)
	w.fill(clients, nil)
	for _, name := range []string{"n1", "n2", "n3"} {
		w.vitals[name] = Vitals{Passed: true}
	}
	w.b.o.Phases.Settle, w.b.o.Phases.Ramp = second, second
	w.run(5, nil)
	w.b.Force(Force{State: Balanced, On: true})
	return w
}

// measured is how many clients per second are moved within the next so many seconds, after the first of them.
func measured(w *planWorld, seconds int) float64 {
	w.run(60, func() bool { return w.moves > 0 })
	w.run(2, nil) // the first burst
	was := w.moves
	w.run(seconds, nil)
	return float64(w.moves-was) / float64(seconds)
}

// Whatever rate is configured is reached, for one backend that is emptied in the usual course of things, at an ordered
// rate, be it below or above the cluster's, and by one of several instances.
func TestMoverReachesItsRateQuick(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 14))
	rates := []float64{1, 1.3, 2, 3.5, 6, 7, 9.99, 12, 23, 50, 77, 100, 250, 333, 500}
	for range 10 {
		rates = append(rates, math.Exp(random.Float64()*math.Log(500)))
	}
	for k, rate := range rates {
		if k%fewer > 0 {
			continue
		}
		seconds := int(max(10, min(100, 60/rate*5)))
		instances := 1 + k%3
		for _, test := range []struct {
			what    string
			o       MoverOptions
			ordered float64
		}{
			{"the cluster's rate", MoverOptions{Rate: rate, PerBackend: 10_000}, 0},
			{"half of it for one backend", MoverOptions{Rate: 2 * rate}, 0},
			{"an ordered rate below", MoverOptions{Rate: 1000}, rate},
			{"an ordered rate above", MoverOptions{Rate: rate / 5}, rate},
		} {
			test.o.Instances, test.o.Seed = instances, uint64(k)
			want := rate / float64(instances)
			w := paced(t, uint64(k), test.o, int(want*float64(seconds+70))+100)
			w.m.SetRate("n0", test.ordered)
			w.vitals["n0"] = Vitals{Passed: true, Drain: true}
			if got := measured(w, seconds); math.Abs(got-want) > 0.15*want+0.5/float64(seconds) {
				t.Errorf("%s, %.2f/s, %d instances: got %.2f/s, want %.2f/s", test.what, rate, instances, got, want)
			}
		}
	}
}

// Two backends are emptied at once, each at its own rate, also when one has many more clients than the other.
func TestMoverKeepsRatesApart(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, 3, BrainOptions{Watched: true}, MoverOptions{Rate: 300, PerBackend: 50, InFlight: 0.5}, 4)
	w.delay = 0.05
	w.fill(24_000, nil)
	w.m.SetRate("n1", 200)
	w.vitals["n0"] = Vitals{Passed: true, Drain: true}
	w.vitals["n1"] = Vitals{Passed: true, Drain: true}
	w.run(3, nil)
	was := w.counts()
	w.run(20, nil)
	now := w.counts()
	for i, want := range []float64{50, 200} {
		if got := float64(was[i]-now[i]) / 20; math.Abs(got-want) > 0.15*want {
			t.Errorf("n%d: got %.1f/s, want %.0f/s", i, got, want)
		}
	}
	w.m.SetRate("n1", 0)
	w.run(20, nil)
	if got := float64(now[1]-w.counts()[1]) / 20; math.Abs(got-50) > 8 {
		t.Errorf("the order was taken back: got %.1f/s, want the usual 50/s", got)
	}
}

// What is moved at an ordered rate uses up the budget of the cluster, so that others make room.
func TestMoverOrdersComeFirst(t *testing.T) {
	t.Parallel()
	b := newBudget(MoverOptions{Rate: 100, InFlight: 0.5}.withDefaults(), 0)
	b.order("ordered", 80)
	moved := map[string]int{}
	for now := int64(0); now < 100*second; now += second / 10 {
		b.refill(1000, 0, now)
		for _, from := range []string{"ordered", "a", "b"} {
			for b.may(Emptying, from, now) {
				b.spend(&Move{From: from, Why: Emptying}, now)
				moved[from]++
			}
		}
	}
	if moved["ordered"] < 7900 || moved["ordered"] > 8100 || moved["a"]+moved["b"] < 1900 || moved["a"]+moved["b"] > 2200 {
		t.Errorf("got %v in 100 s, want 8000 as ordered and the rest of 10 000 for the others", moved)
	}
}

// The moments are off the beat by up to a fifth, differently for every seed, and the same for the same.
func TestBucketJitter(t *testing.T) {
	t.Parallel()
	gaps := func(rate float64, seed uint64) (gaps []int64) {
		b, chance := newBucket(rate, 1, 0), chance{seed: seed}
		last := int64(-1)
		for now := int64(0); now < 100*second; now += second / 100 {
			b.fill(&chance, now)
			if b.has() {
				b.take()
				if last >= 0 {
					gaps = append(gaps, (now-last)/1e6)
				}
				last = now
			}
		}
		return gaps[3:] // a full bucket comes first
	}
	one, again, other := gaps(2, 1), gaps(2, 1), gaps(2, 2)
	least, most := slices.Min(one), slices.Max(one)
	if least < 390 || least > 440 || most < 560 || most > 610 {
		t.Errorf("got gaps of %d to %d ms, want 500 by up to a fifth less or more", least, most)
	}
	if !slices.Equal(one, again) || slices.Equal(one, other) {
		t.Error("want the same gaps for the same seed, and others for another")
	}
}

// So many clients, or such a part of them, may be away at once.
func TestMoverInFlight(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		inFlight  float64
		instances int
		want      int
	}{{0, 1, 20}, {0.1, 1, 100}, {0.1, 4, 100}, {0.0001, 1, 1}, {1, 1, 1}, {12, 1, 12}, {12, 4, 3}, {2, 5, 1}, {5000, 1, 5000}} {
		b := newBudget(MoverOptions{InFlight: test.inFlight, Instances: test.instances}.withDefaults(), 0)
		if got := b.away(1000); got != test.want {
			t.Errorf("%v of 1000 with %d instances: got %d, want %d", test.inFlight, test.instances, got, test.want)
		}
	}
	small := newBudget(MoverOptions{InFlight: 0.02, InFlightLeast: 10}.withDefaults(), 0)
	if few, many := small.away(60), small.away(1000); few != 10 || many != 20 {
		t.Errorf("at least 10: got %d of 60 and %d of 1000, want 10 and 20", few, many)
	}
	w := draining(t, MoverOptions{InFlight: 12}, 3000)
	w.run(20, nil)
	if w.outside != 12 {
		t.Errorf("got %d away at once, want 12", w.outside)
	}
}

// Other options count at once and forget nobody: who is away, who rests, what was ordered.
func TestMoverSetOptions(t *testing.T) {
	t.Parallel()
	w := draining(t, MoverOptions{InFlight: 0.5}, 9000)
	w.run(10, nil)
	away, was := w.m.Outstanding(), w.counts()[0]
	if away == 0 {
		t.Fatal("nobody is away")
	}
	w.m.SetRate("n1", 33)
	w.m.SetOptions(MoverOptions{Rate: 20, InFlight: 0.5})
	if w.m.Outstanding() != away || w.b.moved.size == 0 || w.m.budget.orders["n1"] != 33 {
		t.Errorf("got %d away, want %d as before; orders %v", w.m.Outstanding(), away, w.m.budget.orders)
	}
	w.run(20, nil)
	if got := float64(was-w.counts()[0]) / 20; math.Abs(got-10) > 1.5 {
		t.Errorf("got %.1f/s, want half of the new rate of 20/s", got)
	}
	w.m.SetOptions(MoverOptions{Rate: 400, InFlight: 1})
	w.run(20, nil)
	w.outside = 0
	if w.run(20, nil); w.outside != 1 {
		t.Errorf("got %d away at once, want one", w.outside)
	}
	w.m.SetOptions(MoverOptions{Rate: 400, InFlight: 0.5})
	was = w.counts()[0]
	w.run(5, nil)
	if got := float64(was-w.counts()[0]) / 5; math.Abs(got-200) > 40 {
		t.Errorf("got %.1f/s, want half of the new rate of 400/s", got)
	}
	if times, _ := w.most(); times > 1 {
		t.Error(fmt.Sprint("somebody was moved ", times, " times"))
	}
}
