package proxy

import (
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sources are local addresses from which backends are dialled, in turn. From one address there are about 28 000
// connections to one port of a backend (net.ipv4.ip_local_port_range); each further address adds as many.
//
// An address without a free port says nothing about the backend: the next one is tried, and this one rests for a
// moment, because looking for a port where there is none is the most expensive thing that connect() can do. Methods may
// be called from any goroutine.
type Sources struct {
	list  []source
	turn  atomic.Uint32
	ports int // last<<16 | first, for tests; 0 leaves the range to the kernel
}

type source struct {
	address  netip.Addr
	rests    atomic.Int64 // until this time, on the proxy's clock
	failures atomic.Uint64
}

// sourceRest is how long an address rests that has no port left. Meanwhile some of its connections may end.
const sourceRest = int64(time.Second)

// NewSources makes Sources of these addresses; nil if there are none.
func NewSources(list []netip.Addr) *Sources {
	if len(list) == 0 {
		return nil
	}
	s := &Sources{list: make([]source, len(list))}
	for i, a := range list {
		s.list[i].address = a.Unmap()
	}
	return s
}

// Same tells whether both have the same addresses, in the same order.
func (s *Sources) Same(other *Sources) bool {
	if s == nil || other == nil {
		return s == other
	}
	if len(s.list) != len(other.list) {
		return false
	}
	for i := range s.list {
		if s.list[i].address != other.list[i].address {
			return false
		}
	}
	return true
}

// Exhausted is how often each address could not be dialled from, because it had no port left or this host does not have
// it.
func (s *Sources) Exhausted() map[netip.Addr]uint64 {
	if s == nil {
		return nil
	}
	n := make(map[netip.Addr]uint64, len(s.list))
	for i := range s.list {
		n[s.list[i].address] += s.list[i].failures.Load()
	}
	return n
}

// dial calls connect with one address after the other until one of them has a port. Those that rest come last, and only
// one of them. Without an address of the backend's family, the kernel chooses one.
func (s *Sources) dial(now int64, is6 bool, connect func(from netip.Addr) (int32, syscall.Errno)) (int32, syscall.Errno) {
	first := int(s.turn.Add(1) % uint32(len(s.list)))
	var rested *source // the one that rests longest already
	known := false
	for i := range s.list {
		src := &s.list[(first+i)%len(s.list)]
		if src.address.Is6() != is6 {
			continue
		}
		known = true
		if until := src.rests.Load(); until > now {
			if rested == nil || until < rested.rests.Load() {
				rested = src
			}
			continue
		}
		if fd, errno := src.dial(now, connect); !portless(errno) {
			return fd, errno
		}
	}
	switch {
	case !known:
		return connect(netip.Addr{})
	case rested != nil:
		return rested.dial(now, connect)
	}
	return -1, unix.EADDRNOTAVAIL
}

func (s *source) dial(now int64, connect func(from netip.Addr) (int32, syscall.Errno)) (int32, syscall.Errno) {
	fd, errno := connect(s.address)
	if portless(errno) {
		s.failures.Add(1)
		s.rests.Store(now + sourceRest)
	}
	return fd, errno
}

// portless tells that no connection was begun because the local address has no port left, or is none.
func portless(errno syscall.Errno) bool {
	return errno == unix.EADDRNOTAVAIL || errno == unix.EADDRINUSE
}

// dialBackend begins to connect to a backend.
func (l *loop) dialBackend(b *Backend) (int32, syscall.Errno) {
	if b.Sources == nil {
		return dialSocket(b.Address, l.proxy.userTimeout)
	}
	return b.Sources.dial(l.now, b.Address.Addr().Is6(), func(from netip.Addr) (int32, syscall.Errno) {
		return dialSocketFrom(from, b.Sources.ports, b.Address, l.proxy.userTimeout)
	})
}
