package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A listener is a Listener that is open, or was when a session came in on it. It never changes: a reconfiguration
// makes a new one for the same sockets, and every session keeps the one that it came in on until it ends. So a
// session is placed and released by one and the same Placer.
type listener struct {
	Listener
	wanted netip.AddrPort // what Address stands for
	at     netip.AddrPort // where it listens; another port if it was 0, another family on a host without IPv6
	open   atomic.Int64   // connections that came in on this very one
	shared *admission     // by all that have, or had, this name

	handshakes       chan struct{} // that compute, see handshake.go
	handshakeTimeout time.Duration
	routes           []route // in the order in which they are tried
}

// newListener fills in the defaults.
func newListener(o Listener) *listener {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.ConnectSize == 0 {
		o.ConnectSize = 64 << 10
	}
	if o.ConnectWait == 0 {
		o.ConnectWait = 5 * time.Second
	}
	if o.TLS != nil && o.TLS.Mode == TLSPassthrough { // what can only be done with packets
		o.PacketSize, o.ClientConnects, o.ClientConnections = 0, 0, 0
		o.KeepAlive, o.RefuseWithConnack = false, false
	}
	ln := &listener{Listener: o, routes: newRoutes(o.Routes)}
	if o.TLS != nil && o.TLS.Mode == TLSTerminate {
		ln.handshakes = make(chan struct{}, cmp.Or(o.TLS.Handshakes, 2*runtime.GOMAXPROCS(0)))
		ln.handshakeTimeout = cmp.Or(o.TLS.HandshakeTimeout, 10*time.Second)
	}
	return ln
}

// enter counts a connection; false if there are as many as there may be.
func (ln *listener) enter() bool {
	if n := ln.shared.open.Add(1); ln.MaxConnections > 0 && n > int64(ln.MaxConnections) {
		ln.shared.open.Add(-1)
		return false
	}
	ln.open.Add(1)
	return true
}

// leave counts a connection that has ended.
func (ln *listener) leave() {
	ln.open.Add(-1)
	ln.shared.open.Add(-1)
}

// place is where the listener listens, or will.
func (ln *listener) place() netip.AddrPort {
	if ln.at.IsValid() {
		return ln.at
	}
	return ln.wanted
}

// overlap tells whether two sockets cannot listen on these addresses at the same time.
func overlap(a, b netip.AddrPort) bool {
	return a.Port() == b.Port() && a.Port() != 0 && (a.Addr() == b.Addr() || covers(a.Addr(), b.Addr()) || covers(b.Addr(), a.Addr()))
}

// covers tells whether a means all addresses of b's family; [::] means those of both.
func covers(a, b netip.Addr) bool { return a.IsUnspecified() && (a.Is6() || b.Is4()) }

// A ListenError says why a listener cannot be opened, and what to do about it.
type ListenError struct {
	// Listener and Address are those of the Listener.
	Listener, Address string
	Err               error
}

// Error names the listener.
func (e *ListenError) Error() string {
	return "listener " + e.Listener + ": cannot listen on " + e.Address + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *ListenError) Unwrap() error { return e.Err }

func (ln *listener) failed(err error) error { return &ListenError{ln.Name, ln.Address, explain(err)} }

// Addr is where the listener with this name listens; useful when its port was 0.
func (p *Proxy) Addr(listener string) (netip.AddrPort, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, ln := range p.listeners {
		if ln.Name == listener {
			return ln.at, true
		}
	}
	return netip.AddrPort{}, false
}

// Connections is the number of open connections of each listener, by name. A listener that was removed or renamed is
// among them for as long as it has connections.
func (p *Proxy) Connections() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := make(map[string]int, len(p.listeners))
	for _, ln := range p.former {
		if ln.open.Load() > 0 {
			open[ln.Name] = int(ln.shared.open.Load())
		}
	}
	for _, ln := range p.listeners {
		open[ln.Name] = int(ln.shared.open.Load())
	}
	return open
}

// Uses tells whether a listener, or a connection that came in on one before it was reconfigured, asks this Placer.
// Once it answers false, nobody will ask the Placer any more until Reconfigure names it again.
func (p *Proxy) Uses(placer Placer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.listeners, func(ln *listener) bool { return ln.asks(placer) }) ||
		slices.ContainsFunc(p.former, func(ln *listener) bool { return ln.asks(placer) && ln.open.Load() > 0 })
}

// resolve turns a listener's address into an IP and a port.
func resolve(address string) (netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("invalid port %q", service)
	}
	if host == "" {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)), nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return netip.AddrPortFrom(ip, uint16(port)), nil
	}
	ip, err := net.ResolveIPAddr("ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	a, _ := netip.AddrFromSlice(ip.IP)
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), nil
}

// explain adds what an operator can do about the usual errors.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; stop the other process or choose another port", err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; ports below 1024 need CAP_NET_BIND_SERVICE", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("%w; raise the limit of open files (LimitNOFILE, ulimit -n)", err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w; this host has no such address", err)
	}
	return err
}
