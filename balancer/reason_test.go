package balancer

import (
	"slices"
	"testing"
)

// A sentence is a reason with what it says.
type sentence struct {
	label  string
	reason Reason
	want   string
}

// sentences are all causes, each with its metric label and what people read.
func sentences() map[Cause][]sentence {
	return map[Cause][]sentence{
		NoBackend: {
			{"no_backend", Reason{}, "no backend can take a client"},
			{"no_backend", Reason{Group: "g"}, "group g: no backend can take a client"},
		},
		Home: {
			{"home", Reason{}, "home by hash"},
			{"home", Reason{Strategy: "client-hash", Group: "g"}, "home by hash; has joined group g"},
		},
		Spilled: {{"spilled", Reason{Other: "n1"}, "spilled: n1 over bounded load"}},
		Avoided: {
			{"avoided", Reason{Other: "n1", Phase: Hot}, "away from home: n1 is hot"},
			{"avoided", Reason{Other: "n1", Phase: Down}, "away from home: n1 is down"},
			{"avoided", Reason{Other: "n1", Phase: Draining, Group: "g"}, "group g: away from its seat: n1 is draining"},
		},
		Retried: {
			{"retried", Reason{Other: "n1"}, "away from home: n1 did not accept the connection"},
			{"retried", Reason{Other: "n1", Group: "g"}, "group g: away from its seat: n1 did not accept the connection"},
		},
		Fewest:    {{"fewest", Reason{}, "fewest connections for its weight"}},
		Turn:      {{"turn", Reason{}, "next in turn"}},
		Drawn:     {{"drawn", Reason{}, "drawn by weighted chance"}},
		Newest:    {{"newest", Reason{}, "updated already, and it has room"}},
		Lightest:  {{"lightest", Reason{Other: "n1"}, "heavy client: least predicted load"}},
		Kept:      {{"kept", Reason{}, "heavy client: stays, no other backend is lighter by more than 3 %"}},
		TakenOver: {{"taken_over", Reason{Group: "g"}, "group g: same seat, the client is still connected there"}},
		SeatLease: {
			{"seat_lease", Reason{Group: "g", Left: 29_001}, "group g: back on its seat, 30s before the lease ends"},
			{"seat_lease", Reason{Group: "g", Left: 1000}, "group g: back on its seat, 1s before the lease ends"},
			{"seat_lease", Reason{Group: "g"}, "group g: back on its seat, 0s before the lease ends"},
		},
		OrdinalSeat: {{"ordinal_seat", Reason{Group: "g"}, "group g: seat of its number"}},
		Emptiest:    {{"emptiest", Reason{Group: "g", Other: "n1,n2"}, "group g: emptiest of n1,n2"}},
		Planned:     {{"planned", Reason{}, "moved here by plan"}},
		Shunned: {
			{"circuit_open", Reason{Other: "n1"}, "away from home: the circuit of n1 is open"},
			{"circuit_open", Reason{Other: "n1", Group: "g"}, "group g: away from its seat: the circuit of n1 is open"},
		},
		Full:    {{"full", Reason{Other: "n1"}, "away from home: n1 has as many connections as it may"}},
		AllFull: {{"all_full", Reason{}, "all backends have as many connections as they may"}},
		Resumed: {{"resumed", Reason{}, "back at the broker that has given it its client id"}},
	}
}

// The labels are those of metrics and may not change; the sentences are for people, and no two causes share one.
func TestReasonsAreSentences(t *testing.T) {
	t.Parallel()
	all, causeOf := sentences(), make(map[string]Cause)
	for cause := Cause(0); cause.String() != "unknown"; cause++ {
		if len(all[cause]) == 0 {
			t.Errorf("cause %d, %s, has no sentence here", cause, cause)
		}
	}
	for cause, list := range all {
		for _, s := range list {
			s.reason.Cause = cause
			if got := cause.String(); got != s.label {
				t.Errorf("cause %d: got label %q, want %q", cause, got, s.label)
			}
			if got := s.reason.String(); got != s.want {
				t.Errorf("%+v: got %q, want %q", s.reason, got, s.want)
			}
			if other, taken := causeOf[s.want]; taken && other != cause {
				t.Errorf("%s and %s say the same: %q", other, cause, s.want)
			}
			causeOf[s.want] = cause
		}
	}
	if beyond := Cause(len(all)); beyond.String() != "unknown" || (Reason{Cause: beyond}).String() != "unknown" {
		t.Errorf("got %q for a cause that does not exist", beyond)
	}
}

// Stickiness is measured by it: the part of the clients that went where they belong.
func TestStickyCauses(t *testing.T) {
	t.Parallel()
	for cause := range sentences() {
		want := slices.Contains([]Cause{Home, Kept, TakenOver, SeatLease, OrdinalSeat, Planned, Resumed}, cause)
		if got := cause.Sticky(); got != want {
			t.Errorf("%s: got sticky %v, want %v", cause, got, want)
		}
	}
}
