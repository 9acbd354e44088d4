//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A wire carries one connection of a client, to a broker or to mqttlb. It is the same for all clients, so all can be
// cut, and it writes into the book what the other side says: every packet in hexadecimal, but not messages, of which the
// client tells, and no answers to pings.
type wire struct {
	address string
	book    *logBook
	ended   chan struct{}
	mu      sync.Mutex
	conns   []*net.TCPConn
	bye     bool // the client has said DISCONNECT, or was cut
}

// lay lays a wire to an address. These bytes go first.
func lay(t *testing.T, to string, first []byte, book *logBook) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: ln.Addr().String(), book: book, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		client, err := ln.Accept()
		ln.Close() // for one connection only: no client comes again
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", to)
		if err != nil {
			fmt.Fprintln(book, "cannot connect:", err)
			return
		}
		defer server.Close()
		w.mu.Lock()
		w.conns = []*net.TCPConn{client.(*net.TCPConn), server.(*net.TCPConn)}
		w.mu.Unlock()
		_, _ = server.Write(first)
		w.carry(client.(*net.TCPConn), server.(*net.TCPConn))
	}()
	t.Cleanup(func() {
		ln.Close()
		w.cut()
		<-w.ended
	})
	return w
}

func (w *wire) carry(client, server *net.TCPConn) {
	var up sync.WaitGroup
	up.Go(func() {
		defer func() { _ = server.CloseWrite() }()
		for r := bufio.NewReader(client); ; {
			b, err := readPacket(r)
			if err != nil {
				return
			}
			if b[0]&0xf0 == 0xe0 {
				w.over()
			}
			if _, err := server.Write(b); err != nil {
				return
			}
		}
	})
	for r := bufio.NewReader(server); ; {
		b, err := readPacket(r)
		if err != nil {
			if !w.isOver() {
				fmt.Fprintln(w.book, "is cut off")
			}
			break
		}
		w.note(b)
		if _, err := client.Write(b); err != nil {
			_, _ = io.Copy(io.Discard, server)
			break
		}
	}
	_ = client.CloseWrite()
	up.Wait()
}

// note writes a packet into the book, without its packet identifier: some clients choose theirs at random.
func (w *wire) note(b []byte) {
	switch b[0] & 0xf0 {
	case 0x30, 0xd0: // PUBLISH, PINGRESP
	case 0x20, 0xe0, 0xf0: // CONNACK, DISCONNECT, AUTH
		fmt.Fprintf(w.book, "gets %x\n", b)
	case 0x40, 0x50: // whether somebody has subscribed yet, or still, is a matter of when: 0x10 stands for 0
		code := byte(0)
		if len(b) > 4 && b[4] != 0x10 {
			code = b[4]
		}
		fmt.Fprintf(w.book, "gets %x code %x\n", b[:1], code)
	default: // the remaining length has one byte
		fmt.Fprintf(w.book, "gets %x id %x\n", b[:2], b[4:])
	}
}

func (w *wire) over() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bye = true
}

func (w *wire) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bye
}

// cut resets the connection, without a word of the client.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bye = true
	for _, c := range w.conns {
		_ = c.SetLinger(0)
		c.Close()
	}
}

// wait waits until both ends are closed.
func (w *wire) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.ended:
	case <-time.After(patience):
		t.Fatal("a connection is still open after its client has left")
	}
}
