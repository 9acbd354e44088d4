package proxy

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Socket options (protocol.md, 6). Both legs are told everything explicitly: the defaults of the
// kernel notice a dead peer after two hours, and keepalive alone does not notice one while data is
// in flight, which is what TCP_USER_TIMEOUT is for.
const (
	clientUserTimeout = 120_000 // ms; cellular links have gaps of a minute

	backendUserTimeout = 30 * time.Second // but see debts.go

	// Seconds. How many probes may fail is no option of ours: with TCP_USER_TIMEOUT set, the kernel goes by
	// the time without an answer instead (tcp(7)).
	backendKeepIdle, backendKeepInterval = 30, 10
	clientKeepIdle, clientKeepInterval   = 240, 30

	// deferAccept makes the kernel hold a connection back until its first bytes are there, for about
	// this many seconds: one wake-up less per client, and a silent stranger costs no session.
	deferAccept = 1

	backlog = 4096 // connections that wait for accept; the kernel caps it at net.core.somaxconn
)

// tuneBackend sets the options of a socket towards a broker. Options that a kernel does not know are
// not worth failing a connection for.
func tuneBackend(fd int, userTimeout time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	setUserTimeout(fd, userTimeout)
	keepAlive(fd, backendKeepIdle, backendKeepInterval)
}

// setUserTimeout bounds the time that bytes may stay unacknowledged; 0 leaves it to the kernel, which takes a quarter of
// an hour.
func setUserTimeout(fd int, d time.Duration) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
}

// keepClientAlive switches TCP keepalive on for a client that promised no MQTT keep alive: nobody
// else would notice that it is gone. The others are watched by the broker, which closes them after
// 1.5 times their keep alive (MQTT-3.1.2-24), and probing them would cost a phone its battery.
func keepClientAlive(fd int) { keepAlive(fd, clientKeepIdle, clientKeepInterval) }

func keepAlive(fd, idle, interval int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, idle)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, interval)
}

// listen opens a listening socket. With shared set, several sockets of this process may listen on
// one address and the kernel spreads connections over them; without it the address must be free.
func listen(at netip.AddrPort, shared bool) (int32, error) {
	fd, err := bindSocket(at, shared)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(int(fd), backlog); err != nil {
		closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

// bindSocket is listen without the last step: the socket has its address, and nobody can connect yet.
func bindSocket(at netip.AddrPort, shared bool) (int32, error) {
	family := unix.AF_INET
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if err := prepareListener(fd, at, shared); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return int32(fd), nil
}

func prepareListener(fd int, at netip.AddrPort, shared bool) error {
	if err := tuneListener(fd); err != nil {
		return err
	}
	if shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return fmt.Errorf("set SO_REUSEPORT: %w", err)
		}
	}
	if at.Addr().Is6() && at.Addr().IsUnspecified() {
		// "[::]" and ":1883" mean every address of both families.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}
	return unix.Bind(fd, sockaddr(at))
}

// tuneListener sets what every listening socket needs, whoever has opened it.
func tuneListener(fd int) error {
	options := []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		// Accepted sockets inherit these two.
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, clientUserTimeout},
		{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAccept},
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set socket option %d/%d: %w", o.level, o.name, err)
		}
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}
