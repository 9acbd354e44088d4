package balancer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// homely are the rows that can be told that sessions live on one broker, and are.
func homely() []row {
	var all []row
	for _, r := range rows() {
		if r.node {
			all = append(all, r)
		}
	}
	return all
}

// With sessions that live on one broker, a persistent client stays at home through everything but an outage and a
// failed connect, in every strategy that has homes and in every state. Everybody else moves as ever.
func TestNodeScopeStaysHome(t *testing.T) {
	t.Parallel()
	const clients = 40
	troubles := []struct {
		name   string
		change func(home *Backend, seats *Seats, i int)
		cause  Cause // of the persistent clients of that backend
		moves  bool  // the others
	}{
		{"nothing", func(*Backend, *Seats, int) {}, Home, false},
		{"hot", func(b *Backend, _ *Seats, _ int) { b.Phase = Hot }, Home, true},
		{"draining", func(b *Backend, _ *Seats, _ int) { b.Phase = Draining }, Home, true},
		{"joining", func(b *Backend, _ *Seats, _ int) { b.Phase = Joining }, Home, true},
		{"full", func(_ *Backend, s *Seats, i int) { s.Live[i], s.Total = 5000, 5000 }, Home, true},
		{"hot and full", func(b *Backend, s *Seats, i int) { b.Phase, s.Live[i], s.Total = Hot, 5000, 5000 }, Home, true},
		{"at the foot of its ramp", func(b *Backend, _ *Seats, _ int) { b.Phase, b.Ramp = Ramping, 0.1 }, Home, true},
		{"down", func(b *Backend, _ *Seats, _ int) { b.Phase = Down }, Avoided, true},
		{"tried", func(_ *Backend, s *Seats, i int) { s.Tried = append(s.Tried, i) }, Retried, true},
	}
	for _, r := range homely() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			set := names(5)
			for i := range set {
				set[i].Labels = map[string]string{VersionLabel: []string{"1", "2"}[i%2]}
			}
			quiet := NewSnapshot(1, "key", set)
			u := r.make(t, Options{BoundedLoad: 1.25, NodeScope: true})
			for _, state := range r.in {
				u.enter(state)
				for i := range set {
					for _, trouble := range troubles {
						seats, changed := NewSeats(quiet), slices.Clone(set)
						trouble.change(&changed[i], seats, i)
						s := NewSnapshot(2, "key", changed)
						left := 0
						for k := range clients {
							c := Client{ID: fmt.Sprint("client-", k), Persistent: true, Ordinal: -1, Group: []string{"", "g"}[k%2]}
							home, why := u.place(c, quiet, NewSeats(quiet), 0)
							if why.Cause != Home {
								t.Fatalf("%s, client %s: got %s, want its home", state.Cluster, c.ID, why)
							}
							got, why := u.place(c, s, seats, 0)
							want := Home
							if home == i {
								want = trouble.cause
							}
							if why.Cause != want || (got == home) != (want == Home) {
								t.Fatalf("%s, n%d is %s: client %s of n%d got n%d, %s; want cause %s",
									state.Cluster, i, trouble.name, c.ID, home, got, why, want)
							}
							c.Persistent, c.Group = false, ""
							before, whyBefore := u.preview(c, quiet, NewSeats(quiet), 0)
							if after, _ := u.preview(c, s, seats, 0); before == i && after != i && whyBefore.Cause == Home {
								left++
							}
						}
						byHash := !strings.HasPrefix(r.name, "adaptive") || state.Cluster == Balanced
						if byHash && trouble.moves != (left > 0) {
							t.Errorf("n%d is %s: got %d of the others moved away, want some: %v", i, trouble.name, left, trouble.moves)
						}
					}
				}
			}
		})
	}
}

// While home is down, its clients are on the next in their order. That one may be hot or full, since their new
// sessions are there; but not on its way in or out while another could do.
func TestNodeScopeAwayFromHome(t *testing.T) {
	t.Parallel()
	for _, r := range homely() {
		u := r.make(t, Options{BoundedLoad: 1.25, NodeScope: true})
		u.enter(r.in[0])
		for k := range 60 {
			c := Client{ID: fmt.Sprint("client-", k), Persistent: true, Ordinal: -1}
			set := names(4)
			pick := func() (int, Reason) {
				s := NewSnapshot(1, "key", set)
				seats := NewSeats(s)
				for i := range set {
					if set[i].Host == "full" {
						seats.Live[i], seats.Total = 5000, 5000
					}
				}
				return u.place(c, s, seats, 0)
			}
			home, _ := pick()
			set[home].Phase = Down
			next, why := pick()
			if next == home || why.Cause != Avoided || why.Phase != Down {
				t.Fatalf("%s: got n%d, %s; want another than n%d", r.name, next, why, home)
			}
			set[next].Phase, set[next].Host = Hot, "full"
			if got, _ := pick(); got != next {
				t.Fatalf("%s: n%d is down and n%d hot and full: got n%d, want n%d", r.name, home, next, got, next)
			}
			for _, phase := range []Phase{Joining, Draining} {
				set[next].Phase = phase
				if got, _ := pick(); got == next || got == home {
					t.Fatalf("%s: n%d is down and n%d %s: got n%d, want another", r.name, home, next, phase, got)
				}
			}
			set[home].Phase = Joining
			if got, why := pick(); got != home || why.Cause != Home {
				t.Fatalf("%s: n%d is back: got n%d, %s", r.name, home, got, why)
			}
		}
	}
}

// A client without an id has no session that could be lost.
func TestNodeScopeKnowsNobodyWithoutID(t *testing.T) {
	t.Parallel()
	for _, r := range homely() {
		u, s := r.make(t, Options{NodeScope: true}), NewSnapshot(1, "key", names(3))
		u.enter(r.in[0])
		at := make(map[int]bool)
		for range 6 {
			i, why := u.place(Client{Persistent: true}, s, NewSeats(s), 0)
			if why.Cause == Home {
				t.Errorf("%s: got %s", r.name, why)
			}
			at[i] = true
		}
		if r.in[0].Cluster != Rolling && len(at) != 3 {
			t.Errorf("%s: got clients without an id on %d backends, want 3", r.name, len(at))
		}
	}
}
