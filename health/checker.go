package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// Options configure a Checker. Prober and Report must be set; for the rest zero means the default.
type Options struct {
	Prober Prober
	// Report hears of every check that counts. It is called from one goroutine, and no check begins while it
	// runs: it must be quick.
	Report func(Report)
	// Frozen, unless nil, hears that this process stood still, and for how long. It is called like Report.
	Frozen func(gap time.Duration)
	// Interval is the time from the beginning of a check to that of the next one of the same backend, give or
	// take a tenth; default 5 s, at least 10 ms.
	Interval time.Duration
	// Timeout bounds one check; default 3 s. Checks of one backend do not overlap, should it be longer than
	// Interval.
	Timeout time.Duration
	// Rise and Fall are how many checks in a row turn the verdict up and down; defaults 2 and 3.
	Rise, Fall int
	// Concurrency bounds the checks that run at the same time; default 256. Backends whose last check failed
	// get no more than half of it, so that many that hang cannot delay the others.
	Concurrency int
	// Log gets verdicts and freezes; nil discards them.
	Log *slog.Logger
}

// The defaults of Options.
const (
	DefaultInterval    = 5 * time.Second
	DefaultTimeout     = 3 * time.Second
	DefaultRise        = 2
	DefaultFall        = 3
	DefaultConcurrency = 256
)

const (
	minInterval = 10 * time.Millisecond
	// jitter is the part of the interval by which it varies, so that the checks of many backends, and of
	// many instances of mqttlb, do not stay together.
	jitter = 0.1
	// firstSpread bounds the time in which the first checks of many backends begin.
	firstSpread = 500 * time.Millisecond
	// forgetVersion is how long a protocol version is trusted: a broker that was updated may speak a better one.
	forgetVersion = time.Hour
	// freezeFactor: without a sign of life for as many intervals, the process stood still (protocol.md, 6).
	freezeFactor = 3
	// overtime is how much longer than its timeout a check may take before its result is doubted: the process
	// has slept, and the timeout may have come before the broker's answer could be read.
	overtime = 500 * time.Millisecond
	// maxDoubts bounds the checks of one backend that are discarded in a row for overtime.
	maxDoubts = 2
)

// A Checker checks the current backends again and again.
type Checker struct {
	options Options
	log     *slog.Logger
	now     func() time.Time

	mu     sync.Mutex
	wanted []balancer.Backend
	wake   chan struct{} // wanted has changed

	// Of Run's goroutine.
	subjects         map[string]*subject
	running, trouble int // checks; those of backends whose last check failed
	results          chan outcome
	beat             time.Time // the last sign of life
}

// A subject is a backend at one address.
type subject struct {
	backend balancer.Backend
	due     time.Time
	cancel  context.CancelFunc // ends the running check; nil if there is none
	frozen  bool               // the process stood still during the running check
	doubts  int                // checks that were discarded in a row
	tally   tally

	drain, unsettled bool      // as in Report
	version          byte      // as in Target
	learnt           time.Time // when version was found out
}

// An outcome is a check that has ended.
type outcome struct {
	subject    *subject
	trouble    bool // it was counted as such
	fresh      bool // the probe had to find the version out
	began, end time.Time
	result     Result
}

// NewChecker returns a Checker without backends.
func NewChecker(o Options) (*Checker, error) {
	if o.Prober == nil || o.Report == nil {
		return nil, errors.New("health: Prober and Report must be set")
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{{"interval", &o.Interval, DefaultInterval}, {"timeout", &o.Timeout, DefaultTimeout}} {
		switch {
		case *d.value == 0:
			*d.value = d.standard
		case *d.value < minInterval:
			return nil, fmt.Errorf("health: %s must be at least %v, not %v", d.name, minInterval, *d.value)
		}
	}
	for _, n := range []struct {
		name     string
		value    *int
		standard int
	}{{"rise", &o.Rise, DefaultRise}, {"fall", &o.Fall, DefaultFall}, {"concurrency", &o.Concurrency, DefaultConcurrency}} {
		switch {
		case *n.value == 0:
			*n.value = n.standard
		case *n.value < 0:
			return nil, fmt.Errorf("health: %s must be at least 1, not %d", n.name, *n.value)
		}
	}
	c := &Checker{
		options: o, log: o.Log, now: time.Now, wake: make(chan struct{}, 1),
		subjects: make(map[string]*subject), results: make(chan outcome),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// Set makes these the backends to check. New ones, and those with a new address, are checked within half
// a second; the others go on as before. Of several with one name, the first counts. The slice may be used
// again, the labels must not change. Set does not block, and may be called before Run.
func (c *Checker) Set(backends []balancer.Backend) {
	c.mu.Lock()
	c.wanted = append([]balancer.Backend(nil), backends...)
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default: // it will look at wanted in any case
	}
}

// Run checks until ctx is done, and returns when all checks have ended. It must be called once.
func (c *Checker) Run(ctx context.Context) {
	var checks sync.WaitGroup
	defer checks.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	c.beat = c.now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
			c.adopt()
		case o := <-c.results:
			c.watch()
			c.take(o)
		case <-timer.C:
		}
		c.watch()
		timer.Reset(c.start(ctx, &checks))
	}
}

// adopt brings the subjects in line with what is wanted.
func (c *Checker) adopt() {
	c.mu.Lock()
	wanted := c.wanted
	c.mu.Unlock()
	now, next := c.now(), make(map[string]*subject, len(wanted))
	for i := range wanted {
		b := &wanted[i]
		if next[b.Name] != nil {
			continue
		}
		s := c.subjects[b.Name]
		if s == nil || s.backend.Address != b.Address {
			s = &subject{due: now.Add(rand.N(min(firstSpread, c.options.Interval/10)))}
		}
		s.backend = *b
		next[b.Name] = s
	}
	for name, s := range c.subjects {
		if next[name] != s && s.cancel != nil {
			s.cancel()
		}
	}
	c.subjects = next
}
