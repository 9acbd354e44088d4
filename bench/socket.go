package main

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// sourceAddresses is over how many loopback addresses clients are spread. One address has 64 k ports towards one
	// listener, and a proxy that hashes the source address needs many to reach all its backends.
	sourceAddresses = 250

	// listenBacklog is the queue of connections not yet accepted; the kernel cuts it to net.core.somaxconn.
	listenBacklog = 4096
)

// loopback is the range that sources are taken from; only its addresses can be bound without being configured.
var loopback = netip.MustParsePrefix("127.0.0.0/8")

// sourceAddress is the address of the n-th client: 127.0.1.1 to 127.0.1.250.
func sourceAddress(n int) [4]byte { return [4]byte{127, 0, 1, byte(1 + n%sourceAddresses)} }

// dial starts to connect to target; the n-th client keeps its source address.
func dial(target netip.AddrPort, n int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := startConnect(fd, target, n); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func startConnect(fd int, target netip.AddrPort, n int) error {
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("TCP_NODELAY: %w", err)
	}
	if loopback.Contains(target.Addr()) {
		// The port is chosen by connect, when the whole four-tuple is known, and not by bind.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return fmt.Errorf("IP_BIND_ADDRESS_NO_PORT: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: sourceAddress(n)}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
	}
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: target.Addr().As4(), Port: int(target.Port())})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %s: %w", target, err)
	}
	return nil
}

// listen opens a non-blocking listener; port 0 lets the kernel choose.
func listen(address netip.AddrPort) (int, netip.AddrPort, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, netip.AddrPort{}, fmt.Errorf("socket: %w", err)
	}
	bound, err := startListening(fd, address)
	if err != nil {
		_ = unix.Close(fd)
		return -1, netip.AddrPort{}, fmt.Errorf("listen on %s: %w", address, err)
	}
	return fd, bound, nil
}

func startListening(fd int, address netip.AddrPort) (netip.AddrPort, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return netip.AddrPort{}, err
	}
	// Accepted connections inherit it, which saves a call for each.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return netip.AddrPort{}, err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: address.Addr().As4(), Port: int(address.Port())}); err != nil {
		return netip.AddrPort{}, err
	}
	if err := unix.Listen(fd, listenBacklog); err != nil {
		return netip.AddrPort{}, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := name.(*unix.SockaddrInet4).Port
	return netip.AddrPortFrom(address.Addr(), uint16(port)), nil
}

// freeAddress is a loopback address that nothing listens on at this moment.
func freeAddress() (netip.AddrPort, error) {
	fd, address, err := listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		return netip.AddrPort{}, err
	}
	return address, unix.Close(fd)
}

// recv and send do not tell the scheduler of the call: the sockets never block, and a call of a microsecond is not worth
// the bookkeeping.

func recv(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

func send(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// connectError is why a connection attempt failed.
func connectError(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return err
	case errno != 0:
		return syscall.Errno(errno)
	}
	return errors.New("closed by the peer")
}
