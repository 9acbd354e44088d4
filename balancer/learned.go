package balancer

import "iter"

// Learned remembers which client belongs to which group. CONNECT does not name the group: it becomes
// known when the client subscribes to $share/<group>/…, too late for this connection and in time for
// the next one (algorithms.md, 3.1).
//
// It holds a fixed number of clients and forgets the one that was longest not asked for. Every
// operation takes constant time, and the same calls always leave the same memory. Like Seats it
// belongs to one caller at a time.
type Learned struct {
	capacity int
	clients  map[string]*lesson
	// ends closes the ring of all lessons: its next was asked for longest ago, its prev last.
	ends lesson
}

// A lesson is what is known of one client.
type lesson struct {
	id, group  string
	next, prev *lesson
}

// NewLearned returns a memory for that many clients, at least one.
func NewLearned(capacity int) *Learned {
	l := &Learned{capacity: max(capacity, 1), clients: make(map[string]*lesson)}
	l.ends.next, l.ends.prev = &l.ends, &l.ends
	return l
}

// Learn notes that a client is in a group; a client is in the last group that was learned. Clients
// without an id cannot be recognised, and names beyond maxName are not worth their memory: nothing is
// noted of them. Both strings are kept.
func (l *Learned) Learn(id, group string) {
	if id == "" || group == "" || len(id) > maxName || len(group) > maxName {
		return
	}
	e := l.clients[id]
	switch {
	case e != nil:
		e.cut()
	case len(l.clients) >= l.capacity:
		e = l.ends.next // its memory serves the newcomer
		e.cut()
		delete(l.clients, e.id)
		e.id = id
		l.clients[id] = e
	default:
		e = &lesson{id: id}
		l.clients[id] = e
	}
	e.group = group
	l.append(e)
}

// Group is the group of a client, empty if none is known. Asking keeps the client in memory.
func (l *Learned) Group(id string) string {
	e := l.clients[id]
	if e == nil {
		return ""
	}
	e.cut()
	l.append(e)
	return e.group
}

// Peek is Group without consequences.
func (l *Learned) Peek(id string) string {
	if e := l.clients[id]; e != nil {
		return e.group
	}
	return ""
}

// Forget drops what is known of a client.
func (l *Learned) Forget(id string) {
	if e := l.clients[id]; e != nil {
		e.cut()
		delete(l.clients, id)
	}
}

// Len is the number of clients that are remembered.
func (l *Learned) Len() int { return len(l.clients) }

// All yields every client with its group, the one that would be forgotten first comes first: whoever
// learns them again in this order has the same memory. The memory must not change meanwhile.
func (l *Learned) All() iter.Seq2[string, string] {
	return func(yield func(id, group string) bool) {
		for e := l.ends.next; e != &l.ends; e = e.next {
			if !yield(e.id, e.group) {
				return
			}
		}
	}
}

func (l *Learned) append(e *lesson) {
	e.prev, e.next = l.ends.prev, &l.ends
	e.prev.next, e.next.prev = e, e
}

func (e *lesson) cut() { e.prev.next, e.next.prev = e.next, e.prev }
