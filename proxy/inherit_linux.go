package proxy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// inherit gives each loop a duplicate of a socket that somebody else has opened. They share one queue of connections,
// where sockets of our own have one each: a new connection may wake two loops, of which one finds nothing.
func (n *newcomer) inherit(loops int) error {
	if err := checkInherited(n.Socket); err != nil {
		return err
	}
	for range loops {
		fd, err := unix.FcntlInt(uintptr(n.Socket), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("duplicate the socket: %w", err)
		}
		n.fds = append(n.fds, int32(fd))
		if err := unix.SetNonblock(fd, true); err != nil {
			return fmt.Errorf("set O_NONBLOCK: %w", err)
		}
		if err := tuneListener(fd); err != nil {
			return err
		}
	}
	n.at = localAddr(n.fds[0])
	return nil
}

// checkInherited tells whether a descriptor is a socket on which clients can arrive.
func checkInherited(fd int) error {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("descriptor %d that was passed is no socket: %w", fd, err)
	}
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("cannot find out the family of socket %d: %w", fd, err)
	}
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return fmt.Errorf("cannot find out the protocol of socket %d: %w", fd, err)
	}
	if listens == 0 || protocol != unix.IPPROTO_TCP || domain != unix.AF_INET && domain != unix.AF_INET6 {
		return errors.New("the socket that was passed does not listen for TCP; in the socket unit use ListenStream=PORT, and Accept=no")
	}
	return nil
}
