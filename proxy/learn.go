package proxy

import (
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// Whoever consumes a shared subscription says so in SUBSCRIBE. What passes through is looked at where a Placer wants to
// learn it, and only then; nothing is held back for it. A session without shared subscriptions keeps no state for this:
// most packets that must be looked at arrive whole, and the loop lends its own for that moment.

// confirmation is how long a client that is remembered as a member of a group may be connected without saying so.
const confirmation = time.Minute

// inspect looks for groups in a chunk that has been read. before is what followed the direction, as it stood before.
func (l *loop) inspect(s *session, d Direction, before mqttparse.Tracker, chunk []byte) {
	if d == Down {
		if s.shares == nil {
			return // nobody waits for this answer
		}
		x := s.shares
		changed := x.Down(before, chunk)
		l.keepShares(s, x)
		if changed {
			l.teach(s, x.AppendGroups(nil))
		}
		return
	}
	x := s.shares
	if x == nil {
		x = l.lendShares(s, "")
	}
	x.Up(before, chunk)
	l.keepShares(s, x)
}

// learnOpening looks at what the client has sent with its CONNECT, which is in l.connect, after it got a place.
func (l *loop) learnOpening(s *session, opening []byte) {
	s.shares = nil // of the place before
	resumed := ""
	if s.target.Learned && !l.connect.CleanStart {
		resumed = s.target.Reason.Group // what its session consumes is not asked for again
	}
	if !s.target.Learn || s.opaque || resumed == "" && len(opening) == l.connect.Len {
		return
	}
	x := l.lendShares(s, resumed)
	x.Up(mqttparse.Tracker{}, opening)
	l.keepShares(s, x)
}

// lendShares returns a fresh one; keepShares must follow.
func (l *loop) lendShares(s *session, resumed string) *mqttparse.Subscriptions {
	if l.shares == nil {
		l.shares = new(mqttparse.Subscriptions)
	}
	l.shares.Reset(s.version, resumed)
	return l.shares
}

// keepShares leaves x to the session if there is anything to remember.
func (l *loop) keepShares(s *session, x *mqttparse.Subscriptions) {
	switch {
	case x.Idle():
		s.shares, l.shares = nil, x
	case s.shares == nil:
		s.shares, l.shares = x, nil
	}
}

// teach tells the Placer what the session consumes now.
func (l *loop) teach(s *session, groups []string) {
	if learner, ok := s.placer().(Learner); ok {
		s.target = learner.Subscribed(s.placedID(), s.target, groups)
	}
}

// unlearn is the end of a session: a client that came as a member of a group, because it was one before, and has not
// consumed anything for long, is none any more.
func (l *loop) unlearn(s *session) {
	if s.target.Learn && s.target.Learned && !s.shared() && s.outcome() == Served && l.now-s.accepted >= int64(confirmation) {
		l.teach(s, nil)
	}
}

// shared tells whether the session is known to consume a shared subscription.
func (s *session) shared() bool { return s.shares != nil && s.shares.Consuming() }
