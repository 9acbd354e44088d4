package mqttparse

import "slices"

const (
	// MaxShareName bounds the name of a group that Subscriptions notes, in bytes; longer ones are passed over.
	MaxShareName = 128

	// maxShares bounds the shared subscriptions of one connection, and again those that are asked for and not answered.
	maxShares = 64
)

// A Subscriptions tells which shared-subscription groups one connection consumes: it follows SUBSCRIBE and UNSUBSCRIBE
// with topic filters $share/<group>/<filter> (MQTT 5.0, 4.8.2; brokers take them in 3.1.1 too) and the broker's answers
// to them. A subscription counts when SUBACK grants it and until UNSUBACK confirms its end, so a group with two filters
// takes two UNSUBSCRIBEs to leave.
//
// It is fed beside a Tracker of each direction, and needs only the chunks that hold a part of a packet that matters:
//
//	before, begun := up, counts.Subscribing()
//	up.Feed(chunk, &counts)
//	if before.Subscribing() || counts.Subscribing() != begun {
//		subscriptions.Up(before, chunk)
//	}
//
// Packets may be cut anywhere and be of any size: of a topic filter no more is kept than the name of the group and a
// hash.
//
// Memory is bounded. Of the subscriptions of one connection the first 64 are noted, and of the requests without an
// answer the first 64 each way; while there are more, a group may be missing, or stay after it was left. Names of more
// than MaxShareName bytes, and those that the standard forbids, are passed over. So are EMQX's $queue/ filters, which
// name no group.
//
// A Subscriptions is for one goroutine at a time.
type Subscriptions struct {
	version  byte
	request  request
	answer   answer
	resumed  string  // the group of a session that goes on, while its filters are not known
	shares   []share // in the order of subscribing
	awaiting []awaited
}

// A share is one shared subscription.
type share struct {
	group  string
	filter uint64 // hash of the topic filter behind the group
}

// An awaited is a part of a request that the broker has not answered.
type awaited struct {
	share
	at     uint32 // position of the topic filter in its packet
	id     uint16 // of the packet
	end    bool   // of the subscription
	agreed bool   // the broker has said yes, in an answer that is still passing
}

// Reset makes s that of a new connection with this protocol level. resumed is the group that the client consumes if the
// broker still has its session, empty if it has none: what was subscribed to in an earlier connection is not asked for
// again, so its filters are not known, and the first UNSUBSCRIBE for the group ends it.
func (s *Subscriptions) Reset(version byte, resumed string) {
	clear(s.shares)
	clear(s.awaiting)
	*s = Subscriptions{version: version, resumed: resumed, shares: s.shares[:0], awaiting: s.awaiting[:0]}
}

// Idle reports whether there is nothing to remember: no subscription, no request without an answer, and no packet that
// is still passing. The same as a fresh one will do from now on.
func (s *Subscriptions) Idle() bool {
	return s.resumed == "" && len(s.shares) == 0 && len(s.awaiting) == 0 && !s.request.passing && !s.answer.passing
}

// AppendGroups appends the names of the groups, in the order of subscribing, each once.
func (s *Subscriptions) AppendGroups(dst []string) []string {
	from := len(dst)
	if s.resumed != "" {
		dst = append(dst, s.resumed)
	}
	for i := range s.shares {
		if group := s.shares[i].group; !slices.Contains(dst[from:], group) {
			dst = append(dst, group)
		}
	}
	return dst
}

// Consuming reports whether there is any group.
func (s *Subscriptions) Consuming() bool { return s.resumed != "" || len(s.shares) > 0 }

// has reports whether the connection consumes a group.
func (s *Subscriptions) has(group string) bool {
	return group == s.resumed && group != "" || slices.ContainsFunc(s.shares, func(x share) bool { return x.group == group })
}

// subscribing is the set of packet types that change anything.
const subscribing = 1<<TypeConnack | 1<<TypeSubscribe | 1<<TypeSuback | 1<<TypeUnsubscribe | 1<<TypeUnsuback

// Subscribing is how many packets have begun that matter to a Subscriptions.
func (n *Counts) Subscribing() uint64 {
	return n[TypeConnack] + n[TypeSubscribe] + n[TypeSuback] + n[TypeUnsubscribe] + n[TypeUnsuback]
}

// Subscribing reports whether a packet is in progress that matters to a Subscriptions.
func (t *Tracker) Subscribing() bool { return has(subscribing, PacketType(t.first>>4)) != 0 }

// Up takes a chunk from the client. t is the Tracker of that direction as it stood before the chunk. Chunks may be left
// out in which no packet begins or goes on that matters; see Subscribing.
func (s *Subscriptions) Up(t Tracker, chunk []byte) {
	for len(chunk) > 0 && !t.Lost() {
		part := t.next(chunk)
		typ := PacketType(t.first >> 4)
		if part > 0 && (typ == TypeSubscribe || typ == TypeUnsubscribe) {
			if t.left == t.remaining {
				s.request = request{passing: true, end: typ == TypeUnsubscribe}
			}
			if s.request.passing {
				s.read(chunk[:part])
				s.request.passing = int(t.left) > part
			}
		}
		chunk = t.advance(chunk, part)
	}
	if t.Lost() {
		s.request.passing = false
	}
}

// Down is Up for a chunk from the broker. It reports whether the groups have changed.
func (s *Subscriptions) Down(t Tracker, chunk []byte) (changed bool) {
	for len(chunk) > 0 && !t.Lost() {
		part := t.next(chunk)
		typ := PacketType(t.first >> 4)
		if part > 0 && (typ == TypeSuback || typ == TypeUnsuback || typ == TypeConnack) {
			if t.left == t.remaining {
				s.answer = answer{passing: true, typ: typ}
			}
			if s.answer.passing {
				s.hear(chunk[:part])
				if s.answer.passing = int(t.left) > part; !s.answer.passing {
					changed = s.heard() || changed
				}
			}
		}
		chunk = t.advance(chunk, part)
	}
	if t.Lost() {
		s.answer.passing = false
	}
	return changed
}

// next is how many bytes at the start of chunk belong to the body of the packet in progress.
func (t *Tracker) next(chunk []byte) int {
	if t.state&inBody == 0 {
		return 0
	}
	return min(len(chunk), int(t.left))
}

// advance feeds that part of chunk or, if it is nothing, the next byte of a fixed header.
func (t *Tracker) advance(chunk []byte, part int) []byte {
	part = max(part, 1)
	t.Feed(chunk[:part], nil)
	return chunk[part:]
}

// await notes a part of a request.
func (s *Subscriptions) await(r *request) {
	group, known := s.intern(r.name[:r.named])
	a := awaited{share: share{group, r.hash}, at: r.at, id: r.id, end: r.end}
	count := 0
	for i := range s.awaiting {
		if s.awaiting[i].end == a.end {
			count++
		}
	}
	if a.end && !known || count >= maxShares {
		return // whoever was never in the group cannot leave it
	}
	s.awaiting = append(s.awaiting, a)
}

// intern returns the name of a group, as the string that there is already if it is known.
func (s *Subscriptions) intern(name []byte) (group string, known bool) {
	if s.resumed == string(name) {
		return s.resumed, true
	}
	for i := range s.shares {
		if s.shares[i].group == string(name) {
			return s.shares[i].group, true
		}
	}
	for i := range s.awaiting {
		if s.awaiting[i].group == string(name) {
			return s.awaiting[i].group, true
		}
	}
	return string(name), false
}

// disregard forgets the requests with a packet identifier.
func (s *Subscriptions) disregard(id uint16) {
	s.awaiting = slices.DeleteFunc(s.awaiting, func(a awaited) bool { return a.id == id })
}

// settle takes over what the broker has agreed to. It reports whether the groups have changed.
func (s *Subscriptions) settle(a awaited) bool {
	had := s.has(a.group)
	i := slices.Index(s.shares, a.share)
	switch {
	case !a.end && i < 0 && len(s.shares) < maxShares:
		s.shares = append(s.shares, a.share)
	case a.end && i >= 0:
		s.shares = slices.Delete(s.shares, i, i+1)
	case a.end && a.group == s.resumed:
		s.resumed = ""
	}
	if !a.end && a.group == s.resumed && s.has(a.group) {
		s.resumed = "" // from now on it is known exactly
		had = true
	}
	return s.has(a.group) != had
}
