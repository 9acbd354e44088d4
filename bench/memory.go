package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// processResident is a process's resident memory in bytes, counted page by page (smaps_rollup), which is exact where
// the counter in statm may lag by some pages per thread.
func processResident(pid int) (int64, error) {
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	return parseKilobytes(rollup, "Rss")
}

// kernelSlab is the memory of the kernel's own objects in bytes, sockets among them, of the whole machine.
func kernelSlab() (int64, error) {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return parseKilobytes(info, "Slab")
}

// parseKilobytes finds a line such as "Rss:   123 kB" and returns bytes.
func parseKilobytes(text []byte, name string) (int64, error) {
	for line := range bytes.Lines(text) {
		value, found := strings.CutPrefix(string(line), name+":")
		if !found {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 10, 64)
		return kilobytes << 10, err
	}
	return 0, fmt.Errorf("no line %q", name)
}
