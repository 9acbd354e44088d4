package proxy

import (
	"net/netip"
	"time"
	"unsafe"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// Stats are counters of the whole proxy since its start.
type Stats struct {
	// Sessions is the number of open sessions.
	Sessions int
	// Bytes and Packets count what was carried, by Direction; packets by MQTT packet type too.
	Bytes   [2]uint64
	Packets [2]mqttparse.Counts
	// Memory is what sessions and their pending bytes occupy, in bytes.
	Memory int64
	// HeadersTrimmed counts PROXY headers from which a field was left out to keep them short.
	HeadersTrimmed uint64
	// Nonconforming counts CONNECTs that were forwarded although they deviate from the standard, by deviation.
	Nonconforming map[string]uint64
	// Handshakes is the number of TLS handshakes with clients that are under way, or wait for their turn.
	Handshakes int
}

// Stats sums up the loops. Each is asked in turn, between two rounds of its events: its counters are plain
// numbers that nobody else may read.
func (p *Proxy) Stats() Stats {
	sum := Stats{Sessions: int(p.open.Load()), Nonconforming: make(map[string]uint64)}
	p.everywhere(func(l *loop) {
		slots := int64(len(l.sessions.chunks)) * slabSize * int64(unsafe.Sizeof(session{}))
		sum.Memory += slots + l.pool.lent
		sum.HeadersTrimmed += l.trimmed
		sum.Handshakes += len(l.shaker.under) + len(l.shaker.queue)
		for bit, n := range l.oddities {
			if n > 0 {
				sum.Nonconforming[mqttparse.Nonconforming(1<<bit).String()] += n
			}
		}
		for d := range l.bytes {
			sum.Bytes[d] += l.bytes[d]
			for t, n := range l.packets[d] {
				sum.Packets[d][t] += n
			}
		}
	})
	return sum
}

// A SessionInfo describes one open session.
type SessionInfo struct {
	// ClientID is as the client sent it or, if Assigned, as the broker has given it to the client.
	ClientID string
	Assigned bool
	Version  byte
	Listener string
	// Route is empty if the client has none. SNI is the server name in its ClientHello, empty if there is none.
	Route, SNI string
	Remote     netip.AddrPort
	// Target's Backend is nil while the session has no place.
	Target Target
	// Since is the time since accept.
	Since          time.Duration
	Bytes, Packets [2]uint64
}

// slotsPerVisit bounds how long looking at sessions keeps a loop from its work.
const slotsPerVisit = 2048

// Sessions returns open sessions for which match answers true, at most limit of them (0: all). match
// is called on the event loops: it must be quick and must not block. Sessions that come or go while
// the list is made may or may not be in it.
func (p *Proxy) Sessions(match func(*SessionInfo) bool, limit int) []SessionInfo {
	var found []SessionInfo
	for _, l := range p.loops {
		p.visit(l, func(l *loop, from, end uint32) bool {
			for i := from; i < end; i++ {
				s := l.sessions.at(i)
				if s.state == stateFree || s.state == stateReading || s.state == stateWaiting {
					continue
				}
				if info := l.describe(s); match(&info) {
					found = append(found, info)
				}
			}
			return limit == 0 || len(found) < limit
		})
		if limit > 0 && len(found) >= limit {
			return found[:limit]
		}
	}
	return found
}

// visit has a loop call f for all its slots, some at a time with its other work in between, until f answers false.
// A loop that has ended shows nothing.
func (p *Proxy) visit(l *loop, f func(l *loop, from, end uint32) bool) {
	for from, more := uint32(0), true; more; from += slotsPerVisit {
		more = false
		p.on(l, func(l *loop) {
			end := min(from+slotsPerVisit, uint32(len(l.sessions.chunks)*slabSize))
			more = f(l, from, max(from, end)) && end == from+slotsPerVisit
		})
	}
}

func (l *loop) describe(s *session) SessionInfo {
	return SessionInfo{
		ClientID: s.clientID,
		Assigned: s.assigned,
		Version:  s.version,
		Listener: s.listener.Name,
		Route:    s.routeName(),
		SNI:      s.sni(),
		Remote:   s.remote,
		Target:   s.target,
		Since:    time.Duration(l.now - s.accepted),
		Bytes:    [2]uint64{s.client.bytes, s.backend.bytes},
		Packets:  [2]uint64{s.client.packets, s.backend.packets},
	}
}
