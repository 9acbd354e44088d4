package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	// firstRetry is the pause after the first failure. It doubles with each one up to the interval.
	firstRetry = time.Second
	// fetchTimeout bounds one fetch, whatever the source does by itself.
	fetchTimeout = time.Minute
	// jitter is the part of a pause by which it may be shorter or longer.
	jitter = 0.1
)

// errNobody is the failure of a refresh that found no backend at all.
var errNobody = errors.New("no backend that can be used")

// An answer is what a source has found out.
type answer struct {
	// backends have host:port as Address. An empty Name stands for the address.
	backends []balancer.Backend
	// where tells for each backend where it was found, for messages; it is nil or as long as backends.
	where []string
	// left are the backends that the source itself had to leave out.
	left []complaint
	// incomplete tells that asking again soon may give a better answer.
	incomplete bool
}

// A refresher asks for the list of backends again and again, and sends what is new and good. It is
// what all sources have in common.
type refresher struct {
	// source is the kind of source, for the log.
	source string
	// fetch gets the whole list. It must return when its context is done.
	fetch func(ctx context.Context) (answer, error)
	// interval is the pause between two refreshes.
	interval time.Duration
	// wake asks for a refresh before its time; nil never does.
	wake <-chan struct{}
	// most bounds the number of backends.
	most int
	// allowed are the networks that backends may be in; none means any.
	allowed []netip.Prefix

	lookup   lookupFunc
	observer Observer
	journal  journal

	last []balancer.Backend // the set in force
}

// run refreshes until ctx is done.
func (r *refresher) run(ctx context.Context, sets chan<- []balancer.Backend) error {
	failures := 0
	for {
		failures++
		if r.refresh(ctx, sets) {
			failures = 0
		}
		pause := time.NewTimer(around(backoff(failures, r.interval)))
		select {
		case <-pause.C:
		case <-r.wake:
			pause.Stop()
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

// refresh asks once, sends the set if it is new, and reports. It is false when it should be done again soon.
func (r *refresher) refresh(ctx context.Context, sets chan<- []balancer.Backend) bool {
	set, left, complete, err := r.ask(ctx)
	if ctx.Err() != nil {
		return false // the end came in between; that is nobody's failure
	}
	r.journal.leftOut(r.source, left)
	if err != nil {
		r.journal.failed(r.source, err, len(r.last))
		if r.observer != nil {
			r.observer.Failed(err)
		}
		return false
	}
	if !reflect.DeepEqual(set, r.last) {
		select {
		case sets <- set:
			r.last = set
		case <-ctx.Done():
			return false
		}
	}
	r.journal.succeeded(r.source, len(set))
	if r.observer != nil {
		r.observer.Succeeded(len(set), len(left))
	}
	return complete
}

// ask returns the set as it is now, and who is not in it or not as it should be.
func (r *refresher) ask(ctx context.Context) (set []balancer.Backend, left []complaint, complete bool, err error) {
	fetching, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	found, err := r.fetch(fetching)
	if err != nil {
		return nil, found.left, false, err
	}
	if n := len(found.backends); n > r.most {
		return nil, found.left, false, fmt.Errorf("%d backends are more than the %d that are accepted from this source", n, r.most)
	}
	good, bad := vet(found)
	set, unresolved := r.resolve(ctx, good)
	left = slices.Concat(found.left, bad, unresolved)
	if len(set) == 0 {
		err := errNobody
		if len(left) > 0 {
			err = fmt.Errorf("%w: %d are left out, the first because of: %w", errNobody, len(left), left[0].why)
		}
		return nil, left, false, err
	}
	return set, left, !found.incomplete && len(unresolved) == 0, nil
}

// backoff is the pause after so many failures in a row.
func backoff(failures int, interval time.Duration) time.Duration {
	if failures == 0 || failures > 32 { // 2³² s are longer than any interval, and shifting on would overflow
		return interval
	}
	return min(interval, firstRetry<<(failures-1))
}

// around is a random time near d, so that instances that started together do not ask together.
func around(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 - jitter + 2*jitter*rand.Float64()))
}

// logger returns log, or one that discards everything.
func logger(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
