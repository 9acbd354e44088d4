package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// stubReadSize is what one read takes at most: a whole 64 KiB PUBLISH and its header.
	stubReadSize = 128 << 10

	// acceptBatch bounds how long new connections keep the others waiting.
	acceptBatch = 64
)

// A stub is a broker that knows just enough to answer a load generator, in one thread and with as few cycles as
// possible, because it shares the cores with the proxy that is measured: it accepts every CONNECT, sends each PUBLISH
// back where it came from, and answers PINGREQ.
type stub struct {
	poller      *poller
	listeners   []int // descriptors
	proxyHeader bool
	conns       []stubConn // by descriptor
	in, out     []byte
}

// A stubConn is one connection; the zero value is a descriptor that is not one.
type stubConn struct {
	echo    echo
	open    bool
	ending  bool   // close when unsent is gone
	unsent  []byte // what the socket refused; nothing is read meanwhile
	written int    // how much of unsent is gone
}

// stubCommand is `bench stub`. It prints its addresses and runs until it is ended.
func stubCommand(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("stub", flag.ContinueOnError)
	ports := flags.Int("ports", 3, "how many `backends` to be, each on a free port of 127.0.0.1")
	address := flags.String("listen", "", "one `address` to listen on instead")
	proxyHeader := flags.Bool("proxy", false, "expect a PROXY protocol v2 header in front of each connection")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	addresses := make([]netip.AddrPort, *ports)
	for i := range addresses {
		addresses[i] = netip.MustParseAddrPort("127.0.0.1:0")
	}
	if *address != "" {
		one, err := netip.ParseAddrPort(*address)
		if err != nil || !one.Addr().Is4() {
			return fmt.Errorf("%w: -listen wants an IPv4 address and a port, such as 127.0.0.1:1883", errUsage)
		}
		addresses = []netip.AddrPort{one}
	}

	s, err := newStub(*proxyHeader)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		bound, err := s.listen(a)
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, bound)
	}
	fmt.Fprintln(stdout, stubReady)
	// The loop allocates nothing, so there is nothing to collect.
	debug.SetGCPercent(-1)
	return s.run()
}

// stubReady is the line behind the stub's last address.
const stubReady = "ready"

func newStub(proxyHeader bool) (*stub, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	limit, err := descriptorLimit()
	if err != nil {
		return nil, err
	}
	return &stub{
		poller:      p,
		proxyHeader: proxyHeader,
		conns:       make([]stubConn, limit),
		in:          make([]byte, stubReadSize),
		out:         make([]byte, 0, stubReadSize+1024),
	}, nil
}

// descriptorLimit is one more than the largest descriptor this process can have.
func descriptorLimit() (int, error) {
	const enough = 1 << 20
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, os.NewSyscallError("getrlimit", err)
	}
	return int(min(limit.Cur, enough)), nil
}

func (s *stub) listen(address netip.AddrPort) (netip.AddrPort, error) {
	fd, bound, err := listen(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	s.listeners = append(s.listeners, fd)
	return bound, s.poller.add(fd, unix.EPOLLIN, int32(fd))
}

// run serves until the process is ended.
func (s *stub) run() error {
	lastListener := int32(s.listeners[len(s.listeners)-1])
	for {
		events, err := s.poller.wait(-1)
		if err != nil {
			return err
		}
		for i := range events {
			fd := events[i].Fd
			// Listeners were opened first and have the smallest descriptors.
			if fd <= lastListener {
				if err := s.accept(int(fd)); err != nil {
					return err
				}
				continue
			}
			if c := &s.conns[fd]; c.open {
				s.serve(int(fd), c)
			}
		}
	}
}

func (s *stub) accept(listener int) error {
	for range acceptBatch {
		fd, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0,
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch {
		case errno == unix.EAGAIN || errno == unix.EINTR:
			return nil
		case errno == unix.ECONNABORTED:
			continue
		case errno != 0:
			return fmt.Errorf("accept: %w", errno)
		}
		if int(fd) >= len(s.conns) {
			_ = unix.Close(int(fd))
			continue
		}
		c := &s.conns[fd]
		*c = stubConn{echo: newEcho(s.proxyHeader), open: true}
		if err := s.poller.add(int(fd), unix.EPOLLIN, int32(fd)); err != nil {
			return err
		}
		// A proxy's first bytes are often here already.
		s.serve(int(fd), c)
	}
	return nil
}

func (s *stub) serve(fd int, c *stubConn) {
	if len(c.unsent) > 0 {
		s.flush(fd, c)
		return
	}
	n, errno := recv(fd, s.in)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if errno != 0 || n == 0 {
		s.drop(fd, c)
		return
	}
	out, err := c.echo.feed(s.in[:n], s.out[:0])
	c.ending = err != nil
	if err != nil && !errors.Is(err, errClientLeft) {
		fmt.Fprintln(os.Stderr, "stub: a connection was closed:", err)
	}
	sent := 0
	if len(out) > 0 {
		if sent, errno = send(fd, out); errno != 0 && errno != unix.EAGAIN {
			s.drop(fd, c)
			return
		}
	}
	switch {
	case sent < len(out):
		c.unsent, c.written = append(c.unsent[:0], out[sent:]...), 0
		if s.poller.change(fd, unix.EPOLLOUT, int32(fd)) != nil {
			s.drop(fd, c)
		}
	case c.ending:
		s.drop(fd, c)
	}
}

// flush sends what the socket refused before.
func (s *stub) flush(fd int, c *stubConn) {
	n, errno := send(fd, c.unsent[c.written:])
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return
	}
	if c.written += n; errno == 0 && c.written < len(c.unsent) {
		return
	}
	c.unsent = c.unsent[:0]
	if errno != 0 || c.ending || s.poller.change(fd, unix.EPOLLIN, int32(fd)) != nil {
		s.drop(fd, c)
	}
}

func (s *stub) drop(fd int, c *stubConn) {
	*c = stubConn{}
	_ = unix.Close(fd)
}
