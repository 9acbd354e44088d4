package proxy

import (
	"math"
	"time"
)

// Flows is the traffic of all sessions at one moment.
type Flows struct {
	// Backends holds every backend that has sessions, in no order.
	Backends []BackendFlow
	// Clients holds those whose own traffic is worth a word, see Flows.
	Clients []ClientFlow
}

// A BackendFlow is what all sessions with one backend carry.
type BackendFlow struct {
	Cluster, Backend string
	Sessions         int
	Rate             float64 // bytes per second, both ways together
}

// A ClientFlow is what one session carries.
type ClientFlow struct {
	ClientID         string
	Cluster, Backend string
	Rate             float64 // bytes per second, both ways together
}

const (
	// rateMemory is the time constant of a session's rate (algorithms.md, 4.4).
	rateMemory = 60 * time.Second
	// rateStart is the time over which the first bytes of a session are spread at least: CONNECT, SUBSCRIBE and
	// what was kept for the client come within moments and say nothing about what it will carry.
	rateStart = 15 * time.Second
)

// Flows measures the traffic of all sessions since the last call, which should be some 15 s ago. floors are rates in
// bytes per second by cluster: a client is listed if it has an id and its rate is at the floor of its cluster or
// above, or was when it was last measured, or if its Target said that it is Noted. Without a floor nobody else is
// listed. Sessions that come or go meanwhile may or may not be counted.
func (p *Proxy) Flows(floors map[string]float64) Flows {
	p.measuring.Lock()
	defer p.measuring.Unlock()
	began := p.clock()
	m := measurement{floors: floors, last: p.measured, sums: make(map[*Backend]*backendSum)}
	p.measured = began
	for _, l := range p.loops {
		p.visit(l, func(l *loop, from, end uint32) bool { l.measure(&m, from, end); return true })
	}
	return m.flows()
}

// A measurement is one call of Flows.
type measurement struct {
	floors  map[string]float64
	last    int64 // when the one before began
	sums    map[*Backend]*backendSum
	clients []ClientFlow
}

// backendSum is the part of a measurement about one backend.
type backendSum struct {
	sessions    int
	rate, floor float64
}

func (m *measurement) sum(b *Backend) *backendSum {
	s := m.sums[b]
	if s == nil {
		s = &backendSum{floor: math.Inf(1)}
		if floor, ok := m.floors[b.Cluster]; ok {
			s.floor = floor
		}
		m.sums[b] = s
	}
	return s
}

// measure measures the sessions in some slots.
func (l *loop) measure(m *measurement, from, end uint32) {
	forget := forgotten(l.now - m.last)
	var backend *Backend // of the session before
	var sum *backendSum
	for i := from; i < end; i++ {
		s := l.sessions.at(i)
		if s.state != stateRelaying && s.state != stateClosing {
			continue
		}
		if t := &s.target; t.Backend != backend {
			backend, sum = t.Backend, m.sum(t.Backend)
		}
		rate := s.measure(m.last, l.now, forget)
		sum.sessions++
		sum.rate += rate
		heavy := rate >= sum.floor && s.placedID() != ""
		if heavy || s.target.Noted {
			m.clients = append(m.clients, ClientFlow{s.clientID, backend.Cluster, backend.Name, rate})
		}
		s.target.Noted = heavy
	}
}

// forgotten is the part of a rate that is forgotten within some nanoseconds.
func forgotten(passed int64) float64 { return 1 - math.Exp(-float64(passed)/float64(rateMemory)) }

// measure takes the bytes since the last time into the session's rate, and returns it. The rate of a session that
// began less than a minute ago is the mean since then, unless something is remembered of its client: a mean that
// began at zero would take minutes to get near the truth.
func (s *session) measure(last, now int64, forget float64) float64 {
	age, passed := now-s.accepted, now-last
	if age < passed {
		passed, forget = age, forgotten(age)
	}
	if passed <= 0 {
		return float64(s.target.Rate)
	}
	bytes := s.client.bytes + s.backend.bytes
	rate := perSecond(bytes, max(age, int64(rateStart)))
	if s.target.Noted || age >= int64(rateMemory) {
		before := float64(s.target.Rate)
		rate = before + forget*(perSecond(bytes-s.measured, passed)-before)
	}
	s.measured = bytes
	s.target.Rate = float32(rate)
	return rate
}

func perSecond(bytes uint64, passed int64) float64 {
	return float64(bytes) / float64(passed) * float64(time.Second)
}

// flows is the result. A backend that has got a new address is two of the data plane's.
func (m *measurement) flows() Flows {
	f := Flows{Clients: m.clients}
	type name struct{ cluster, backend string }
	at := make(map[name]int)
	for b, sum := range m.sums {
		i, known := at[name{b.Cluster, b.Name}]
		if !known {
			i = len(f.Backends)
			at[name{b.Cluster, b.Name}] = i
			f.Backends = append(f.Backends, BackendFlow{Cluster: b.Cluster, Backend: b.Name})
		}
		f.Backends[i].Sessions += sum.sessions
		f.Backends[i].Rate += sum.rate
	}
	return f
}
