//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// crowd connects n clients and returns those that were accepted.
func crowd(t *testing.T, l *lb, n int) []*net.TCPConn {
	t.Helper()
	var accepted []*net.TCPConn
	for i := range n {
		began := time.Now()
		c, ok := tryConnect(t, l, opening{id: fmt.Sprint("crowd-", i)})
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("client %d waited %v for the answer, accepted: %v", i, took, ok)
		}
		if ok {
			accepted = append(accepted, c)
		} else {
			c.Close()
		}
	}
	return accepted
}

// alive asserts that a connection carries bytes to the greeter, which would close it otherwise.
func alive(t *testing.T, clients []*net.TCPConn) {
	t.Helper()
	for i, c := range clients {
		if _, err := c.Write([]byte{0xc0, 0}); err != nil {
			t.Errorf("client %d is not connected any more: %v", i, err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
			t.Errorf("client %d is not connected any more: %v", i, err)
		}
	}
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error) //nolint:errorlint // the error of a Read is never wrapped
	return ok && e.Timeout()
}

// leave closes connections and waits until mqttlb has given back their descriptors.
func leave(t *testing.T, l *lb, clients []*net.TCPConn) {
	t.Helper()
	before := l.descriptors(t)
	for _, c := range clients {
		c.Close()
	}
	eventually(t, patience, "the descriptors of those who left are free", func() bool {
		return l.descriptors(t) <= before-2*len(clients)
	})
}

// numbers are the descriptors that a process has open.
func (p *process) numbers(t *testing.T) map[int]bool {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	open := make(map[int]bool)
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		open[n] = true
	}
	return open
}

const plenty = 400

func limitFiles(t *testing.T, l *lb, limit int) {
	t.Helper()
	if err := unix.Prlimit(l.pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: plenty}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAListenersLimitHoldsAndRecovers(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: "limits: {connections: 20}"})
	first := crowd(t, l, 50)
	if len(first) != 20 {
		t.Fatalf("%d clients were accepted, want 20", len(first))
	}
	if r := l.refused(t, "connections"); r["end"] != "limit" {
		t.Errorf("logged %v", r)
	}
	alive(t, first)
	leave(t, l, first[:7])
	if second := crowd(t, l, 20); len(second) != 7 {
		t.Errorf("%d clients were accepted after 7 had left", len(second))
	}
	alive(t, first[7:])
}

func TestTheLimitOfOpenFilesHoldsAndRecovers(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, files: 200})
	first := crowd(t, l, 300)
	if len(first) < 20 || len(first) > 100 {
		t.Fatalf("%d clients were accepted with 200 descriptors", len(first))
	}
	l.refused(t, "descriptors")
	alive(t, first)
	leave(t, l, first)
	if second := crowd(t, l, 300); len(second) != len(first) {
		t.Errorf("%d clients were accepted after the others had left, before %d", len(second), len(first))
	}
}

// mqttlb counts its descriptors and stays below the limit. Here the limit drops under its feet, so that
// accept itself fails.
func TestWithoutAnyDescriptorLeftClientsAreShedAtOnce(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, files: plenty})
	first := crowd(t, l, 20)
	open := l.numbers(t)
	highest := slices.Max(slices.Collect(maps.Keys(open)))
	limitFiles(t, l, highest+1)
	began, before := time.Now(), l.cpu(t)
	more := crowd(t, l, 200)
	if gaps := highest + 1 - len(open); len(more) > gaps/2 {
		t.Errorf("%d clients were accepted with %d descriptors", len(more), gaps)
	}
	l.refused(t, "descriptors")
	alive(t, slices.Concat(first, more))
	time.Sleep(max(0, time.Second-time.Since(began))) // a loop that spins uses all of this
	if used := l.cpu(t) - before; used > time.Second/4 {
		t.Errorf("mqttlb used %v of processor time in a second", used)
	}
	limitFiles(t, l, plenty)
	if again := crowd(t, l, 20); len(again) != 20 {
		t.Errorf("%d of 20 clients were accepted after the limit was raised", len(again))
	}
	alive(t, slices.Concat(first, more))
}

// Shedding needs a descriptor too. Without even that, clients have to wait, but not at the processor's
// expense.
func TestWithoutADescriptorForSheddingTheProcessorIsSpared(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, files: plenty})
	limitFiles(t, l, 3)
	c := dial(t, l.address, "")
	send(t, c, opening{id: "waiting"}.bytes())
	before := l.cpu(t)
	time.Sleep(time.Second) // a loop that spins uses all of this
	if used := l.cpu(t) - before; used > time.Second/4 {
		t.Errorf("mqttlb used %v of processor time in a second", used)
	}
	limitFiles(t, l, plenty)
	eventually(t, 3*time.Second, "clients are served again", func() bool {
		_, ok := tryConnect(t, l, opening{id: "next"})
		return ok
	})
}

func TestWithoutADescriptorForTheBrokerTheClientIsClosed(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), files: plenty})
	open, limit := l.numbers(t), 0
	for ; open[limit]; limit++ { // the first that is free is for the client
	}
	for limit++; open[limit]; limit++ { // the second would be for the broker
	}
	limitFiles(t, l, limit)
	c := dial(t, l.address, "")
	send(t, c, opening{id: "half"}.bytes())
	expectClosed(t, c, 2*time.Second)
	if r, _ := l.ended(t, "half", 0); r["refused"] != "descriptors" {
		t.Errorf("logged %v", r)
	}
	limitFiles(t, l, plenty)
	connect(t, l, opening{id: "half"}, "").Close()
}
