//go:build linux

package e2e

import (
	"fmt"
	"net"
	"testing"
)

// Not parallel: it takes the machine for itself.
func TestManySessionsLeaveNothingBehind(t *testing.T) {
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	const sessions, waves = 2000, 3
	wave := func(n int) {
		var clients []*net.TCPConn
		for i := range n {
			clients = append(clients, connect(t, l, opening{id: fmt.Sprint("wave-", i), version: byte(3 + i%3)}, ""))
		}
		present := 0
		for _, b := range brokers {
			present += b.present()
		}
		if present != n {
			t.Errorf("the brokers have %d connections, want %d", present, n)
		}
		for i, c := range clients {
			if i%3 == 0 {
				reset(t, c)
			} else {
				c.Close()
			}
		}
	}
	idle := l.descriptors(t)
	var rss []int
	for range waves {
		wave(sessions)
		eventually(t, patience, "all descriptors are given back", func() bool { return l.descriptors(t) == idle })
		for _, b := range brokers {
			eventually(t, patience, "the brokers are alone", func() bool { return b.present() == 0 })
		}
		rss = append(rss, l.rss(t)>>10)
	}
	if first, last := rss[0], rss[waves-1]; last > first+first/2 {
		t.Errorf("memory after each wave: %v KiB", rss)
	}
}
