package proxy

// A buffer holds bytes that a socket has not taken yet. It exists only while there are such bytes.
type buffer struct {
	data  []byte
	from  int // data[from:] is still to be sent
	class int // of the pool, -1 for a size of its own
}

func (b *buffer) bytes() []byte { return b.data[b.from:] }

// bufferSizes are the pool's classes: a held-back CONNECT, the rest of a burst, and what one read can
// bring at most.
var bufferSizes = [...]int{1 << 10, 16 << 10, readSize}

// poolDepth bounds how many free buffers of a class a loop keeps; more go to the garbage collector.
var poolDepth = [len(bufferSizes)]int{256, 32, 8}

// A pool lends buffers to the sessions of one loop.
type pool struct {
	free [len(bufferSizes)][]*buffer
	lent int64 // bytes of capacity that sessions hold now
}

// get returns an empty buffer with room for at least n bytes.
func (p *pool) get(n int) *buffer {
	for class, size := range bufferSizes {
		if n > size {
			continue
		}
		p.lent += int64(size)
		if k := len(p.free[class]); k > 0 {
			b := p.free[class][k-1]
			p.free[class] = p.free[class][:k-1]
			return b
		}
		return &buffer{data: make([]byte, 0, size), class: class}
	}
	p.lent += int64(n)
	return &buffer{data: make([]byte, 0, n), class: -1}
}

// put takes a buffer back. nil is fine.
func (p *pool) put(b *buffer) {
	if b == nil {
		return
	}
	p.lent -= int64(cap(b.data))
	if b.class < 0 || len(p.free[b.class]) >= poolDepth[b.class] {
		return
	}
	b.data, b.from = b.data[:0], 0
	p.free[b.class] = append(p.free[b.class], b)
}

// add returns a buffer that holds what b held and then more; b may be nil and must not be used again.
func (p *pool) add(b *buffer, more []byte) *buffer {
	var held []byte
	if b != nil {
		held = b.bytes()
		if len(b.data)+len(more) <= cap(b.data) {
			b.data = append(b.data, more...)
			return b
		}
	}
	need := len(held) + len(more)
	if b != nil && need > readSize {
		need = max(need, 2*cap(b.data)) // beyond the classes double, or dribbled bytes would be copied each time
	}
	grown := p.get(need)
	grown.data = append(append(grown.data, held...), more...)
	p.put(b)
	return grown
}
