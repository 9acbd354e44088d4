//go:build linux

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Fault E5, with a limit in front of the brokers: five thousand clients that all come again at once arrive at the
// pace that the brokers can bear. Nobody waits longer than clients do, and everybody is back in time. The same storm
// without the limit, first, is what the brokers are spared.
//
// Not parallel: it takes the machine for itself.
func TestFaultE5ReconnectStormThroughALimit(t *testing.T) {
	descriptors(t, 20_000)
	const clients, rate, wait = 5000, 500, 5 * time.Second
	brokers := halls(t, 2)
	set := settings{backends: []backend{brokers[0].backend(), brokers[1].backend()}, log: quietly}
	l := startLB(t, set)
	s := swarmOf(t, l, clients, manners{prefix: "hasty", delay: atOnce})
	storm := func() (came []time.Time, took time.Duration, most int) {
		began, before := time.Now(), s.returns()
		s.again()
		inTime(t, time.Minute, "everybody is back", func() bool {
			most = max(most, l.rss(t))
			return s.returns() >= before+clients && s.present() == clients
		})
		for _, b := range brokers {
			came = append(came, b.came(began)...)
		}
		return came, time.Since(began), most
	}

	came, took, usual := storm()
	t.Logf("without a limit: all are back after %v, at most %d CONNECTs within a second, %d MiB", took, rush(came, time.Second), usual>>20)

	set.listener = fmt.Sprintf("limits: {connects: %d/s, connect_wait: %v}", rate, wait)
	reload(t, l, set, reloaded)
	began := time.Now()
	came, took, most := storm()
	within1, within5 := rush(came, time.Second), rush(came, 5*time.Second)
	longest := slices.Max(waits(s.happened(), began))
	t.Logf("with a limit of %d/s: all are back after %v, at most %d CONNECTs within a second and %d within five, nobody waited longer than %v, %d MiB, %v were refused",
		rate, took, within1, within5, longest, most>>20, l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="connect_rate"}`))
	const late = 0.25 // seconds that an arrival may be noted late on a busy machine
	if most := 1.1 * rate * (1 + late); float64(within1) > most {
		t.Errorf("the brokers saw %d CONNECTs within a second, want at most %.0f", within1, most)
	}
	if within5 > 5*rate*11/10 {
		t.Errorf("the brokers saw %d CONNECTs within five seconds, want at most %d", within5, 5*rate*11/10)
	}
	if took > 15*time.Second {
		t.Errorf("it took %v until everybody was back, want at most 15 s", took)
	}
	if longest > wait+time.Second {
		t.Errorf("a client waited %v for CONNACK, want at most %v", longest, wait)
	}
	if most > usual+memory(20<<20) {
		t.Errorf("memory grew from %d to %d MiB", usual>>20, most>>20)
	}
	if n := l.metric(t, `mqttlb_connects_waiting{listener="mqtt"}`); n != 0 {
		t.Errorf("%v are still waiting", n)
	}
}

// waits are how long clients waited for the CONNACK that they got: each from CONNECT.
func waits(notes []note, since time.Time) []time.Duration {
	var list []time.Duration
	asked := make(map[string]time.Time)
	for _, n := range notes {
		switch {
		case n.what == knocks:
			asked[n.id] = n.at
		case n.what == back && n.at.After(since):
			list = append(list, n.at.Sub(asked[n.id]))
		}
	}
	return list
}

func TestAClientThatReconnectsInALoopIsHeldToItsRate(t *testing.T) {
	t.Parallel()
	const others = 50
	broker := openHall(t, "a", loopback(t))
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: "limits: {connects_per_client: 1/s}"})
	began := time.Now()
	var stop atomic.Bool
	ended := make(chan int)
	go func() {
		tries := 0
		for ; !stop.Load(); tries++ {
			c, err := net.Dial("tcp", l.address)
			if err != nil {
				continue
			}
			_, _ = c.Write(opening{id: "loop"}.bytes())
			_, _ = c.Read(make([]byte, 16))
			c.Close()
		}
		ended <- tries
	}()
	for i := range others {
		asked := time.Now()
		connect(t, l, opening{id: fmt.Sprint("calm-", i)}, "")
		if took := time.Since(asked); took > 2*time.Second {
			t.Errorf("client %d waited %v for CONNACK", i, took)
		}
		time.Sleep(60 * time.Millisecond)
	}
	stop.Store(true)
	tries, lasted := <-ended, time.Since(began)
	looped := 0
	broker.mu.Lock()
	for _, a := range broker.arrivals {
		if a.id == "loop" {
			looped++
		}
	}
	broker.mu.Unlock()
	t.Logf("of %d CONNECTs within %v the broker saw %d", tries, lasted, looped)
	if most := int(lasted.Seconds()) + 3; looped < 2 || looped > most || tries < 2*most {
		t.Errorf("the broker saw %d of %d CONNECTs, want 2 to %d of many more", looped, tries, most)
	}
	if r := l.refused(t, "client_rate"); r["end"] != "limit" || r["client"] != "loop" {
		t.Errorf("logged %v", r)
	}
	if n := l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="client_rate"}`); int(n) < tries-looped-1 {
		t.Errorf("%v were counted, want %d", n, tries-looped)
	}
	if n := strings.Count(l.log.String(), "refused=client_rate"); n > 10*(int(lasted.Seconds())+2) {
		t.Errorf("%d lines were logged within %v, want at most 10 per second", n, lasted)
	}
}

func TestTwoDevicesWithOneClientIDAreNoticed(t *testing.T) {
	t.Parallel()
	broker := openHall(t, "a", loopback(t))
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	for i := range 20 {
		connect(t, l, opening{id: "twins\n"}, fmt.Sprint("127.0.0.", 2+i%2)).Close()
	}
	r := l.logged(t, 0, "two devices take one client id from each other; give each its own")
	if r["client"] != "twins\n" || r["listener"] != "mqtt" {
		t.Errorf("logged %v", r)
	}
	if n := l.metric(t, `mqttlb_takeovers_total{listener="mqtt"}`); n < 10 {
		t.Errorf("%v takeovers were counted", n)
	}
}

// Fault P3: thousands of connections begin a CONNECT and do not go on. There are never more of them than may be, the
// oldest ones go, and whoever means it comes in.
//
// Not parallel: it looks at memory.
func TestFaultP3SilentConnections(t *testing.T) {
	descriptors(t, 20_000)
	const silent, files = 15_000, 10_000
	const most = (files - 100) / 2 / 10 // a tenth of the sessions that the descriptors allow for
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, files: files, log: quietly})
	connect(t, l, opening{id: "before"}, "").Close()
	before, open := l.rss(t), l.descriptors(t)
	for i := range silent {
		c := dial(t, l.address, "")
		send(t, c, opening{id: "silent"}.bytes()[:9])
		if i%1000 == 999 {
			asked := time.Now()
			connect(t, l, opening{id: fmt.Sprint("means-it-", i)}, "").Close()
			if took := time.Since(asked); took > 2*time.Second {
				t.Errorf("a client waited %v for CONNACK", took)
			}
			if n := l.descriptors(t) - open; n > most+20 {
				t.Errorf("mqttlb holds %d connections, want at most %d", n, most)
			}
		}
	}
	if grown := l.rss(t) - before; grown > memory(20<<20) {
		t.Errorf("memory grew by %d KiB", grown>>10)
	}
	if n := l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="pending_connections"}`); n < silent-most-20 {
		t.Errorf("%v connections had to go, want nearly %d", n, silent-most)
	}
}
