package simulation

import (
	"math"
	"reflect"
	"testing"
	"time"
)

// small is a scenario that is played in no time.
func small(e Event, seed uint64) Scenario {
	load, _ := LoadNamed(Loads()[seed%3])
	return Scenario{
		Backends: 2 + int(seed%5), Clients: 400, Groups: 10, GroupSize: 1 + int(seed%7), Load: load, Event: e, Rate: 20,
		Wills: 0.2, Reconnect: time.Duration(seed%2) * 20 * time.Minute, Surge: e == Rolling && seed%3 == 0,
		Duration: 30 * time.Minute, Seed: seed,
	}
}

// The same scenario gives the same result, and another seed another one.
func TestSameSeedSameResult(t *testing.T) {
	t.Parallel()
	for _, name := range Contenders() {
		for _, e := range Events() {
			first, again, other := must(Run(small(e, 1), name, nil)), must(Run(small(e, 1), name, nil)), must(Run(small(e, 6), name, nil))
			if !reflect.DeepEqual(first, again) {
				t.Errorf("%s, %s: got another result the second time", name, e)
			}
			if reflect.DeepEqual(first.Samples, other.Samples) {
				t.Errorf("%s, %s: got the same course with another seed", name, e)
			}
		}
	}
}

// Whatever happens and whoever balances: all clients are somewhere, once, and all sums are what they sum up.
func TestNobodyIsLost(t *testing.T) {
	t.Parallel()
	for seed := range uint64(times(3)) {
		for _, e := range registry() {
			for _, event := range Events() {
				s := small(event, seed)
				w := must(newWorld(s, e.enter))
				w.record.drains, w.record.every = e.drains, 1
				w.connectAll()
				w.run(w.start+int64(s.Duration), func() {
					if w.now/second%7 == 0 {
						audit(t, w)
					}
					w.look()
				})
				if t.Failed() {
					t.Fatalf("%s, %s, seed %d", e.name, event, seed)
				}
			}
		}
	}
}

// audit counts everything that a world counts.
func audit(t *testing.T, w *world) {
	t.Helper()
	online, forced := 0, 0
	for b := range w.brokers {
		k := &w.brokers[b]
		load, traffic, history := 0.0, 0.0, 0.0
		for seat, i := range k.clients {
			c := &w.clients[i]
			if int(c.broker) != b || int(c.seat) != seat || c.dropped {
				t.Fatalf("client %s is on %d, seat %d; want %d, %d", c.id, c.broker, c.seat, b, seat)
			}
			load += c.cost
			traffic += c.rate
		}
		for _, past := range k.history {
			history += past
		}
		online += len(k.clients)
		if !k.up && len(k.clients) > 0 {
			t.Fatalf("%s has stopped and holds %d clients", k.name, len(k.clients))
		}
		for _, sums := range [][2]float64{{k.load, load}, {k.traffic, traffic}, {k.past, history}} {
			if math.Abs(sums[0]-sums[1]) > 1e-6*(1+sums[1]) {
				t.Fatalf("%s: got sum %v, want %v", k.name, sums[0], sums[1])
			}
		}
	}
	groups := make([][]int, len(w.groups))
	for g := range groups {
		groups[g] = make([]int, len(w.brokers))
	}
	coming := make([]int, len(w.clients))
	for _, day := range w.returning.days {
		for _, i := range day {
			coming[i]++
		}
	}
	for i := range w.clients {
		c := &w.clients[i]
		forced += int(c.forced)
		if here := c.broker >= 0; here && coming[i] != 0 || !here && coming[i] != 1 {
			t.Fatalf("client %s is on %d and comes back %d times", c.id, c.broker, coming[i])
		}
		if c.broker >= 0 && c.group >= 0 {
			groups[c.group][c.broker]++
		}
	}
	if online != w.online || forced != w.record.disconnects || len(groups) > 0 && !reflect.DeepEqual(groups, w.groups) {
		t.Fatalf("got %d online, %d disconnects; want %d, %d, and groups %v", w.online, w.record.disconnects, online, forced, groups)
	}
}

// The model of the others agrees with an independent simulation (algorithms.md, 5.1: 95 020, 13 740, 279 210
// and 13 740 disconnects for 100 000 clients, 6→7).
func TestOthersAsInTheReference(t *testing.T) {
	t.Parallel()
	if long() {
		t.Skip("the reference is for the usual sizes")
	}
	got := scaleOut().figures[0].values[1:]
	for i, want := range []float64{95_020, 13_740, 279_210, 13_740} {
		if math.Abs(got[i]/want-1) > 0.03 {
			t.Errorf("%s: got %v disconnects, want about %v", moverColumns()[i+1], got[i], want)
		}
	}
}

// A rolling update restarts every broker once, never two at a time, and a surge broker leaves in the end.
func TestRollingStory(t *testing.T) {
	t.Parallel()
	for _, e := range registry() {
		for _, surge := range []bool{false, true} {
			s := Scenario{Backends: 4, Clients: 1000, GroupSize: 1, Event: Rolling, Surge: surge, Rate: 50, Duration: time.Hour, Seed: 1}
			w := must(newWorld(s, e.enter))
			w.record.drains, w.record.every = e.drains, 1
			w.connectAll()
			stops, was := make([]int, 5), make([]bool, 5)
			w.run(w.start+int64(s.Duration), func() {
				busy := 0
				for b := range w.brokers {
					k := &w.brokers[b]
					if was[b] && !k.up {
						stops[b]++
					}
					if was[b] = k.up; k.listed && !k.open() {
						busy++
					}
				}
				if busy > 1 {
					t.Errorf("%s: %d brokers leave at once", e.name, busy)
				}
			})
			want := []int{1, 1, 1, 1, 0}
			if surge {
				want[4] = 1
			}
			if !reflect.DeepEqual(stops, want) || !w.story.over() {
				t.Errorf("%s, surge %v: got stops %v, want %v", e.name, surge, stops, want)
			}
			for b := range w.brokers {
				if k := &w.brokers[b]; k.listed != (b < 4) || k.up != (b < 4) || k.version != "2" {
					t.Errorf("%s: in the end got %s listed %v, up %v, version %s", e.name, k.name, k.listed, k.up, k.version)
				}
			}
		}
	}
}

// Figures are means of five minutes.
func TestFiguresAreOld(t *testing.T) {
	t.Parallel()
	s := Scenario{Backends: 2, Clients: 1000, GroupSize: 1, Event: Hot, Rate: 1, Duration: 10 * time.Minute, Seed: 1}
	before, after := 0.0, 0.0
	play(s, unmoved(newRoundRobin), func(w *world) {
		switch (w.now - w.start) / second {
		case -10:
			before = w.brokers[0].load / w.unit
		case 150: // half of the window is from before
			after = w.brokers[0].load / w.unit
			if got, want := w.brokers[0].figure, (before+after)/2; math.Abs(got/want-1) > 4*noise {
				t.Errorf("after 150 s: got figure %.3f, want about %.3f", got, want)
			}
		case 330:
			if got := w.brokers[0].figure; math.Abs(got/after-1) > 4*noise {
				t.Errorf("after 330 s: got figure %.3f, want about %.3f", got, after)
			}
		}
	})
	if after < 1.2*before {
		t.Errorf("got load %.2f before and %.2f after, want it hot", before, after)
	}
}

// EMQX gives the load balancer a minute; meanwhile and until the end brokers with too many take nobody.
func TestEMQXClosesDonors(t *testing.T) {
	t.Parallel()
	s := Scenario{
		Backends: 3, Clients: 3000, GroupSize: 1, Event: Join, Rate: 20, Reconnect: 10 * time.Minute, Duration: 10 * time.Minute, Seed: 1,
	}
	arrived, first := [3]int{}, int64(0)
	w := play(s, func(w *world) (contender, error) { return newEMQX(w), nil }, func(w *world) {
		for b := range arrived {
			if w.happened && w.contender.(*emqx).since > 0 && w.now > w.start+second && w.brokers[b].arrived != arrived[b] {
				t.Errorf("%d s after the event broker %d takes clients", (w.now-w.start)/second, b)
			}
			arrived[b] = w.brokers[b].arrived
		}
		if first == 0 && w.record.disconnects > 0 {
			first = (w.now - w.start) / second
		}
	})
	if first < 60 || first > 62 {
		t.Errorf("got the first eviction after %d s, want 60", first)
	}
	if !w.even(false) {
		t.Error("want the brokers even in the end")
	}
}

func TestCalendar(t *testing.T) {
	t.Parallel()
	var c calendar
	for i, after := range []int64{0, step - 1, step, 3 * step, 1 << 60} {
		c.add(int32(i), after)
	}
	var got [][]int32
	for range len(c.days) - 1 {
		if due := c.due(); len(due) > 0 {
			got = append(got, append([]int32{}, due...))
			c.add(100, 1<<60) // a new round
		}
	}
	if want := [][]int32{{0, 1}, {2}, {3}, {4}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLoads(t *testing.T) {
	t.Parallel()
	for _, name := range Loads() {
		load, err := LoadNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		clients := fleet(Scenario{Backends: 2, Clients: 20_000, Groups: 3, GroupSize: 4, Load: load, Wills: 0.25, Seed: 4})
		most, heavy, wills, members := 0.0, 0, 0, 0
		for _, c := range clients {
			most = max(most, c.rate)
			if c.rate > 1 {
				heavy++
			}
			if c.will {
				wills++
			}
			if c.group >= 0 {
				members++
			}
			if (c.cost == c.rate) != (name == "equal") {
				t.Fatalf("%s: got cost %v at rate %v", name, c.cost, c.rate)
			}
		}
		if heavy > 0 != (name != "equal") || name == "heavy" && (heavy < 150 || heavy > 250 || most != 50) || name == "pareto" && (most < 500 || most > 2000) {
			t.Errorf("%s: got %d heavy clients, the heaviest %v", name, heavy, most)
		}
		if members != 12 || wills < 4700 || wills > 5300 {
			t.Errorf("got %d members and %d wills, want 12 and a quarter", members, wills)
		}
	}
	if _, err := LoadNamed("huge"); err == nil {
		t.Error("got no error for an unknown load")
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	s := small(Join, 1)
	if _, err := Run(s, "nginx", nil); err == nil {
		t.Error("got no error for an unknown contender")
	}
	s.Rate = math.NaN()
	if _, err := Run(s, "hash", nil); err == nil {
		t.Error("got no error for a rate that is no number")
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	last := 0.0
	must(Run(small(None, 1), "hash", func(part float64) {
		if part < last || part > 1 {
			t.Errorf("got %v after %v", part, last)
		}
		last = part
	}))
	if last != 1 {
		t.Errorf("got %v in the end, want 1", last)
	}
}
