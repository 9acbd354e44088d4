//go:build linux

package e2e

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Fault R3: a flood that takes memory, against a limit of memory. New clients are refused, those without a CONNECT
// closed; who is connected notices nothing, and afterwards all is as before.
//
// Not parallel: it looks at memory.
func TestFaultR3MemoryRunsOut(t *testing.T) {
	const limit = 40 << 20
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, log: quietly, memory: "40MiB"})
	resident := open(t, l, broker, opening{id: "resident"})

	// Each holds back the last byte of a long CONNECT.
	packet := opening{id: "flood", username: strings.Repeat("x", 60_000)}.bytes()
	var stop atomic.Bool
	var ended, begun atomic.Int64
	ending := make(chan struct{})
	const floods = 40
	for range floods {
		go func() {
			for !stop.Load() {
				c, err := net.DialTimeout("tcp", l.address, time.Second)
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				time.Sleep(20 * time.Millisecond)
				if _, err := c.Write(packet[:len(packet)-1]); err == nil {
					begun.Add(1)
					go func() { // it stays until it is closed
						defer c.Close()
						_ = c.SetReadDeadline(time.Now().Add(8 * time.Second))
						_, _ = c.Read(make([]byte, 1))
					}()
				} else {
					c.Close()
				}
			}
			if ended.Add(1) == floods {
				close(ending)
			}
		}()
	}
	most := 0
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		most = max(most, l.rss(t))
		send(t, resident.client, publish("a", []byte("still here")))
		expect(t, resident.broker, publish("a", []byte("still here")))
	}
	why := l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="memory"}`)
	stop.Store(true)
	<-ending
	t.Logf("%d openings of 60 KB; %.0f refused for want of memory; at most %d KiB resident, %d KiB is the limit", begun.Load(), why, most>>10, limit>>10)
	if why == 0 {
		t.Error("nobody was refused for want of memory")
	}
	if most > memory(limit+40<<20) { // the program itself is 25 MiB, and does not count towards GOMEMLIMIT
		t.Errorf("mqttlb took %d KiB", most>>10)
	}
	l.log.wait(t, 0, patience, "the pressure", func(line string) bool {
		r := parseRecord(line)
		return r["pressure"] != "" && strings.Contains(r["msg"], "new clients are refused")
	})
	inTime(t, patience, "clients are served again", func() bool {
		c := dial(t, l.address, "")
		defer c.Close()
		if _, err := c.Write(opening{id: "afterwards"}.bytes()); err != nil {
			return false
		}
		select {
		case b := <-broker.conns:
			b.Close()
			return true
		case <-time.After(200 * time.Millisecond):
			return false
		}
	})
}
