package balancer

import (
	"slices"
	"testing"
)

// BenchmarkPlan shows what it costs to plan for 100 000 sessions: all that a join, or the emptying of one of six
// backends, makes necessary, and the next minute of it.
func BenchmarkPlan(b *testing.B) {
	for _, event := range []string{"join", "ramp", "drain"} {
		w := newPlanWorld(b, 1, BrainOptions{Placement: Options{BoundedLoad: 1.25}}, MoverOptions{}, 6)
		w.fill(100_000, nil)
		sessions := slices.Collect(w.sessions())
		switch event {
		case "join":
			w.backs = append(w.backs, Backend{Name: "n6"})
		case "ramp":
			w.backs = append(w.backs, Backend{Name: "n6", Phase: Ramping, Ramp: 0.5})
		case "drain":
			w.backs[3].Phase = Draining
		}
		w.join()
		for _, test := range []struct {
			name  string
			limit int
		}{{"all", 0}, {"minute", 6001}} {
			b.Run("event="+event+"/moves="+test.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if plan := w.b.Plan(slices.Values(sessions), PlanOptions{Limit: test.limit}, w.now); len(plan) < 6000 {
						b.Fatalf("got %d moves", len(plan))
					}
				}
			})
		}
	}
}

// BenchmarkMoverBegin shows what a call costs while there is nothing to do.
func BenchmarkMoverBegin(b *testing.B) {
	w := newPlanWorld(b, 1, BrainOptions{Watched: true}, MoverOptions{}, 6)
	w.fill(1000, nil)
	w.run(2, nil)
	b.ReportAllocs()
	for b.Loop() {
		w.now += planStep
		w.m.Begin(w.sessions(), w.now)
	}
}
