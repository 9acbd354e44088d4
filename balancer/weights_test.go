package balancer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestRamp(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		since, now, length int64
		want               float64
	}{
		{0, 0, 120, 0.1},
		{0, 6, 120, 0.1},
		{0, 12, 120, 0.1},
		{0, 60, 120, 0.5},
		{100, 130, 120, 0.25},
		{0, 120, 120, 1},
		{0, 999, 120, 1},
		{50, 0, 120, 0.1},
		{0, 0, 0, 1},
	} {
		if got := Ramp(seconds(c.since), seconds(c.now), seconds(c.length)); got != c.want {
			t.Errorf("Ramp(%d, %d, %d): got %v, want %v", c.since, c.now, c.length, got, c.want)
		}
	}
}

// withFactors is a forecast with given factors, for tests of the rotation alone.
func withFactors(s *Snapshot, factor func(i int) float64) *Forecast {
	f := &Forecast{}
	for i := range s.Backends {
		f.Backends = append(f.Backends, BackendForecast{Name: s.Backends[i].Name, Factor: factor(i)})
	}
	return f
}

// Claim (4.1): the rotation misses the share by about one connection even when the weights change
// every two picks; rotations that restart miss it by 31.
func TestWRRDeviation(t *testing.T) {
	t.Parallel()
	for _, every := range []int{2, 5, 20} {
		mean, worst := 0.0, 0.0
		for seed := range uint64(20) {
			random := rand.New(rand.NewPCG(seed, 5))
			s := NewSnapshot(1, "", names(6))
			w, seats := newMetricWRR(seed), NewSeats(s)
			due, deviation := make([]float64, 6), 0.0
			for pick := range 3000 {
				if pick%every == 0 {
					w.Follow(withFactors(s, func(int) float64 { return math.Exp(0.1 * random.NormFloat64()) }))
				}
				i, _ := w.Pick(Client{}, s, seats)
				seats.Take(i)
				for b := range due {
					due[b] += w.turns.weights[b] / w.turns.total()
					deviation = max(deviation, math.Abs(float64(seats.Live[b])-due[b]))
				}
			}
			mean += deviation / 20
			worst = max(worst, deviation)
		}
		t.Logf("weights change every %d picks: at most %.2f connections off the share (worst of 20 runs %.2f)", every, mean, worst)
		if mean > 1.1 {
			t.Errorf("got %.2f, want at most 1.1", mean)
		}
	}
}

// Backends with any weights come and go, and everybody keeps within two connections of what is due.
func TestWRRJoinsAndLeaves(t *testing.T) {
	t.Parallel()
	worst := 0.0
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 6))
		set := names(10)
		for i := range set {
			set[i].Capacity = 0.2 + random.Float64()
		}
		w, dealt, due := newMetricWRR(seed), map[string]float64{}, map[string]float64{}
		for round := range 60 {
			present := slices.Clone(set)
			random.Shuffle(len(present), func(i, j int) { present[i], present[j] = present[j], present[i] })
			s := NewSnapshot(uint64(round), "", present[:2+random.IntN(9)])
			seats := NewSeats(s)
			for i := range set { // who was away starts anew
				if s.Index(set[i].Name) < 0 {
					delete(dealt, set[i].Name)
					delete(due, set[i].Name)
				}
			}
			for range random.IntN(20) {
				want, _ := Preview(w, Client{}, s, seats)
				i, _ := w.Pick(Client{}, s, seats)
				if i != want {
					t.Fatalf("Pick gave %d, Preview before it %d", i, want)
				}
				dealt[s.Backends[i].Name]++
				for b := range s.Backends {
					name := s.Backends[b].Name
					due[name] += s.Share(b)
					worst = max(worst, math.Abs(dealt[name]-due[name]))
				}
			}
		}
	}
	t.Logf("random weights, joins and leaves: at most %.2f connections off the share", worst)
	if worst > 3 {
		t.Errorf("got %.2f, want at most 3", worst)
	}
}

// Claim (4.1): instances that start together do not deal in lockstep: of a burst of 8 connects over
// four instances the busiest backend gets about a third; it would be half.
func TestWRRStartsApart(t *testing.T) {
	t.Parallel()
	share := 0.0
	for run := range uint64(200) {
		s, random := NewSnapshot(1, "", names(6)), rand.New(rand.NewPCG(run, 10))
		f := withFactors(s, func(int) float64 { return math.Exp(0.1 * random.NormFloat64()) })
		counts := make([]int, 6)
		for instance := range uint64(4) {
			w := newMetricWRR(random.Uint64() + instance)
			w.Follow(f)
			for range 2 {
				i, _ := w.Pick(Client{}, s, NewSeats(s))
				counts[i]++
			}
		}
		share += float64(slices.Max(counts)) / 8 / 200
	}
	t.Logf("a burst of 8 over 4 instances: %.0f %% on the busiest backend", 100*share)
	if share > 0.38 {
		t.Errorf("got %.2f, want at most 0.38", share)
	}
	s := NewSnapshot(1, "", names(6))
	counts := make([]int, 6)
	for seed := range uint64(600) {
		i, _ := newMetricWRR(seed).Pick(Client{}, s, NewSeats(s))
		counts[i]++
	}
	t.Logf("first picks of 600 instances: %v", counts)
	if slices.Max(counts) > 150 {
		t.Errorf("got %v, want about 100 each", counts)
	}
}

// feed gives every backend the figure and the traffic at each scrape up to the time.
func feed(l *Loads, s *Snapshot, from, to int64, figure, traffic func(i int) float64) *Forecast {
	for at := from; at <= to; at += 15 {
		for i := range s.Backends {
			name := s.Backends[i].Name
			if v := figure(i); v >= 0 {
				l.Observe(name, Figure{v, seconds(at)}, seconds(at))
			}
			l.Traffic(name, traffic(i), seconds(at))
		}
	}
	return l.Forecast(s, seconds(to))
}

func factors(f *Forecast) []float64 {
	var out []float64
	for _, b := range f.Backends {
		out = append(out, math.Round(b.Factor*1000)/1000)
	}
	return out
}

func TestForecastRules(t *testing.T) {
	t.Parallel()
	even := func(int) float64 { return 100 }
	for _, c := range []struct {
		name   string
		figure func(i int) float64
		until  int64
		want   []float64
	}{
		{"blackout of two scrapes", func(i int) float64 { return 0.2 + 0.2*float64(i) }, 30, []float64{1, 1, 1}},
		{"after the blackout", func(i int) float64 { return 0.2 + 0.2*float64(i) }, 45, []float64{2, 1, 0.25}},
		{"small differences", func(i int) float64 { return 0.49 + 0.01*float64(i) }, 300, []float64{1.062, 1, 0.942}},
		{"a glitch to zero is clamped", func(i int) float64 { return 0.5 * float64(min(i, 1)) }, 300, []float64{2, 0.25, 0.25}},
		{"no figure from one", func(i int) float64 { return []float64{0.49, 0.51, -1}[i] }, 300, []float64{1.062, 0.942, 1}},
		{"nobody reports", func(int) float64 { return -1 }, 300, []float64{1, 1, 1}},
		{"everybody idle", func(int) float64 { return 0 }, 300, []float64{1, 1, 1}},
		{"not a number", func(i int) float64 { return []float64{math.NaN(), 0.5, math.Inf(1)}[i] }, 300, []float64{1, 1, 1}},
	} {
		s := NewSnapshot(1, "", names(3))
		got := feed(NewLoads(LoadOptions{}, seconds(15)), s, 15, c.until, c.figure, even)
		if !slices.Equal(factors(got), c.want) {
			t.Errorf("%s: got factors %v, want %v", c.name, factors(got), c.want)
		}
	}
}

func TestForecastStaleness(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "", names(3))
	l := NewLoads(LoadOptions{}, seconds(1))
	even := func(int) float64 { return 100 }
	feed(l, s, 15, 300, func(i int) float64 { return 0.4 + 0.1*float64(i) }, even)
	f := feed(l, s, 315, 360, func(i int) float64 { return []float64{-1, 0.5, 0.6}[i] }, even)
	if b, _ := f.Of("n0"); !b.Measured || f.Stale != 0 {
		t.Errorf("60 s old: got %+v, %d stale; want it still measured", b, f.Stale)
	}
	f = feed(l, s, 375, 375, func(i int) float64 { return []float64{-1, 0.5, 0.6}[i] }, even)
	if b, _ := f.Of("n0"); b.Measured || b.Factor != 1 || f.Stale != 1 || f.Reporting != 3 {
		t.Errorf("75 s old: got %+v, %d of %d stale; want factor 1, 1 of 3", b, f.Stale, f.Reporting)
	}
	// A clock that runs ahead must not keep a figure young for ever.
	l.Observe("n1", Figure{0.9, seconds(99_999)}, seconds(376))
	if f = l.Forecast(s, seconds(440)); f.Stale != 3 {
		t.Errorf("figure from the future: got %d stale, want all 3", f.Stale)
	}
}

// The prediction knows what the figure does not yet: traffic that has doubled counts as doubled load,
// whether one instance carries all of it or a quarter, and in terms of the capacity.
func TestForecastPredicts(t *testing.T) {
	t.Parallel()
	for _, part := range []float64{1, 0.25} {
		set := names(3)
		set[2].Capacity = 2
		s := NewSnapshot(1, "", set)
		l := NewLoads(LoadOptions{}, seconds(1))
		flat := func(int) float64 { return 0.4 }
		feed(l, s, 15, 600, flat, func(i int) float64 { return part * []float64{100, 100, 200}[i] })
		f := feed(l, s, 615, 615, flat, func(i int) float64 { return part * []float64{200, 100, 300}[i] })
		for i, want := range []float64{0.8, 0.4, 0.6} {
			if got := f.Backends[i].Load; math.Abs(got-want) > 1e-9 {
				t.Errorf("we carry %v of it all, backend %d: got load %v, want %v", part, i, got, want)
			}
		}
	}
}

// The meter keeps means in constant space as well as one that remembers everything.
func TestMeterEqualsNaiveTwin(t *testing.T) {
	t.Parallel()
	random, worst := rand.New(rand.NewPCG(8, 9)), 0.0
	for range 50 {
		var m meter
		var course []float64 // one rate per second
		rate := 0.0
		for now := range int64(1500) {
			if now%int64(1+random.IntN(20)) == 0 {
				rate = 100 * random.Float64()
				m.observe(rate, seconds(now), 300*second/meterParts)
			} else if now == 0 {
				m.observe(0, 0, 300*second/meterParts)
			}
			course = append(course, rate)
		}
		for back := int64(0); back <= 60; back += 15 {
			want, to := 0.0, int64(1500)-back
			for _, r := range course[to-300 : to] {
				want += r / 300
			}
			worst = max(worst, math.Abs(m.mean(seconds(to-300), seconds(to))/want-1))
		}
	}
	t.Logf("means off by at most %.2f %%", 100*worst)
	if worst > 0.05 {
		t.Errorf("got %.3f, want at most 0.05", worst)
	}
}

// join lets a seventh backend join six and returns the greatest load that it has, and the greatest part
// of the connects of a minute that it gets, in the 20 minutes after; both in terms of what is fair.
func join(seed uint64, gap float64, instances int, ramp int64, blind bool) (peak, connects float64) {
	random := rand.New(rand.NewPCG(seed, 7))
	w := newWorld(seed, 7, instances, population(random, 20_000, 0.01, 50, 0), gap)
	s := NewSnapshot(0, "", names(6))
	seats := &Seats{Live: make([]int, 7)}
	loads, rotations := make([]*Loads, instances), make([]*metricWRR, instances)
	for i := range loads {
		loads[i], rotations[i] = NewLoads(LoadOptions{}, 1), newMetricWRR(seed+uint64(i)<<32)
	}
	var taken [60]struct{ newcomer, all int } // of the last 60 s
	w.place = func(_, instance int) int {
		b, _ := rotations[instance].Pick(Client{}, s, seats)
		taken[w.now%60].all++
		if b == 6 {
			taken[w.now%60].newcomer++
		}
		return b
	}
	w.scrape = func(figure []float64, traffic [][]float64) {
		for k := range loads {
			for i := range s.Backends {
				name := s.Backends[i].Name
				loads[k].Observe(name, Figure{figure[i], seconds(w.now)}, seconds(w.now))
				if !blind {
					loads[k].Traffic(name, traffic[k][i], seconds(w.now))
				}
			}
			rotations[k].Follow(loads[k].Forecast(s, seconds(w.now)))
		}
	}
	joined := int64(math.MaxInt64 / 2)
	w.tick = func() {
		taken[w.now%60] = struct{ newcomer, all int }{}
		if w.now >= joined {
			set := names(7)
			set[6].Ramp = Ramp(seconds(joined), seconds(w.now), ramp)
			s = NewSnapshot(uint64(w.now), "", set)
			newcomer, all := 0, 0
			for _, t := range taken {
				newcomer += t.newcomer
				all += t.all
			}
			peak, connects = max(peak, w.load[6]), max(connects, float64(newcomer)/float64(all))
		}
	}
	w.connectAll()
	w.run(600)
	joined = w.now
	w.run(1200)
	total := 0.0
	for _, l := range w.load {
		total += l
	}
	return peak / total * 7, connects
}

// Claim (4.2, 8.6): a joining backend never has more than 1.15 times its fair load, although its figures
// are means of five minutes; and it does not get more than half of the connects.
func TestJoiningBackendIsNotFlooded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		gap       float64
		instances int
		ramp      int64
		blind     bool
	}{
		{300, 1, 120, false}, {600, 1, 120, false}, {300, 4, 120, false}, {300, 1, 120, true},
	} {
		peak, connects := 0.0, 0.0
		const runs = 1 + 2/fewer
		for seed := range uint64(runs) {
			p, n := join(seed, c.gap, c.instances, seconds(c.ramp), c.blind)
			peak += p / runs
			connects = max(connects, n)
		}
		t.Logf("clients reconnect every %.0f s, %d instances, ramp %d s, without prediction %v: peak %.2f × fair load, %.0f %% of a minute's connects",
			c.gap, c.instances, c.ramp, c.blind, peak, 100*connects)
		if !c.blind && (peak > 1.15 || connects > 0.5) {
			t.Errorf("got %.3f and %.2f, want at most 1.15 and 0.5", peak, connects)
		}
	}
}
