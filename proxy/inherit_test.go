package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// passed opens a listening socket as a service manager would, and returns the descriptor that it passes on.
func passed(t *testing.T) (address string, fd int) {
	t.Helper()
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	ln, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ln.(*net.TCPListener).File()
	_ = ln.Close() // f has a duplicate
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return ln.Addr().String(), int(f.Fd())
}

// A listener with a socket that somebody else has opened serves there, whatever its address says, and gives it back.
func TestInheritedSocket(t *testing.T) {
	t.Parallel()
	address, fd := passed(t)
	r := newRig(t, rigOptions{loops: 2, listener: Listener{Socket: fd}})
	if r.addr != address {
		t.Fatalf("got address %s, want that of the socket, %s", r.addr, address)
	}
	stays, broker := r.enter(address, "stays")
	for i := range 8 {
		r.enter(address, fmt.Sprint("c", i))
	}
	own := Listener{Name: "test", Address: "127.0.0.1:0", Placer: r.placer, Socket: fd}
	limited := own
	limited.MaxConnections = 100
	r.reconfigure(limited)
	r.enter(address, "after-new-settings")

	// When the listener goes, clients wait in the queue of the socket, which is not ours to close, until it comes back.
	// A busy loop must forget it as well: the queue would wake it for ever.
	r.proxy.everywhere(func(l *loop) { l.poller.busy = true })
	r.reconfigure(Listener{Name: "other", Address: "127.0.0.1:0", Placer: r.placer})
	late := r.dialTo(address)
	write(t, late, connect("late"))
	r.proxy.everywhere(func(l *loop) {
		if watches(t, l.poller.epoll, inode(t, fd)) {
			t.Errorf("loop %d still watches the socket of a listener that is gone", l.id)
		}
	})
	r.reconfigure(own)
	b := r.accept(0)
	expect(t, b, connect("late"))
	write(t, stays, []byte{0xC0, 0})
	expect(t, broker, []byte{0xC0, 0})
}

// inode is the number of a socket.
func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// watches tells whether a socket is registered with an epoll descriptor.
func watches(t *testing.T, epoll int, ino uint64) bool {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", epoll))
	if err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(info), "ino:") {
		t.Errorf("the kernel does not say what descriptor %d watches:\n%s", epoll, info)
	}
	return strings.Contains(string(info), fmt.Sprintf("ino:%x ", ino))
}

// What is no listening TCP socket is an error that says what to do, and opens nothing.
func TestInheritedIsNoListener(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	f, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	pipe, other, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer other.Close()
	for _, test := range []struct {
		name string
		fd   int
		want string
	}{
		{"UDP", int(f.Fd()), "ListenStream="},
		{"a pipe", int(pipe.Fd()), "is no socket"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := New(Options{
				Listeners: []Listener{{Name: "test", Address: ":1883", Socket: test.fd, Placer: &fakePlacer{}}},
				Observer:  newTeller(), Log: slog.New(slog.DiscardHandler),
			})
			var failed *ListenError
			if !errors.As(err, &failed) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want a ListenError with %q", err, test.want)
			}
		})
	}
}
