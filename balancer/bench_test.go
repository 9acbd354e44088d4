package balancer

import (
	"fmt"
	"strings"
	"testing"
)

// atWork returns a subject in the middle of its work: it follows a forecast, knows its heavy clients, and every
// backend of the snapshot holds a thousand connections. The clients are of all kinds; for fat-aware all are heavy,
// for groups all are members.
func atWork(tb testing.TB, r row, n int) (u *subject, s *Snapshot, seats *Seats, clients []Client) {
	tb.Helper()
	set := names(n)
	for i := range set {
		set[i].Labels = map[string]string{VersionLabel: []string{"1", "2"}[i%2]}
	}
	s = NewSnapshot(1, "key", set)
	u = r.make(tb, Options{BoundedLoad: 1.25, NodeScope: r.node, Seed: 1})
	u.enter(r.in[len(r.in)/2])
	follow(u.strategy, evenForecast(s, seconds(15), func(i int) float64 { return 0.3 + 0.001*float64(i) }))
	seats = NewSeats(s)
	for i := range s.Backends {
		seats.Live[i] = 1000
		seats.Total += 1000
	}
	for k := range 1024 {
		c := Client{ID: fmt.Sprintf("plant-7/line-%d/plc", k), Ordinal: -1, Persistent: k%2 == 0}
		if u.groups != nil {
			c.Group, c.Ordinal = fmt.Sprint("workers-", k/40), k%40
			u.groups.Place(c, s, seats, 0)
		}
		if u.heavy != nil && (k%16 == 0 || r.name == "fat-aware") {
			u.heavy.Note(c.ID, s.Backends[k%n].Name, 100)
		}
		clients = append(clients, c)
	}
	return u, s, seats, clients
}

// BenchmarkPick shows what one decision costs with everything in the cache. It does not show the mutex around
// it, the change of the seats, a new snapshot, or a cache that the relaying of other clients' bytes has filled.
// For groups it shows what Preview costs a newcomer, which is the decision alone; BenchmarkPlace has the rest.
func BenchmarkPick(b *testing.B) {
	for _, r := range rows() {
		if r.node && r.name != "client-hash with node scope" {
			continue // the same path
		}
		for _, n := range []int{6, 64} {
			b.Run(fmt.Sprintf("strategy=%s/backends=%d", strings.ReplaceAll(r.name, " ", "-"), n), func(b *testing.B) {
				u, s, seats, clients := atWork(b, r, n)
				b.ReportAllocs()
				for k := 0; b.Loop(); k++ {
					if c := clients[k&1023]; u.groups == nil {
						u.strategy.Pick(c, s, seats)
					} else {
						c.ID = "newcomer"
						u.groups.Preview(c, s, seats, 0)
					}
				}
			})
		}
	}
}

// BenchmarkNewSnapshot shows what a change of the membership costs, once per change and off the path.
func BenchmarkNewSnapshot(b *testing.B) {
	for _, n := range []int{6, 64} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			set := names(n)
			b.ReportAllocs()
			for b.Loop() {
				_ = NewSnapshot(1, "secret", set)
			}
		})
	}
}

// BenchmarkMaglevBuild shows what a new set of weights costs maglev.
func BenchmarkMaglevBuild(b *testing.B) {
	for _, n := range []int{6, 64} {
		b.Run(fmt.Sprintf("backends=%d", n), func(b *testing.B) {
			s := NewSnapshot(1, "key", names(n))
			b.ReportAllocs()
			for b.Loop() {
				buildMaglev(s, nil, false)
			}
		})
	}
}
