package balancer

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The twin is a slice, the client that would be forgotten first in front.
func TestLearnedAgainstTwin(t *testing.T) {
	t.Parallel()
	type pair struct{ id, group string }
	random := rand.New(rand.NewPCG(1, 1))
	l := NewLearned(8)
	var twin []pair
	for step := range 5000 {
		id, group := strconv.Itoa(random.IntN(14)), "g"+strconv.Itoa(random.IntN(3))
		at := slices.IndexFunc(twin, func(p pair) bool { return p.id == id })
		known := pair{}
		if at >= 0 {
			known = twin[at]
		}
		switch random.IntN(8) {
		case 0:
			l.Forget(id)
			if at >= 0 {
				twin = slices.Delete(twin, at, at+1)
			}
		case 1, 2:
			if got := l.Peek(id); got != known.group {
				t.Fatalf("step %d: peek %s: got %q, want %q", step, id, got, known.group)
			}
		case 3, 4:
			if got := l.Group(id); got != known.group {
				t.Fatalf("step %d: %s: got %q, want %q", step, id, got, known.group)
			}
			if at >= 0 {
				twin = append(slices.Delete(twin, at, at+1), known)
			}
		default:
			l.Learn(id, group)
			if at >= 0 {
				twin = slices.Delete(twin, at, at+1)
			} else if len(twin) == 8 {
				twin = twin[1:]
			}
			twin = append(twin, pair{id, group})
		}
		var got []pair
		again := NewLearned(8)
		for id, group := range l.All() {
			got = append(got, pair{id, group})
			again.Learn(id, group)
		}
		if !slices.Equal(got, twin) || l.Len() != len(twin) {
			t.Fatalf("step %d: got %v (%d), want %v", step, got, l.Len(), twin)
		}
		l = again // a memory that was written down and read again is the same
	}
}

func TestLearnedLimits(t *testing.T) {
	t.Parallel()
	l := NewLearned(0)
	l.Learn("", "g")
	l.Learn("a", "")
	l.Learn(strings.Repeat("a", maxName+1), "g")
	l.Learn("a", strings.Repeat("g", maxName+1))
	if l.Len() != 0 {
		t.Errorf("got %v, want nothing", maps.Collect(l.All()))
	}
	l.Learn("a", "g")
	l.Learn("b", "h")
	if got := maps.Collect(l.All()); !maps.Equal(got, map[string]string{"b": "h"}) {
		t.Errorf("got %v, want only the last", got)
	}
	for range l.All() {
		break // a reader may stop
	}
}

func TestLearnedDoesNotAllocate(t *testing.T) {
	l := NewLearned(100)
	ids := make([]string, 100)
	for k := range ids {
		ids[k] = strconv.Itoa(k)
		l.Learn(ids[k], "g")
	}
	k := 0
	if n := testing.AllocsPerRun(1000, func() {
		l.Learn(ids[k], "h")
		l.Group(ids[(k+50)%len(ids)])
		k = (k + 1) % len(ids)
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
