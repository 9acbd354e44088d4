//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// patience bounds everything that should not take long.
const patience = 20 * time.Second

// dial connects to an address, from another one unless it is empty. The connection ends with the test.
func dial(t *testing.T, to, from string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return adopt(t, c)
}

// adopt gives a connection a deadline, and an end.
func adopt(t *testing.T, c net.Conn) *net.TCPConn {
	t.Helper()
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func send(t *testing.T, c *net.TCPConn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write %d bytes: %v", len(b), err)
	}
}

// expect reads exactly these bytes.
func expect(t *testing.T, c *net.TCPConn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if err != nil {
		t.Fatalf("got %d of %d bytes, then %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %.64x, want %.64x", got, want)
	}
}

// expectClosed waits until the peer has closed the connection, in whatever way, without another byte.
func expectClosed(t *testing.T, c *net.TCPConn, within time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, err := c.Read(make([]byte, 64))
	switch {
	case n > 0:
		t.Fatalf("got %d more bytes, want the end of the connection", n)
	case errors.Is(err, os.ErrDeadlineExceeded):
		t.Fatalf("the connection is still open after %v", within)
	}
}

// expectFIN waits for an orderly end of what the peer sends.
func expectFIN(t *testing.T, c *net.TCPConn, within time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, err := c.Read(make([]byte, 64))
	if n > 0 || !errors.Is(err, io.EOF) {
		t.Fatalf("got %d bytes and error %v, want FIN", n, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
}

// expectRST waits for the peer to reset the connection.
func expectRST(t *testing.T, c *net.TCPConn, within time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, err := io.Copy(io.Discard, c) // bytes before it are fine
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %d bytes and error %v, want RST", n, err)
	}
}

// reset closes a connection with RST.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if err := c.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// connect opens a connection through mqttlb and waits for an accepting CONNACK.
func connect(t *testing.T, l *lb, o opening, from string) *net.TCPConn {
	t.Helper()
	c := dial(t, l.address, from)
	send(t, c, o.bytes())
	expect(t, c, connack(o.version, 0))
	return c
}

// tryConnect is connect for a client that may be turned away. It reports whether it was accepted.
func tryConnect(t *testing.T, l *lb, o opening) (*net.TCPConn, bool) {
	t.Helper()
	c := dial(t, l.address, "")
	if _, err := c.Write(o.bytes()); err != nil {
		return c, false
	}
	answer, err := readPacket(c)
	return c, err == nil && bytes.Equal(answer, connack(o.version, 0))
}
