package health

import (
	"cmp"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
)

// An Event is what a client's attempt to connect says about a backend.
type Event uint8

// The events. Failures of this host (no local port, no descriptor) and clients that leave before the
// broker has answered are no events.
const (
	// ConnectFailed: refused, unreachable, or no answer in time. It does not depend on the client.
	ConnectFailed Event = iota
	// Silent: connected, but no first byte after CONNECT in time, as a broker that hangs does.
	Silent
	// ServerFailed: a CONNACK that blames the broker itself, see ConnackEvent.
	ServerFailed
	// Busy: a CONNACK by which a broker protects itself or sends its clients away. It is a signal of load, not
	// a failure (protocol.md, 3): it neither counts against the backend nor in its favour.
	Busy
	// Answered: the client was accepted, or refused for a reason that lies with the client. It ends a run of
	// failures.
	Answered
)

// ConnackEvent is the event of a CONNACK with a code, for a client that speaks a version (5, or any of
// MQTT 3).
//
//	MQTT 5                                                                    MQTT 3
//	0x80 0x83 and what is not in the standard                                 6 and above   ServerFailed
//	0x88 0x89 0x97 0x9C 0x9D 0x9F                                             3             Busy
//	0x00, and what is the client's fault: 0x81 0x82 0x84 0x85 0x86 0x87       0 1 2 4 5     Answered
//	0x8A 0x8C 0x90 0x95 0x99 0x9A 0x9B
//
// Refused credentials never count against a backend: a password that was changed looks like churn, and
// must not close the brokers for everybody else (protocol.md, 5).
func ConnackEvent(version, code byte) Event {
	switch says, _ := explain(version, code); says {
	case accepted, wrongVersion, badConnect, unwelcome:
		return Answered
	case full, unavailable, elsewhere:
		return Busy
	case broken:
	}
	return ServerFailed
}

// OutlierRules say when traffic alone takes a backend out of service. Zero fields mean the default.
type OutlierRules struct {
	// Window is how long an event counts, in nanoseconds; default 10 s. It moves in tenths of itself.
	Window int64
	// Failures is how many in a row, without an answer in between, make an outlier; default 5. It should
	// be PhaseRules.ConnectFailures.
	Failures int
	// Ratio is the part of all attempts that must have failed besides, from 0 to 1; default 0.5. More than
	// Volume failures in a row need no ratio.
	Ratio float64
	// Volume is from how many attempts on the ratio makes an outlier without any run; default 20.
	Volume int
	// MaxShare is the greatest part of the serving backends that traffic alone may take out of service, from
	// 0 to 1; default 0.5. Rounded down: one backend of two or three, and never the only one. What looks
	// like a failure of many brokers is more likely one of the network or of mqttlb.
	MaxShare float64
	// Open is how long a circuit stays open before it lets a client try, in nanoseconds; default 5 s. Below 0 there are no
	// circuits.
	Open int64
}

const (
	defaultWindow = 10_000_000_000
	windowParts   = 10
)

// Outliers judge backends by what happens to clients. Time is in nanoseconds from any fixed point, and
// an argument. All methods may be called from any goroutine; Observe does not allocate.
type Outliers struct {
	rules OutlierRules

	mu       sync.Mutex
	now      int64 // the latest time that was seen: the clocks of several event loops differ a little
	backends map[string]*record

	tripped atomic.Int32 // circuits that are not closed
}

// A record is what happened at one backend.
type record struct {
	parts   [windowParts]period
	ejected bool // out of service because of what Judge said
	circuit circuit
}

// A period is a tenth of the window.
type period struct {
	number             int64 // time by length of a period; another number means that it is empty
	attempts, failures uint32
	// Since the last Answered: failures that do not depend on the client; those that may; a bit for each of
	// 64 classes of clients that had the latter, and whether there were clients without a class.
	hard, soft uint32
	clients    uint64
	strangers  bool
}

// NewOutliers returns Outliers without backends.
func NewOutliers(r OutlierRules) *Outliers {
	r.Window = cmp.Or(max(r.Window, 0), defaultWindow)
	r.Failures = cmp.Or(max(r.Failures, 0), 5)
	r.Ratio = cmp.Or(max(r.Ratio, 0), 0.5)
	r.Volume = cmp.Or(max(r.Volume, 0), 20)
	r.MaxShare = cmp.Or(min(max(r.MaxShare, 0), 1), 0.5)
	r.Open = openFor(r.Open)
	return &Outliers{rules: r, backends: make(map[string]*record)}
}

// Set makes these the backends to watch; what is known of those that stay is kept. Events of others are
// ignored, so that memory is bounded by the number of backends.
func (o *Outliers) Set(names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	next := make(map[string]*record, len(names))
	for _, name := range names {
		if next[name] = o.backends[name]; next[name] == nil {
			next[name] = new(record)
		}
	}
	for name, r := range o.backends {
		if next[name] == nil {
			o.close(&r.circuit)
		}
	}
	o.backends = next
}

// Observe notes an event at a backend. client is a hash of the client id: Silent, ServerFailed and Busy may be
// due to one client (its credentials hang in a database, say), so that of such failures in a row those of
// one client count as one. 0 means that the client is not known, and counts as a new one each time.
func (o *Outliers) Observe(backend string, e Event, client uint64, now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := o.backends[backend]
	if r == nil {
		return
	}
	o.now = max(o.now, now)
	number := o.now / o.periodLength()
	p := &r.parts[number%windowParts]
	if p.number != number {
		*p = period{number: number}
	}
	switch e {
	case ConnectFailed:
		p.failures++
		p.hard++
	case Silent, ServerFailed:
		class := uint64(1) << (client & 63)
		if client == 0 {
			p.strangers = true
		} else if r.run(number).clients&class != 0 {
			o.learn(r, e, client) // in a half-open circuit it counts whoever it was
			return
		} else {
			p.clients |= class
		}
		p.failures++
		p.soft++
	case Answered:
		r.endRun()
	case Busy:
	}
	p.attempts++
	o.learn(r, e, client)
}

func (o *Outliers) periodLength() int64 { return max(o.rules.Window/windowParts, 1) }

// run sums up the window that ends with a period.
func (r *record) run(number int64) (sum period) {
	for i := range r.parts {
		if p := &r.parts[i]; p.number > number-windowParts {
			sum.attempts += p.attempts
			sum.failures += p.failures
			sum.hard += p.hard
			sum.soft += p.soft
			sum.clients |= p.clients
			sum.strangers = sum.strangers || p.strangers
		}
	}
	return sum
}

func (r *record) endRun() {
	for i := range r.parts {
		p := &r.parts[i]
		p.hard, p.soft, p.clients, p.strangers = 0, 0, 0, false
	}
}

// Forgive forgets all events. It is for after a freeze of this process, when all deadlines have passed at
// once whatever the backends did.
func (o *Outliers) Forgive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.backends {
		r.parts = [windowParts]period{}
		o.close(&r.circuit)
	}
}

// An Opinion is what traffic says about a backend.
type Opinion struct {
	Backend string
	// Failures are for balancer.Vitals.ConnectFailures: the failed connects in a row within the window, but
	// OutlierRules.Failures or more only if the backend is to go out of service.
	Failures int
	// Spared tells that it would have to, but that too many others are out already.
	Spared bool
	// Attempts and Failed are all attempts within the window, and those of them that failed.
	Attempts, Failed int
}

// Judge appends an Opinion of every backend to dst, in the order of their names. Call it once per second
// or so, and before the phases are worked out. serving tells whether a backend takes clients now (phases
// ready, ramping and hot); a backend that was taken out stays so, for MaxShare, until it serves again. nil
// means that all serve. serving is called with a lock held: it must not call back.
func (o *Outliers) Judge(now int64, serving func(backend string) bool, dst []Opinion) []Opinion {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = max(o.now, now)
	first, inService, out := len(dst), 0, 0
	var suspects []int // outliers that serve
	for name, r := range o.backends {
		v, outlier := o.look(r)
		v.Backend = name
		serves := serving == nil || serving(name)
		r.ejected = r.ejected && (outlier || !serves)
		switch {
		case r.ejected:
			out++
		case serves:
			inService++
		}
		switch {
		case !outlier:
			v.Failures = min(v.Failures, o.rules.Failures-1)
		case r.ejected || !serves:
			v.Failures = max(v.Failures, o.rules.Failures)
		default:
			suspects = append(suspects, len(dst))
		}
		dst = append(dst, v)
	}
	slices.SortFunc(suspects, func(a, b int) int { // the worst first
		return cmp.Or(cmp.Compare(dst[b].Failures, dst[a].Failures), cmp.Compare(dst[a].Backend, dst[b].Backend))
	})
	room := int(o.rules.MaxShare*float64(inService+out)) - out
	for n, i := range suspects {
		v := &dst[i]
		if v.Spared = n >= room; v.Spared {
			v.Failures = o.rules.Failures - 1
			continue
		}
		v.Failures = max(v.Failures, o.rules.Failures)
		o.backends[v.Backend].ejected = true
	}
	slices.SortFunc(dst[first:], func(a, b Opinion) int { return cmp.Compare(a.Backend, b.Backend) })
	return dst
}

// look judges a backend by its window alone.
func (o *Outliers) look(r *record) (v Opinion, outlier bool) {
	w := r.run(o.now / o.periodLength())
	v = Opinion{Failures: int(w.hard + w.soft), Attempts: int(w.attempts), Failed: int(w.failures)}
	failed, attempts := v.Failed, v.Attempts
	if bits.OnesCount64(w.clients) == 1 && !w.strangers {
		failed, attempts = failed-1, attempts-1 // a single client is not enough to tip the scales
	}
	most := float64(failed) > o.rules.Ratio*float64(attempts)
	run := v.Failures >= o.rules.Failures && (most || v.Failures > o.rules.Volume)
	return v, run || most && attempts >= o.rules.Volume
}
