package balancer

import (
	"cmp"
	"slices"
)

// The seat table gives numbered members their backends without any memory: seat q of a group belongs
// to one backend, and every n seats in a row from a multiple of n on are a permutation of the n
// backends, so that the members 0 … k-1 are within 1 of fair for every k, on any number of instances
// (algorithms.md, 3.5).
//
// It is grown backend by backend, so that the table for n backends resembles the one for n-1, which
// the plain ordinal mod n does not: 1.1 to 2 times the minimum of seats change hands instead of 3 to 9
// times. Seat tables know nothing of weights.

// maxOrdinals bounds the table of a group to 2 KiB; an id ending in 4000000000 is not a reason to
// build four thousand million seats.
const maxOrdinals = 1024

// owner is the backend whose seat has this number (rule 2), or -1 if numbers do not decide.
func (g *Groups) owner(at *group, s *Snapshot, ordinal int) int {
	if !g.options.Ordinals || ordinal < 0 || ordinal >= maxOrdinals || !g.book.uniform {
		return -1
	}
	if at.epoch != g.book.epoch || ordinal >= len(at.table) {
		size := 16
		for size <= ordinal {
			size *= 2
		}
		at.table = seatTable(at.table, keyedHash(s.seed, at.name), len(g.book.ages), size)
		at.epoch = g.book.epoch
	}
	return g.book.ages[at.table[ordinal]]
}

// standIn takes the seat of a backend that cannot be chosen now. It has one in every block of n seats:
// the others take them in turn, and give them back when it returns.
func (g *Groups) standIn(at *group, s *Snapshot, owner, ordinal int) int {
	d := &g.deal
	start := mix(keyedHash(s.seed, at.name)^s.hashes[owner]) % uint64(d.n)
	turn := (int(start) + ordinal/len(g.book.ages)) % d.n
	for i, r := range d.ranks {
		if r != d.best {
			continue
		}
		if turn == 0 {
			return i
		}
		turn--
	}
	return -1 // not reached: d.n of the ranks are best
}

// byAge lists the backends in the order in which they joined, as far as their names tell: shorter
// first, then by letters, which is the order of broker-2, broker-9, broker-10. What order it is does
// not matter for the balance, but every instance must see the same one, whatever it has witnessed.
func byAge(ages []int, s *Snapshot) []int {
	for i := range s.Backends {
		if !s.Backends[i].Left {
			ages = append(ages, i)
		}
	}
	slices.SortFunc(ages, func(a, b int) int {
		x, y := s.Backends[a].Name, s.Backends[b].Name
		return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y))
	})
	return ages
}

// seatTable returns the first k seats of the group with this hash for n backends, 0 the eldest. A
// larger k gives a longer prefix of the same infinite table.
func seatTable(table []uint16, hash uint64, n, k int) []uint16 {
	table = table[:0]
	if n < 1 {
		return table
	}
	// A block at stage i reaches beyond k and is made of the blocks of stage i-1 that it touches.
	size := k
	for i := n; i > 1; i-- {
		size = roundUp(size, i)
	}
	for range size {
		table = append(table, 0)
	}
	present, spare := make([]bool, n), make([]int, n)
	for i := 2; i <= n; i++ {
		// Block 0 stays a uniformly random permutation: Fisher and Yates from the inside out. Groups of
		// few members live in it alone, and all groups together must load all backends alike.
		x := mix(hash^uint64(i)*0x9e37) % uint64(i)
		table[i-1] = table[x]
		table[x] = uint16(i - 1)
		for from := i; from+i <= size; from += i {
			block := table[from : from+i]
			start := int(mix(hash^uint64(i)<<40^uint64(from)) % uint64(i))
			admit(block, start, present[:i], spare)
		}
	}
	return table[:k]
}

// admit makes a block a permutation of its backends, the last of which is new: every backend keeps one
// of the seats that it has there, the first from start on, and the others go to those who have none,
// the new one first. present and spare are memory for as many as the block is long.
func admit(block []uint16, start int, present []bool, spare []int) {
	clear(present)
	spare = spare[:0]
	for k := range block {
		q := (k + start) % len(block)
		if present[block[q]] {
			spare = append(spare, q)
		}
		present[block[q]] = true
	}
	for owner, next := len(block)-1, 0; next < len(spare); owner-- {
		if !present[owner] {
			block[spare[next]] = uint16(owner)
			next++
		}
	}
}

func roundUp(x, unit int) int { return (x + unit - 1) / unit * unit }
