//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// moment is long enough for mqttlb to do something that it must not do.
const moment = 3 * time.Millisecond

func TestConnectSplitAnywhereReachesTheBrokerWhole(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	for _, version := range []byte{v31, v311, v5} {
		whole := opening{id: "split", version: version, username: "somebody"}.bytes()
		for at := 1; at < len(whole); at++ {
			c := dial(t, l.address, "")
			send(t, c, whole[:at])
			broker.quiet(t, moment) // nothing reaches a broker before CONNECT is complete
			send(t, c, whole[at:])
			b := broker.accept(t)
			expect(t, b, whole)
			c.Close()
			expectFIN(t, b, patience)
			b.Close()
		}
	}
}

func TestConnectInSingleBytesReachesTheBrokerWhole(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	whole := opening{id: "single", version: v5, username: strings.Repeat("u", 200)}.bytes()
	c := dial(t, l.address, "")
	for i := range whole {
		if i > 0 {
			broker.quiet(t, moment)
		}
		send(t, c, whole[i:i+1])
	}
	expect(t, broker.accept(t), whole)
}

func TestWhatIsPipelinedBehindConnectFollowsInOrder(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	subscribe := packet(0x82, append(text([]byte{0, 1}, "e2e/#"), 0))
	for _, size := range []int{0, 1, 1000, 60 << 10, 300 << 10, 2 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			whole := slices.Concat(opening{id: "eager"}.bytes(), subscribe,
				publish("e2e", bytes.Repeat([]byte{'x'}, size)), []byte{0xc0, 0})
			c := dial(t, l.address, "")
			both(t, func() error { _, err := c.Write(whole); return err }, func() error {
				expect(t, broker.accept(t), whole)
				return nil
			})
		})
	}
}

func TestConnectMayBeAsLargeAsConfigured(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: "limits: {connect_size: 32KiB}"})
	largest := opening{id: "large", username: strings.Repeat("u", 32<<10-len(opening{id: "large"}.bytes())-4)}
	if n := len(largest.bytes()); n != 32<<10 {
		t.Fatalf("the test's packet has %d bytes", n)
	}
	s := open(t, l, broker, largest)
	s.client.Close()

	largest.username += "u"
	c := dial(t, l.address, "")
	_, _ = c.Write(largest.bytes()) // mqttlb may close before it has read everything
	expectClosed(t, c, patience)
	broker.quiet(t, moment)
	l.refused(t, "connect_size")
}

// The times below are those of connect_timeout with what a busy machine adds.
func TestConnectThatNeverEndsIsClosedAtTheTimeout(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: "limits: {connect_timeout: 1s}"})
	whole := opening{id: "endless", username: strings.Repeat("u", 200)}.bytes()

	t.Run("stops_midway", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		c := dial(t, l.address, "")
		send(t, c, whole[:20])
		expectClosed(t, c, 5*time.Second)
		between(t, time.Since(began), 900*time.Millisecond, 1600*time.Millisecond)
	})
	t.Run("dribbles", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		c := dial(t, l.address, "")
		go func() {
			for i := range whole {
				if _, err := c.Write(whole[i : i+1]); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond) // each byte in time, the whole not
			}
		}()
		expectClosed(t, c, 5*time.Second)
		between(t, time.Since(began), 900*time.Millisecond, 1600*time.Millisecond)
	})
	t.Run("is_silent", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		c := dial(t, l.address, "")
		expectClosed(t, c, 10*time.Second)
		// The kernel holds a connection back until its first byte or for up to 3 s (TCP_DEFER_ACCEPT).
		between(t, time.Since(began), 900*time.Millisecond, 4600*time.Millisecond)
	})
	t.Cleanup(func() {
		l.refused(t, "connect_timeout")
		broker.quiet(t, moment)
	})
}

func between(t *testing.T, got, least, most time.Duration) {
	t.Helper()
	if got < least || got > most {
		t.Errorf("took %v, want %v to %v", got.Round(time.Millisecond), least, most)
	}
}
