package admin

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/mqttlb/mqttlb/cluster"
)

// publish tells the hub n events, which are numbered in From.
func publish(h *Hub, from, n int) {
	for i := range n {
		h.Publish(cluster.Event{Kind: "eviction", From: fmt.Sprint(from + i)})
	}
}

// Whatever the order in which events come and listeners read, every listener gets every event exactly once and in
// order, or is told exactly how many it has missed: those that are no longer among the latest keptEvents.
func TestHubAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := NewHub()
		published := r.IntN(2 * keptEvents)
		publish(h, 0, published)
		type listener struct {
			at   uint64 // in the hub
			next int    // event that it should get
		}
		listeners := make([]listener, 3)
		for i := range listeners {
			listeners[i] = listener{h.position(), published}
		}
		for range 100 {
			n := r.IntN(1 + r.IntN(keptEvents))
			publish(h, published, n)
			published += n
			l := &listeners[r.IntN(len(listeners))]
			buffer := make([]cluster.Event, 1+r.IntN(keptEvents))
			got, first, news := h.since(l.at, buffer)
			want := max(l.next, published-keptEvents)
			if missed := int(first - l.at); missed != want-l.next {
				t.Fatalf("seed %d: got %d missed, want %d", seed, missed, want-l.next)
			}
			if got != min(len(buffer), published-want) || (news != nil) != (got == 0) {
				t.Fatalf("seed %d: got %d events and news %v, want %d", seed, got, news, min(len(buffer), published-want))
			}
			for i := range got {
				if buffer[i].From != fmt.Sprint(want+i) {
					t.Fatalf("seed %d: got event %s, want %d", seed, buffer[i].From, want+i)
				}
			}
			l.at, l.next = first+uint64(got), want+got
		}
	}
}

func TestHubWakesAll(t *testing.T) {
	t.Parallel()
	h := NewHub()
	var woken sync.WaitGroup
	for range 5 {
		_, _, news := h.since(h.position(), make([]cluster.Event, 1))
		woken.Go(func() { <-news })
	}
	publish(h, 0, 1)
	woken.Wait()
}

func TestHubResume(t *testing.T) {
	t.Parallel()
	h := NewHub()
	if got := h.resume(5); got != h.begin {
		t.Errorf("heard an earlier process: got %d, want all of this one, from %d", got, h.begin)
	}
	publish(h, 0, 10)
	for _, test := range []struct{ heard, want uint64 }{
		{5, h.begin}, {h.begin - 1, h.begin}, {h.begin, h.begin + 1}, {h.next - 1, h.next}, {h.next, h.next}, {1<<64 - 1, h.next},
	} {
		if got := h.resume(test.heard); got != test.want {
			t.Errorf("heard %d: got %d, want %d", test.heard, got, test.want)
		}
	}
	publish(h, 10, 2*keptEvents)
	if got := h.resume(h.begin + 3); got != h.begin+4 {
		t.Errorf("heard what is forgotten: got %d, want %d, so that it is told what it has missed", got, h.begin+4)
	}
}

func TestHubCutsIDs(t *testing.T) {
	t.Parallel()
	h := NewHub()
	at := h.position()
	h.Publish(cluster.Event{ClientID: strings.Repeat("x", maxClientID)})
	h.Publish(cluster.Event{ClientID: strings.Repeat("x", maxEventID)})
	buffer := make([]cluster.Event, 2)
	h.since(at, buffer)
	for _, e := range buffer {
		if len(e.ClientID) != maxEventID {
			t.Errorf("got an id of %d bytes, want %d", len(e.ClientID), maxEventID)
		}
	}
}
