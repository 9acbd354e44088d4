package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// politeStop is how long a process has after SIGTERM before the next, firmer word.
	politeStop = 300 * time.Millisecond

	// logTail is how much of a failed process's output is shown.
	logTail = 2000
)

// A process is a child with the processes that it has started itself, such as nginx's workers.
type process struct {
	cmd     *exec.Cmd
	output  string // file
	exited  chan struct{}
	workers []worksFor
}

// worksFor is a child's child. It is held by a pidfd, which unlike a pid never means another process later.
type worksFor struct{ pid, fd int }

// A launch says how to start a process.
type launch struct {
	argv   []string
	folder string       // for its output
	cpus   *unix.CPUSet // nil: all
	stdout io.Writer    // nil: with stderr into the output file
}

func start(l launch) (*process, error) {
	output, err := os.Create(filepath.Join(l.folder, filepath.Base(l.argv[0])+".out"))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := exec.Command(l.argv[0], l.argv[1:]...) //nolint:noctx // stop ends it, in steps that no context knows
	cmd.Stdout, cmd.Stderr = output, output
	if l.stdout != nil {
		cmd.Stdout = l.stdout
	}
	cmd.SysProcAttr = childAttributes()
	if err := startOn(l.cpus, cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", l.argv[0], err)
	}
	p := &process{cmd: cmd, output: output.Name(), exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
	}()
	return p, nil
}

// childAttributes let no child outlive this process, and keep the terminal's Ctrl-C from it, so that it is always ended
// in order. SIGTERM and not SIGKILL, because nginx's workers end with their master only when it is asked.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// startOn runs start with the calling thread confined to cpus, which the child inherits before it counts its cores.
func startOn(cpus *unix.CPUSet, start func() error) error {
	if cpus == nil {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("sched_getaffinity: %w", err)
	}
	if err := unix.SchedSetaffinity(0, cpus); err != nil {
		return fmt.Errorf("sched_setaffinity: %w", err)
	}
	err := start()
	if restore := unix.SchedSetaffinity(0, &before); err == nil {
		err = restore
	}
	return err
}

// pids are the process and its workers.
func (p *process) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for _, w := range p.workers {
		all = append(all, w.pid)
	}
	return all
}

// findWorkers looks for the processes that p has started; call it when p is ready.
func (p *process) findWorkers() error {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return err
	}
	parents := make(map[int]int, len(stats))
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended meanwhile
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parents[pid] = parentOf(stat)
	}
	for pid := range parents {
		if !descends(pid, p.cmd.Process.Pid, parents) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return fmt.Errorf("worker %d: %w", pid, err)
		}
		p.workers = append(p.workers, worksFor{pid: pid, fd: fd})
	}
	return nil
}

// parentOf is the parent's pid in /proc/PID/stat, 0 if there is none.
func parentOf(stat []byte) int {
	_, after, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	fields := strings.Fields(after)
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// descends says whether pid is a child, or a child's child, of ancestor.
func descends(pid, ancestor int, parents map[int]int) bool {
	for range len(parents) {
		pid = parents[pid]
		if pid == ancestor {
			return true
		}
	}
	return false
}

// stop ends the process and its workers and returns when they are gone: SIGTERM, once more for those that would drain
// first, then SIGKILL.
func (p *process) stop() {
	defer func() {
		for _, w := range p.workers {
			_ = unix.PidfdSendSignal(w.fd, unix.SIGKILL, nil, 0)
			awaitEnd(w.fd)
			_ = unix.Close(w.fd)
		}
	}()
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		_ = p.cmd.Process.Signal(signal)
		select {
		case <-p.exited:
			return
		case <-time.After(politeStop):
		}
	}
	<-p.exited
}

// awaitEnd waits for the end of a process that has been killed.
func awaitEnd(pidfd int) {
	const patience = 1000 // milliseconds
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, patience)
}

// ended says whether the process has ended by itself.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// tail is the end of what the process said, for the message about its failure.
func (p *process) tail() string {
	text, err := os.ReadFile(p.output)
	if err != nil {
		return ""
	}
	text = bytes.TrimSpace(text[max(0, len(text)-logTail):])
	if len(text) == 0 {
		return ""
	}
	return "\n\t" + strings.ReplaceAll(string(text), "\n", "\n\t")
}

// linesUntil returns the lines of r before the given one.
func linesUntil(r io.Reader, last string) ([]string, error) {
	var lines []string
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		if scan.Text() == last {
			return lines, nil
		}
		lines = append(lines, scan.Text())
	}
	if err := scan.Err(); err != nil {
		return nil, err
	}
	return nil, io.ErrUnexpectedEOF
}
