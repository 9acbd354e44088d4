//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// sides gives a test both ends of a session in both roles: who acts, and who must notice.
func sides(t *testing.T, test func(t *testing.T, near, far *net.TCPConn)) {
	t.Helper()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	for _, who := range []string{"client", "broker"} {
		t.Run("by_"+who, func(t *testing.T) {
			s := open(t, l, broker, opening{id: who})
			if who == "client" {
				test(t, s.client, s.broker)
			} else {
				test(t, s.broker, s.client)
			}
			r, _ := l.ended(t, who, 0)
			if who == "broker" {
				who = "backend"
			}
			if r["end"] != who {
				t.Errorf("the log says that the session was ended by %s, want %s", r["end"], who)
			}
		})
	}
}

func TestHalfCloseLetsTheOtherDirectionFinish(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, near, far *net.TCPConn) {
		t.Helper()
		before, after := stream{number: 1, size: 1 << 20}, stream{number: 2, size: 3 << 20}
		both(t, func() error { return errors.Join(before.send(near, new(tap)), near.CloseWrite()) }, func() error {
			_, err := before.check(far)
			return err
		})
		expectFIN(t, far, patience)
		both(t, func() error { return errors.Join(after.send(far, new(tap)), far.Close()) }, func() error {
			_, err := after.check(near)
			return err
		})
		expectFIN(t, near, patience)
	})
}

func TestResetIsPassedOnAsReset(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, near, far *net.TCPConn) {
		t.Helper()
		reset(t, near)
		expectRST(t, far, time.Second)
	})
}

func TestResetInTheMiddleOfAStreamIsPassedOnAsReset(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, near, far *net.TCPConn) {
		t.Helper()
		f := pour(1, near, far)
		f.stall(t)
		reset(t, near)
		<-f.stopped
		expectRST(t, far, time.Second)
	})
}

func TestCloseIsPassedOnAsClose(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, near, far *net.TCPConn) {
		t.Helper()
		near.Close()
		expectFIN(t, far, time.Second)
		far.Close()
	})
}

// The other side gets FIN at once; if it does not answer with its own, the session ends without it.
func TestBothSidesEndWithinFiveSecondsOfEachOther(t *testing.T) {
	t.Parallel()
	for _, who := range []string{"client", "broker"} {
		t.Run("stubborn_"+who, func(t *testing.T) {
			t.Parallel()
			broker := newStub(t, "a")
			l := startLB(t, settings{backends: []backend{broker.backend()}})
			s := open(t, l, broker, opening{id: who})
			near, far := s.client, s.broker
			if who == "client" {
				near, far = far, near
			}
			near.Close()
			began := time.Now()
			expectFIN(t, far, time.Second)
			l.ended(t, who, 0)
			between(t, time.Since(began), 4*time.Second, 6*time.Second)
			eventually(t, time.Second, "writing to the closed connection fails", func() bool {
				_, err := far.Write([]byte{0xc0, 0})
				return err != nil
			})
		})
	}
}

func TestClientsOfAKilledBrokerAreClosedWithinASecond(t *testing.T) {
	t.Parallel()
	broker := startMosquitto(t)
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}})
	var clients []*net.TCPConn
	for i := range 100 {
		clients = append(clients, connect(t, l, opening{id: fmt.Sprint("orphan-", i)}, ""))
	}
	broker.kill(t)
	deadline := time.Now().Add(time.Second)
	for i, c := range clients {
		_ = c.SetReadDeadline(deadline)
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %d is still connected a second after its broker was killed", i)
		}
	}
}
