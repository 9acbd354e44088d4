package balancer

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// modelDeparture is a departure in a model that keeps all for ever and counts by looking at each.
type modelDeparture struct {
	c              Client
	from, to       string
	rate           float64
	began, leftAt  int64
	gone, returned bool
	evicted, came  bool // for the counts: unlike those above not set when nobody speaks of it any more
}

// Against that model: who is expected where, who leaves, who is lost, who rests, and which groups wait.
func TestDeparturesQuick(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	for seed := range uint64(80) {
		random := rand.New(rand.NewPCG(seed, 6))
		d, now := newDepartures(), int64(0)
		var all []*modelDeparture
		latest := map[string]*modelDeparture{}
		lost := func(x *modelDeparture, at int64) bool { return at-x.began >= lostAfter }
		for range 400 {
			now += random.Int64N([]int64{second, 20 * second, 200 * second}[random.IntN(3)])
			d.expire(now)
			c := Client{ID: fmt.Sprint("c", random.IntN(25))}
			if random.IntN(8) == 0 {
				c.ID = ""
			}
			if random.IntN(3) == 0 {
				c.Group = fmt.Sprint("g", random.IntN(2))
			}
			switch random.IntN(3) {
			case 0:
				x := &modelDeparture{c: c, from: names[random.IntN(3)], to: names[random.IntN(3)], rate: float64(random.IntN(9)), began: now, leftAt: now}
				if random.IntN(5) == 0 {
					x.to = ""
				}
				d.add(c, x.from, x.to, x.rate, random.IntN(2) == 0, now)
				if old := latest[c.ID]; c.ID != "" && old != nil && !lost(old, now) {
					old.gone, old.returned = true, true // nobody speaks of it any more
				}
				all = append(all, x)
				if c.ID != "" {
					latest[c.ID] = x
				}
			case 1:
				d.arrive(c.ID, now)
				if x := latest[c.ID]; x != nil && !lost(x, now) {
					x.came = x.came || !x.returned
					x.returned = true
				}
			case 2:
				backend := names[random.IntN(3)]
				how := Leave(random.IntN(2))
				d.gone(c.ID, backend, how, now)
				if x := latest[c.ID]; x != nil && x.from == backend && !x.gone && !lost(x, now) {
					x.gone, x.leftAt, x.evicted = true, now, how == Moved
				}
			}
			moved, returned := uint64(0), uint64(0)
			for _, x := range all {
				if x.evicted || x.c.ID == "" {
					moved++
				}
				if x.evicted && x.came {
					returned++
				}
			}
			if d.moved != moved || d.returned != returned {
				t.Fatalf("seed %d: got %d moved, %d returned; want %d, %d", seed, d.moved, d.returned, moved, returned)
			}
			outstanding, gone, leaving, expected, away := 0, 0, map[string]int{}, map[string]int{}, map[string]int{}
			for _, x := range all {
				if x.c.Group != "" && (x.c.ID != "" && !x.gone && !lost(x, now) || now-x.leftAt < groupWait && !x.returned && (x.c.ID == "" || !lost(x, now))) {
					away[x.c.Group]++
				}
				if x.c.ID == "" {
					continue
				}
				switch {
				case lost(x, now) && !x.returned:
					gone++
				case !lost(x, now) && !x.returned:
					outstanding++
					expected[x.to]++
				}
				if !x.gone && !lost(x, now) {
					leaving[x.from]++
				}
			}
			if d.outstanding != outstanding || d.lost != gone {
				t.Fatalf("seed %d: got %d outstanding, %d lost; want %d, %d", seed, d.outstanding, d.lost, outstanding, gone)
			}
			for _, name := range names {
				if at := d.at(name); at.leaving != leaving[name] || at.expected != expected[name] {
					t.Fatalf("seed %d: %s: got %d leaving, %d expected; want %d, %d", seed, name, at.leaving, at.expected, leaving[name], expected[name])
				}
			}
			for _, group := range []string{"g0", "g1"} {
				if got := d.away(group, now); got != away[group] {
					t.Fatalf("seed %d: %s: got %d away, want %d", seed, group, got, away[group])
				}
			}
			for id, x := range latest {
				want := ""
				if !x.returned && !lost(x, now) {
					want = x.to
				}
				if got := d.place(id, now); got != want {
					t.Fatalf("seed %d: %s is to go to %q, want %q", seed, id, got, want)
				}
				if got, want := d.resting(id, now), now-x.began < restFor; got != want {
					t.Fatalf("seed %d: %s rests: got %v, want %v", seed, id, got, want)
				}
			}
		}
		if d.expire(now + restFor); d.size != 0 || len(d.byClient) != 0 || d.first != nil || d.last != nil || d.unjudged != nil || len(d.groups) != 0 {
			t.Fatalf("seed %d: ten minutes later there are still %d departures, %d clients, %d groups", seed, d.size, len(d.byClient), len(d.groups))
		}
	}
}

// However many clients are moved, the memory is bounded: the oldest are given up first.
func TestDeparturesAreBounded(t *testing.T) {
	t.Parallel()
	d := newDepartures()
	const more = 5000
	for k := range maxDepartures + more {
		d.add(Client{ID: fmt.Sprint(k)}, "a", "b", 1, false, int64(k))
	}
	if d.size != maxDepartures || len(d.byClient) != maxDepartures || d.outstanding != maxDepartures || d.lost != more {
		t.Errorf("got %d departures of %d clients, %d outstanding, %d lost", d.size, len(d.byClient), d.outstanding, d.lost)
	}
	if len(d.lostLately) != maxLost {
		t.Errorf("got %d listed, want %d", len(d.lostLately), maxLost)
	}
	m := Mover{b: &Brain{moved: d}}
	if n, latest := m.Lost(); n != more || latest[0].Client != fmt.Sprint(more-maxLost) || latest[maxLost-1].Client != fmt.Sprint(more-1) {
		t.Errorf("got %d lost, from %v to %v, want the latest, in their order", n, latest[0], latest[len(latest)-1])
	}
	if d.resting("0", more) || !d.resting(fmt.Sprint(more), more) {
		t.Error("the oldest must be forgotten, and only these")
	}
}
