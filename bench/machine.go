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
	Memory   int64             `json:"memory"` // bytes
	Kernel   string            `json:"kernel"`
	Go       string            `json:"go"`
	Commit   string            `json:"commit"`
	Network  string            `json:"network"`
	Took     time.Duration     `json:"took_ns"`  // by the whole run
	Versions map[string]string `json:"versions"` // by system
}

func newHeader(ctx context.Context, n network, systems []system) header {
	h := header{
		Date:     time.Now().UTC().Format(time.DateOnly),
		CPU:      cpuModel(),
		Cores:    runtime.NumCPU(),
		Memory:   memoryTotal(),
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
	fmt.Fprintf(w, "%s, %s, %d cores, %s of memory, Linux %s, %s, mqttlb at commit %s\n",
		h.Date, h.CPU, h.Cores, formatBytes(h.Memory), h.Kernel, h.Go, h.Commit)
	fmt.Fprintf(w, "Versions: %s\n", h.versionText())
	fmt.Fprintf(w, "Network: %s\n", h.Network)
}

// versionText is the systems with their versions.
func (h header) versionText() string {
	var parts []string
	for _, name := range proxies {
		if version, known := h.Versions[name]; known {
			parts = append(parts, titles[name]+" "+version)
		}
	}
	return strings.Join(parts, ", ")
}

// memoryTotal is the machine's memory in bytes, 0 when it is unknown.
func memoryTotal() int64 {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	total, err := parseKilobytes(info, "MemTotal")
	if err != nil {
		return 0
	}
	return total
}

// formatBytes prints memory in GiB.
func formatBytes(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

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
