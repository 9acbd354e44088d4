package proxy

// slabSize is how many sessions are allocated together. Slots stay where they are for as long as the
// loop lives, so the kernel's events can name them by number.
const slabSize = 512

// A slab holds the sessions of one loop. A slot is named by its index and its generation, which grows
// each time the slot is used anew: an event for a session that has ended names an old generation and
// finds nothing.
type slab struct {
	chunks []*[slabSize]session
	free   []uint32
	open   int
}

// take returns a zeroed session with its index and generation set.
func (b *slab) take() *session {
	if len(b.free) == 0 {
		b.grow()
	}
	i := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	b.open++
	s := b.at(i)
	*s = session{index: i, generation: s.generation + 1}
	return s
}

// give returns the slot of an ended session.
func (b *slab) give(s *session) {
	*s = session{index: s.index, generation: s.generation}
	b.free = append(b.free, s.index)
	b.open--
}

// find returns the session that an event names, nil if it has ended.
func (b *slab) find(index, generation uint32) *session {
	if int(index) >= len(b.chunks)*slabSize {
		return nil
	}
	s := b.at(index)
	if s.state == stateFree || s.generation&generationMask != generation {
		return nil
	}
	return s
}

func (b *slab) at(i uint32) *session { return &b.chunks[i/slabSize][i%slabSize] }

func (b *slab) grow() {
	first := uint32(len(b.chunks) * slabSize)
	b.chunks = append(b.chunks, new([slabSize]session))
	for i := uint32(slabSize); i > 0; i-- {
		b.free = append(b.free, first+i-1)
	}
}
