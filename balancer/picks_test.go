package balancer

import (
	"math/rand/v2"
	"testing"
)

func seconds(n int64) int64 { return n * 1e9 }

// A decision allocates nothing: it is made under the cluster's mutex, for every client. Only the first one with a
// new snapshot or forecast may cost memory, and a member of a group that has no seat yet. (Not parallel: other
// tests' allocations would count.)
func TestDecisionsDoNotAllocate(t *testing.T) {
	for _, r := range rows() {
		for seed := range uint64(4 / fewer) {
			h := newHistory(t, r, rand.New(rand.NewPCG(seed, 5)), seed)
			for range 120 {
				h.step()
			}
			clients := []Client{{Ordinal: -1}, {
				ID:      "a-client-id-that-is-longer-than-the-64-bytes-of-one-round-of-the-hash-function",
				Ordinal: 3, Group: "g1", Persistent: true,
			}}
			for _, c := range h.open[:min(5, len(h.open))] { // heavy perhaps, or with a seat
				clients = append(clients, c.client)
			}
			if seed%2 == 1 {
				h.tried = append(h.tried, h.set[0].Name)
			}
			s, seats := h.snapshot, h.seats()
			for _, c := range clients {
				preview := func() { h.main.preview(c, s, seats, h.now) }
				place := func() {
					if i, _ := h.main.place(c, s, seats, h.now); i >= 0 {
						h.main.ended(c, s.Backends[i].Name, Left, h.now)
					}
				}
				preview()
				if got := testing.AllocsPerRun(20, preview); got != 0 {
					t.Errorf("%s, client %+v: got %v allocations per preview, want 0", h.name, c, got)
				}
				place()
				if got := testing.AllocsPerRun(20, place); got != 0 {
					t.Errorf("%s, client %+v: got %v allocations per decision, want 0", h.name, c, got)
				}
			}
		}
	}
}

// New weights cost a pick no allocation either: they come with every scrape.
func TestFollowingDoesNotAllocate(t *testing.T) {
	s := NewSnapshot(1, "key", names(6))
	seats, w, n := NewSeats(s), newMetricWRR(0), 0
	forecasts := []*Forecast{withFactors(s, func(int) float64 { return 1 }), withFactors(s, func(i int) float64 { return 1 + float64(i)/10 })}
	if got := testing.AllocsPerRun(100, func() {
		n++
		w.Follow(forecasts[n%2])
		w.Pick(Client{}, s, seats)
	}); got != 0 {
		t.Errorf("got %v allocations per pick, want 0", got)
	}
}
