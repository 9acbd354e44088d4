//go:build linux

package e2e

import (
	"slices"
	"time"
)

// A note is something that has happened to a member.
type note struct {
	at       time.Time
	id       string
	what     happening
	received int // for a cut: how many bytes came after CONNACK
}

type happening uint8

const (
	cut    happening = iota // FIN after CONNACK
	torn                    // RST after CONNACK
	knocks                  // CONNECT is about to be sent
	back                    // CONNACK has come to one that was here before
)

func (s *swarm) note(m *member, what happening) {
	s.notes = append(s.notes, note{time.Now(), m.id, what, m.received})
}

// happened is what has happened so far, in order.
func (s *swarm) happened() []note {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notes)
}

// cuts are the moments at which connections were ended, in order.
func (s *swarm) cuts() []time.Time {
	var at []time.Time
	for _, n := range s.happened() {
		if n.what == cut || n.what == torn {
			at = append(at, n.at)
		}
	}
	return at
}

// moved are how often each client was cut.
func (s *swarm) moved() map[string]int {
	times := make(map[string]int)
	for _, n := range s.happened() {
		if n.what == cut || n.what == torn {
			times[n.id]++
		}
	}
	return times
}

// absences are how long clients were without a connection, each from cut to CONNACK, the shortest first.
func (s *swarm) absences() []time.Duration {
	var list []time.Duration
	since := make(map[string]time.Time)
	for _, n := range s.happened() {
		switch n.what {
		case cut, torn:
			since[n.id] = n.at
		case back:
			list = append(list, n.at.Sub(since[n.id]))
		case knocks:
		}
	}
	slices.Sort(list)
	return list
}

// mostAway is how many clients were away at the same time. Each is away from the end of its connection until it is
// about to send CONNECT: what mqttlb knows reaches from before that to behind it.
func mostAway(notes []note) int {
	away, most := make(map[string]bool), 0
	for _, n := range notes {
		switch n.what {
		case cut, torn:
			away[n.id] = true
		case knocks:
			delete(away, n.id)
		case back:
		}
		most = max(most, len(away))
	}
	return most
}
