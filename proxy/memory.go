package proxy

// Refuse says whether new clients are closed at accept for want of memory, until it says otherwise. Those that are
// connected are not touched.
func (p *Proxy) Refuse(full bool) { p.full.Store(full) }

// ShedPending closes the clients that no backend has been asked for yet, for want of memory: what they have sent, and
// what the kernel keeps for them, serves nobody. It returns how many there were.
func (p *Proxy) ShedPending() (shed int) {
	p.everywhere(func(l *loop) {
		for i := range uint32(len(l.sessions.chunks) * slabSize) {
			if s := l.sessions.at(i); s.state == stateReading || s.state == stateWaiting {
				l.refuse(s, EndLimit, RefusedMemory)
				shed++
			}
		}
		l.pool.release()
	})
	return shed
}

// release lets the garbage collector have the buffers that nobody uses.
func (p *pool) release() {
	for class := range p.free {
		p.free[class] = nil
	}
}
