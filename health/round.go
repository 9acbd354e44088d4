package health

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// watch notices that the process stood still, by the monotonic clock: suspended, stopped by a signal, or
// a virtual machine that was paused. What the checks say that ran meanwhile is worth nothing then.
func (c *Checker) watch() {
	now := c.now()
	gap := now.Sub(c.beat)
	c.beat = now
	if gap <= freezeFactor*c.options.Interval {
		return
	}
	c.log.Warn("the process stood still; the health checks of that time do not count", slog.Duration("gap", gap))
	for _, s := range c.subjects {
		if s.cancel != nil {
			s.frozen = true
		}
		s.due = now.Add(rand.N(c.options.Interval / 2)) // all are overdue: not all at once
	}
	if c.options.Frozen != nil {
		c.options.Frozen(gap)
	}
}

// start begins the checks that are due, and returns when to look again.
func (c *Checker) start(ctx context.Context, checks *sync.WaitGroup) time.Duration {
	now := c.now()
	look := now.Add(c.options.Interval)
	var due []*subject
	for _, s := range c.subjects {
		switch {
		case s.cancel != nil:
		case !s.due.After(now):
			due = append(due, s)
		case s.due.Before(look):
			look = s.due
		}
	}
	slices.SortFunc(due, func(a, b *subject) int { return a.due.Compare(b.due) })
	for _, s := range due {
		if c.running >= c.options.Concurrency {
			break
		}
		trouble := s.tally.failed > 0
		if trouble && c.trouble >= max(1, c.options.Concurrency/2) {
			continue
		}
		c.running++
		if trouble {
			c.trouble++
		}
		c.check(ctx, checks, s, trouble)
	}
	return look.Sub(now)
}

// check runs one check.
func (c *Checker) check(ctx context.Context, checks *sync.WaitGroup, s *subject, trouble bool) {
	target := Target{Backend: s.backend, Version: s.version}
	if c.now().Sub(s.learnt) > forgetVersion {
		target.Version = 0
	}
	one, cancel := context.WithTimeout(ctx, c.options.Timeout)
	s.cancel, s.frozen = cancel, false
	checks.Go(func() {
		defer cancel()
		o := outcome{subject: s, trouble: trouble, fresh: target.Version == 0, began: c.now()}
		o.result = c.options.Prober.Probe(one, target)
		o.end = c.now()
		select {
		case c.results <- o:
		case <-ctx.Done():
		}
	})
}

// take counts a check that has ended.
func (c *Checker) take(o outcome) {
	c.running--
	if o.trouble {
		c.trouble--
	}
	s := o.subject
	frozen := s.frozen
	s.cancel, s.frozen = nil, false
	if c.subjects[s.backend.Name] != s {
		return // it has left, or has moved meanwhile
	}
	took := o.end.Sub(o.began)
	wall := o.end.Round(0).Sub(o.began.Round(0))
	if frozen || s.doubts < maxDoubts && c.slept(took, wall) {
		s.doubts++
		s.due = c.now().Add(rand.N(min(firstSpread, c.options.Interval)))
		c.log.Debug("a health check was interrupted and does not count", slog.String("backend", s.backend.Name))
		return
	}
	s.doubts = 0
	s.due = o.began.Add(c.pause())
	c.options.Report(c.record(o))
}

// slept tells that the process seems to have slept during a check that took so long by the monotonic
// clock and by the wall clock: far longer than its timeout. The wall clock goes on while a machine is
// suspended. One that is set forward looks the same, which does no harm.
func (c *Checker) slept(took, wall time.Duration) bool {
	return max(took, wall) > c.options.Timeout+overtime
}

// pause is the time to the next check.
func (c *Checker) pause() time.Duration {
	spread := time.Duration(jitter * float64(c.options.Interval))
	return c.options.Interval - spread + rand.N(2*spread+1)
}

// record counts a check and makes the report about it.
func (c *Checker) record(o outcome) Report {
	s, r := o.subject, &o.result
	before := s.tally
	s.tally = before.next(r.Err == nil, c.options.Rise, c.options.Fall)
	if r.Err == nil || r.Drain || r.Unsettled {
		s.drain, s.unsettled = r.Drain, r.Unsettled
	}
	if r.Version != s.version || o.fresh {
		s.version, s.learnt = r.Version, o.end
	}
	report := Report{
		Backend: s.backend.Name, Address: s.backend.Address,
		Up: s.tally.up, Changed: s.tally.up != before.up || !before.checked,
		Passed: r.Err == nil, PassedChecks: s.tally.passed, FailedChecks: s.tally.failed,
		Drain: s.drain, Unsettled: s.unsettled, Note: r.Note, Version: r.Version,
		Latency: o.end.Sub(o.began), At: o.end,
	}
	if r.Err != nil {
		report.Err = r.Err.Error()
	}
	c.tell(&report)
	return report
}

// tell logs a change of the verdict.
func (c *Checker) tell(r *Report) {
	if !r.Changed {
		return
	}
	backend, address := slog.String("backend", r.Backend), slog.String("address", r.Address)
	if r.Up {
		c.log.Info("backend passes its health checks", backend, address, slog.String("note", r.Note))
	} else {
		c.log.Warn("backend fails its health checks", backend, address, slog.String("error", r.Err))
	}
}
