package proxy

import (
	"math"
	"time"
)

// tick is the precision of deadlines: coarse enough that setting one costs a few instructions, fine
// enough for timeouts of seconds.
const tick = 100 * time.Millisecond

const wheelSlots = 512 // 51.2 s for one turn; longer deadlines simply stay for another turn

// A wheel keeps the deadlines of one loop's sessions, at most one a session. Sessions are linked
// through their own fields, so a deadline allocates nothing. Only the loop that owns it touches it.
type wheel struct {
	slots [wheelSlots]*session // heads of doubly linked lists
	at    int64                // the last tick that was served
	next  int64                // no deadline is earlier than this tick; it may be too early, never too late
	count int
	lag   int64 // nanoseconds that its time is behind the loop's clock, see excuse
}

// newWheel returns an empty wheel.
func newWheel() *wheel { return &wheel{next: never} }

// never is a tick that does not come.
const never = math.MaxInt64

// A timer is a session's place in the wheel.
type timer struct {
	deadline   int64 // tick; 0 while it is not armed
	prev, next *session
}

// set arms or moves the deadline of s to d from now.
func (w *wheel) set(s *session, now int64, d time.Duration) {
	w.clear(s)
	deadline := (now - w.lag + int64(d) + int64(tick) - 1) / int64(tick)
	deadline = max(deadline, w.at+1)
	head := &w.slots[deadline%wheelSlots]
	s.timer = timer{deadline: deadline, next: *head}
	if *head != nil {
		(*head).timer.prev = s
	}
	*head = s
	w.next = min(w.next, deadline)
	w.count++
}

// clear disarms the deadline of s, if it has one.
func (w *wheel) clear(s *session) {
	t := &s.timer
	if t.deadline == 0 {
		return
	}
	if t.prev != nil {
		t.prev.timer.next = t.next
	} else {
		w.slots[t.deadline%wheelSlots] = t.next
	}
	if t.next != nil {
		t.next.timer.prev = t.prev
	}
	*t = timer{}
	w.count--
}

// expire calls fire for every session whose deadline has passed, after disarming it. fire may set a
// new deadline for the session it is called with; it must leave other sessions alone.
func (w *wheel) expire(now int64, fire func(*session)) {
	current := (now - w.lag) / int64(tick)
	if current < w.next {
		return
	}
	from := max(w.next, w.at+1)
	w.at = current
	// After a long sleep one turn visits every slot.
	for t := max(from, current-wheelSlots+1); t <= current; t++ {
		for s := w.slots[t%wheelSlots]; s != nil; {
			following := s.timer.next
			if s.timer.deadline <= current {
				w.clear(s)
				fire(s)
			}
			s = following
		}
	}
	w.next = w.earliest(current)
}

// earliest finds the next slot that holds anything. It may hold only deadlines of a later turn; then
// the loop wakes once for nothing.
func (w *wheel) earliest(current int64) int64 {
	if w.count == 0 {
		return never
	}
	for t := current + 1; t <= current+wheelSlots; t++ {
		if w.slots[t%wheelSlots] != nil {
			return t
		}
	}
	return never // cannot be: every deadline is in some slot
}

// due is when expire should be called next, on the loop's clock; ok is false when there is no need to.
func (w *wheel) due() (at int64, ok bool) {
	if w.next == never {
		return 0, false
	}
	return w.next*int64(tick) + w.lag, true
}

// leniency is by how much a deadline may be served late before that counts as a standstill of the process, and
// what all deadlines get after one.
const leniency = int64(time.Second)

// excuse puts all deadlines off when the process has stood still, suspended or starved: what the peers did
// meanwhile lies in the sockets and must be looked at before anybody is blamed for his silence (protocol.md,
// 9.2: T2). The loop went to sleep at asleep and is awake at now.
func (w *wheel) excuse(asleep, now int64) {
	at, ok := w.due()
	if late := now - max(at, asleep); ok && late > leniency {
		w.lag += late + leniency
	}
}

// overdue is how long the earliest deadline has passed, in nanoseconds; at most 0 if none has.
func (w *wheel) overdue(now int64) int64 {
	at, ok := w.due()
	if !ok {
		return 0
	}
	return now - at
}
