package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// grow opens more and more sessions that say nothing after CONNECT. At each of the sizes it measures memory and the CPU
// time of doing nothing, for an equal part of the measured time.
func grow(c loadConfig) (loadResult, error) {
	p, err := newPoller()
	if err != nil {
		return loadResult{}, err
	}
	defer p.close()
	d := newDialer(p, c.target, c.level)
	var fds []int
	defer func() { closeAll(fds) }()

	first, err := c.meter.read()
	if err != nil {
		return loadResult{}, err
	}
	empty, err := c.meter.readMemory(0)
	if err != nil {
		return loadResult{}, err
	}
	result := loadResult{Figures: make(map[string]float64)}
	for _, size := range c.sizes {
		if fds, err = d.establish(fds, size-len(fds)); err != nil {
			return loadResult{}, err
		}
		time.Sleep(c.settle)
		memory, err := c.meter.readMemory(size)
		if err != nil {
			return loadResult{}, err
		}
		start, err := c.meter.read()
		if err != nil {
			return loadResult{}, err
		}
		time.Sleep(c.duration / time.Duration(len(c.sizes)))
		end, err := c.meter.read()
		if err != nil {
			return loadResult{}, err
		}
		both := sessionsMemory{Fewer: empty, More: memory}
		result.Figures[sized(residentAt, size)] = both.residentPerSession()
		result.Figures[sized(kernelAt, size)] = both.kernelPerSession()
		result.Figures[sized(idleCPUAt, size)] = nano * coreShare(loadResult{usage: end.since(start)}) / float64(size)
	}
	last, err := c.meter.read()
	if err != nil {
		return loadResult{}, err
	}
	if err := expectSilence(p); err != nil {
		return loadResult{}, err
	}
	result.usage, result.Work = last.since(first), float64(len(fds))
	return result, nil
}

// The figures of grow, by session; sized says of which size.
const (
	residentAt = "resident"
	kernelAt   = "kernel"
	idleCPUAt  = "idle-ns"
)

func sized(figure string, size int) string { return figure + "-" + strconv.Itoa(size) }

// parseSizes reads a list of numbers that grow.
func parseSizes(list string) ([]int, error) {
	var sizes []int
	previous := 0
	for field := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(field)
		if err != nil || size <= previous {
			return nil, fmt.Errorf("%w: -sizes wants growing numbers such as 1000,2000", errUsage)
		}
		sizes, previous = append(sizes, size), size
	}
	return sizes, nil
}
