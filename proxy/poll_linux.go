package proxy

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An event's 64 bits of user data name what it is about: 3 bits kind, 29 bits generation, 32 bits
// index (of the session, or of the listener).
type kind uint64

const (
	kindClient kind = iota
	kindBackend
	kindListener
	kindWake
	kindClock
)

const generationMask = 1<<29 - 1

func token(k kind, generation, index uint32) uint64 {
	return uint64(k)<<61 | uint64(generation&generationMask)<<32 | uint64(index)
}

func untoken(t uint64) (k kind, generation, index uint32) {
	return kind(t >> 61), uint32(t>>32) & generationMask, uint32(t)
}

// Interest in a connected socket. Edge-triggered, so the kernel speaks once per change and a
// registration lasts for the life of the socket; writability is asked for only after a socket has
// refused bytes.
const (
	interestRead      = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	interestReadWrite = interestRead | unix.EPOLLOUT
)

// A poller waits for the kernel's events on behalf of one loop.
//
// How a loop waits decides what mqttlb costs (docs/adr/0002-how-a-loop-waits.md has the figures). There are
// two ways, and each is bad at the other's job:
//
// Parking. The goroutine sleeps like any other that waits for the network, because the Go runtime's poller
// watches the loop's epoll descriptor. An idle process uses no CPU, and sparse events are cheap, since the
// runtime's monitor thread sleeps as well. But each sleep costs some more system calls.
//
// Holding. The thread stays in a raw epoll_wait that the scheduler does not know of. That is the cheapest
// way when the next event is less than a millisecond away. But the scheduler interrupts who holds on for
// 10 ms (EINTR), so that at low rates the interruptions cost more than the work.
//
// So a loop parks, and holds while it is busy. A process with loops that hold needs more Ps than loops;
// see Procs.
//
// The runtime watches through a gate, a second epoll descriptor that shows the first one only while the
// loop is parked. Otherwise every event of a busy loop would wake a thread of the runtime as well.
type poller struct {
	epoll  int
	wake   int // eventfd: another goroutine wants something
	clock  int // timerfd: a deadline is due
	due    int64
	gate   *os.File // an epoll descriptor, watched by the runtime
	parked syscall.RawConn
	look   func(uintptr) bool // what parked calls to see whether there are events
	open   bool               // the gate
	shown  [1]unix.EpollEvent // by the gate
	ready  int                // events that look has found
	events [128]unix.EpollEvent

	busy  bool
	since int64 // when it began to count events, on the loop's clock
	count int   // events since
}

// Procs is the GOMAXPROCS that a process with this many loops needs: a busy loop holds its P while it
// waits, and everything else needs some too.
func Procs(loops int) int { return loops + runtime.NumCPU() }

func newPoller() (_ *poller, err error) {
	p := &poller{epoll: -1, wake: -1, clock: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if p.clock, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("timerfd_create: %w", err)
	}
	if err := p.add(int32(p.wake), unix.EPOLLIN, token(kindWake, 0, 0)); err != nil {
		return nil, err
	}
	if err := p.add(int32(p.clock), unix.EPOLLIN|unix.EPOLLET, token(kindClock, 0, 0)); err != nil {
		return nil, err
	}
	gate, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create: %w", err)
	}
	// os.NewFile hands a descriptor to the runtime's poller only if it does not block; reading an epoll
	// descriptor never does, and nothing else about it changes.
	if err := unix.SetNonblock(gate, true); err != nil {
		_ = unix.Close(gate)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// Once and for all, and while there is little in it: adding walks through everything it holds.
	if err := epollControl(uintptr(gate), unix.EPOLL_CTL_ADD, int32(p.epoll), 0, 0); err != nil {
		_ = unix.Close(gate)
		return nil, err
	}
	p.gate = os.NewFile(uintptr(gate), "epoll")
	if p.parked, err = p.gate.SyscallConn(); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p.look = p.lookThroughGate
	return p, nil
}

func (p *poller) close() {
	for _, fd := range []int{p.epoll, p.wake, p.clock} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	if p.gate != nil {
		_ = p.gate.Close()
	}
}

// add registers a descriptor. Before it is closed, call forget.
func (p *poller) add(fd int32, events uint32, token uint64) error {
	return p.control(unix.EPOLL_CTL_ADD, fd, events, token)
}

// change replaces the interest in a registered descriptor.
func (p *poller) change(fd int32, events uint32, token uint64) error {
	return p.control(unix.EPOLL_CTL_MOD, fd, events, token)
}

func (p *poller) control(op int, fd int32, events uint32, token uint64) error {
	return epollControl(uintptr(p.epoll), op, fd, events, token)
}

func epollControl(epoll uintptr, op int, fd int32, events uint32, token uint64) error {
	e := unix.EpollEvent{Events: events, Fd: int32(token), Pad: int32(token >> 32)}
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, epoll, uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("epoll_ctl: %w", errno)
	}
	return nil
}

func eventToken(e *unix.EpollEvent) uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// interrupt wakes the loop from another goroutine.
func (p *poller) interrupt() {
	one := [8]byte{0: 1}
	_, _ = unix.Write(p.wake, one[:])
}

// acknowledge empties the eventfd after a wake-up.
func (p *poller) acknowledge() {
	var b [8]byte
	_, _ = unix.Read(p.wake, b[:])
}

// alarm makes the poller report kindClock at the given time on the loop's clock, unless it is set to that
// time already. now is that clock's reading.
func (p *poller) alarm(now, at int64) {
	if p.due == at {
		return
	}
	p.due = at
	// At least a nanosecond: zero would switch the timer off.
	t := unix.ItimerSpec{Value: unix.NsecToTimespec(max(at-now, 1))}
	_ = unix.TimerfdSettime(p.clock, 0, &t, nil)
}

const (
	// holdFor bounds one raw wait. It stays well below the scheduler's 10 ms.
	holdFor = 2 * time.Millisecond
	// holdMisses waits in a row without an event, and a busy loop parks after all. Most misses are not
	// that: the scheduler has interrupted the wait.
	holdMisses = 3
	// lookBack is the time after which a loop looks back at how many events it had, and busyEvents the
	// number in it that makes it busy: one every 200 µs.
	lookBack   = int64(20 * time.Millisecond)
	busyEvents = 100
)

// wait returns the next events, at least one. now is the loop's clock.
func (p *poller) wait(now int64) []unix.EpollEvent {
	if now-p.since > lookBack {
		wasBusy := p.busy
		p.busy = int64(p.count)*lookBack > busyEvents*(now-p.since)
		p.since, p.count = now, 0
		if p.busy && !wasBusy {
			// This goroutine may run on the very thread that polled the network for all others, and will
			// not give it back soon. A new goroutine makes the scheduler wake another thread for that.
			go func() {}()
		}
	}
	for misses := 0; p.busy; misses++ {
		if n := p.raw(holdFor); n > 0 {
			p.count += n
			return p.events[:n]
		}
		p.busy = misses < holdMisses
	}
	p.park()
	p.count += p.ready
	return p.events[:p.ready]
}

// park sleeps until there are events.
func (p *poller) park() {
	p.ready = 0
	_ = p.parked.Read(p.look) // fails only when the poller is closed
}

// lookThroughGate is what the runtime calls before it lets the goroutine sleep, and each time the gate has
// shown something. It reports whether there are events. The gate is open only between a "no" and the next
// call. An event that comes after the look and before the gate opens is not lost: opening shows it.
func (p *poller) lookThroughGate(gate uintptr) bool {
	if p.open {
		// One-shot: taking the event out of the gate closes it.
		p.open = epollWait(gate, p.shown[:], 0) == 0
	}
	if p.ready = p.raw(0); p.ready > 0 {
		if p.open {
			p.open = epollControl(gate, unix.EPOLL_CTL_MOD, int32(p.epoll), 0, 0) != nil
		}
		return true
	}
	p.open = epollControl(gate, unix.EPOLL_CTL_MOD, int32(p.epoll), unix.EPOLLIN|unix.EPOLLONESHOT, 0) == nil
	return !p.open // a gate that cannot be opened would never wake this goroutine: go on asking
}

// peek returns the events that are there already.
func (p *poller) peek() []unix.EpollEvent { return p.events[:p.raw(0)] }

// forget must be called before a registered descriptor is closed. A thread of the runtime that looks through
// the gate holds a reference to each ready socket for that moment. If the loop closes the socket just then,
// that reference is the last one, and the kernel drops it, and sends FIN, only when the thread returns from
// its next sleep, which can be seconds. Removing the socket waits for the thread to have looked. While the
// loop is busy the gate is closed, and nobody looks.
func (p *poller) forget(fd int32) {
	if !p.busy {
		p.remove(fd)
	}
}

// remove is forget for a socket of which others may have duplicates: closing ours would leave it registered.
func (p *poller) remove(fd int32) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(p.epoll), unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0)
}

// raw waits without telling the scheduler and returns the number of events.
func (p *poller) raw(limit time.Duration) int {
	return epollWait(uintptr(p.epoll), p.events[:], limit)
}

func epollWait(epoll uintptr, events []unix.EpollEvent, limit time.Duration) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(&events[0])),
		uintptr(len(events)), uintptr(limit/time.Millisecond), 0, 0)
	if errno != 0 {
		// EINTR: the scheduler wants this goroutine to reach a safe point. Without one, the next
		// stop-the-world would hang the whole process.
		runtime.Gosched()
		return 0
	}
	return int(n)
}
