package proxy

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWheelAgainstModel drives the wheel and a plain map of deadlines with the same random steps.
func TestWheelAgainstModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	w := newWheel()
	sessions := make([]session, 300)
	model := make(map[*session]int64) // deadline in ns, as asked for
	now := int64(0)
	for step := range 20_000 {
		s := &sessions[rng.IntN(len(sessions))]
		switch rng.IntN(4) {
		case 0, 1:
			d := time.Duration(rng.Int64N(int64(90 * time.Second))) // more than one turn of the wheel
			if rng.IntN(50) == 0 {
				d = 0
			}
			w.set(s, now, d)
			model[s] = now + int64(d)
		case 2:
			w.clear(s)
			delete(model, s)
		case 3:
			if at, ok := w.due(); ok && rng.IntN(2) == 0 {
				now = max(now, at)
			} else {
				now += rng.Int64N(int64(3 * time.Second))
			}
			if rng.IntN(500) == 0 {
				now += int64(2 * time.Minute) // the machine slept
			}
			w.expire(now, func(s *session) {
				deadline, known := model[s]
				if !known {
					t.Fatalf("step %d: a session without a deadline fired", step)
				}
				if deadline > now {
					t.Fatalf("step %d: fired %v too early", step, time.Duration(deadline-now))
				}
				delete(model, s)
			})
			for _, deadline := range model {
				if now-deadline > int64(2*tick) {
					t.Fatalf("step %d: a deadline is %v late", step, time.Duration(now-deadline))
				}
			}
		}
		if w.count != len(model) {
			t.Fatalf("step %d: got %d deadlines in the wheel, want %d", step, w.count, len(model))
		}
	}
}

func TestWheelMayRearmWhileFiring(t *testing.T) {
	t.Parallel()
	w := newWheel()
	var s session
	w.set(&s, 0, time.Second)
	fired := 0
	for now := int64(0); now < int64(10*time.Second); now += int64(tick) {
		w.expire(now, func(s *session) {
			fired++
			w.set(s, now, time.Second)
		})
	}
	if fired < 8 || fired > 9 {
		t.Errorf("got %d firings of a deadline of 1 s in 10 s, want 8 or 9", fired)
	}
}

func TestWheelIsDueOnlyForDeadlines(t *testing.T) {
	t.Parallel()
	w := newWheel()
	if at, ok := w.due(); ok {
		t.Errorf("got due at %v without a deadline", time.Duration(at))
	}
	var s session
	w.set(&s, 0, time.Hour)
	if at, ok := w.due(); !ok || at < int64(time.Hour) || at > int64(time.Hour+tick) {
		t.Errorf("got due at %v, %v for a deadline in an hour", time.Duration(at), ok)
	}
	w.clear(&s)
	w.expire(int64(2*time.Hour), func(*session) { t.Error("a cleared deadline fired") })
	if at, ok := w.due(); ok {
		t.Errorf("got due at %v after everything was cleared", time.Duration(at))
	}
}

// TestWheelAfterAStandstill: when a loop comes back long after a deadline, nobody is late, and everybody has a second
// more. What is set from then on takes as long as ever.
func TestWheelAfterAStandstill(t *testing.T) {
	t.Parallel()
	w := newWheel()
	var due, later, fresh session
	fired := make(map[*session]int64)
	at := func(now time.Duration) {
		w.expire(int64(now), func(s *session) { fired[s] = int64(now) })
	}
	w.set(&due, 0, 2*time.Second)
	w.set(&later, 0, 20*time.Second)

	w.excuse(0, int64(2900*time.Millisecond)) // late, as on any busy machine
	if over := w.overdue(int64(2900 * time.Millisecond)); over != int64(900*time.Millisecond) {
		t.Fatalf("got %v overdue, want 900ms", time.Duration(over))
	}
	woken := 8 * time.Second
	w.excuse(int64(time.Second), int64(woken))
	if over := w.overdue(int64(woken)); over != -leniency {
		t.Errorf("after the standstill: got %v overdue, want -1s", time.Duration(over))
	}
	w.set(&fresh, int64(woken), 500*time.Millisecond)
	for now := woken; now < 40*time.Second; now += tick {
		at(now)
	}
	for _, want := range []struct {
		name  string
		s     *session
		after time.Duration
	}{
		{"the one that was due", &due, 9 * time.Second},
		{"the one set afterwards", &fresh, 8500 * time.Millisecond},
		{"the one that was far away", &later, 27 * time.Second},
	} {
		if got := time.Duration(fired[want.s]); got < want.after || got > want.after+2*tick {
			t.Errorf("%s: got fired at %v, want %v", want.name, got, want.after)
		}
	}
}
