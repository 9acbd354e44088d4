package balancer

// departures remember the clients that a plan has sent away: where they go when they come again, who is still
// expected, and who was moved so lately that plans spare it.
//
//	add ─▶ leaving ── gone ──▶ away ─ arrive ─▶ remembered ── restFor after add ──▶ forgotten
//	                             └─ lostAfter after add: lost ─▲
//
// A client may be back before it is gone: it has taken its session over by itself. Clients without an id cannot be
// recognised; all that is known of them is that they were sent away. Operations take constant time, except that
// expire and away take as long as there is something to forget.
type departures struct {
	byClient    map[string]*departure
	first, last *departure // in the order of adding
	unjudged    *departure // the first that lostAfter has not passed for
	size        int        // of the list
	backends    map[string]*traffic
	groups      map[string][]*departure // of each group, those who may still be away
	outstanding int
	planned     map[string]struct{} // clients that a plan wants to move and that are where it found them
	lost        int
	lostLately  []Lost // a ring once it is full
	lostStart   int
	moved       uint64 // connections that were ended …
	returned    uint64 // … and clients of these that came again in time
	returns     returns
}

// A departure is one client that was sent away.
type departure struct {
	next            *departure
	client          string
	group           string
	from, to        string // to is empty if nobody knows
	rate            float64
	began, leftAt   int64
	leaving, wanted bool // it still has its connection; it is expected to come again
	evicted, back   bool // its connection was ended as it was to be; it has come again in time
	heavy           bool // Heavy knows its rate as soon as it is back, otherwise only the next forecast does
}

// traffic is who leaves and who is expected at one backend.
type traffic struct {
	leaving, expected int
	rate              float64 // of those on their way whom no figure shows yet, see departure.heavy
	shed              float64 // of all that were sent away since the last forecast
}

const (
	lostAfter     = 300 * second // a client that was sent away and does not come counts as lost (protocol.md, 4.5)
	restFor       = 600 * second // a client is not moved again for that long (protocol.md, 4.5)
	groupWait     = 10 * second  // a group waits that long for one of its members (algorithms.md, 3.4)
	maxDepartures = 1 << 17
	maxLost       = 1000
)

func newDepartures() departures {
	return departures{
		byClient: make(map[string]*departure), backends: make(map[string]*traffic),
		groups: make(map[string][]*departure), planned: make(map[string]struct{}),
	}
}

// at is the traffic of a backend.
func (d *departures) at(backend string) *traffic {
	t := d.backends[backend]
	if t == nil {
		t = &traffic{}
		d.backends[backend] = t
	}
	return t
}

// add notes that a client is being sent away. An empty to means that nobody knows where it will go.
func (d *departures) add(c Client, from, to string, rate float64, heavy bool, now int64) {
	d.expire(now)
	if d.size >= maxDepartures {
		d.forgetFirst()
	}
	if c.ID == "" {
		d.moved++ // nobody will tell when it has happened
	}
	x := &departure{client: c.ID, group: c.Group, from: from, to: to, rate: rate, heavy: heavy, began: now, leftAt: now}
	d.at(from).shed += rate
	if c.ID != "" {
		if old := d.byClient[c.ID]; old != nil {
			d.settle(old)
		}
		x.leaving, x.wanted = true, true
		d.byClient[c.ID] = x
		d.outstanding++
		d.at(from).leaving++
		if to != "" {
			d.at(to).expected++
			d.at(to).rate += rate
		}
		delete(d.planned, c.ID)
	}
	if c.Group != "" {
		d.groups[c.Group] = append(d.groups[c.Group], x)
	}
	if d.last == nil {
		d.first = x
	} else {
		d.last.next = x
	}
	if d.unjudged == nil {
		d.unjudged = x
	}
	d.last = x
	d.size++
}

// place is where a plan has sent the client that comes now, empty if there is no such plan.
func (d *departures) place(client string, now int64) string {
	x := d.byClient[client]
	if x == nil || !x.wanted || now-x.began >= lostAfter {
		return ""
	}
	return x.to
}

// arrive notes that a client has been placed.
func (d *departures) arrive(client string, now int64) {
	x := d.byClient[client]
	if x == nil {
		return
	}
	if x.wanted {
		x.back = true
		if x.evicted {
			d.returned++
			d.returns.add(now-x.leftAt, now)
		}
	}
	d.unexpect(x)
}

// gone notes that a connection has ended.
func (d *departures) gone(client, backend string, how Leave, now int64) {
	if client == "" {
		return
	}
	delete(d.planned, client)
	x := d.byClient[client]
	if x == nil || !x.leaving || x.from != backend {
		return
	}
	x.leftAt = now
	d.unleave(x)
	if how != Moved {
		return
	}
	x.evicted = true
	d.moved++
	if x.back { // it was faster than its own eviction
		d.returned++
		d.returns.add(0, now)
	}
}

// cancel forgets a departure that did not take place.
func (d *departures) cancel(client string) *departure {
	if client == "" {
		d.moved--
	}
	x := d.byClient[client]
	if x == nil {
		return nil
	}
	if x.evicted {
		d.moved--
		if x.back {
			d.returned--
		}
	}
	d.settle(x)
	delete(d.byClient, client)
	return x
}

// resting tells whether a client was moved lately, or is being moved.
func (d *departures) resting(client string, now int64) bool {
	x := d.byClient[client]
	return x != nil && now-x.began < restFor
}

// leavingFrom tells whether a client is being moved away from a backend.
func (d *departures) leavingFrom(client, backend string) bool {
	x := d.byClient[client]
	return x != nil && x.leaving && x.from == backend
}

// away is how many members of a group are away because of a plan, and not for longer than a group waits.
func (d *departures) away(group string, now int64) int {
	list := d.groups[group]
	if list == nil {
		return 0
	}
	kept := list[:0]
	for _, x := range list {
		if x.leaving || now-x.leftAt < groupWait && (x.wanted || x.client == "") {
			kept = append(kept, x)
		}
	}
	clear(list[len(kept):])
	if d.groups[group] = kept; len(kept) == 0 {
		delete(d.groups, group)
	}
	return len(kept)
}

// expire finds the lost and forgets what is old.
func (d *departures) expire(now int64) {
	for x := d.unjudged; x != nil && now-x.began >= lostAfter; x = d.unjudged {
		d.judge(x)
	}
	for d.first != nil && now-d.first.began >= restFor {
		d.forgetFirst()
	}
}

// judge ends the waiting for the first one that was not judged yet.
func (d *departures) judge(x *departure) {
	d.unjudged = x.next
	if x.wanted {
		d.lost++
		l := Lost{Client: x.client, From: x.from, To: x.to, At: x.began}
		if len(d.lostLately) < maxLost {
			d.lostLately = append(d.lostLately, l)
		} else {
			d.lostLately[d.lostStart] = l
			d.lostStart = (d.lostStart + 1) % maxLost
		}
	}
	d.settle(x)
}

func (d *departures) forgetFirst() {
	x := d.first
	if x == d.unjudged {
		d.judge(x)
	}
	if d.first = x.next; d.first == nil {
		d.last = nil
	}
	d.size--
	if d.byClient[x.client] == x {
		delete(d.byClient, x.client)
	}
	if x.group != "" {
		d.away(x.group, x.leftAt+groupWait)
	}
}

// settle ends all that is open about a departure.
func (d *departures) settle(x *departure) {
	d.unexpect(x)
	d.unleave(x)
}

func (d *departures) unexpect(x *departure) {
	if !x.wanted {
		return
	}
	x.wanted = false
	d.outstanding--
	if x.to != "" {
		t := d.at(x.to)
		t.expected--
		if x.heavy {
			t.rate -= x.rate
		}
	}
}

func (d *departures) unleave(x *departure) {
	if x.leaving {
		x.leaving = false
		d.at(x.from).leaving--
	}
}

// forecast notes that the figures have seen all that has happened so far. Only who is still on the way is not in them.
func (d *departures) forecast() {
	for _, t := range d.backends {
		t.shed, t.rate = 0, 0
	}
	for x := d.unjudged; x != nil; x = x.next {
		if x.wanted && x.to != "" {
			d.at(x.to).rate += x.rate
		}
	}
}

// prune forgets a backend that does not exist any more, and others that nobody talks about.
func (d *departures) prune(backend string) {
	for name, t := range d.backends {
		if t.leaving == 0 && t.expected == 0 && (name == backend || t.shed == 0 && t.rate == 0) {
			delete(d.backends, name)
		}
	}
}

// returns are the times that clients took until they were back.
type returns struct {
	fresh  []int64 // since somebody has asked, at most maxFresh
	lately [512]struct{ after, at int64 }
	n      int // of all times
}

const (
	maxFresh    = 1 << 16
	slowReturn  = 30 * second // so long is too long (protocol.md, 4.5)
	returnsFor  = 60 * second // a return says something about the present for so long
	fewReturns  = 20          // fewer say nothing
	slowPercent = 5
)

func (r *returns) add(after, now int64) {
	if len(r.fresh) < maxFresh {
		r.fresh = append(r.fresh, after)
	}
	at := &r.lately[r.n%len(r.lately)]
	at.after, at.at = after, now
	r.n++
}

// slow tells whether the 95th percentile of the latest returns is above the limit.
func (r *returns) slow(now int64) bool {
	n, slow := 0, 0
	for i := range min(r.n, len(r.lately)) {
		if x := &r.lately[i]; now-x.at < returnsFor {
			n++
			if x.after > slowReturn {
				slow++
			}
		}
	}
	return n >= fewReturns && 100*slow > slowPercent*n
}
