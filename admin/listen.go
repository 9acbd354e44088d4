package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketMode lets the owner and the group of the socket in, nobody else.
const socketMode = 0o660

// probeTimeout bounds the question whether somebody answers on a socket that exists already.
const probeTimeout = time.Second

// Listen opens the sockets. Requests that come before Serve wait. When one socket cannot be opened, none
// is, and the error says what to do about it.
func (s *Server) Listen() error {
	if s.options.Address != "" {
		l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", s.options.Address)
		if err != nil {
			return fmt.Errorf("admin: cannot listen on %s: %w", s.options.Address, explainAddress(err))
		}
		s.listeners, s.address = append(s.listeners, l), l.Addr()
	}
	if s.options.Socket != "" {
		l, err := listenSocket(s.options.Socket)
		if err != nil {
			s.Close()
			return fmt.Errorf("admin: cannot open the socket %s: %w", s.options.Socket, err)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

func listenSocket(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The file appears with bind. It has its mode from the first moment on because Linux gives it the
	// mode of the socket (unix_bind), less the umask; Chmod then gives back what the umask took.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), socketMode) })
		return errors.Join(err, failed)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, explainSocket(path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket on which nobody answers: the one of a process that was killed.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // nothing is there, or listening will say what is wrong
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return errors.New("there is a file that is not a socket; remove it or set admin.socket to another path")
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return errors.New("another mqttlb is running and answers on it; stop that one or set admin.socket to another path")
	}
	// Only this error says that nobody listens. A live process that is too busy gives EAGAIN.
	if !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("it exists, and whether another mqttlb is running cannot be found out: %w", innermost(err))
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("a stopped mqttlb has left it behind, and it cannot be removed: %w", innermost(err))
	}
	return nil
}

// explainAddress adds what an operator can do about the usual errors.
func explainAddress(err error) error {
	switch cause := innermost(err); {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w; stop the other process or set admin.address to another port", cause)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w; set admin.address to a port above 1023", cause)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w; this host has no such address", cause)
	default:
		return err
	}
}

func explainSocket(path string, err error) error {
	folder := filepath.Dir(path)
	switch cause := innermost(err); {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("the folder %s does not exist; create it (systemd: RuntimeDirectory=) or set admin.socket to another path", folder)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EROFS), errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w; this user must be able to write to the folder %s, or set admin.socket to another path", cause, folder)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w; Linux allows at most 107 bytes for the path of a socket", cause)
	default:
		return err
	}
}

// innermost is the error of the system call, without the address that the message names already.
func innermost(err error) error {
	if number, ok := errors.AsType[unix.Errno](err); ok {
		return number
	}
	return err
}
