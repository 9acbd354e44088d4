package balancer

import "iter"

// A client that subscribes to $share/<group>/… becomes a member of the group after it was placed without it, and one
// that unsubscribes stops being one, both without a new connection (algorithms.md, 3.1). It counts from that moment on
// where it sits, however uneven that is: a plan evens it out, or its next Place.

// Enroll makes a client that is connected to a backend, and counted there by Place, a member of its group. It reports
// whether there was room: if so, Release of the connection takes the client with its group. As the group has not chosen
// the seat, it may choose another one when the client comes again.
func (b *Brain) Enroll(c Client, backend string, now int64) bool {
	c = b.known(c)
	return c.Group != "" && b.groups.Enroll(c, backend, b.snapshot, now)
}

// Dismiss ends what Enroll, or Place, has begun: the client stays connected but is not a member of its group any more.
// Its seat is free at once. Release of the connection takes the client without the group.
func (b *Brain) Dismiss(c Client, backend string, now int64) {
	if c = b.known(c); c.Group != "" {
		b.groups.Release(c, backend, Moved, now)
	}
}

// Enroll counts a client as a member of its group on the backend where it is, without choosing. It reports false, and
// changes nothing, where Place would not remember the client either, and on a backend that the snapshot does not have.
// A seat elsewhere, or in another group, is given up: a client is in one group at a time, and where it connected last.
func (g *Groups) Enroll(c Client, backend string, s *Snapshot, now int64) bool {
	g.book.expire(now, c.Group)
	g.book.adopt(s)
	i := s.Index(backend)
	if i < 0 || !g.seatsFor(c) {
		return false
	}
	if g.full(c) {
		g.book.vacate(g.book.leases.first)
	}
	seat, m := g.seatOf(c)
	chosen := seat == i && !m.enrolled
	g.book.seat(c, i)
	if m = g.book.members[c.ID]; m != nil && !chosen {
		m.enrolled = true
	}
	return true
}

// Grouped tells whether the client's group has chosen the place.
func (r Reason) Grouped() bool { return r.Strategy == groupSpread }

// enrolled tells whether the client became a member of its group after it was placed.
func (r Reason) enrolled() bool { return r.Group != "" && r.Strategy != "" && !r.Grouped() }

// Some yields every client with its group in no order. Unlike with All, the memory may change between two clients:
// then those that come or go meanwhile may or may not be among them.
func (l *Learned) Some() iter.Seq2[string, string] {
	return func(yield func(id, group string) bool) {
		for id, e := range l.clients {
			if !yield(id, e.group) {
				return
			}
		}
	}
}
