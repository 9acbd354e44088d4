package balancer

import (
	"math"
	"math/rand/v2"
	"testing"
)

// moment is one step of a script: what is known at a second, and the phase wanted then.
type moment struct {
	at   int64
	v    Vitals
	want Phase
}

func util(at int64, v float64) Figure { return Figure{v, seconds(at)} }

// A story tells one thing that can happen to a backend.
func TestPhaseStories(t *testing.T) {
	t.Parallel()
	well := Vitals{Passed: true}
	failed := func(n int) Vitals { return Vitals{FailedChecks: n} }
	hot := func(at int64) Vitals { return Vitals{Passed: true, Util: util(at, 0.9)} }
	for _, story := range []struct {
		name  string
		first Life
		steps []moment
	}{
		{"found at start: ready at once", Life{}, []moment{{1, Vitals{}, Ready}, {2, well, Ready}}},
		{"discovered: joins, ramps, is ready", Discovered(seconds(1)), []moment{
			{1, Vitals{}, Down},
			{2, well, Joining},
			{31, well, Joining},
			{32, well, Ramping},
			{151, well, Ramping},
			{152, well, Ready},
		}},
		{"a failed check while joining starts the settling anew", Discovered(seconds(1)), []moment{
			{2, well, Joining},
			{20, failed(1), Joining},
			{22, well, Joining},
			{40, well, Joining},
			{52, well, Ramping},
		}},
		{"waits while the broker says that it replicates", Discovered(seconds(1)), []moment{
			{2, well, Joining},
			{60, Vitals{Passed: true, Unsettled: true}, Joining},
			{300, Vitals{Passed: true, Unsettled: true}, Joining},
			{301, well, Ramping},
		}},
		{"three failed checks, and back", Life{}, []moment{
			{1, failed(1), Ready},
			{2, failed(2), Ready},
			{3, failed(3), Down},
			{4, failed(4), Down},
			{5, well, Joining},
		}},
		{"five failed connects; back only when they are over", Life{}, []moment{
			{1, Vitals{Passed: true, ConnectFailures: 4}, Ready},
			{2, Vitals{Passed: true, ConnectFailures: 5}, Down},
			{3, Vitals{Passed: true, ConnectFailures: 6}, Down},
			{13, well, Joining},
		}},
		{"hot by utilisation for 30 s, cool after 120 s", Life{}, []moment{
			{0, Vitals{Passed: true, Util: util(1, 0.5)}, Ready},
			{5, Vitals{Passed: true, Util: util(5, 0.5)}, Ready},
			{10, hot(10), Ready},
			{20, hot(20), Ready},
			{30, hot(30), Ready},
			{35, hot(35), Hot},
			{40, Vitals{Passed: true, Util: util(40, 0.80)}, Hot},
			{159, Vitals{Passed: true, Util: util(159, 0.5)}, Hot},
			{160, Vitals{Passed: true, Util: util(160, 0.5)}, Ready},
		}},
		{"one calm sample starts the 30 s anew", Life{}, []moment{
			{5, Vitals{Passed: true, Util: util(5, 0.5)}, Ready},
			{20, hot(20), Ready},
			{30, Vitals{Passed: true, Util: util(30, 0.84)}, Ready},
			{55, hot(55), Ready},
			{60, hot(60), Hot},
		}},
		{"a single figure that nobody renews heats nobody", Life{}, []moment{
			{5, Vitals{Passed: true, Util: util(5, 0.5)}, Ready},
			{10, hot(10), Ready},
			{50, hot(10), Ready},
			{90, hot(10), Ready},
		}},
		{"hot by overload level: three readings, not three looks", Life{}, []moment{
			{1, Vitals{Passed: true, Level: util(1, 5)}, Ready},
			{2, Vitals{Passed: true, Level: util(1, 5)}, Ready},
			{3, Vitals{Passed: true, Level: util(1, 5)}, Ready},
			{4, Vitals{Passed: true, Level: util(4, 6)}, Ready},
			{5, Vitals{Passed: true, Level: util(5, 5)}, Hot},
			{125, Vitals{Passed: true, Level: util(125, 3)}, Hot},
			{244, Vitals{Passed: true, Level: util(244, 2)}, Hot},
			{245, Vitals{Passed: true, Level: util(245, 2)}, Ready},
		}},
		{"hot by latency while ramping", Life{Phase: Ramping}, []moment{
			{5, Vitals{Passed: true, Latency: util(5, 1)}, Ramping},
			{20, Vitals{Passed: true, Latency: util(20, 6)}, Ramping},
			{35, Vitals{Passed: true, Latency: util(35, 6)}, Hot},
		}},
		{"a clock that runs ahead does not make 30 s of one look", Life{}, []moment{
			{5, Vitals{Passed: true, Util: util(5, 0.5)}, Ready},
			{20, hot(9999), Ready},
			{21, hot(9999), Ready},
		}},
		{"not a number heats nobody", Life{}, []moment{
			{5, Vitals{Passed: true, Util: util(5, math.NaN()), Level: util(5, math.Inf(1))}, Ready},
			{65, Vitals{Passed: true, Util: util(65, math.NaN()), Level: util(65, math.Inf(1))}, Ready},
		}},
		{"drained by hand, and taken back", Life{}, []moment{
			{1, Vitals{Passed: true, Drain: true}, Draining},
			{99, Vitals{Passed: true, Drain: true}, Draining},
			{100, well, Ready},
		}},
		{"fails while draining", Life{}, []moment{
			{1, Vitals{Passed: true, Drain: true}, Draining},
			{2, Vitals{FailedChecks: 3, Drain: true}, Down},
			{3, Vitals{Passed: true, Drain: true}, Joining},
			{4, Vitals{Passed: true, Drain: true}, Draining},
		}},
	} {
		rules, life := DefaultPhaseRules(), story.first
		for _, m := range story.steps {
			life = rules.Next(life, m.v, seconds(m.at))
			if life.Phase != m.want {
				t.Errorf("%s: at %d s: got %v, want %v", story.name, m.at, life.Phase, m.want)
				break
			}
		}
	}
}

// Whatever happens: a backend takes new clients only if it did not just fail, and Since never lies.
func TestPhaseProperties(t *testing.T) {
	t.Parallel()
	random, rules := rand.New(rand.NewPCG(1, 12)), DefaultPhaseRules()
	seen := map[Phase]int{}
	for range 300 {
		life, joined, spell := Discovered(0), int64(0), 0.0
		for now := int64(1); now < 600; now++ {
			if random.IntN(100) == 0 {
				spell = 0.2 - spell
			}
			v := Vitals{Passed: random.IntN(300) > 0, Drain: random.IntN(200) == 0, Util: util(now, 0.7+spell)}
			if !v.Passed {
				v.FailedChecks = 1 + random.IntN(3)
			}
			before := life
			life = rules.Next(life, v, seconds(now))
			seen[life.Phase]++
			if v.FailedChecks >= 3 && life.Phase != Down {
				t.Fatalf("three failed checks: got %v", life.Phase)
			}
			if changed := life.Phase != before.Phase; changed != (life.Since == seconds(now)) {
				t.Fatalf("%v to %v at %d: Since is %d", before.Phase, life.Phase, now, life.Since)
			}
			if life.Phase == Joining && before.Phase != Joining {
				joined = now
			}
			if life.Phase == Ramping && before.Phase != Ramping && (before.Phase != Joining || now-joined < 30) {
				t.Fatalf("from %v to RAMPING after %d s", before.Phase, now-joined)
			}
			if r := life.Ramp(&rules, seconds(now)); life.Phase != Ramping && r != 1 || r < 0.1 || r > 1 {
				t.Fatalf("%v: ramp %v", life.Phase, r)
			}
		}
	}
	if len(seen) != 6 {
		t.Errorf("got phases %v, want to have seen all six", seen)
	}
}

// noise is a value around a mean that forgets where it was with a time constant, sampled every 5 s.
type noise struct {
	random   *rand.Rand
	value    float64
	sd, hold float64
}

func (n *noise) next() float64 {
	a := math.Exp(-5 / n.hold)
	n.value = a*n.value + n.sd*math.Sqrt(1-a*a)*n.random.NormFloat64()
	return n.value
}

// Claim (6, f_state): six backends at 74 % with noise change between "none is hot" and "one is hot" at
// most 15 times a day, and the state of the cluster as well. A single threshold gives 3804.
func TestStatesDoNotFlap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mean, hold float64
		days       int64
	}{{0.66, 30, 2}, {0.74, 30, 7}, {0.66, 600, 2}, {0.74, 600, 28}} {
		phases, states := DefaultPhaseRules(), DefaultStateRules()
		var lives [6]Life
		var noises [6]noise
		for i := range noises {
			noises[i] = noise{random: rand.New(rand.NewPCG(uint64(i), 13)), sd: 0.04, hold: c.hold}
		}
		state, anyHot, phaseChanges, stateChanges, naive, above := State{}, false, 0, 0, 0, false
		for at := int64(5); at < c.days*86400; at += 5 {
			hot, over := 0, false
			for i := range lives {
				u := c.mean + noises[i].next()
				over = over || u >= 0.80
				lives[i] = phases.Next(lives[i], Vitals{Passed: true, Util: util(at, u)}, seconds(at))
				if lives[i].Phase == Hot {
					hot++
				}
			}
			before := state.Cluster
			state = states.Next(state, Situation{Members: 6, Serving: 6, Hot: hot, Healthy: 1, Imbalance: 1}, Force{}, seconds(at))
			if state.Cluster != before {
				stateChanges++
			}
			if (hot > 0) != anyHot {
				anyHot = !anyHot
				phaseChanges++
			}
			if over != above {
				above = !above
				naive++
			}
		}
		perDay := func(n int) float64 { return float64(n) / float64(c.days) }
		t.Logf("mean %.2f, noise over %3.0f s: %.1f changes of \"one is hot\" a day, %.1f of the cluster's state; single threshold %.0f",
			c.mean, c.hold, perDay(phaseChanges), perDay(stateChanges), perDay(naive))
		if perDay(phaseChanges) > 15 || perDay(stateChanges) > 15 {
			t.Error("want at most 15")
		}
	}
}

// Claim (6, f_state): a step from 60 to 90 % is noticed within 45 s on average, in one backend (HOT) and
// in all (OVERLOADED); the mean of five minutes needs 280 s.
func TestStepIsNoticed(t *testing.T) {
	t.Parallel()
	const runs = 500
	var oneHot, overloaded, mean int64
	for run := range uint64(runs) {
		phases, states := DefaultPhaseRules(), DefaultStateRules()
		var lives [6]Life
		var noises [6]noise
		for i := range noises {
			noises[i] = noise{random: rand.New(rand.NewPCG(run, uint64(i))), sd: 0.04, hold: 30}
		}
		state, window := State{}, make([]float64, 60)
		var slow Life
		first, cluster, late := int64(0), int64(0), int64(0)
		for at := int64(-600); first == 0 || cluster == 0 || late == 0; at += 5 {
			now, hot, sum := at+1000, 0, 0.0
			level := 0.6
			if at >= 0 {
				level = 0.9
			}
			for i := range lives {
				u := level + noises[i].next()
				lives[i] = phases.Next(lives[i], Vitals{Passed: true, Util: util(now, u)}, seconds(now))
				if lives[i].Phase == Hot {
					hot++
				}
			}
			copy(window, window[1:])
			window[59] = level + noises[0].value
			for _, u := range window {
				sum += u / 60
			}
			slow = phases.Next(slow, Vitals{Passed: true, Util: util(now, sum)}, seconds(now))
			state = states.Next(state, Situation{Members: 6, Serving: 6, Hot: hot, Healthy: 1, Imbalance: 1}, Force{}, seconds(now))
			if first == 0 && lives[0].Phase == Hot {
				first = at
			}
			if cluster == 0 && state.Cluster == Overloaded {
				cluster = at
			}
			if late == 0 && slow.Phase == Hot {
				late = at
			}
		}
		oneHot, overloaded, mean = oneHot+first, overloaded+cluster, mean+late
	}
	t.Logf("from 60 to 90 %%: a backend is HOT after %d s, the cluster OVERLOADED after %d s; by the mean of five minutes %d s",
		oneHot/runs, overloaded/runs, mean/runs)
	if oneHot/runs > 45 || overloaded/runs > 45 {
		t.Error("want at most 45 s")
	}
}
