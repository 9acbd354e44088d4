package proxy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// address is the source address of this number.
func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

// TestQueueAgainstAModel lets sessions come, leave and pass at random and compares with a dumb model: a list for each
// address, from which only the first pass and only the last are sent away.
func TestQueueAgainstAModel(t *testing.T) {
	t.Parallel()
	const loops, room = 3, 40
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 1))
		q := newQueue(loops)
		q.configure(100, room)
		lines := make(map[netip.Addr][]*ticket)
		settled := make(map[int]bool)
		now := int64(0)
		for n := 1; n < 3000; n++ {
			now += int64(rng.IntN(8)) * int64(time.Millisecond)
			switch a := address(rng.IntN(6)); rng.IntN(10) {
			case 0:
				if line := lines[a]; len(line) > 0 {
					i := rng.IntN(len(line))
					q.leave(line[i])
					settled[int(line[i].index)] = true
					lines[a] = slices.Delete(line, i, i+1)
				}
			case 1, 2, 3:
				loop := rng.IntN(loops)
				for _, v := range q.fetch(now, loop, nil) {
					if i := int(v.index); i%loops != loop || settled[i] {
						t.Fatalf("seed %d: got a verdict about %d for loop %d, want one of its own that waits", seed, i, loop)
					}
					settled[int(v.index)] = true
				}
			default:
				passes, ticket := q.enter(now, a, ticket{loop: n % loops, index: uint32(n)})
				if passes && len(lines) > 0 {
					t.Fatalf("seed %d: %d passed while others waited", seed, n)
				}
				if ticket != nil {
					lines[a] = append(lines[a], ticket)
				}
			}
			waiting := 0
			for a, line := range lines {
				still := slices.DeleteFunc(slices.Clone(line), func(k *ticket) bool { return k.line == nil })
				if i := slices.IndexFunc(line, func(k *ticket) bool { return k.line != nil }); i >= 0 && !slices.Equal(line[i:i+len(still)], still) {
					t.Fatalf("seed %d: somebody in the middle of a line was chosen", seed)
				}
				if waiting += len(still); len(still) == 0 {
					delete(lines, a)
					continue
				}
				lines[a] = still
			}
			if q.waiting != waiting || waiting > room || len(q.lines) != len(lines) {
				t.Fatalf("seed %d: got %d waiting in %d lines, want %d in %d", seed, q.waiting, len(q.lines), waiting, len(lines))
			}
		}
	}
}

// pass lets time go by until n have passed, and returns when each did.
func pass(q *queue, now int64, n int) (order []uint32, at []int64) {
	for ; len(order) < n; now += admitPause {
		for _, v := range q.fetch(now, 0, nil) {
			if v.passes {
				order, at = append(order, v.index), append(at, now)
			}
		}
	}
	return order, at
}

// TestQueueKeepsToItsRate, whatever span one looks at.
func TestQueueKeepsToItsRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.5, 1, 7, 500, 20_000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			t.Parallel()
			n := min(max(int(10*rate), 5), 20_000)
			q := newQueue(1)
			q.configure(rate, 2*n)
			var at []int64
			for i := range n {
				if passes, _ := q.enter(int64(time.Hour), address(1), ticket{index: uint32(i)}); passes {
					at = append(at, int64(time.Hour))
				}
			}
			_, later := pass(q, int64(time.Hour), n-len(at))
			at = append(at, later...)
			first := 0
			for last := range at {
				for at[last]-at[first] >= int64(time.Second) {
					first++
				}
				if got, most := float64(last-first+1), rate*1.1+1; got > most {
					t.Fatalf("got %v in a second, want at most %v", got, most)
				}
			}
			if took, want := time.Duration(at[n-1]-at[0]).Seconds(), float64(n)/rate; took > 1.05*want+0.1 {
				t.Errorf("took %v s for %d, want %v", took, n, want)
			}
		})
	}
}

// TestQueueIsFairToQuietAddresses: one that comes late, behind a thousand of another address, is among the next.
func TestQueueIsFairToQuietAddresses(t *testing.T) {
	t.Parallel()
	q := newQueue(1)
	q.configure(100, 5000)
	for i := range 1000 {
		q.enter(0, address(1), ticket{index: uint32(i)})
	}
	for i := range 3 {
		q.enter(0, address(2+i), ticket{index: uint32(5000 + i)})
	}
	order, _ := pass(q, 0, 5)
	late := 0
	for _, i := range order {
		if i >= 5000 {
			late++
		}
	}
	if late != 3 {
		t.Errorf("got %v, want the three others among the first five", order)
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:1")
	if origin(a) != origin(b) || origin(a) == origin(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("got other lines than one for each IPv6 network")
	}
}

// TestFullQueueGivesWayToQuietAddresses: the noisy address loses a place, not the quiet one its chance.
func TestFullQueueGivesWayToQuietAddresses(t *testing.T) {
	t.Parallel()
	const room = 100
	q := newQueue(1)
	q.configure(1, room)
	q.tokens = 0
	for i := range room {
		if _, ticket := q.enter(0, address(1), ticket{index: uint32(i)}); ticket == nil {
			t.Fatal("got no place, want room for all")
		}
	}
	if _, ticket := q.enter(0, address(1), ticket{index: 500}); ticket != nil {
		t.Error("the noisy address got one more place")
	}
	for i := range room/2 - 1 {
		if _, ticket := q.enter(0, address(2), ticket{index: uint32(1000 + i)}); ticket == nil {
			t.Fatalf("the quiet address got %d places, want half of them", i)
		}
	}
	for i, v := range q.fetch(0, 0, nil) {
		if v.passes || v.index != uint32(room-1-i) {
			t.Fatalf("got verdict %+v, want the last of the noisy address sent away first", v)
		}
	}
	if q.waiting != room {
		t.Errorf("got %d waiting, want %d", q.waiting, room)
	}
}

// TestQueueWithoutALimit: a reload that takes the limit away lets everybody in.
func TestQueueWithoutALimit(t *testing.T) {
	t.Parallel()
	q := newQueue(2)
	q.configure(1, 10)
	for i := range 5 {
		q.enter(0, address(i), ticket{loop: 1, index: uint32(i)})
	}
	q.configure(0, 10)
	if got := len(q.fetch(0, 1, nil)); got != 4 {
		t.Errorf("got %d, want the 4 that waited", got)
	}
	if passes, _ := q.enter(0, address(1), ticket{}); !passes {
		t.Error("somebody has to wait, want nobody")
	}
}
