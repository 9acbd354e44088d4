package proxy

import (
	"bytes"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestBrokerThatDoesNotRead is HiveMQ's overload protection: a broker stops reading for longer than the time after
// which it would count as dead. The client has to wait, and nothing is lost.
func TestBrokerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	const timeout = 1200 * time.Millisecond
	for _, size := range []int{1 << 20, 32 << 20} { // less than the sockets hold, and more
		r := newRig(t, rigOptions{userTimeout: timeout})
		narrow(r.brokers[0])
		client, broker := r.session()
		stream := publish(size)
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			writeChunks(t, client, stream, rand.New(rand.NewPCG(1, 1)))
		}()
		time.Sleep(3 * timeout)
		select {
		case e := <-r.told.ended:
			t.Fatalf("%d bytes: the session was ended by %v while the broker did not read", size, e.End)
		default:
		}
		got := make([]byte, len(stream))
		if n, err := readFull(broker, got); err != nil || !bytes.Equal(got, stream) {
			t.Fatalf("%d bytes: got %d and %v, want all unchanged", size, n, err)
		}
		<-sent
		// Who reads again is mortal again.
		eventually(t, func() bool { return r.mortal(timeout) })
	}
}

// mortal tells whether the backends of all sessions count as dead after the timeout.
func (r *rig) mortal(timeout time.Duration) bool {
	all := true
	r.proxy.everywhere(func(l *loop) {
		for i := range uint32(len(l.sessions.chunks) * slabSize) {
			if s := l.sessions.at(i); s.state == stateRelaying {
				ms, err := unix.GetsockoptInt(int(s.backend.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
				all = all && err == nil && ms == int(timeout/time.Millisecond) && !s.backend.has(patient)
			}
		}
	})
	return all
}

func TestWaitsForReader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		info unix.TCPInfo
		want bool
	}{
		{"nothing to send", unix.TCPInfo{}, false},
		{"in flight", unix.TCPInfo{Unacked: 1}, false},
		{"in flight, and more to come", unix.TCPInfo{Unacked: 3, Notsent_bytes: 100}, false},
		{"window closed", unix.TCPInfo{Notsent_bytes: 1}, true},
		{"a probe is on its way", unix.TCPInfo{Notsent_bytes: 1, Probes: 1}, true},
		{"probes are not answered", unix.TCPInfo{Notsent_bytes: 1, Probes: 2}, false},
	}
	for _, test := range tests {
		if got := waitsForReader(&test.info); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// TestDebtsAgainstModel checks the queue against one that forgets nothing.
func TestDebtsAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	var b debts
	var model []debtor
	now := int64(0)
	for i := range uint32(5000) {
		now += random.Int64N(3)
		if random.IntN(2) == 0 {
			d := debtor{index: i, at: now + 20}
			b.queue, model = append(b.queue, d), append(model, d)
		}
		for {
			got, ok := b.next(now)
			if want := len(model) > 0 && model[0].at <= now; ok != want {
				t.Fatalf("at %d: got one: %v, want %v", now, ok, want)
			}
			if !ok {
				break
			}
			if got != model[0] {
				t.Fatalf("at %d: got %v, want %v", now, got, model[0])
			}
			model = model[1:]
		}
		if len(b.queue) > 2*len(model)+2 {
			t.Fatalf("the queue has %d entries for %d", len(b.queue), len(model))
		}
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about in time")
		}
	}
}

// narrow makes the windows of the connections that a listener accepts small.
func narrow(l net.Listener) {
	c, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		_ = c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10) })
	}
}
