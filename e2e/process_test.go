//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A process is a child of the test. It ends with the test, whatever happens.
type process struct {
	name string
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed when it has ended
}

// start runs a program with its output going to out. It is killed at the end of the test if it still runs.
func start(t *testing.T, out io.Writer, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Stdout, cmd.Stderr = out, out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true              // its children can be ended with it
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // and it ends when the test is killed
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", cmd.Path, err)
	}
	p := &process{name: filepath.Base(cmd.Path), cmd: cmd, pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		switch {
		case p.running():
			_ = syscall.Kill(-p.pid, syscall.SIGKILL)
			<-p.done
		case t.Failed():
			t.Logf("%s has ended before the test: %v", p.name, p.cmd.ProcessState)
		}
	})
	return p
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to the process itself.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("send %v to %s: %v", s, p.name, err)
	}
}

// freeze stops the process, and waits until it stands still; SIGCONT lets it go on.
func (p *process) freeze(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGSTOP)
	eventually(t, patience, p.name+" stands still", func() bool {
		stat := p.proc(t, "stat")
		return strings.HasPrefix(stat[strings.LastIndexByte(stat, ')')+1:], " T")
	})
}

// kill ends the process without a word, and waits until it is gone.
func (p *process) kill(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGKILL)
	p.exit(t, 5*time.Second)
}

// exit waits for the end of the process and returns its exit status.
func (p *process) exit(t *testing.T, within time.Duration) int {
	t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		t.Fatalf("%s has not ended within %v", p.name, within)
		return -1
	}
}

// rss is the resident memory of the process in bytes.
func (p *process) rss(t *testing.T) int {
	t.Helper()
	for line := range strings.Lines(p.proc(t, "status")) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")))
			if err != nil {
				t.Fatalf("read VmRSS of %s: %v", p.name, err)
			}
			return n << 10
		}
	}
	t.Fatalf("%s has no VmRSS; has it ended?", p.name)
	return 0
}

// cpu is the processor time that the process has used.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	stat := p.proc(t, "stat")
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	var ticks int
	for _, field := range fields[11:13] { // utime and stime, proc_pid_stat(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatalf("read the CPU time of %s: %v", p.name, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

// descriptors is the number of open descriptors of the process.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// sockets is the number of those that are sockets.
func (p *process) sockets(t *testing.T) int {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d/fd", p.pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(folder, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

func (p *process) proc(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.pid, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually polls until a condition holds.
func eventually(t *testing.T, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Ports for listeners come from below the range of ephemeral ports: one from within could become the
// source port of any connection between the moment it was found free and the moment it is used.
const firstPort, lastPort = 15000, 32000

var nextPort atomic.Int64

// freePort returns a port that nobody listens on, and that no other call returns.
func freePort(t *testing.T) int {
	t.Helper()
	// A child that is forked meanwhile would hold the port for a moment longer.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	offset := os.Getpid() * 97 // test processes that run side by side begin at different places
	for range 1000 {
		port := firstPort + (offset+int(nextPort.Add(1)))%(lastPort-firstPort)
		ln, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		return port
	}
	t.Fatal("no free port")
	return 0
}

// loopback is an address on which nobody listens.
func loopback(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePort(t))
}
