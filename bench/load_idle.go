package main

import (
	"fmt"
	"time"
)

// memorySettle is for how long sessions are usually left alone before memory is read, so that buffers are back in their
// pools and the sockets' last acknowledgements are through.
const memorySettle = 1500 * time.Millisecond

// sessionsMemory is what memory two numbers of sessions take. The difference is what one more session costs, without
// what the proxy needs before its first.
type sessionsMemory struct {
	Fewer memoryReading `json:"fewer"`
	More  memoryReading `json:"more"`
}

// A memoryReading is memory in bytes.
type memoryReading struct {
	Sessions int   `json:"sessions"`
	Resident int64 `json:"resident"` // of the proxy's processes
	Kernel   int64 `json:"kernel"`   // slab of the whole machine, with the sockets of clients and brokers
}

// residentPerSession is the proxy's memory for one more session, in bytes.
func (m sessionsMemory) residentPerSession() float64 {
	return float64(m.More.Resident-m.Fewer.Resident) / float64(m.More.Sessions-m.Fewer.Sessions)
}

// kernelPerSession is the kernel's memory for one more session and everyone in it, in bytes.
func (m sessionsMemory) kernelPerSession() float64 {
	return float64(m.More.Kernel-m.Fewer.Kernel) / float64(m.More.Sessions-m.Fewer.Sessions)
}

// idle opens sessions, in two steps, that never say anything after CONNECT. It measures memory after each step and then
// the CPU time of doing nothing.
func idle(c loadConfig) (loadResult, error) {
	p, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer p.close()
	return watchIdle(c, p, newDialer(p, c.target, c.level).establish)
}

// watchIdle is what is measured of idle sessions. establish opens so many more and appends their sockets, which p watches.
func watchIdle(c loadConfig, p *poller, establish func(fds []int, count int) ([]int, error)) (loadResult, error) {
	var memory sessionsMemory
	fds, err := establish(nil, c.fewer)
	if err != nil {
		return loadResult{}, err
	}
	time.Sleep(c.settle)
	if memory.Fewer, err = c.meter.readMemory(len(fds)); err != nil {
		return loadResult{}, err
	}
	fds, err = establish(fds, c.connections-c.fewer)
	if err != nil {
		return loadResult{}, err
	}
	defer closeAll(fds)
	time.Sleep(c.settle)
	if memory.More, err = c.meter.readMemory(len(fds)); err != nil {
		return loadResult{}, err
	}

	start, err := c.meter.read()
	if err != nil {
		return loadResult{}, err
	}
	time.Sleep(c.duration)
	end, err := c.meter.read()
	if err != nil {
		return loadResult{}, err
	}
	if err := expectSilence(p); err != nil {
		return loadResult{}, err
	}
	return loadResult{usage: end.since(start), Work: float64(len(fds)), Memory: &memory}, nil
}

// expectSilence fails if anything has happened to the sessions that p watches: nobody sends anything, so an event means
// that one was lost.
func expectSilence(p *poller) error {
	events, err := p.wait(0)
	if err != nil {
		return err
	}
	if len(events) > 0 {
		return fmt.Errorf("%w: %d at least, while idle", errSessionEnded, len(events))
	}
	return nil
}

func (m meter) readMemory(sessions int) (memoryReading, error) {
	resident, err := sumOver(m.proxy, processResident)
	if err != nil {
		return memoryReading{}, fmt.Errorf("resident memory: %w", err)
	}
	kernel, err := kernelSlab()
	if err != nil {
		return memoryReading{}, fmt.Errorf("kernel memory of %d sessions: %w", sessions, err)
	}
	return memoryReading{Sessions: sessions, Resident: resident, Kernel: kernel}, nil
}
