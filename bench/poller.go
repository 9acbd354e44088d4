package main

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// pollBatch is how many events one wait returns at most.
	pollBatch = 512

	// quietWaits is after how many waits without an event the poller lets go of its P, see wait.
	quietWaits = 10

	// longestHold bounds a raw wait, during which the Go runtime cannot stop the goroutine.
	longestHold = 100 * time.Millisecond
)

// A poller is a level-triggered epoll instance for one goroutine.
type poller struct {
	fd     int
	quiet  int // waits in a row that returned no event
	events [pollBatch]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &poller{fd: fd}, nil
}

func (p *poller) close() { _ = unix.Close(p.fd) }

// add watches fd; its events carry key in the field Fd.
func (p *poller) add(fd int, events uint32, key int32) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, key)
}

// change replaces what fd is watched for.
func (p *poller) change(fd int, events uint32, key int32) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, events, key)
}

func (p *poller) control(op, fd int, events uint32, key int32) error {
	if err := unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: key}); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait returns the events of the next moment that has any; none when limit passed first, a signal came, or the wait was
// cut for the runtime's sake. The slice is valid until the next call. A negative limit means any time.
//
// A blocking system call through package syscall costs the scheduler's monitor thread CPU whenever it returns within
// milliseconds, which at low message rates is several times the work itself and would steal the cores from the proxy.
// So the wait is raw and holds its P. The runtime interrupts that every 10 ms by a signal, and Gosched is then the safe
// point that it asks for. After a run of empty waits nothing is going on and an ordinary blocking call is cheapest.
func (p *poller) wait(limit time.Duration) ([]unix.EpollEvent, error) {
	raw := p.quiet < quietWaits
	if raw && (limit < 0 || limit > longestHold) {
		limit = longestHold
	}
	var timeout *unix.Timespec
	if limit >= 0 {
		ts := unix.NsecToTimespec(int64(limit))
		timeout = &ts
	}
	var n uintptr
	var errno syscall.Errno
	if raw {
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd),
			uintptr(unsafe.Pointer(&p.events[0])), pollBatch, uintptr(unsafe.Pointer(timeout)), 0, 0)
	} else {
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd),
			uintptr(unsafe.Pointer(&p.events[0])), pollBatch, uintptr(unsafe.Pointer(timeout)), 0, 0)
	}
	if errno == unix.EINTR {
		runtime.Gosched()
		n = 0
	} else if errno != 0 {
		return nil, fmt.Errorf("epoll_pwait2 (Linux 5.11 or later): %w", errno)
	}
	if n > 0 {
		p.quiet = 0
	} else {
		p.quiet++
	}
	return p.events[:n], nil
}
