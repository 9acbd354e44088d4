package proxy

import (
	"fmt"
	"testing"
	"time"
)

const second = int64(time.Second)

func TestClientIDHasItsRate(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.2, 1, 5} {
		c, passed := newClients(), 0
		for now := 100 * second; now < 160*second; now += second / 50 { // in a loop, 20 ms apart
			if c.claim(now, "loop", rate, 0) == "" {
				passed++
				c.release(now, "loop")
			}
		}
		if most := 60*rate + max(clientBurst, rate); float64(passed) > most || float64(passed) < 60*rate-1 {
			t.Errorf("rate %v: got %d in a minute, want %v to %v", rate, passed, 60*rate-1, most)
		}
		if c.claim(160*second, "another", rate, 0) != "" {
			t.Errorf("rate %v: another client is refused", rate)
		}
	}
}

func TestClientIDHasSoManyConnections(t *testing.T) {
	t.Parallel()
	c := newClients()
	for i := range 3 {
		if why := c.claim(0, "x", 0, 3); why != "" {
			t.Fatalf("connection %d was refused: %s", i, why)
		}
	}
	if why := c.claim(0, "x", 0, 3); why != RefusedClientConnections {
		t.Errorf("got %q for the fourth, want %q", why, RefusedClientConnections)
	}
	c.release(0, "x")
	if why := c.claim(0, "x", 0, 3); why != "" {
		t.Errorf("got %q after one has left, want none", why)
	}
}

// TestClientsAreForgotten when nothing depends on them any more, and the oldest of them when there are too many.
func TestClientsAreForgotten(t *testing.T) {
	t.Parallel()
	c := newClients()
	c.claim(0, "stays", 1, 0)
	for i := range maxIdle + 1000 {
		id := fmt.Sprint(i)
		c.claim(0, id, 1, 0)
		c.release(0, id)
	}
	if len(c.known) != maxIdle+1 || c.idle != maxIdle {
		t.Errorf("got %d known and %d idle, want %d and %d", len(c.known), c.idle, maxIdle+1, maxIdle)
	}
	c.claim(5*second, "last", 1, 0)
	c.release(7*second, "last")
	if len(c.known) != 1 || c.idle != 0 {
		t.Errorf("got %d known and %d idle, want the one that is connected", len(c.known), c.idle)
	}
	c.release(7*second, "stays")
	c.release(7*second, "stays") // which cannot be
	if len(c.known) != 0 || c.oldest != nil || c.newest != nil {
		t.Errorf("got %d known, want none", len(c.known))
	}
}

func TestContestedClientID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		every time.Duration
		from  []int // addresses, in turn
		want  bool
	}{
		{"two take turns", time.Second, []int{1, 2}, true},
		{"two, not every time", time.Second, []int{1, 1, 2, 2, 2}, true},
		{"one in a loop", 10 * time.Millisecond, []int{1}, false},
		{"from network to network", 15 * time.Second, []int{1, 2, 3}, false},
	} {
		all, found := &newAdmission(1).contests, false
		for i := range 40 {
			found = all.see(int64(i)*int64(c.every), "id", address(c.from[i%len(c.from)])) || found
		}
		if found != c.want {
			t.Errorf("%s: got contested %v, want %v", c.name, found, c.want)
		}
	}
}
