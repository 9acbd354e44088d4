package balancer

import "slices"

// A seatBook records who sits where: the members of all groups with their leases, and how many seats
// of each group each backend holds. It keeps count and decides nothing.
//
// Backends have slots here, which stay the same when the positions in the snapshot change. The slot of
// a backend that has left remains until the last seat on it is gone.
type seatBook struct {
	groups  map[string]*group
	members map[string]*member // by client id: a client is in one group at a time
	leases  memberList         // members that are away, in the order in which their leases end

	snapshot *Snapshot
	slots    []slot
	slotOf   map[string]int
	slotAt   []int // by position in the snapshot
	ages     []int // positions in the snapshot in the order of the seat table
	uniform  bool  // all capacities are equal
	epoch    uint64
}

// A slot is a backend as the tallies know it.
type slot struct {
	name  string
	index int // in the snapshot, or -1
	seats int // of all groups
}

// A group is the seats of one shared-subscription group.
type group struct {
	name    string
	tallies []tally // by slot; slots beyond its end are empty
	seats   int     // of all slots
	members memberList
	leases  memberList // of its members that are away, in the order in which their leases end

	table []uint16 // the seat table, as far as it was needed
	epoch uint64   // of the membership that table is for
}

// A tally counts the seats of one group on one backend.
type tally struct {
	live     int // members with a client id
	held     int // leased to members that are away
	nameless int // live members without a client id
}

// A member is a client that has a seat. While it has no connection the seat is leased.
type member struct {
	id          string
	group       *group
	slot        int
	ordinal     int
	connections int
	enrolled    bool  // it sat there before it was a member: its next Place may choose again
	until       int64 // end of the lease
	links       [3]memberLink
}

func newSeatBook() seatBook {
	return seatBook{
		groups: make(map[string]*group), members: make(map[string]*member), slotOf: make(map[string]int),
		leases: memberList{kind: byLease},
	}
}

// adopt gives the backends of a new snapshot their slots.
func (b *seatBook) adopt(s *Snapshot) {
	if b.snapshot == s {
		return
	}
	if !sameNames(b.snapshot, s) {
		b.epoch++
	}
	b.snapshot = s
	b.ages = byAge(b.ages[:0], s)
	for k := range b.slots {
		b.slots[k].index = -1
	}
	b.uniform = true
	for i := range s.Backends {
		if k, known := b.slotOf[s.Backends[i].Name]; known {
			b.slots[k].index = i
		}
		b.uniform = b.uniform && (s.Backends[i].Left || s.capacities[i] == s.capacities[b.ages[0]])
	}
	b.slotAt = b.slotAt[:0]
	for i := range s.Backends {
		k, known := b.slotOf[s.Backends[i].Name]
		if !known {
			k = b.open(s.Backends[i].Name, i)
		}
		b.slotAt = append(b.slotAt, k)
	}
}

// sameNames tells whether the seat tables stay as they are: they hang on the names and the key alone,
// not on phases or weights.
func sameNames(a, b *Snapshot) bool {
	return a != nil && a.seed == b.seed &&
		slices.EqualFunc(a.Backends, b.Backends, func(x, y Backend) bool { return x.Name == y.Name && x.Left == y.Left })
}

// open gives a backend a slot: that of a backend that has left and holds no seat any more, or a new
// one. No tally of a group counts anything in a slot without seats.
func (b *seatBook) open(name string, index int) int {
	k := slices.IndexFunc(b.slots, func(v slot) bool { return v.index < 0 && v.seats == 0 })
	if k < 0 {
		k = len(b.slots)
		b.slots = append(b.slots, slot{})
	} else {
		delete(b.slotOf, b.slots[k].name)
	}
	b.slots[k] = slot{name: name, index: index}
	b.slotOf[name] = k
	return k
}

// seat gives c a seat on backend i of the current snapshot, or adds a connection to the seat that it
// has there already.
func (b *seatBook) seat(c Client, i int) {
	k := b.slotAt[i]
	if c.ID == "" {
		b.count(b.group(c.Group), k, tally{nameless: 1})
		return
	}
	m := b.members[c.ID]
	if m != nil && (m.slot != k || m.group.name != c.Group) {
		b.vacate(m)
		m = nil
	}
	switch {
	case m == nil:
		m = &member{id: c.ID, group: b.group(c.Group), slot: k}
		b.members[c.ID] = m
		m.group.members.push(m)
		b.count(m.group, k, tally{live: 1})
	case m.connections == 0:
		b.resume(m)
		b.count(m.group, k, tally{live: 1, held: -1})
	}
	m.ordinal, m.enrolled = c.Ordinal, false
	m.connections++
}

// leave ends a connection of c on a backend. With the last one the seat is leased, or free at once if
// hold is not positive.
func (b *seatBook) leave(c Client, backend string, now, hold int64) {
	k, known := b.slotOf[backend]
	if !known {
		return
	}
	if c.ID == "" {
		if at := b.groups[c.Group]; at != nil && k < len(at.tallies) && at.tallies[k].nameless > 0 {
			b.count(at, k, tally{nameless: -1})
			b.close(at)
		}
		return
	}
	m := b.members[c.ID]
	if m == nil || m.slot != k || m.group.name != c.Group || m.connections == 0 {
		return
	}
	if m.connections > 1 {
		m.connections--
		return
	}
	if hold <= 0 {
		b.vacate(m)
		return
	}
	m.connections = 0
	m.until = now + hold
	if last := b.leases.last; last != nil {
		m.until = max(m.until, last.until) // keeps the list sorted whatever happened to hold
	}
	b.leases.push(m)
	m.group.leases.push(m)
	b.count(m.group, k, tally{live: -1, held: 1})
}

// maxSweep bounds how many leases one call ends: to end a million takes most of a second.
const maxSweep = 1000

// expire ends leases that are over: all those of one group, for whoever is going to look at it, and some of the others.
// A group that nobody looks at may so have seats that it has not any more.
func (b *seatBook) expire(now int64, group string) {
	b.lapse(group, now)
	for range maxSweep {
		m := b.leases.first
		if m == nil || m.until > now {
			return
		}
		b.vacate(m)
	}
}

// lapse ends the leases of a group that are over. It returns the group, nil if that has no seat.
func (b *seatBook) lapse(name string, now int64) *group {
	at := b.groups[name]
	if at == nil {
		return nil
	}
	for m := at.leases.first; m != nil && m.until <= now; m = at.leases.first {
		b.vacate(m)
	}
	return b.groups[name]
}

// behind tells whether there are more leases that are over than expire could end.
func (b *seatBook) behind(now int64) bool {
	return b.leases.first != nil && b.leases.first.until <= now
}

// resume ends a lease of a member that keeps its seat, or loses it by another way.
func (b *seatBook) resume(m *member) {
	b.leases.remove(m)
	m.group.leases.remove(m)
}

// vacate takes a member off its seat, live or leased.
func (b *seatBook) vacate(m *member) {
	if m.connections == 0 {
		b.resume(m)
		b.count(m.group, m.slot, tally{held: -1})
	} else {
		b.count(m.group, m.slot, tally{live: -1})
	}
	m.group.members.remove(m)
	delete(b.members, m.id)
	b.close(m.group)
}

// group is the group with this name, a new one if need be.
func (b *seatBook) group(name string) *group {
	at := b.groups[name]
	if at == nil {
		at = &group{name: name, tallies: make([]tally, len(b.slots)), leases: memberList{kind: byGroupLease}}
		b.groups[name] = at
	}
	return at
}

// close forgets a group without seats.
func (b *seatBook) close(at *group) {
	if at.seats == 0 {
		delete(b.groups, at.name)
	}
}

func (b *seatBook) count(at *group, slot int, by tally) {
	for slot >= len(at.tallies) {
		at.tallies = append(at.tallies, tally{})
	}
	t := &at.tallies[slot]
	t.live += by.live
	t.held += by.held
	t.nameless += by.nameless
	seats := by.live + by.held + by.nameless
	at.seats += seats
	b.slots[slot].seats += seats
}

// occupied is the number of seats that count against the quota.
func (at *group) occupied(slot int) int {
	if slot >= len(at.tallies) {
		return 0
	}
	t := at.tallies[slot]
	return t.live + t.held + t.nameless
}

// A memberList threads members; each may be in one list of each kind.
type memberList struct {
	kind        listKind
	first, last *member
}

type memberLink struct{ next, prev *member }

// listKind says which links a list uses.
type listKind uint8

const (
	byArrival listKind = iota // the members of a group, longest seated first
	byLease
	byGroupLease
)

func (l *memberList) push(m *member) {
	m.links[l.kind] = memberLink{prev: l.last}
	if l.last == nil {
		l.first = m
	} else {
		l.last.links[l.kind].next = m
	}
	l.last = m
}

func (l *memberList) remove(m *member) {
	k := m.links[l.kind]
	if k.prev == nil {
		l.first = k.next
	} else {
		k.prev.links[l.kind].next = k.next
	}
	if k.next == nil {
		l.last = k.prev
	} else {
		k.next.links[l.kind].prev = k.prev
	}
	m.links[l.kind] = memberLink{}
}
