package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of CPU times in /proc, USER_HZ, which is 100 on every architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// processCPU is the user and system time of a process since it began, to the nanosecond, all its threads together with
// those that have ended. It is the sum of what /proc/PID/task/*/schedstat shows, from one system call: every process has
// a CPU clock, whose number is made of its pid (clock_getcpuclockid(3)).
func processCPU(pid int) (time.Duration, error) {
	const cpuClockSched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClockSched, &ts); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// processTicks is the same from /proc/PID/stat, in steps of 10 ms. It is a check on processCPU and no more.
func processTicks(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	return parseProcessStat(stat)
}

func parseProcessStat(stat []byte) (time.Duration, error) {
	// The second field is the command's name in brackets and may itself have spaces and brackets.
	const utime, stime = 14 - 3, 15 - 3
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) <= stime {
		return 0, errors.New("unknown form of /proc/PID/stat")
	}
	user, err1 := strconv.ParseInt(fields[utime], 10, 64)
	system, err2 := strconv.ParseInt(fields[stime], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}

// sumOver adds up what read says of several processes.
func sumOver[T ~int64](pids []int, read func(pid int) (T, error)) (T, error) {
	var sum T
	for _, pid := range pids {
		v, err := read(pid)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// A machineCPU is the time that all cores together have spent.
type machineCPU struct {
	busy   time.Duration // on anything
	stolen time.Duration // taken by the hypervisor for others
}

func readMachineCPU() (machineCPU, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineCPU{}, err
	}
	return parseMachineStat(stat)
}

func parseMachineStat(stat []byte) (machineCPU, error) {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	const user, nice, system, irq, softirq, steal = 1, 2, 3, 6, 7, 8
	if len(fields) <= steal || fields[0] != "cpu" {
		return machineCPU{}, errors.New("unknown form of /proc/stat")
	}
	var ticks [steal + 1]time.Duration
	for i := user; i <= steal; i++ {
		v, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return machineCPU{}, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks[i] = time.Duration(v) * clockTick
	}
	return machineCPU{
		busy:   ticks[user] + ticks[nice] + ticks[system] + ticks[irq] + ticks[softirq],
		stolen: ticks[steal],
	}, nil
}
