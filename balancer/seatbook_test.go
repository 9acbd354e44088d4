package balancer

import (
	"fmt"
	"testing"
)

// However many leases end at once, a call clears a thousand of them away, and besides all of the group that it is about:
// no decision counts a seat that nobody has any more.
func TestLeasesEndLittleByLittle(t *testing.T) {
	t.Parallel()
	const groups, size = 50, 100
	b := newTestBrain(t, BrainOptions{Groups: GroupOptions{Hold: 30 * second}}, 0, "a", "b", "c")
	type seat struct {
		c  Client
		at string
	}
	var all []seat
	for k := range groups * size {
		c := Client{ID: fmt.Sprint("c", k), Group: fmt.Sprint("g", k%groups), Ordinal: -1}
		all = append(all, seat{c, placeNamed(b, c, 0)})
	}
	for _, s := range all {
		b.Release(s.c, s.at, Left, 0)
	}
	book, left := &b.groups.book, groups*size
	after := func(what string, at int, call func()) {
		t.Helper()
		call()
		if got := len(book.members); got < left-maxSweep-size || got > left {
			t.Errorf("%s: got %d members, after %d before", what, got, left)
		}
		left = len(book.members)
		if now := fmt.Sprint("g", at); book.groups[now] != nil {
			for m := book.groups[now].leases.first; m != nil; m = m.links[byGroupLease].next {
				t.Errorf("%s: %s of %s still has its seat", what, m.id, now)
			}
		}
	}
	now := 30 * second
	if repair := b.groups.Repair(b.snapshot, b.seats, now-1); len(repair) > 0 {
		t.Errorf("got %v for groups that are even", repair)
	}
	// The last of a group comes back: its lease has ended, though it is not its turn to be cleared away.
	after("a member returns", 49, func() {
		if _, why := b.Place(all[len(all)-1].c, nil, now); why.Cause != Emptiest {
			t.Errorf("got %v for a member whose lease has ended", why)
		}
	})
	after("a repair", -1, func() {
		if repair := b.groups.Repair(b.snapshot, b.seats, now); repair != nil {
			t.Errorf("got %v while seats are being cleared away", repair)
		}
	})
	after("a view", 48, func() {
		if v, known := b.Group("g48", now); known {
			t.Errorf("got %+v of a group without members", v)
		}
	})
	for range size * 2 { // the group is dealt as if it were new
		c := Client{ID: fmt.Sprint("new", len(all)), Group: "g47", Ordinal: -1}
		all = append(all, seat{c, placeNamed(b, c, now)})
	}
	for v := range b.AllGroups(now) {
		if v.Away > 0 || v.Name == "g47" && v.Spread > 1 || v.Name != "g47" && v.Name != "g49" {
			t.Errorf("got %+v", *v)
		}
	}
	if groups, members := b.groups.Len(); groups != 2 || members != 2*size+1 {
		t.Errorf("got %d groups, %d members in the end", groups, members)
	}
	checkBook(t, b.groups)
}
