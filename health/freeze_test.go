package health

import (
	"context"
	"slices"
	"testing"
	"time"
)

// The process stands still for a minute while checks run: they do not count, whatever they say; nobody
// is down; and not all backends are checked in the same moment afterwards.
func TestCheckerFreeze(t *testing.T) {
	act(t, Options{}, func(p *play) {
		t := p.t
		set := backends(40)
		for _, b := range set {
			p.set(b.Name, func(ctx context.Context, _ Target) Result {
				select {
				case <-time.After(time.Second):
					return Result{}
				case <-ctx.Done():
					return Result{Err: ctx.Err()}
				}
			})
		}
		p.checker.Set(set)
		pass(20*time.Second + firstSpread)
		p.take()
		p.mu.Lock()
		running := p.running
		p.mu.Unlock()
		if running == 0 {
			t.Fatal("no check runs: the test tests nothing")
		}
		for _, b := range set {
			p.set(b.Name, fails)
		}
		thaw := time.Since(p.start)
		p.offset.Add(int64(time.Minute))
		pass(time.Second) // the checks that ran end
		for _, b := range set {
			p.set(b.Name, nil)
		}
		for _, r := range p.take() {
			if r.At.Sub(p.start)-time.Minute < 21*time.Second && r.Latency >= time.Second {
				t.Errorf("got %+v about a check that ran when the process stood still", r)
			}
		}
		if len(p.freezes) != 1 || p.freezes[0] < time.Minute || p.freezes[0] > time.Minute+6*time.Second {
			t.Errorf("got freezes %v, want one of a minute", p.freezes)
		}
		pass(10 * time.Second)
		together := make(map[time.Duration]int)
		for _, b := range set {
			times := p.begun(b.Name)
			if times[len(times)-1] < 22*time.Second {
				t.Errorf("%s was not checked again after the freeze", b.Name)
			}
			after := slices.IndexFunc(times, func(d time.Duration) bool { return d >= thaw })
			together[times[max(after, 0)].Truncate(10*time.Millisecond)]++
		}
		for at, n := range together {
			if n > 10 {
				t.Errorf("%d of 40 checks began together, at %v, want them spread", n, at)
			}
		}
	})
}

// A freeze that is shorter than a timeout, but long for the interval.
func TestCheckerFreezeWithinATimeout(t *testing.T) {
	act(t, Options{Interval: time.Second, Timeout: 30 * time.Second}, func(p *play) {
		p.set("n0", func(ctx context.Context, _ Target) Result {
			select {
			case <-time.After(15 * time.Second):
			case <-ctx.Done():
			}
			return Result{Err: errTest}
		})
		p.checker.Set(backends(1))
		pass(10 * time.Second)
		p.offset.Add(int64(5 * time.Second))
		pass(10 * time.Second)
		if got := p.take(); len(got) != 0 {
			p.t.Errorf("got %+v about a check that ran when the process stood still", got)
		}
		if len(p.freezes) != 1 || len(p.begun("n0")) != 2 {
			p.t.Errorf("got freezes %v and checks at %v, want one, and another check after it", p.freezes, p.begun("n0"))
		}
	})
}

// A freeze that is too short to be seen between two checks shows in the check that it hit: it took longer
// than it can. If that happens again and again, it is not the process that sleeps.
func TestCheckerDoubts(t *testing.T) {
	act(t, Options{}, func(p *play) {
		late := []bool{false, false, true, true, true, true, true, false}
		p.set("n0", func(context.Context, Target) Result {
			if n := len(p.begun("n0")); n <= len(late) && late[n-1] {
				p.offset.Add(int64(DefaultTimeout + overtime + time.Millisecond)) // it wakes up late
			}
			return Result{Err: errTest}
		})
		p.checker.Set(backends(1))
		for len(p.begun("n0")) < len(late) {
			pass(10 * time.Millisecond)
		}
		var got []bool
		for _, r := range p.take() {
			got = append(got, r.Latency > DefaultTimeout)
		}
		if want := []bool{false, false, true, false}; !slices.Equal(got, want) {
			p.t.Errorf("late checks among the reports: %v, want %v: the third in a row counts, and then it begins anew", got, want)
		}
		if times := p.begun("n0"); times[3]-times[2] > firstSpread {
			p.t.Errorf("after a check that does not count %v passed, want another one soon", times[3]-times[2])
		}
		if len(p.freezes) != 0 {
			p.t.Errorf("got freezes %v, want none", p.freezes)
		}
	})
}

func TestSlept(t *testing.T) {
	t.Parallel()
	c := &Checker{options: Options{Timeout: DefaultTimeout}}
	for _, test := range []struct {
		took, wall time.Duration
		want       bool
	}{
		{time.Second, time.Second, false},
		{DefaultTimeout, DefaultTimeout, false},
		{4 * time.Second, 4 * time.Second, true},
		{4 * time.Second, -time.Hour, true},
		{time.Second, time.Hour, true},   // suspended, or set forward
		{time.Second, -time.Hour, false}, // set back
	} {
		if got := c.slept(test.took, test.wall); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
}
