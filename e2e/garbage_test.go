//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// garbage is what scanners and misdirected clients send, with the reason for which it is refused.
func garbage(t *testing.T) map[string][][]byte {
	t.Helper()
	connect := opening{id: "x"}.bytes()
	random := make([][]byte, 16)
	for i := range random {
		random[i] = make([]byte, 1+i*i)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(random[i])
		random[i][0] |= 0x20 // not the type of CONNECT
	}
	v2 := []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x7f\x00\x00\x01\x7f\x00\x00\x01\x30\x39\x07\x5b")
	return map[string][][]byte{
		"http": {
			[]byte("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
			[]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		},
		"tls":          {clientHello(t)},
		"proxy_header": {append([]byte("PROXY TCP4 127.0.0.1 127.0.0.1 12345 1883\r\n"), connect...), append(v2, connect...)},
		"connect_size": {[]byte("\x10\xff\xff\xff\x7f\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")}, // 256 MiB
		"length":       {[]byte("\x10\xff\xff\xff\xff\x01\x00\x04MQTT")},
		"protocol_name": {
			bytes.Replace(connect, []byte("MQTT"), []byte("mqtt"), 1),
			bytes.Replace(connect, []byte("MQTT"), []byte("AMQP"), 1),
		},
		"truncated":   {[]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x7fx")}, // the id is longer than the packet
		"not_connect": append(random, []byte("\xc0\x00"), publish("e2e", nil), []byte("SSH-2.0-OpenSSH_9.2\r\n"), []byte("AMQP\x00\x00\x09\x01")),
	}
}

// clientHello is what a TLS client sends first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		_ = tls.Client(here, &tls.Config{ServerName: "broker.example", MinVersion: tls.VersionTLS12}).Handshake()
	}()
	hello := make([]byte, 5)
	if _, err := io.ReadFull(there, hello); err != nil {
		t.Fatal(err)
	}
	hello = slices.Grow(hello, 1<<14)[:5+int(hello[3])<<8+int(hello[4])]
	if _, err := io.ReadFull(there, hello[5:]); err != nil {
		t.Fatal(err)
	}
	return hello
}

func TestGarbageIsRefusedAtOnceAndReachesNoBroker(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	for reason, openings := range garbage(t) {
		t.Run(reason, func(t *testing.T) {
			for _, b := range openings {
				c := dial(t, l.address, "")
				began := time.Now()
				send(t, c, b)
				expectClosed(t, c, time.Second)
				if took := time.Since(began); took > 500*time.Millisecond {
					t.Errorf("closing after %.16q took %v", b, took)
				}
			}
			l.refused(t, reason)
		})
	}
	broker.quiet(t, 50*time.Millisecond)
}

// Not parallel: it looks at memory.
func TestGarbageCostsNoMemory(t *testing.T) {
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	connect(t, l, opening{id: "before"}, "").Close()
	before, n := l.rss(t), 0
	for n < 750 {
		for _, openings := range garbage(t) {
			for _, b := range openings {
				c := dial(t, l.address, "")
				send(t, c, b)
				expectClosed(t, c, time.Second)
				c.Close()
				n++
			}
		}
	}
	if grown := l.rss(t) - before; grown > memory(20<<20) {
		t.Errorf("memory grew by %d KiB over %d connections", grown>>10, n)
	}
	connect(t, l, opening{id: "after"}, "").Close()
}

// A descriptor that another thread of mqttlb happens to look at while it is closed stays open inside the
// kernel until that thread wakes up, which takes seconds on a quiet machine. It happens once in some
// thousand connections, if they come one after the other.
//
// Not parallel: other load would wake the thread.
func TestNoneOfManyRefusedClientsIsClosedLate(t *testing.T) {
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	const connections = 20_000
	for i := range connections {
		c, err := net.Dial("tcp", l.address)
		if err != nil {
			t.Fatal(err)
		}
		send(t, c.(*net.TCPConn), []byte("GET / HTTP/1.1\r\n\r\n"))
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("connection %d of %d is still open after 300 ms", i, connections)
		}
		reset(t, c.(*net.TCPConn)) // leaves no TIME_WAIT
	}
}

// Not parallel: it looks at memory.
func TestADeclaredLengthIsNotAllocated(t *testing.T) {
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: "limits: {connect_size: 1MiB}"})
	before := l.rss(t)
	for range 200 { // each declares 1 MiB less a little, and sends a start
		c := dial(t, l.address, "")
		send(t, c, []byte("\x10\xf0\xff\x3f\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x"))
	}
	eventually(t, patience, "mqttlb has all connections", func() bool { return l.descriptors(t) > 200 })
	if grown := l.rss(t) - before; grown > memory(20<<20) {
		t.Errorf("memory grew by %d KiB for 200 connections that declare 1 MiB", grown>>10)
	}
}
