package balancer

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
)

// evenForecast is a forecast with the same load on every backend, 1000 units of traffic each.
func evenForecast(s *Snapshot, at int64, load func(i int) float64) *Forecast {
	f := &Forecast{At: at, Traffic: 1000, Cost: 0.5 / 1000, Reporting: len(s.Backends)}
	for i := range s.Backends {
		f.Backends = append(f.Backends, BackendForecast{Name: s.Backends[i].Name, Load: load(i), Factor: 1, Measured: true})
	}
	return f
}

func TestHeavyRemembers(t *testing.T) {
	t.Parallel()
	s := NewSnapshot(1, "", names(3))
	flat := func(int) float64 { return 0.5 }
	h := NewHeavy(HeavyOptions{Size: 2})
	h.Note("early", "n0", 1e9)
	if h.isHeavy("early") {
		t.Error("before a forecast nobody is heavy: nothing is known to compare with")
	}
	h.Follow(evenForecast(s, seconds(15), flat))
	h.Note("light", "n0", 2.4)
	h.Note("a", "n0", 2.5)
	h.Note("b", "n1", 100)
	h.Note("", "n1", 1e6)
	if h.isHeavy("light") || !h.isHeavy("a") || !h.isHeavy("b") || h.isHeavy("") {
		t.Error("want a and b heavy: at or above 0.25 % of 1000")
	}
	h.Note("a", "n0", 1.3)
	if !h.isHeavy("a") {
		t.Error("want a still heavy above half of the limit")
	}
	h.Note("c", "n2", 50) // b was noted before a
	if h.isHeavy("b") || !h.isHeavy("a") || !h.isHeavy("c") || len(h.clients) != 2 {
		t.Error("want the one forgotten that was noted longest ago")
	}
	h.Note("a", "n0", 1.2)
	if h.isHeavy("a") {
		t.Error("want a forgotten below half of the limit")
	}
	h.Gone("c", "n2", seconds(20))
	h.Follow(evenForecast(s, seconds(20+3600), flat))
	if got := h.Rate("c"); math.Abs(got-25) > 1e-9 {
		t.Errorf("an hour offline: got rate %v, want half of 50", got)
	}
	h.Follow(evenForecast(s, seconds(20+6*3600), flat))
	if h.isHeavy("c") {
		t.Error("six hours offline: want c light again")
	}
}

// In a small fleet everybody causes a notable part of the traffic; heavy are those who stand out.
func TestNobodyIsHeavyAmongEquals(t *testing.T) {
	t.Parallel()
	h := NewHeavy(HeavyOptions{})
	f := evenForecast(NewSnapshot(1, "", names(3)), seconds(15), func(int) float64 { return 0.5 })
	f.Client = 5 // 200 clients on each backend
	h.Follow(f)
	h.Note("one of many", "n0", 5)
	h.Note("busy", "n0", 24)
	h.Note("heavy", "n0", 25)
	if h.isHeavy("one of many") || h.isHeavy("busy") || !h.isHeavy("heavy") {
		t.Error("want heavy from five times the mean of a connection on")
	}
}

func TestFatAwarePick(t *testing.T) {
	t.Parallel()
	set := names(3)
	s := NewSnapshot(1, "", set)
	h := NewHeavy(HeavyOptions{})
	f := &fatAware{heavy: h, rest: leastConnections{}}
	pick := func(loads ...float64) (string, Reason) {
		h.Follow(evenForecast(s, seconds(15), func(i int) float64 { return loads[i] }))
		i, why := f.Pick(Client{ID: "fat"}, s, NewSeats(s))
		return s.Backends[i].Name, why
	}
	pick(1, 1, 1)
	h.Note("fat", "n1", 200)
	h.Gone("fat", "n1", seconds(15))
	for _, c := range []struct {
		loads []float64
		want  string
		cause Cause
	}{
		{[]float64{0.5, 0.515, 0.6}, "n1", Kept},
		{[]float64{0.5, 0.516, 0.6}, "n0", Lightest},
		{[]float64{0.5, 0.6, 0.4}, "n2", Lightest},
	} {
		if got, why := pick(c.loads...); got != c.want || why.Cause != c.cause {
			t.Errorf("loads %v: got %s, %v; want %s", c.loads, got, why, c.want)
		}
	}
	// What came since the forecast counts: 200 of traffic are 0.1 of load.
	h.Note("another", "n1", 200)
	pick(0.5, 0.6, 0.55)
	h.Took("another", "n0")
	if i, _ := f.Pick(Client{ID: "fat"}, s, NewSeats(s)); i != 2 {
		t.Errorf("right after another one: got backend %d, want the next lightest", i)
	}
	h.Gone("another", "n0", seconds(16))
	if i, _ := f.Pick(Client{ID: "fat"}, s, NewSeats(s)); i != 0 {
		t.Errorf("after that one has gone: got backend %d, want 0", i)
	}
	// Its own traffic does not, when it takes its session over.
	h.Took("fat", "n0")
	for range 2 {
		if i, why := f.Pick(Client{ID: "fat"}, s, NewSeats(s)); i != 0 || why.Cause != Kept {
			t.Errorf("a takeover: got backend %d, %s; want it kept on 0", i, why)
		}
		h.Took("fat", "n0")
	}
	// A newcomer on its ramp counts as small.
	set[2].Ramp = 0.1
	s = NewSnapshot(2, "", set)
	if got, _ := pick(0.5, 0.6, 0.1); got != "n0" {
		t.Errorf("newcomer at a tenth with load 0.1: got %s, want n0", got)
	}
	set[0].Phase = Down
	s = NewSnapshot(3, "", set)
	if got, _ := pick(0.1, 0.6, 0.1); got != "n1" {
		t.Errorf("the lightest is down: got %s, want n1", got)
	}
}

func TestRateForgetsWithinMinutes(t *testing.T) {
	t.Parallel()
	r := NewRate(0, seconds(100))
	bytes, got := uint64(0), 0.0
	for at := int64(115); at <= 400; at += 15 {
		bytes += 15_000
		got = r.Update(bytes, seconds(at))
	}
	if math.Abs(got-1000) > 10 {
		t.Errorf("after five minutes at 1000 B/s: got %v", got)
	}
	if got = r.Update(bytes, seconds(460)); math.Abs(got-1000/math.E) > 10 {
		t.Errorf("after a minute of silence: got %v, want 1/e", got)
	}
}

// fat runs a population for hours and returns the mean excess load of the busiest backend and the part
// of reconnects that stayed where they were, both over the last hour.
func fat(seed uint64, times float64, pick func(w *world, s *Snapshot, seats *Seats, h *Heavy) Strategy) (excess, sticky float64) {
	random := rand.New(rand.NewPCG(seed, 11))
	w := newWorld(seed, 6, 1, population(random, 4000, 0.01, times, 0.5), 1800)
	s := NewSnapshot(1, "key"+strconv.Itoa(int(seed)), names(6))
	seats, h, loads := NewSeats(s), NewHeavy(HeavyOptions{}), NewLoads(LoadOptions{}, 1)
	strategy := pick(w, s, seats, h)
	kept, all, samples := 0, 0, 0
	w.gone = func(client, _, b int) {
		seats.Live[b]--
		seats.Total--
		h.Gone(w.clients[client].id, s.Backends[b].Name, seconds(w.now))
	}
	w.place = func(client, _ int) int {
		c := &w.clients[client]
		b, _ := strategy.Pick(Client{ID: c.id}, s, seats)
		seats.Take(b)
		h.Took(c.id, s.Backends[b].Name)
		all++
		if b == c.backend {
			kept++
		}
		return b
	}
	w.scrape = func(figure []float64, traffic [][]float64) {
		for i := range s.Backends {
			loads.Observe(s.Backends[i].Name, Figure{figure[i], seconds(w.now)}, seconds(w.now))
			loads.Traffic(s.Backends[i].Name, traffic[0][i], seconds(w.now))
		}
		if w.now%60 == 0 {
			for i := range w.clients {
				h.Note(w.clients[i].id, s.Backends[w.clients[i].backend].Name, w.clients[i].rate)
			}
		}
		h.Follow(loads.Forecast(s, seconds(w.now)))
	}
	w.connectAll()
	w.run(3 * 3600)
	kept, all = 0, 0
	w.tick = func() {
		excess += w.excess()
		samples++
	}
	w.run(3600)
	return excess / float64(samples), float64(kept) / float64(all)
}

// Claim (4.4, 8.3): where one client in a hundred is 50 or 200 times heavier than the rest, the busiest
// backend has at most 1.08 times the mean load, and 99.5 % of the reconnects find their backend again.
func TestFatClients(t *testing.T) {
	t.Parallel()
	aware := func(_ *world, _ *Snapshot, _ *Seats, h *Heavy) Strategy {
		return &fatAware{heavy: h, rest: &clientHash{bound: 1.25}, bound: 1.25}
	}
	hash := func(*world, *Snapshot, *Seats, *Heavy) Strategy { return &clientHash{bound: 1.25} }
	least := func(*world, *Snapshot, *Seats, *Heavy) Strategy { return leastConnections{} }
	mean := func(times float64, pick func(*world, *Snapshot, *Seats, *Heavy) Strategy) (excess, sticky float64) {
		const runs = 1 + 4/fewer
		for seed := range uint64(runs) {
			e, s := fat(seed, times, pick)
			excess, sticky = excess+e/runs, sticky+s/runs
		}
		return excess, sticky
	}
	for _, times := range []float64{50, 200} {
		excess, sticky := mean(times, aware)
		leastExcess, leastSticky := mean(times, least)
		hashExcess, _ := mean(times, hash)
		t.Logf("1 %% of the clients × %v: fat-aware %.3f × mean load, %.2f %% sticky; client-hash %.3f; least-connections %.3f, %.0f %% sticky",
			times, excess, 100*sticky, hashExcess, leastExcess, 100*leastSticky)
		if excess > 1.08 || sticky < 0.995 {
			t.Errorf("got %.3f and %.4f, want at most 1.08 and at least 0.995", excess, sticky)
		}
	}
}
