package discovery_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/discovery"
)

// A resolver answers for host names as the test likes.
type resolver struct {
	mu    sync.Mutex
	hosts map[string][]string // by name; missing means that there is no such host
	asked int
	// hangs makes every question wait for its context.
	hangs bool
}

func newResolver(hosts map[string][]string) *resolver { return &resolver{hosts: hosts} }

func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	if r.hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	addrs, ok := r.hosts[host]
	if !ok {
		return nil, fmt.Errorf("lookup %s: no such host", host)
	}
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	return list, nil
}

// questions is how often somebody has asked.
func (r *resolver) questions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

// set makes the host have these addresses from now on.
func (r *resolver) set(host string, addrs ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hosts[host] = addrs
}

// remove makes the host unknown.
func (r *resolver) remove(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.hosts, host)
}

// A journal is an Observer and a log that can be read while they are written.
type journal struct {
	mu     sync.Mutex
	log    bytes.Buffer
	good   int    // refreshes that succeeded
	bad    int    // … that failed
	last   string // what the Observer heard last: "ok 3 left 1" or "failed"
	err    error  // the last failure
	notify chan struct{}
}

func newJournal() *journal { return &journal{notify: make(chan struct{}, 1)} }

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.Write(p)
}

func (j *journal) Succeeded(backends, skipped int) {
	j.note(func() { j.good, j.last = j.good+1, fmt.Sprintf("ok %d left %d", backends, skipped) })
}

func (j *journal) Failed(err error) {
	j.note(func() { j.bad, j.last, j.err = j.bad+1, "failed", err })
}

func (j *journal) note(change func()) {
	j.mu.Lock()
	change()
	j.mu.Unlock()
	select {
	case j.notify <- struct{}{}:
	default:
	}
}

// text is the log so far.
func (j *journal) text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.log.String()
}

// heard is what the Observer heard last, and how often it heard of success and failure.
func (j *journal) heard() (last string, good, bad int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.last, j.good, j.bad
}

// failure is the last failure.
func (j *journal) failure() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return fmt.Sprint(j.err)
}

// A running is a source at work.
type running struct {
	*journal
	t     *testing.T
	sets  chan []balancer.Backend
	ended chan error
	stop  context.CancelFunc
	// patience is how long it is waited for what is bound to happen.
	patience time.Duration
}

// run starts a source with the journal that it writes to. In a synctest bubble, time is that of the bubble.
func run(t *testing.T, s discovery.Source, j *journal) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{journal: j, t: t, sets: make(chan []balancer.Backend), ended: make(chan error, 1), stop: stop, patience: patience}
	go func() { r.ended <- s.Run(ctx, r.sets) }()
	return r
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// static runs a Static, in a bubble.
func static(t *testing.T, s *discovery.Static) *running {
	t.Helper()
	j := newJournal()
	s.Log, s.Observer = j.logger(), j
	r := run(t, s, j)
	r.patience = 24 * time.Hour
	return r
}

// patience is how long a test waits for what should come at once, where time is real.
const patience = 20 * time.Second

// next returns the addresses of the next set, by name, which must come within this time.
func (r *running) next(within time.Duration) string {
	r.t.Helper()
	return show(r.set(within))
}

// set returns the next set.
func (r *running) set(within time.Duration) []balancer.Backend {
	r.t.Helper()
	select {
	case set := <-r.sets:
		return set
	case <-time.After(within + time.Nanosecond): // in a bubble both may come at the same time
		r.t.Fatalf("got no set within %v; the log:\n%s", within, r.text())
		return nil
	}
}

// quiet checks that no set comes for so long. It is for bubbles only.
func (r *running) quiet(d time.Duration) {
	r.t.Helper()
	select {
	case set := <-r.sets:
		r.t.Fatalf("got %s, want no set", show(set))
	case <-time.After(d):
	}
}

// until waits for the Observer to hear what is wanted, and checks that no set comes meanwhile.
func (r *running) until(what string, wanted func() bool) {
	r.t.Helper()
	end := time.After(r.patience)
	for !wanted() {
		select {
		case set := <-r.sets:
			r.t.Fatalf("got %s, want no set until %s", show(set), what)
		case <-r.notify:
		case <-end:
			r.t.Fatalf("gave up waiting for %s; the log:\n%s", what, r.text())
		}
	}
}

// fails waits for n more failed refreshes.
func (r *running) fails(n int) {
	r.t.Helper()
	_, _, before := r.heard()
	r.until("failed refreshes", func() bool { _, _, bad := r.heard(); return bad >= before+n })
}

// confirms waits for n more successful refreshes that change nothing.
func (r *running) confirms(n int) {
	r.t.Helper()
	_, before, _ := r.heard()
	r.until("successful refreshes", func() bool { _, good, _ := r.heard(); return good >= before+n })
}

// logs checks that the log has these texts.
func (r *running) logs(texts ...string) {
	r.t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.text(), text) {
			r.t.Errorf("got no %s in\n%s", text, r.text())
		}
	}
}

// end stops the source and checks that it ends at once, without error.
func (r *running) end() {
	r.t.Helper()
	begin := time.Now()
	r.stop()
	if err := <-r.ended; err != nil {
		r.t.Errorf("got error %v at the end, want none", err)
	}
	if took := time.Since(begin); took > time.Second {
		r.t.Errorf("got the end after %v, want it at once", took)
	}
}

func show(set []balancer.Backend) string {
	var b strings.Builder
	for i := range set {
		fmt.Fprintf(&b, "%s=%s ", set[i].Name, set[i].Address)
	}
	return strings.TrimSpace(b.String())
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func named(pairs ...string) []balancer.Backend {
	var list []balancer.Backend
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, balancer.Backend{Name: pairs[i], Address: pairs[i+1]})
	}
	return list
}
