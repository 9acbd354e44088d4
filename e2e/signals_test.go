//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestStoppingEndsSessionsEvenly(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: "{grace: 500ms, drain: 2s}"})
	const sessions = 300
	var clients []*net.TCPConn
	for i := range sessions {
		clients = append(clients, connect(t, l, opening{id: fmt.Sprint("calm-", i)}, ""))
	}
	began := time.Now()
	ends := make([]time.Duration, sessions)
	var waiting sync.WaitGroup
	for i, c := range clients {
		waiting.Go(func() {
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("client %d: %v, want FIN", i, err)
			}
			ends[i] = time.Since(began)
			c.Close()
		})
	}
	l.signal(t, syscall.SIGTERM)
	late := connect(t, l, opening{id: "late"}, "") // within the grace, clients still come in
	late.Close()
	if status := l.exit(t, 8*time.Second); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	waiting.Wait()
	var quarters [4]int
	for _, end := range ends {
		if end < 400*time.Millisecond {
			t.Errorf("a session ended %v after the signal, within the grace", end)
			continue
		}
		quarters[min(3, (end-500*time.Millisecond)/(500*time.Millisecond))]++
	}
	for _, n := range quarters {
		if n < sessions/20 || n > sessions*3/5 { // each waits for a moment between two packets
			t.Errorf("sessions that ended in each quarter of the drain: %v, want them even", quarters)
			break
		}
	}
}

func TestStoppingRefusesNewClientsAfterTheGrace(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: "{grace: 100ms, drain: 5s}"})
	for i := range 100 {
		connect(t, l, opening{id: fmt.Sprint("calm-", i)}, "")
	}
	l.signal(t, syscall.SIGTERM)
	l.logged(t, 0, "ending sessions")
	if c, err := net.DialTimeout("tcp", l.address, time.Second); err == nil {
		c.Close()
		t.Error("the listener is still open while sessions are ended")
	}
}

// Bytes that are under way when mqttlb stops arrive.
func TestStoppingLosesNoBytes(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: "{grace: 0s, drain: 1s}"})
	s := open(t, l, broker, opening{id: "busy"})
	down := pour(1, s.broker, s.client)
	down.stall(t)
	l.signal(t, syscall.SIGTERM)
	expectFIN(t, s.broker, patience)
	if err := down.drain(); err != nil {
		t.Error(err)
	}
	l.exit(t, 8*time.Second)
}

func TestASecondSignalStopsAtOnce(t *testing.T) {
	t.Parallel()
	for name, shutdown := range map[string]string{"in_the_grace": "{grace: 1m, drain: 1m}", "in_the_drain": "{grace: 0s, drain: 1m}"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broker := newGreeter(t, "a")
			l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: shutdown})
			var clients []*net.TCPConn
			for i := range 300 {
				clients = append(clients, connect(t, l, opening{id: fmt.Sprint("c", i)}, ""))
			}
			l.signal(t, syscall.SIGTERM)
			l.logged(t, 0, "stopping")
			if name == "in_the_drain" {
				l.logged(t, 0, "ending sessions")
			}
			l.signal(t, syscall.SIGINT)
			if status := l.exit(t, time.Second); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
			for _, c := range clients {
				expectClosed(t, c, time.Second)
			}
		})
	}
}

func TestStoppingWithoutSessionsIsQuick(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", "127.0.0.1:1"}}, shutdown: "{grace: 0s, drain: 1m}"})
	l.signal(t, syscall.SIGTERM)
	if status := l.exit(t, time.Second); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// reload writes a configuration, sends HUP, and returns what mqttlb says about it.
func reload(t *testing.T, l *lb, s settings, message string) record {
	t.Helper()
	offset := len(l.log.String())
	l.configure(t, s)
	l.signal(t, syscall.SIGHUP)
	return l.logged(t, offset, message)
}

const reloaded = "the configuration is reloaded"

func TestReloadChangesTheBackendsAndTouchesNoConnection(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	set := settings{backends: behind(brokers[:2])}
	l := startLB(t, set)
	var clients []*net.TCPConn
	for i := range 60 {
		clients = append(clients, connect(t, l, opening{id: fmt.Sprint("old-", i)}, ""))
	}

	set.backends = behind(brokers) // c joins
	reload(t, l, set, reloaded)
	eventually(t, patience, "the new broker gets clients", func() bool {
		connect(t, l, opening{id: fmt.Sprint("new-", time.Now().UnixNano())}, "")
		return brokers[2].present() > 0
	})
	alive(t, clients)

	set.backends = behind(brokers[1:]) // a leaves
	before := brokers[0].present()
	reload(t, l, set, reloaded)
	eventually(t, patience, "the broker that left gets no clients any more", func() bool {
		n := brokers[0].present()
		for i := range 20 {
			connect(t, l, opening{id: fmt.Sprint("newer-", i)}, "").Close()
		}
		return brokers[0].present() == n
	})
	alive(t, clients)
	if n := brokers[0].present(); n < before {
		t.Errorf("the broker that left has %d of %d connections", n, before)
	}
}

func TestReloadOfTheSameFileMovesNobody(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	set := settings{backends: behind(brokers)}
	l := startLB(t, set)
	for range 3 {
		for i := range 50 {
			connect(t, l, opening{id: fmt.Sprint("device-", i)}, "").Close()
		}
		reload(t, l, set, reloaded)
	}
	for i := range 50 {
		for _, b := range brokers {
			if n := b.visits(fmt.Sprint("device-", i)); n != 0 && n != 3 {
				t.Errorf("client %d came to broker %s %d times of 3", i, b.name, n)
			}
		}
	}
}

func TestReloadChangesTheLogLevel(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	set := settings{backends: []backend{broker.backend()}}
	l := startLB(t, set)
	connect(t, l, opening{id: "heard"}, "").Close()
	l.ended(t, "heard", 0)

	set.log = "{level: error}"
	l.configure(t, set)
	l.signal(t, syscall.SIGHUP)
	n := 0
	eventually(t, patience, "the log is silent", func() bool {
		n++
		id := fmt.Sprint("unheard-", n)
		connect(t, l, opening{id: id}, "").Close()
		time.Sleep(100 * time.Millisecond)
		return !strings.Contains(l.log.String(), id)
	})

	set.log = "{level: info}"
	reload(t, l, set, reloaded)
	connect(t, l, opening{id: "again"}, "").Close()
	l.ended(t, "again", 0)
}

func TestReloadOfAnInvalidFileKeepsTheOldOneAndSaysWhy(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	set := settings{backends: []backend{broker.backend()}}
	l := startLB(t, set)
	c := connect(t, l, opening{id: "kept"}, "")

	set.cluster = "limits: {attempts: many}"
	r := reload(t, l, set, "the configuration is invalid; nothing has changed")
	if r["level"] != "ERROR" || !strings.Contains(r["error"], "mqttlb.yaml:") || !strings.Contains(r["error"], "attempts") {
		t.Errorf("logged %v", r)
	}
	alive(t, []*net.TCPConn{c})
	connect(t, l, opening{id: "next"}, "").Close()

	set.cluster = ""
	reload(t, l, set, reloaded)
	connect(t, l, opening{id: "last"}, "").Close()
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	set := settings{backends: []backend{broker.backend()}}
	l := startLB(t, set)
	set.log, set.instance = "{format: json}", "another"
	offset := len(l.log.String())
	reload(t, l, set, reloaded)
	for _, setting := range []string{"instance.name", "log.format"} {
		l.log.wait(t, offset, patience, "that "+setting+" needs a restart", func(line string) bool {
			r := parseRecord(line)
			return r["msg"] == "a changed setting takes effect only after a restart" && r["setting"] == setting
		})
	}
}

// A full pipe behind the log must not hold up anybody (fault R4).
func TestABlockedLogDoesNotBlockClients(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	l.log.block()
	t.Cleanup(l.log.unblock)
	long := strings.Repeat("x", 200)
	for i := range 3000 { // of some 400 bytes each: many times the pipe
		c, ok := tryConnect(t, l, opening{id: fmt.Sprint(long, i)})
		if !ok {
			t.Fatalf("client %d was not served while the log was blocked", i)
		}
		c.Close()
	}
	l.log.unblock()
	c := connect(t, l, opening{id: "after"}, "")
	if _, err := c.Write([]byte{0xc0, 0}); errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

// Fault R4: the log is a file, and its disk is full.
func TestFaultR4TheDiskIsFull(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	l.signal(t, syscall.SIGTERM)
	l.exit(t, 10*time.Second)
	start(t, io.Discard, exec.Command("/bin/sh", "-c", `exec "$@" >/dev/full 2>&1`, "sh", mqttlb, "run", "-c", l.file))
	eventually(t, 10*time.Second, "mqttlb listens", func() bool {
		c, err := net.Dial("tcp", l.address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	for i := range 100 {
		connect(t, l, opening{id: fmt.Sprint("unheard-", i)}, "").Close()
	}
	if n := l.metric(t, `mqttlb_connects_total{listener="mqtt",result="accepted"}`); n != 100 {
		t.Errorf("%v clients were counted, want 100", n)
	}
}
