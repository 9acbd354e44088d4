package health

import "cmp"

// The circuit of a backend is the quick consequence of what Outliers count. Where Judge takes a backend out of
// service, from the next second on and until it has passed its checks and settled again, the circuit keeps clients from
// it at once and for moments only, and needs nobody who checks.
//
//	       outlier, or busy for several clients in a row       Open is over
//	closed ────────────────────────────────────────▶ open ──────────────────▶ half-open
//	   ▲                                               ▲                       │  │ one client a second
//	   │                                               └───────────────────────┘  │
//	   │                                                 it fails, or is declined │
//	   └──────────────────────────────────────────────────────────────────────────┘
//	                                      it gets an answer
//
// A broker that is busy opens its circuit, too: that is a signal of load and not a failure, so nothing else comes of it.
// Where all circuits are open, or nobody else is there, clients go where they would have gone without.

// CircuitState is the state of a circuit. Its String is a metric label.
type CircuitState uint8

// The states.
const (
	CircuitClosed   CircuitState = iota // clients come as usual
	CircuitOpen                         // none come if there is another backend
	CircuitHalfOpen                     // one a second, to see whether it works again
)

// String is the metric label of the state.
func (s CircuitState) String() string {
	switch s {
	case CircuitClosed:
		return "closed"
	case CircuitOpen:
		return "open"
	case CircuitHalfOpen:
		return "half_open"
	}
	return "unknown"
}

const (
	defaultOpen = 5_000_000_000
	probeEvery  = 1_000_000_000 // in a half-open circuit
)

// A circuit is that of one backend. The zero value is closed.
type circuit struct {
	tripped bool   // it is not closed
	busy    bool   // … because the backend declined clients
	until   int64  // before, no client may come
	opened  int64  // when it was last closed before
	half    bool   // a client has come since until
	denials uint32 // clients that were declined in a row, each counted once
	denied  uint64 // a bit for each of 64 classes of them
}

func (c *circuit) state(now int64) CircuitState {
	switch {
	case !c.tripped:
		return CircuitClosed
	case !c.half && now < c.until:
		return CircuitOpen
	}
	return CircuitHalfOpen
}

// A Circuit tells of the circuit of a backend.
type Circuit struct {
	Backend string
	State   CircuitState
	// Since is when the circuit was last closed; 0 while it is.
	Since int64
	// Busy tells that it has opened because the backend declined clients, and not because they failed.
	Busy bool
	// Attempts and Failed are all attempts within the window, and those of them that failed. Denials counts the
	// clients that were declined since the last one that was not.
	Attempts, Failed, Denials int
}

// trip opens the circuit.
func (o *Outliers) trip(c *circuit, busy bool) {
	if o.rules.Open < 0 {
		return
	}
	if !c.tripped {
		c.opened = o.now
		o.tripped.Add(1)
	}
	c.tripped, c.half, c.busy, c.until = true, false, busy, o.now+o.rules.Open
}

// close closes the circuit.
func (o *Outliers) close(c *circuit) {
	if c.tripped {
		o.tripped.Add(-1)
	}
	*c = circuit{}
}

// learn lets the circuit follow an event that has been counted. client is as for Observe.
func (o *Outliers) learn(r *record, e Event, client uint64) {
	c := &r.circuit
	switch state := c.state(o.now); e {
	case ConnectFailed, Silent, ServerFailed:
		switch state {
		case CircuitClosed:
			if _, outlier := o.look(r); outlier {
				o.trip(c, false)
			}
		case CircuitHalfOpen:
			o.trip(c, false)
		case CircuitOpen:
		}
	case Busy:
		if class := uint64(1) << (client & 63); client == 0 || c.denied&class == 0 {
			c.denials++
			c.denied |= class
		}
		if state == CircuitHalfOpen || state == CircuitClosed && int(c.denials) >= o.rules.Failures {
			o.trip(c, true)
		}
	case Answered:
		c.denials, c.denied = 0, 0
		if state == CircuitHalfOpen {
			o.close(c)
		}
	}
}

// Shunned appends to dst the backends to which no client should go now if there is another. It costs next to nothing
// while all circuits are closed.
func (o *Outliers) Shunned(now int64, dst []string) []string {
	if o.tripped.Load() == 0 {
		return dst
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = max(o.now, now)
	for name, r := range o.backends {
		if r.circuit.tripped && o.now < r.circuit.until {
			dst = append(dst, name)
		}
	}
	return dst
}

// Goes tells that a client goes to a backend. If the circuit is half-open, it is the one that tries.
func (o *Outliers) Goes(backend string, now int64) {
	if o.tripped.Load() == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = max(o.now, now)
	if r := o.backends[backend]; r != nil && r.circuit.tripped && o.now >= r.circuit.until {
		r.circuit.half, r.circuit.until = true, o.now+probeEvery
	}
}

// Circuits appends the circuits of all backends to dst, in no order.
func (o *Outliers) Circuits(now int64, dst []Circuit) []Circuit {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.now = max(o.now, now)
	for name, r := range o.backends {
		c := &r.circuit
		w := r.run(o.now / o.periodLength())
		dst = append(dst, Circuit{
			Backend: name, State: c.state(o.now), Since: c.opened, Busy: c.busy,
			Attempts: int(w.attempts), Failed: int(w.failures), Denials: int(c.denials),
		})
	}
	return dst
}

// openFor is how long a circuit stays open by these rules.
func openFor(rule int64) int64 { return max(cmp.Or(rule, defaultOpen), -1) }
