package balancer

import (
	"cmp"
	"math"
	"strings"
)

// Groups places the members of shared-subscription groups: of one group, every backend gets its share
// and never more than the share rounded up, and a member that comes back in time finds its seat as it
// left it. It is the opposite of hashing, which spreads all clients but lets three of five consumers
// of one group meet on one backend (algorithms.md, 3.1).
//
// A decision follows the numbered rules of that section:
//
//	0, 1  a member that is live, or away on a lease, keeps its seat
//	2     with ordinals, the number of a member names its seat          seattable.go
//	3, 4  otherwise the emptiest backend for its weight, within quota   groupdeal.go
//	5     ties go to backends that are not overfull in total, then by a hashed order
//
// Unlike a Strategy, Groups must know when a member is placed, when it goes, and what time it is. Each
// connection is therefore one Place and, when it ends or never comes about, one Release:
//
//	i, why := groups.Place(client, snapshot, seats, now)
//	…
//	groups.Release(client, snapshot.Backends[i].Name, balancer.Left, now)
//
// Time is in nanoseconds on any clock of the caller that does not run backwards.
//
// Seats hang on the names of backends, so a new Snapshot may come with any call. A Groups belongs to
// one caller at a time, like Seats.
type Groups struct {
	options GroupOptions
	book    seatBook
	deal    deal             // of the current decision; kept to save its memory
	cooled  map[string]int64 // when a member was last moved away from a backend because that was hot
	blank   group            // stands in for a group that has no members yet

	// names are lists of backends for reasons, by the bits of their positions in the book's snapshot: a
	// decision must not allocate, and few lists occur.
	names   map[uint64]string
	namesOf *Snapshot
}

// GroupOptions configure a Groups. The zero value is one instance without ordinals.
type GroupOptions struct {
	// Hold is how long a seat is kept for a member that left, in nanoseconds. 0 means 30 s, below 0
	// means not at all. SetHold changes it while running.
	Hold int64
	// Instance of Instances says which of several balancers without shared state this one is, from 0.
	// Each starts its order of backends elsewhere, so that their left-over seats do not pile up on
	// the same backends (algorithms.md, 3.5).
	Instance, Instances int
	// Ordinals lets a member with an Ordinal sit where the seat table puts its number. That is exact
	// over any number of instances as long as the numbers have no gaps. Backends of unequal capacity
	// and ordinals of maxOrdinals and more are placed by the counts instead.
	Ordinals bool
	// TotalBound is how far above the average of all its connections a backend may be before it comes
	// last among equally empty ones. 0 means 1.05 for one instance and no bound for several: there it
	// would disturb the rotation that keeps them apart (four instances and groups of two: a total of
	// 1.03 instead of 1.10 × the average, but now and then both members on one backend).
	TotalBound float64
	// MaxGroups and MaxMembers bound the memory; 0 means 65 536 and 1 048 576, some 200 bytes each. A
	// full house first gives up the oldest lease; when every seat is live, or the client is of one
	// group too many, the client is placed by Fallback and not remembered.
	MaxGroups, MaxMembers int
	// Fallback places everybody who has no seat here: clients without a group, beyond the limits, or
	// with names longer than maxName. nil means client-hash with a bound of 1.25.
	Fallback Strategy
}

// groupSpread is the name of the strategy in reasons.
const groupSpread = "group-spread"

const (
	defaultHold = 30_000_000_000 // 30 s

	// maxName bounds what one client can make us keep: MQTT allows 65 535 bytes for a client id,
	// 23 are guaranteed to work, and beyond a kilobyte nobody names things.
	maxName = 1024
)

// NewGroups returns a Groups without members.
func NewGroups(o GroupOptions) *Groups {
	o.Hold = cmp.Or(o.Hold, defaultHold)
	o.Instances = max(o.Instances, 1)
	if o.TotalBound == 0 {
		o.TotalBound = 1.05
		if o.Instances > 1 {
			o.TotalBound = math.Inf(1)
		}
	}
	o.MaxGroups = cmp.Or(o.MaxGroups, 1<<16)
	o.MaxMembers = cmp.Or(o.MaxMembers, 1<<20)
	if o.Fallback == nil {
		o.Fallback = &clientHash{bound: 1.25, anonymous: newRoundRobin(uint64(o.Instance))}
	}
	return &Groups{options: o, book: newSeatBook(), cooled: make(map[string]int64)}
}

// SetHold changes the lease of members that leave from now on: a rolling update deserves more
// patience than a blip. Leases end in the order in which they began, so one that begins after the
// hold was shortened may last as long as the last one before it.
func (g *Groups) SetHold(nanoseconds int64) { g.options.Hold = nanoseconds }

// Len tells how many groups and how many members have a seat, live or leased. Members without a
// client id count for their group but not here. Leases that have just ended may still count if they were very many.
func (g *Groups) Len() (groups, members int) { return len(g.book.groups), len(g.book.members) }

// Place chooses a backend as Strategy.Pick does and counts the client as a member of its group. Group
// and ID of a new member are kept.
//
// A client that is placed again while it is live is taking over its own session and gets the same
// seat, so that the broker sees both connections. When a backend did not accept the client, Release
// it as Moved and Place it again with the backend among seats.Tried.
func (g *Groups) Place(c Client, s *Snapshot, seats *Seats, now int64) (int, Reason) {
	g.book.expire(now, c.Group)
	g.book.adopt(s)
	if !g.seatsFor(c) {
		return g.options.Fallback.Pick(c, s, seats)
	}
	if g.full(c) {
		g.book.vacate(g.book.leases.first)
	}
	i, why := g.decide(c, s, seats, now)
	if i >= 0 {
		g.book.seat(c, i)
	}
	return i, why
}

// Preview answers as Place would and seats nobody.
func (g *Groups) Preview(c Client, s *Snapshot, seats *Seats, now int64) (int, Reason) {
	g.book.expire(now, c.Group)
	g.book.adopt(s)
	if !g.seatsFor(c) {
		return Preview(g.options.Fallback, c, s, seats)
	}
	return g.decide(c, s, seats, now)
}

// A Leave says what becomes of the seat of a member that goes.
type Leave uint8

// The ways to go.
const (
	Left  Leave = iota // by itself, or with its network: the seat is kept for the time of the lease
	Moved              // we sent it away, or the backend never took it: the seat is free at once
)

// Release ends a connection that Place has put on the backend with this name, exactly once for each.
// c is the client as it was placed. A planned move is released when it is decided, not when the
// socket closes: a client that is faster than its own eviction would be seated where it was.
//
// Releasing somebody who has no seat there is not an error: the client may have been placed by
// Fallback, or have moved on while its former connection was still dying.
func (g *Groups) Release(c Client, backend string, how Leave, now int64) {
	g.book.expire(now, c.Group)
	hold := g.options.Hold
	if how == Moved {
		hold = 0
	}
	g.book.leave(c, backend, now, hold)
}

// seatsFor tells whether c can be a member: it has a group, names of bearable length, and room.
func (g *Groups) seatsFor(c Client) bool {
	if c.Group == "" || len(c.Group) > maxName || len(c.ID) > maxName {
		return false
	}
	if g.book.groups[c.Group] == nil && len(g.book.groups) >= g.options.MaxGroups {
		return false
	}
	return !g.full(c) || g.book.leases.first != nil
}

// full tells whether somebody would have to go before c can be remembered.
func (g *Groups) full(c Client) bool {
	return c.ID != "" && len(g.book.members) >= g.options.MaxMembers && g.book.members[c.ID] == nil
}

// decide applies the rules and changes nothing.
func (g *Groups) decide(c Client, s *Snapshot, seats *Seats, now int64) (int, Reason) {
	why := Reason{Strategy: groupSpread, Group: c.Group}
	seat, m := g.seatOf(c)
	loose := -1
	if seat >= 0 && m.enrolled {
		seat, loose = -1, seat // nobody has chosen it
	}
	if seat >= 0 && s.rank(seat, seats, 0) == rankFit { // rules 0 and 1, the usual case: no need to look around
		return seat, why.keeping(m, now)
	}
	at := g.group(c.Group)
	d := &g.deal
	d.survey(s, seats, at, g.book.slotAt)
	if d.best == rankNone {
		return -1, why
	}
	if loose >= 0 && d.ranks[loose] == d.best {
		d.free(loose)
	}
	if seat >= 0 && d.ranks[seat] == d.best {
		return seat, why.keeping(m, now)
	}
	if owner := g.owner(at, s, c.Ordinal); owner >= 0 { // rule 2
		if d.ranks[owner] == d.best {
			why.Cause = OrdinalSeat
			return owner, why
		}
		return g.standIn(at, s, owner, c.Ordinal), why.passingOver(owner, s, seats)
	}
	i := g.emptiest(s, c.ID, c.Group) // rules 3 to 5
	if seat >= 0 {
		return i, why.passingOver(seat, s, seats)
	}
	why.Cause, why.Other = Emptiest, g.emptyNames()
	return i, why
}

// keeping makes r say that the member has its seat again.
func (r Reason) keeping(m *member, now int64) Reason {
	r.Cause = TakenOver
	if m.connections == 0 {
		r.Cause, r.Left = SeatLease, uint32(max(0, m.until-now)/1e6)
	}
	return r
}

// passingOver makes r say why backend i, which has the member's seat, was not chosen.
func (r Reason) passingOver(i int, s *Snapshot, seats *Seats) Reason {
	r.Other = s.Backends[i].Name
	if objection, objected := seats.objection(i); objected {
		r.Cause = objection
		return r
	}
	r.Cause, r.Phase = Avoided, s.Backends[i].Phase
	return r
}

// seatOf is the backend on which c has a seat in its group, and who sits there; -1 if it has none or the
// backend is gone.
func (g *Groups) seatOf(c Client) (backend int, m *member) {
	m = g.book.members[c.ID]
	if m == nil || m.group.name != c.Group {
		return -1, nil
	}
	return g.book.slots[m.slot].index, m
}

// group is the group with this name, or an empty one that lasts until the next call.
func (g *Groups) group(name string) *group {
	if at := g.book.groups[name]; at != nil {
		return at
	}
	g.blank = group{name: name, table: g.blank.table[:0]}
	return &g.blank
}

// emptiest applies rules 3 to 5 to the surveyed group. One instance alone lets the order of the member
// decide ties: after a restart without memory it sends most members where they were. Several
// instances follow the order of the group, each from another start. Members without an id have no
// order of their own.
func (g *Groups) emptiest(s *Snapshot, id, group string) int {
	instances := g.options.Instances
	key := id
	if id == "" || instances > 1 {
		key = group
	}
	d := &g.deal
	return d.emptiest(keyedHash(s.seed, key), g.options.Instance*d.n/instances, g.options.TotalBound)
}

// maxNames bounds how many backends a reason lists, and maxLists how many lists are kept.
const (
	maxNames = 8
	maxLists = 256
)

// emptyNames lists the backends that are the emptiest of the surveyed group.
func (g *Groups) emptyNames() string {
	d := &g.deal
	bits, n := d.emptiestOf()
	if len(d.s.Backends) > 64 || n > maxNames {
		return "many"
	}
	if g.namesOf != d.s || len(g.names) >= maxLists {
		g.names, g.namesOf = make(map[uint64]string), d.s
	}
	list, known := g.names[bits]
	if !known {
		var names []string
		for i := range d.s.Backends {
			if bits&(1<<i) != 0 {
				names = append(names, d.s.Backends[i].Name)
			}
		}
		list = strings.Join(names, ",")
		g.names[bits] = list
	}
	return list
}
