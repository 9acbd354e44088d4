package scrape

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

// A Reading is what one scrape of one backend has found. Figures are zero where nothing was found; Err
// then says why, except for the first scrape of a rate.
type Reading struct {
	// Backend is its name.
	Backend string
	// Load is the mean of the load over the window, for balancer.Loads: the part of the capacity that is in
	// use, 0…1, more while a backend is overloaded.
	Load balancer.Figure
	// Since is the beginning of the time that Load covers: later than a window ago for a backend that is
	// new here. It is a time of Clock.
	Since int64
	// Util is the load at this moment, for balancer.Vitals: a mean would notice an overload minutes too late
	// (algorithms.md, 6).
	Util balancer.Figure
	// Level is the hot metric at this moment.
	Level balancer.Figure
	// Version is that of the broker, empty if it was not read.
	Version string
	// At is when the backend answered, or failed to. It is a time of Clock.
	At int64
	// Err says what could not be read. There may be some figures nevertheless.
	Err error
}

// A Status is what is known about the scrapes of one backend.
type Status struct {
	Backend string
	// URL is what was asked; empty if it cannot be made for this backend.
	URL string
	// Reading is the latest one, the zero Reading before the first.
	Reading Reading
	// Values are the figures of the latest scrape in their order, before their scales; NaN where unknown.
	Values []float64
	// Took is how long the latest scrape took, Bytes what it brought, Samples how many were on the page.
	Took    time.Duration
	Bytes   int64
	Samples int
	// Scrapes counts all scrapes, Failures those with an Err, Resets the counters that began anew, Duplicates
	// the samples that were dropped because there were others with the same labels.
	Scrapes, Failures, Resets, Duplicates uint64
}

// A Scraper scrapes the current backends again and again.
type Scraper struct {
	options Options
	url     template
	plan    *plan
	rand    func(time.Duration) time.Duration // below the argument
	// transport makes the transport for a backend.
	transport func(dial string) http.RoundTripper

	wake chan struct{} // wanted has changed

	mu       sync.Mutex
	wanted   []balancer.Backend
	statuses map[string]Status

	// Of Run's goroutine.
	targets          map[string]*target
	running, trouble int // scrapes; those of backends whose last scrape failed
	results          chan result
}

// A target is a backend at one URL.
type target struct {
	name     string
	location location
	invalid  error // why there is no URL
	client   http.RoundTripper
	due      time.Time
	cancel   context.CancelFunc // ends the running scrape; nil if there is none
	history  history
	status   Status
}

// A result is a scrape that has ended.
type result struct {
	target  *target
	trouble bool // it was counted as such
	took    time.Duration
	fetched fetched
}

// New returns a Scraper without backends. Its error is a join of FieldErrors, one for each setting that
// cannot work.
func New(o Options) (*Scraper, error) {
	t, p, err := o.settle()
	if err != nil {
		return nil, err
	}
	s := &Scraper{
		options: o, url: t, plan: p, rand: rand.N[time.Duration], wake: make(chan struct{}, 1),
		statuses: make(map[string]Status), targets: make(map[string]*target), results: make(chan result),
	}
	s.transport = func(dial string) http.RoundTripper { return newTransport(dial, o.TLS) }
	return s, nil
}

// Set says which backends there are. Those that keep their name and their URL keep their history. It may
// be called from any goroutine, also before Run.
func (s *Scraper) Set(backends []balancer.Backend) {
	wanted := slices.Clone(backends)
	for i := range wanted {
		wanted[i].Labels = maps.Clone(wanted[i].Labels)
	}
	s.mu.Lock()
	s.wanted = wanted
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ReadsVersions tells whether readings have a Version.
func (s *Scraper) ReadsVersions() bool { return s.plan.version != nil }

// Status says how the scrapes of all backends go, sorted by name. It may be called from any goroutine.
func (s *Scraper) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Collect(maps.Values(s.statuses))
	for i := range all {
		all[i].Values = slices.Clone(all[i].Values)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Backend, b.Backend) })
	return all
}

// Run scrapes until ctx is done, and returns when no scrape is left. Call it once.
func (s *Scraper) Run(ctx context.Context) {
	var scrapes sync.WaitGroup
	defer scrapes.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
			s.apply()
		case r := <-s.results:
			s.take(r)
		case <-timer.C:
		}
		timer.Reset(s.start(ctx, &scrapes))
	}
}

// apply takes the new set of backends over.
func (s *Scraper) apply() {
	s.mu.Lock()
	wanted := s.wanted
	s.mu.Unlock()
	before := s.targets
	s.targets = make(map[string]*target, len(wanted))
	for i := range wanted {
		b := &wanted[i]
		t := s.newTarget(b)
		if old := before[b.Name]; old != nil && old.status.URL == t.status.URL && old.location.dial == t.location.dial {
			old.invalid = t.invalid
			t = old
		}
		s.targets[b.Name] = t
	}
	for _, t := range before {
		if s.targets[t.name] != t && t.cancel != nil {
			t.cancel()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.statuses)
	for _, t := range s.targets {
		s.statuses[t.name] = t.status
	}
}

// newTarget makes a target that is due within an interval.
func (s *Scraper) newTarget(b *balancer.Backend) *target {
	t := &target{name: b.Name, due: time.Now().Add(s.rand(s.options.Interval)), status: Status{Backend: b.Name}}
	t.history = history{
		counters: make(map[*term]*counters),
		load:     window{length: int64(s.options.Window), reach: 2 * int64(s.options.Interval)},
	}
	if t.location, t.invalid = s.url.expand(b); t.invalid == nil {
		t.status.URL = t.location.url.String()
		t.client = s.transport(t.location.dial)
	}
	return t
}

// start begins the scrapes that are due, and returns when to look again.
func (s *Scraper) start(ctx context.Context, scrapes *sync.WaitGroup) time.Duration {
	now := time.Now()
	look := now.Add(s.options.Interval)
	var due []*target
	for _, t := range s.targets {
		switch {
		case t.cancel != nil:
		case !t.due.After(now):
			due = append(due, t)
		case t.due.Before(look):
			look = t.due
		}
	}
	slices.SortFunc(due, func(a, b *target) int { return a.due.Compare(b.due) })
	for _, t := range due {
		if s.running >= s.options.Concurrency {
			break // the end of one of them looks again
		}
		trouble := t.status.Reading.Err != nil
		if trouble && s.trouble >= max(1, s.options.Concurrency/2) {
			continue
		}
		s.running++
		if trouble {
			s.trouble++
		}
		t.due = now.Add(s.pause())
		if t.due.Before(look) {
			look = t.due
		}
		s.scrape(ctx, scrapes, t, trouble)
	}
	return look.Sub(now)
}

// scrape runs one scrape.
func (s *Scraper) scrape(ctx context.Context, scrapes *sync.WaitGroup, t *target, trouble bool) {
	one, cancel := context.WithCancel(ctx)
	t.cancel = cancel
	invalid := t.invalid
	scrapes.Go(func() {
		defer cancel()
		r := result{target: t, trouble: trouble}
		began := time.Now()
		if invalid != nil {
			r.fetched = fetched{at: s.options.Clock(), err: invalid}
		} else {
			r.fetched = s.fetch(one, t.location, t.client)
		}
		r.took = time.Since(began)
		select {
		case s.results <- r:
		case <-ctx.Done():
		}
	})
}

// take makes a reading of a scrape that has ended.
func (s *Scraper) take(r result) {
	s.running--
	if r.trouble {
		s.trouble--
	}
	t, f := r.target, &r.fetched
	t.cancel = nil
	if s.targets[t.name] != t {
		return // it has left, or has moved meanwhile
	}
	before := t.status.Reading.Err
	reading := s.read(t, f)
	st := &t.status
	st.Reading, st.Took, st.Bytes = reading, r.took, f.bytes
	st.Resets = t.history.resets
	st.Scrapes++
	if f.page != nil {
		st.Samples = f.page.lines
		st.Duplicates += uint64(f.page.duplicates)
	}
	if reading.Err != nil {
		st.Failures++
	}
	s.tell(t, before)
	s.mu.Lock()
	s.statuses[t.name] = *st
	s.mu.Unlock()
	s.options.OnReading(reading)
}

// read evaluates a page.
func (s *Scraper) read(t *target, f *fetched) Reading {
	r := Reading{Backend: t.name, At: f.at, Err: f.err}
	values := make([]float64, len(s.plan.figures))
	for i := range values {
		values[i] = math.NaN()
	}
	t.status.Values = values
	if f.err != nil {
		return r
	}
	var errs []error
	if len(s.plan.figures) > 0 {
		load, err := s.plan.load(&t.history, f.page, f.at, values)
		if err == nil {
			t.history.load.add(load, f.at)
			r.Util = balancer.Figure{Value: load, At: f.at}
			r.Load.Value, r.Since = t.history.load.mean()
			r.Load.At = f.at
		} else {
			errs = append(errs, err)
		}
	}
	if s.plan.hot != nil {
		level, err := s.plan.level(&t.history, f.page, f.at)
		if err == nil {
			r.Level = balancer.Figure{Value: level, At: f.at}
		} else {
			errs = append(errs, err)
		}
	}
	if s.plan.version != nil {
		version, err := s.plan.version.read(f.page)
		if err == nil {
			r.Version = version
		} else {
			errs = append(errs, err)
		}
	}
	if err := join(errs); !isFirst(err) {
		r.Err = err
	}
	return r
}

// tell logs a change between working and failing.
func (s *Scraper) tell(t *target, before error) {
	now := t.status.Reading.Err
	backend, url := slog.String("backend", t.name), slog.String("url", t.status.URL)
	switch {
	case now != nil && before == nil:
		s.options.Log.Warn("load figures of a backend cannot be read", backend, url, slog.Any("error", now))
	case now == nil && before != nil:
		s.options.Log.Info("load figures of a backend can be read again", backend, url)
	}
}
