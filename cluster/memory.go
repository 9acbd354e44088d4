package cluster

// A memory holds something about each of a number of clients, and forgets the one that was longest not noted. It
// belongs to one caller at a time.
type memory[T any] struct {
	limit   int
	clients map[string]*noted[T]
	// ends closes the ring of all: its next was noted longest ago, its prev last.
	ends noted[T]
}

// A noted is what is remembered of one client.
type noted[T any] struct {
	id         string
	what       T
	next, prev *noted[T]
}

func newMemory[T any](limit int) *memory[T] {
	m := &memory[T]{limit: limit, clients: make(map[string]*noted[T])}
	m.ends.next, m.ends.prev = &m.ends, &m.ends
	return m
}

// peek is what is remembered of a client, nil if nothing is. It may be changed.
func (m *memory[T]) peek(id string) *T {
	if n := m.clients[id]; n != nil {
		return &n.what
	}
	return nil
}

// note remembers something of a client, instead of what was remembered before.
func (m *memory[T]) note(id string, what T) {
	n := m.clients[id]
	if n == nil {
		if len(m.clients) >= m.limit {
			m.forget(m.ends.next.id)
		}
		n = &noted[T]{id: id}
		m.clients[id] = n
	} else {
		n.cut()
	}
	n.what, n.prev, n.next = what, m.ends.prev, &m.ends
	n.prev.next, n.next.prev = n, n
}

// forget drops what is remembered of a client.
func (m *memory[T]) forget(id string) {
	if n := m.clients[id]; n != nil {
		n.cut()
		delete(m.clients, id)
	}
}

func (m *memory[T]) len() int { return len(m.clients) }

func (n *noted[T]) cut() { n.prev.next, n.next.prev = n.next, n.prev }
