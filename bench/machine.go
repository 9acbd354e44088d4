package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A header says on what and of what the figures are.
type header struct {
	Date     string            `json:"date"`
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Commit   string            `json:"commit"`
	Network  string            `json:"network"`
	Versions map[string]string `json:"versions"` // by system
}

func newHeader(ctx context.Context, n network, systems []system) header {
	h := header{
		Date:     time.Now().UTC().Format(time.DateOnly),
		CPU:      cpuModel(),
		Cores:    runtime.NumCPU(),
		Kernel:   kernelRelease(),
		Go:       runtime.Version(),
		Commit:   commit(ctx),
		Network:  n.String(),
		Versions: make(map[string]string),
	}
	for _, s := range systems {
		switch {
		case s.missing != "":
			h.Versions[s.name] = s.missing
		case s.version != "":
			h.Versions[s.name] = s.version
		}
	}
	return h
}

func (h header) write(w io.Writer) {
	fmt.Fprintf(w, "%s, %s, %d cores, Linux %s, %s, mqttlb at commit %s\n", h.Date, h.CPU, h.Cores, h.Kernel, h.Go, h.Commit)
	fmt.Fprintf(w, "Network: %s\n", h.Network)
}

func cpuModel() string {
	const unknown = "unknown CPU"
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range bytes.Lines(info) {
		name, value, _ := strings.Cut(string(line), ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return unknown
}

func kernelRelease() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// commit is the revision of the tree that the bench runs in, "-dirty" when files differ from it.
func commit(ctx context.Context) string {
	said, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(said))
}
