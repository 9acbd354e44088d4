package proxy

import (
	"math"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A client of MQTT 5 that comes without an id is given one by its broker, in CONNACK, and comes again with that if it
// wants its session back. mqttlb learns it, to show it and to bring the client back to where it was. As the client was
// placed without an id, it stays such a one to the Placer until it comes again.

// maxNaming bounds what is kept of a CONNACK that comes in pieces, in bytes. The id in a longer one is not learned.
const maxNaming = 4 << 10

// noteAssigned looks for the client's id in a chunk of the broker's that has been read before CONNACK was complete, or
// just completes it. before is what followed the direction, as it stood before.
func (l *loop) noteAssigned(s *session, before mqttparse.Tracker, chunk []byte) {
	if s.clientID != "" || s.version != 5 {
		return
	}
	connack, begun := l.naming[s.index]
	switch {
	case before.AtBoundary():
		begun, connack = true, chunk // what has come before was AUTH
	case begun:
		connack = append(connack, chunk...)
	}
	switch {
	case !begun:
		return // it was too long
	case s.answered || len(connack) > maxNaming:
		delete(l.naming, s.index)
	case before.AtBoundary():
		if l.naming == nil {
			l.naming = make(map[uint32][]byte)
		}
		l.naming[s.index] = append([]byte(nil), chunk...)
	default:
		l.naming[s.index] = connack
	}
	if s.answered {
		l.name(s, connack)
	}
}

// name gives the client the id in the broker's CONNACK, if there is one.
func (l *loop) name(s *session, connack []byte) {
	id, expiry, ok := mqttparse.AssignedID(connack, s.expiry)
	if !ok {
		return
	}
	s.clientID, s.assigned, s.expiry = string(id), true, expiry
	if n, ok := s.placer().(Namer); ok && expiry > 0 {
		n.Named(s.clientID, s.target, s.lives())
	}
}

// lives is how long the MQTT session lives after the connection.
func (s *session) lives() time.Duration {
	if s.expiry == math.MaxUint32 {
		return math.MaxInt64
	}
	return time.Duration(s.expiry) * time.Second
}

// part tells the Placer that the connection of a client that was Named has ended.
func (l *loop) part(s *session) {
	delete(l.naming, s.index)
	if n, ok := s.placer().(Namer); ok && s.assigned && s.expiry > 0 {
		n.Parted(s.clientID, s.target, s.outcome())
	}
}

// placedID is the client id with which the session was placed.
func (s *session) placedID() string {
	if s.assigned {
		return ""
	}
	return s.clientID
}
