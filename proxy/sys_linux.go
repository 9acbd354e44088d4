package proxy

import (
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the hot path. All of them work on non-blocking sockets, so none can hold a
// thread; RawSyscall spares the scheduler's book-keeping around them (performance.md, 4).

// recv reads into b and returns the number of bytes, 0 with errno 0 at the end of the stream. flags is 0, or
// MSG_PEEK to leave the bytes where they are.
func recv(fd int32, b []byte, flags uintptr) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), flags, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// send writes b, which must not be empty, and returns how much the socket took. It never raises SIGPIPE.
func send(fd int32, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(n), 0
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// connected tells whether a socket that connects is connected: EAGAIN or ENOTCONN if not yet, and why if it never
// will be. To send nothing asks the kernel just that.
func connected(fd int32) syscall.Errno {
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_NOSIGNAL, 0, 0)
		if errno != unix.EINTR {
			return errno
		}
	}
}

// accept takes one connection from a listening socket. The new descriptor is non-blocking.
func accept(listener int32) (int32, netip.AddrPort, syscall.Errno) {
	var raw unix.RawSockaddrInet6 // large enough for both families
	size := uint32(unsafe.Sizeof(raw))
	fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&raw)),
		uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int32(fd), addrPort(&raw), 0
}

// localAddr is the address on which a connection reached this host.
func localAddr(fd int32) netip.AddrPort {
	var raw unix.RawSockaddrInet6
	size := uint32(unsafe.Sizeof(raw))
	_, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	return addrPort(&raw)
}

// dialSocket opens a non-blocking TCP socket and begins to connect it, from any local address. errno is 0 or
// EINPROGRESS when the connection is under way; otherwise no descriptor is left behind.
func dialSocket(to netip.AddrPort, userTimeout time.Duration) (int32, syscall.Errno) {
	return dialSocketFrom(netip.Addr{}, 0, to, userTimeout)
}

// dialSocketFrom is dialSocket from a local address, unless it is the zero one, and from a range of its ports, unless
// that is 0.
func dialSocketFrom(from netip.Addr, ports int, to netip.AddrPort, userTimeout time.Duration) (int32, syscall.Errno) {
	family := uintptr(unix.AF_INET)
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	tuneBackend(int(fd), userTimeout)
	if from.IsValid() {
		errno = bindSource(int32(fd), from, ports)
	}
	if errno == 0 {
		errno = beginConnect(int32(fd), to)
	}
	if errno != 0 && errno != unix.EINPROGRESS {
		closeSocket(int32(fd))
		return -1, errno
	}
	return int32(fd), errno
}

// bindSource gives a socket its local address. The port is left to connect(), which knows the other end: chosen here,
// it could serve one backend only (protocol.md, D13).
func bindSource(fd int32, from netip.Addr, ports int) syscall.Errno {
	if ports != 0 {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, ports)
	}
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	var raw unix.RawSockaddrInet6
	size := putAddrPort(&raw, netip.AddrPortFrom(from, 0))
	_, _, errno := syscall.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(size))
	return errno
}

func beginConnect(fd int32, to netip.AddrPort) syscall.Errno {
	var raw unix.RawSockaddrInet6
	size := putAddrPort(&raw, to)
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(size))
	return errno
}

// shutdownWrite sends FIN after everything that was written.
func shutdownWrite(fd int32) {
	_, _, _ = syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
}

// closeSocket closes a descriptor of ours exactly once.
func closeSocket(fd int32) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// closeWithReset closes the socket with RST instead of FIN, so that the peer sees an abnormal end and
// no TIME_WAIT is left (protocol.md, 6).
func closeWithReset(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	closeSocket(fd)
}

// addrPort reads a kernel socket address of either family.
func addrPort(raw *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&raw.Port)) // network byte order, at the same offset in both families
	p := uint16(port[0])<<8 | uint16(port[1])
	switch raw.Family {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(raw)).Addr), p)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), p)
	}
	return netip.AddrPort{}
}

// putAddrPort writes a kernel socket address and returns its size in bytes.
func putAddrPort(raw *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	port := (*[2]byte)(unsafe.Pointer(&raw.Port))
	port[0], port[1] = byte(a.Port()>>8), byte(a.Port())
	if a.Addr().Is4() {
		raw.Family = unix.AF_INET
		(*unix.RawSockaddrInet4)(unsafe.Pointer(raw)).Addr = a.Addr().As4()
		return unix.SizeofSockaddrInet4
	}
	raw.Family = unix.AF_INET6
	raw.Addr = a.Addr().As16()
	return unix.SizeofSockaddrInet6
}
