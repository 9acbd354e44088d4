package health

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A play is a Prober whose backends do what the test says, and a witness of what the Checker does. It runs
// in a bubble of synctest, where time passes only while everybody waits.
type play struct {
	t       *testing.T
	checker *Checker
	start   time.Time
	offset  atomic.Int64 // by how much the clock is ahead of the bubble's: freezes

	mu       sync.Mutex
	act      map[string]func(ctx context.Context, target Target) Result // by name or address; nil passes at once
	probes   map[string][]time.Duration                                 // when they began, by name
	targets  map[string][]Target
	running  int
	most     int // that ran at the same time
	reports  []Report
	freezes  []time.Duration
	overlaps bool
	busy     map[string]bool
}

func (p *play) Probe(ctx context.Context, target Target) Result {
	name := target.Backend.Name
	p.mu.Lock()
	p.overlaps = p.overlaps || p.busy[target.Backend.Address]
	p.busy[target.Backend.Address] = true
	p.running++
	p.most = max(p.most, p.running)
	p.probes[name] = append(p.probes[name], time.Since(p.start))
	p.targets[name] = append(p.targets[name], target)
	act := p.act[name]
	if a := p.act[target.Backend.Address]; a != nil {
		act = a
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.running--
		p.busy[target.Backend.Address] = false
	}()
	if act == nil {
		return Result{}
	}
	return act(ctx, target)
}

// set says what a backend does from now on.
func (p *play) set(name string, act func(context.Context, Target) Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.act[name] = act
}

// take returns the reports since the last call.
func (p *play) take() []Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() { p.reports = nil }()
	return p.reports
}

func (p *play) begun(name string) []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.probes[name])
}

// act runs a test in a bubble with a running Checker.
func act(t *testing.T, o Options, test func(p *play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &play{
			t: t, start: time.Now(), act: make(map[string]func(context.Context, Target) Result),
			probes: make(map[string][]time.Duration), targets: make(map[string][]Target), busy: make(map[string]bool),
		}
		o.Prober = p
		o.Report = func(r Report) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.reports = append(p.reports, r)
		}
		o.Frozen = func(gap time.Duration) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.freezes = append(p.freezes, gap)
		}
		c, err := NewChecker(o)
		if err != nil {
			t.Fatal(err)
		}
		c.now = func() time.Time { return time.Now().Add(time.Duration(p.offset.Load())) }
		p.checker = c
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { c.Run(ctx) })
		test(p)
		cancel()
		stopping := time.Now()
		running.Wait()
		if took := time.Since(stopping); took > 0 {
			t.Errorf("stopping took %v, want no time", took)
		}
		if p.running != 0 || p.overlaps {
			t.Errorf("%d probes still run; some overlapped: %v", p.running, p.overlaps)
		}
	})
}

// pass lets time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func backend(name string) balancer.Backend {
	return balancer.Backend{Name: name, Address: name + ":1883"}
}

func backends(n int) (set []balancer.Backend) {
	for i := range n {
		set = append(set, backend(fmt.Sprintf("n%d", i)))
	}
	return set
}

var errTest = errors.New("it is broken")

func fails(context.Context, Target) Result { return Result{Err: errTest} }

// hangs is a backend that does not answer.
func hangs(ctx context.Context, _ Target) Result {
	<-ctx.Done()
	return Result{Err: ctx.Err()}
}
