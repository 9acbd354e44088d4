package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// A queue lets CONNECTs of one listener pass at a certain rate and keeps the others in line. It belongs to all loops:
// any of them may decide who is next, and each fetches what was decided about its own sessions.
//
// The line is fair between source addresses: each has a line of its own, and they take turns. So an address that
// sends a thousand clients keeps those waiting and nobody else. When there is no room left, the longest of these
// lines gives way.
type queue struct {
	mu       sync.Mutex
	rate     float64 // CONNECTs per second; 0 lets everybody pass
	room     int     // tickets at most
	tokens   float64 // CONNECTs that may pass at once
	at       int64   // when the tokens were counted, on the loops' clock
	waiting  int     // tickets
	lines    map[netip.Addr]*line
	turn     *line // the next one; they form a ring
	longest  *line // the one with most tickets, or nearly; nil if nobody knows
	verdicts [][]verdict
}

// A line is the part of a queue of those who come from one address.
type line struct {
	address     netip.Addr
	first, last *ticket
	n           int
	prev, next  *line // in the ring
}

// A ticket is the place of a session in the queue.
type ticket struct {
	loop              int
	index, generation uint32
	line              *line // nil once there is a verdict
	prev, next        *ticket
}

// A verdict is that a session may pass, or that it must not wait any more.
type verdict struct {
	index, generation uint32
	passes            bool
}

// burst is what may pass at once after a quiet time, as the time in which that much may pass anyway. It is also how
// late a loop may be without slowing the line down.
const burst = 50 * time.Millisecond

func newQueue(loops int) *queue {
	return &queue{lines: make(map[netip.Addr]*line), verdicts: make([][]verdict, loops)}
}

// configure sets how many may pass in a second and how many may wait. Those who wait already stay.
func (q *queue) configure(rate float64, room int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if rate != q.rate {
		q.tokens = 1
	}
	q.rate, q.room = rate, max(room, 1)
}

// length is how many wait.
func (q *queue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.waiting
}

// enter asks for a session from this address. If it can pass at once, passes is true; if it has to wait, t is its
// ticket; if there is no room to wait, neither.
func (q *queue) enter(now int64, address netip.Addr, ask ticket) (passes bool, t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refill(now)
	if q.rate == 0 {
		return true, nil
	}
	if q.waiting == 0 && q.tokens >= 1 {
		q.tokens--
		return true, nil
	}
	from := q.lines[origin(address)]
	if q.waiting >= q.room && !q.makeRoom(from) {
		return false, nil
	}
	if from == nil {
		from = q.addLine(origin(address))
	}
	ask.line, ask.prev = from, from.last
	if from.last != nil {
		from.last.next = &ask
	} else {
		from.first = &ask
	}
	from.last = &ask
	from.n++
	q.waiting++
	if q.longest == nil || from.n > q.longest.n {
		q.longest = from
	}
	return false, &ask
}

// origin is the part of an address that stands for one source: for IPv6 the network, of which everybody has one.
func origin(a netip.Addr) netip.Addr {
	if a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

// makeRoom sends away who came last in the longest line, unless the newcomer's own would then be as long.
func (q *queue) makeRoom(newcomer *line) bool {
	n := 0
	if newcomer != nil {
		n = newcomer.n
	}
	if q.longest == nil || q.longest.n <= n+1 {
		return false
	}
	q.decide(q.longest.last, false)
	return true
}

// leave gives a ticket back whose session does not wait any more.
func (q *queue) leave(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.line != nil {
		q.remove(t)
	}
}

// fetch returns what was decided about the sessions of a loop, after deciding what can be decided now. It uses the
// array of into.
func (q *queue) fetch(now int64, loop int, into []verdict) []verdict {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refill(now)
	for q.waiting > 0 && (q.tokens >= 1 || q.rate == 0) {
		next := q.turn
		q.turn = next.next
		if q.rate > 0 {
			q.tokens--
		}
		q.decide(next.first, true)
	}
	fetched := q.verdicts[loop]
	q.verdicts[loop] = into[:0]
	return fetched
}

// returned gives back what n sessions did not use that have left between the verdict and fetch.
func (q *queue) returned(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens += float64(n)
}

func (q *queue) refill(now int64) {
	most := max(1, q.rate*burst.Seconds())
	q.tokens = min(most, q.tokens+q.rate*time.Duration(max(0, now-q.at)).Seconds())
	q.at = max(q.at, now)
}

func (q *queue) decide(t *ticket, passes bool) {
	q.verdicts[t.loop] = append(q.verdicts[t.loop], verdict{t.index, t.generation, passes})
	q.remove(t)
}

// remove takes a ticket out of its line, and an empty line out of the ring.
func (q *queue) remove(t *ticket) {
	from := t.line
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		from.first = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	} else {
		from.last = t.prev
	}
	t.line, t.prev, t.next = nil, nil, nil
	q.waiting--
	if from.n--; from.n > 0 {
		return
	}
	delete(q.lines, from.address)
	if q.longest == from {
		q.longest = nil
	}
	if from.next == from {
		q.turn = nil
		return
	}
	from.prev.next, from.next.prev = from.next, from.prev
	if q.turn == from {
		q.turn = from.next
	}
}

// addLine opens a line. Its turn comes after all the others.
func (q *queue) addLine(address netip.Addr) *line {
	s := &line{address: address}
	q.lines[address] = s
	if q.turn == nil {
		s.prev, s.next = s, s
		q.turn = s
		return s
	}
	s.prev, s.next = q.turn.prev, q.turn
	s.prev.next, s.next.prev = s, s
	return s
}
