package proxy

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"
)

func TestSlabFindsOnlyLiveSessions(t *testing.T) {
	t.Parallel()
	var b slab
	live := make(map[*session]struct{})
	type name struct{ index, generation uint32 }
	var dead []name
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		if len(live) < 10 || rng.IntN(100) < 52 {
			s := b.take()
			s.state = stateReading
			if _, twice := live[s]; twice {
				t.Fatal("a slot was handed out twice")
			}
			live[s] = struct{}{}
			continue
		}
		for s := range live {
			dead = append(dead, name{s.index, s.generation})
			b.give(s)
			delete(live, s)
			break
		}
	}
	if b.open != len(live) {
		t.Errorf("got %d open, want %d", b.open, len(live))
	}
	for s := range live {
		if got := b.find(s.index, s.generation&generationMask); got != s {
			t.Fatalf("a live session is not found by its name")
		}
	}
	for _, n := range dead {
		if b.find(n.index, n.generation&generationMask) != nil {
			t.Fatalf("an ended session is still found")
		}
	}
	if b.find(1<<31, 1) != nil {
		t.Error("an index that never was is found")
	}
}

func TestPoolAccountsForEveryByte(t *testing.T) {
	t.Parallel()
	var p pool
	rng := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		var b *buffer
		var want []byte
		for range rng.IntN(8) + 1 {
			more := make([]byte, rng.IntN(100_000))
			for i := range more {
				more[i] = byte(rng.Uint32())
			}
			b = p.add(b, more)
			want = append(want, more...)
			drop := rng.IntN(len(want) + 1)
			b.from += drop
			want = want[drop:]
			if !bytes.Equal(b.bytes(), want) {
				t.Fatal("the buffer does not hold what was added")
			}
		}
		p.put(b)
		if p.lent != 0 {
			t.Fatalf("got %d bytes still lent, want 0", p.lent)
		}
	}
}

func TestTokenRoundTrip(t *testing.T) {
	t.Parallel()
	for _, k := range []kind{kindClient, kindBackend, kindListener, kindWake} {
		for _, generation := range []uint32{0, 1, 77, generationMask, generationMask + 5} {
			for _, index := range []uint32{0, 1, 1 << 20, 1<<32 - 1} {
				gotKind, gotGeneration, gotIndex := untoken(token(k, generation, index))
				if gotKind != k || gotGeneration != generation&generationMask || gotIndex != index {
					t.Errorf("token(%d,%d,%d) reads back as %d,%d,%d", k, generation, index, gotKind, gotGeneration, gotIndex)
				}
			}
		}
	}
}

// A session is what an idle connection costs. Whoever makes it larger should know.
func TestSessionIsSmall(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(session{}); size > 416 {
		t.Errorf("a session has %d bytes, want at most 416", size)
	}
}
