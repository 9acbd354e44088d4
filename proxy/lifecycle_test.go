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
	"time"
)

// Close ends everything at once, in whatever state it is.
func TestClose(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	var conns []*net.TCPConn
	for range 10 {
		client, broker := r.session()
		conns = append(conns, client, broker)
	}
	reading := r.dial()
	write(t, reading, connect("half")[:5])
	r.placer.prepend(fullQueue(t))
	dialling := r.dial()
	write(t, dialling, connect("dialling"))
	for r.placer.held() < 11 || r.proxy.Stats().Sessions < 12 {
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	r.proxy.Close()
	if took := time.Since(begin); took > time.Second {
		t.Errorf("got Close after %v, want it at once", took)
	}
	for _, c := range append(conns, reading, dialling) {
		if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %d bytes and error %v, want the connection ended", n, err)
		}
	}
	for range 12 {
		if rec := r.record(); rec.End != EndShutdown {
			t.Errorf("got end %v of client %q, want shutdown", rec.End, rec.ClientID)
		}
	}
	// Asking a proxy that is closed does no harm.
	r.proxy.Close()
	r.proxy.StopAccepting()
	if got := r.proxy.Stats().Sessions; got != 0 {
		t.Errorf("got %d sessions, want 0", got)
	}
	listed := make(chan int, 1)
	go func() { listed <- len(r.proxy.Sessions(func(*SessionInfo) bool { return true }, 0)) }()
	select {
	case n := <-listed:
		if n != 0 {
			t.Errorf("got %d sessions listed, want none", n)
		}
	case <-time.After(patience / 10):
		t.Error("got no list of sessions from a closed proxy, want an empty one")
	}
	if err := r.proxy.Drain(t.Context(), DrainOptions{Over: time.Hour}); err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// tryNew tries to open a proxy with these listeners, and returns why it could not.
func tryNew(t *testing.T, loops int, addresses ...string) error {
	t.Helper()
	o := Options{Loops: loops, Observer: newTeller(), Log: slog.New(slog.DiscardHandler)}
	for i, a := range addresses {
		o.Listeners = append(o.Listeners, Listener{Name: fmt.Sprint("listener-", i), Address: a, Placer: &fakePlacer{}})
	}
	p, err := New(o)
	if err == nil {
		p.Close()
	}
	return err
}

// The error of New names the listener and says why, and what to do.
func TestNewErrors(t *testing.T) {
	t.Parallel()
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	twin := newRig(t, rigOptions{loops: 2}) // its sockets share their port, but not with another proxy
	for _, c := range []struct {
		name      string
		addresses []string
		want      string
		is        error
	}{
		{"in use by a stranger", []string{stranger.Addr().String()}, "listener listener-0: cannot listen on " + stranger.Addr().String() + ": address already in use; stop the other process or choose another port", syscall.EADDRINUSE},
		{"in use by another proxy", []string{twin.addr}, "listener listener-0: cannot listen on " + twin.addr + ": address already in use; stop the other process or choose another port", syscall.EADDRINUSE},
		{"in use by another proxy, all addresses", []string{twin.addr[strings.LastIndex(twin.addr, ":"):]}, "listener listener-0: cannot listen on ", syscall.EADDRINUSE},
		{"the second of two", []string{"127.0.0.1:0", twin.addr}, "listener listener-1: cannot listen on " + twin.addr, syscall.EADDRINUSE},
		{"an address of another host", []string{"192.0.2.1:0"}, "listener listener-0: cannot listen on 192.0.2.1:0: cannot assign requested address; this host has no such address", syscall.EADDRNOTAVAIL},
		{"no port", []string{"127.0.0.1"}, "listener listener-0: cannot listen on 127.0.0.1: address 127.0.0.1: missing port in address", nil},
		{"not a port", []string{"127.0.0.1:mqtt"}, `listener listener-0: cannot listen on 127.0.0.1:mqtt: invalid port "mqtt"`, nil},
		{"not a port at all", []string{":65536"}, `listener listener-0: cannot listen on :65536: invalid port "65536"`, nil},
		{"IPv6 without brackets", []string{"::1:1883"}, "listener listener-0: cannot listen on ::1:1883: address ::1:1883: too many colons in address", nil},
		{"no such host", []string{"no-such-host.invalid:0"}, "listener listener-0: cannot listen on no-such-host.invalid:0: lookup no-such-host.invalid", nil},
	} {
		for _, loops := range []int{1, 3} {
			err := tryNew(t, loops, c.addresses...)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s, %d loops: got %v, want %s", c.name, loops, err, c.want)
			}
		}
	}
	// The failures have disturbed nobody.
	_, _ = twin.session()
}

// One address cannot be listened on twice by one proxy either; all of these can.
func TestListeners(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	port := r.addr[strings.LastIndex(r.addr, ":"):]
	r.proxy.Close() // now the port is free
	if err := tryNew(t, 2, "127.0.0.1"+port, "127.0.0.1"+port); !errors.Is(err, syscall.EADDRINUSE) || !strings.HasPrefix(err.Error(), "listener listener-1: ") {
		t.Errorf("the same address twice: got %v, want an error about the second listener", err)
	}
	if err := tryNew(t, 2, "127.0.0.1:0", ":0", "localhost:0", "0.0.0.0:0"); err != nil {
		t.Errorf("got %v, want none", err)
	}
	p, err := New(Options{Listeners: []Listener{{Name: "a", Address: "127.0.0.1:0"}}, Observer: newTeller(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if at, ok := p.Addr("a"); !ok || at.Port() == 0 || !at.Addr().IsLoopback() {
		t.Errorf("got %v, %t, want the address with its port", at, ok)
	}
	if at, ok := p.Addr("b"); ok {
		t.Errorf("got %v for a listener that does not exist", at)
	}
}

// descriptors counts what this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// No descriptor stays behind, whether a proxy has served, was never started, or could not be opened. (Not
// parallel: other tests' descriptors would count.)
func TestDescriptorsDoNotLeak(t *testing.T) {
	serve := func() {
		r := newRig(t, rigOptions{loops: 2, brokers: 2, backend: Backend{DialTimeout: time.Second}})
		_ = r.brokers[0].Close()
		for i := range 10 {
			client := r.dial()
			write(t, client, connect("c"))
			broker := r.accept(1)
			if i%2 == 0 {
				_ = client.SetLinger(0)
				_ = client.Close()
				r.record()
			}
			_ = broker.Close()
			_ = client.Close()
		}
		half := r.dial()
		write(t, half, connect("half")[:3])
		r.proxy.Close()
		_ = half.Close()
		_ = r.brokers[1].Close()
	}
	serve() // what the runtime opens once and keeps
	before := descriptors(t)
	for range 3 {
		serve()
	}
	if after := descriptors(t); after != before {
		t.Errorf("after serving: got %d descriptors, want %d", after, before)
	}
	for range 3 {
		if err := tryNew(t, 3, "127.0.0.1:0", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if err := tryNew(t, 3, "127.0.0.1:0", "192.0.2.1:0"); err == nil {
			t.Error("got a proxy on an address of another host")
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("after New without Start: got %d descriptors, want %d", after, before)
	}
}

// A second Close of a proxy that was never started closes nothing that belongs to somebody else by then. (Not
// parallel: the files must get the numbers that the proxy has given back.)
func TestCloseTwiceWithoutStart(t *testing.T) {
	p, err := New(Options{Loops: 2, Listeners: []Listener{{Name: "a", Address: "127.0.0.1:0"}}, Observer: newTeller(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	var files []*os.File
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p.Close()
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Errorf("got %v, want the file still open", err)
		}
	}
}
