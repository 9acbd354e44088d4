package health

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// Every backend is checked soon, and then once per interval, not all at once, and not in step.
func TestCheckerSchedule(t *testing.T) {
	act(t, Options{}, func(p *play) {
		t := p.t
		set := backends(50)
		p.checker.Set(set)
		pass(firstSpread)
		if got := len(p.take()); got != 50 {
			t.Fatalf("got %d reports within %v, want the first of each of 50 backends", got, firstSpread)
		}
		pass(1000 * time.Second)
		starts := make(map[time.Duration]int)
		early, late := 0, 0
		for _, b := range set {
			times := p.begun(b.Name)
			if len(times) < 195 || len(times) > 206 {
				t.Errorf("%s was checked %d times in 1000 s, want about 200", b.Name, len(times))
			}
			for i := 1; i < len(times); i++ {
				if gap := times[i] - times[i-1]; gap < 4500*time.Millisecond || gap > 5500*time.Millisecond {
					t.Errorf("%s: %v between two checks, want 5 s ± 10 %%", b.Name, gap)
				} else if gap < 4700*time.Millisecond {
					early++
				} else if gap > 5300*time.Millisecond {
					late++
				}
			}
			starts[times[0].Round(50*time.Millisecond)]++
		}
		if early < 1000 || late < 1000 {
			t.Errorf("of 10000 checks %d came early and %d late, want about 2000 each", early, late)
		}
		if len(starts) < 5 {
			t.Errorf("the first checks began at %v, want them spread", starts)
		}
	})
}

// A script: what a backend does check by check, and the report about each.
func TestCheckerCounts(t *testing.T) {
	type step struct {
		result Result
		want   string // up, changed, passed, drain, unsettled; counts
	}
	broken, works := Result{Err: errTest}, Result{}
	for name, script := range map[string][]step{
		"fall and rise": {
			{works, "up changed passed 1/0"},
			{broken, "up 0/1"},
			{broken, "up 0/2"},
			{works, "up passed 1/0"},
			{broken, "up 0/1"},
			{broken, "up 0/2"},
			{broken, "changed 0/3"},
			{broken, "0/4"},
			{works, "passed 1/0"},
			{broken, "0/1"},
			{works, "passed 1/0"},
			{works, "up changed passed 2/0"},
			{works, "up passed 3/0"},
		},
		"never up before: one check is enough": {
			{broken, "changed 0/1"},
			{broken, "0/2"},
			{broken, "0/3"},
			{works, "up changed passed 1/0"},
		},
		"drain and unsettled stay while checks fail": {
			{Result{Drain: true}, "up changed passed drain 1/0"},
			{broken, "up drain 0/1"},
			{Result{Drain: true, Unsettled: true}, "up passed drain unsettled 1/0"},
			{broken, "up drain unsettled 0/1"},
			{works, "up passed 1/0"},
			{Result{Err: errTest, Drain: true}, "up drain 0/1"},
			{works, "up passed 1/0"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			act(t, Options{}, func(p *play) {
				t := p.t
				n := 0
				p.set("n0", func(context.Context, Target) Result {
					time.Sleep(time.Millisecond)
					n++
					return script[min(n, len(script))-1].result
				})
				p.checker.Set(backends(1))
				for i, step := range script {
					for len(p.begun("n0")) <= i {
						pass(time.Millisecond)
					}
					pass(time.Millisecond)
					reports := p.take()
					if len(reports) != 1 {
						t.Fatalf("step %d: got %d reports, want 1", i, len(reports))
					}
					r := reports[0]
					if got := describe(&r); got != step.want {
						t.Errorf("step %d: got %q, want %q", i, got, step.want)
					}
					if r.Backend != "n0" || r.Address != "n0:1883" || r.Latency != time.Millisecond || (r.Err != "") != (step.result.Err != nil) || time.Since(r.At) > 2*time.Millisecond {
						t.Errorf("step %d: got %+v", i, r)
					}
				}
			})
		})
	}
}

func describe(r *Report) string {
	var words []string
	for _, w := range []struct {
		set  bool
		word string
	}{{r.Up, "up"}, {r.Changed, "changed"}, {r.Passed, "passed"}, {r.Drain, "drain"}, {r.Unsettled, "unsettled"}} {
		if w.set {
			words = append(words, w.word)
		}
	}
	return strings.Join(append(words, fmt.Sprintf("%d/%d", r.PassedChecks, r.FailedChecks)), " ")
}

// A backend that hangs does not delay the others, not even when most hang.
func TestCheckerHangingBackends(t *testing.T) {
	act(t, Options{Concurrency: 8}, func(p *play) {
		t := p.t
		set := backends(40)
		p.checker.Set(set)
		pass(time.Minute)
		for _, b := range set[10:] {
			p.set(b.Name, hangs)
		}
		pass(time.Minute)
		since := time.Since(p.start)
		pass(10 * time.Minute)
		for i, b := range set {
			var worst time.Duration
			times := slices.DeleteFunc(p.begun(b.Name), func(d time.Duration) bool { return d < since })
			for i := 1; i < len(times); i++ {
				worst = max(worst, times[i]-times[i-1])
			}
			if i < 10 && (worst > 5500*time.Millisecond || len(times) < 100) {
				t.Errorf("%s waited %v for a check, had %d; want it to be checked as ever", b.Name, worst, len(times))
			}
			if i >= 10 && len(times) < 5 {
				t.Errorf("%s, which hangs, was checked %d times in 10 minutes, want it not to be forgotten", b.Name, len(times))
			}
		}
		if p.most > 8 {
			t.Errorf("%d checks ran at the same time, want at most 8", p.most)
		}
		for _, r := range p.take() {
			if r.At.Sub(p.start) > since+10*time.Second && r.Backend > "n0" && r.Latency > DefaultTimeout {
				t.Errorf("a check took %v, want at most its timeout", r.Latency)
			}
		}
	})
}

// Backends come, go, and move.
func TestCheckerSet(t *testing.T) {
	act(t, Options{}, func(p *play) {
		t := p.t
		p.set("n0", hangs)
		set := backends(2)
		p.checker.Set(set)
		set[0].Name = "changed by the caller"
		pass(time.Second)
		if got := p.begun("n0"); len(got) != 1 {
			t.Fatalf("n0 was checked at %v, want once", got)
		}

		// n0 moves while it is being checked: the old check is ended and forgotten, the new address is asked.
		moved := backend("n0")
		moved.Address = "elsewhere:1883"
		p.set(moved.Address, func(context.Context, Target) Result { return Result{} })
		p.take()
		p.checker.Set([]balancer.Backend{moved, backend("n1")})
		synctest.Wait()
		p.mu.Lock()
		if p.busy["n0:1883"] {
			t.Error("the check of the old address goes on")
		}
		p.mu.Unlock()
		pass(firstSpread)
		reports := slices.DeleteFunc(p.take(), func(r Report) bool { return r.Backend == "n1" })
		if len(reports) != 1 || reports[0].Address != moved.Address || !reports[0].Up || !reports[0].Changed {
			t.Errorf("got %+v, want one report about the new address", reports)
		}

		// New labels are not a new backend.
		labelled := moved
		labelled.Labels = map[string]string{"version": "2"}
		p.checker.Set([]balancer.Backend{labelled, backend("n1"), moved})
		pass(6 * time.Second)
		targets := p.targets["n0"]
		if got := targets[len(targets)-1].Backend.Labels["version"]; got != "2" {
			t.Errorf("the probe got version %q, want the new label, of the first of two backends with one name", got)
		}
		for _, r := range p.take() {
			if r.Changed {
				t.Errorf("got %+v, want nothing changed", r)
			}
		}

		// Gone is gone.
		p.checker.Set(nil)
		synctest.Wait()
		before := len(p.begun("n0")) + len(p.begun("n1"))
		pass(time.Minute)
		if after := len(p.begun("n0")) + len(p.begun("n1")); after != before || len(p.take()) != 0 {
			t.Errorf("%d checks of backends that are gone", after-before)
		}

		// Who comes back starts from the beginning.
		p.set("n1", fails)
		p.checker.Set(backends(2)[1:])
		pass(firstSpread)
		if got := p.take(); len(got) != 1 || describe(&got[0]) != "changed 0/1" {
			t.Errorf("got %+v, want a first report", got)
		}
	})
}

// The version that a probe has found is handed to the next one; not after a failure, and not for ever.
func TestCheckerRemembersTheVersion(t *testing.T) {
	act(t, Options{}, func(p *play) {
		t := p.t
		speaks := func(version byte) {
			p.set("n0", func(context.Context, Target) Result { return Result{Version: version} })
		}
		// asked waits for n probes and returns which versions they were handed.
		asked := func(n int) (versions []byte) {
			before := len(p.begun("n0"))
			for len(p.begun("n0")) < before+n {
				pass(time.Second)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, target := range p.targets["n0"][before:] {
				versions = append(versions, target.Version)
			}
			return versions
		}
		want := func(got []byte, want ...byte) {
			t.Helper()
			if !slices.Equal(got, want) {
				t.Errorf("the probes were handed versions %v, want %v", got, want)
			}
		}
		speaks(4)
		p.checker.Set(backends(1))
		want(asked(3), 0, 4, 4)
		p.set("n0", fails)
		want(asked(2), 4, 0)
		speaks(5)
		want(asked(2), 0, 5)
		unknown := 0
		for _, v := range asked(1500) { // two hours and a bit
			if v == 0 {
				unknown++
			}
		}
		if unknown != 2 {
			t.Errorf("in two hours %d probes had to find the version out, want 2", unknown)
		}
	})
}

func TestCheckerRefusesBadOptions(t *testing.T) {
	t.Parallel()
	good := Options{Prober: new(play), Report: func(Report) {}}
	for want, change := range map[string]func(*Options){
		"Prober and Report": func(o *Options) { o.Prober = nil },
		"must be set":       func(o *Options) { o.Report = nil },
		"interval must be":  func(o *Options) { o.Interval = time.Nanosecond },
		"timeout must be":   func(o *Options) { o.Timeout = -time.Second },
		"rise must be":      func(o *Options) { o.Rise = -1 },
		"fall must be":      func(o *Options) { o.Fall = -1 },
		"concurrency must":  func(o *Options) { o.Concurrency = -1 },
	} {
		o := good
		change(&o)
		if _, err := NewChecker(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %q", err, want)
		}
	}
}

// The log has one line for each change of a verdict, with what broke.
func TestCheckerLogs(t *testing.T) {
	var log bytes.Buffer
	act(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(p *play) {
		p.checker.Set(backends(1))
		pass(30 * time.Second)
		p.set("n0", fails)
		pass(time.Minute)
		p.set("n0", nil)
		pass(time.Minute)
	})
	for text, want := range map[string]int{"passes its health checks": 2, "fails its health checks": 1, `error="it is broken"`: 1, "backend=n0": 3} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("the log has %q %d times, want %d:\n%s", text, got, want, log.String())
		}
	}
}

// Set may be called at any time, from anywhere, and as often as one likes.
func TestCheckerSetFromEverywhere(t *testing.T) {
	act(t, Options{Interval: 20 * time.Millisecond, Timeout: 10 * time.Millisecond}, func(p *play) {
		t := p.t
		var callers sync.WaitGroup
		for i := range 8 {
			callers.Go(func() {
				for n := range 100 {
					p.checker.Set(backends((i*n)%7 + 1))
					time.Sleep(time.Millisecond)
				}
			})
		}
		callers.Wait()
		p.checker.Set(backends(3))
		pass(time.Second)
		p.take()
		pass(100 * time.Millisecond)
		seen := make(map[string]bool)
		for _, r := range p.take() {
			seen[r.Backend] = true
		}
		if len(seen) != 3 {
			t.Errorf("got reports about %v, want the three of the last call", seen)
		}
	})
}
