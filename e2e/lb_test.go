//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// settings say how mqttlb is to run. Zero values mean the defaults.
type settings struct {
	backends []backend
	// discovery is YAML of one source, in place of backends.
	discovery string
	// YAML of single keys: of the listener, of the cluster, and of the sections log and shutdown.
	listener, cluster, log, shutdown string
	// host of the listener; empty means 127.0.0.1.
	host string
	// instance is the name of this mqttlb; empty means the host's name.
	instance string
	// state is the file that keeps what was learned.
	state string
	// token is the file with the token of the admin API.
	token string
	// files is the limit of open files, memory that of memory, as GOMEMLIMIT.
	files  int
	memory string
}

type backend struct{ name, address string }

// An lb is a running mqttlb.
type lb struct {
	*process
	address string // of the listener
	admin   string // of the admin API, host:port
	socket  string // of the full admin API
	file    string // of the configuration
	log     *logBook
	set     settings // as it was started
}

// startLB runs mqttlb and waits until it listens. At the end of the test it must still run, must stop
// when told to, and must not have panicked.
func startLB(t *testing.T, s settings) *lb {
	t.Helper()
	folder := t.TempDir()
	if s.host == "" {
		s.host = "127.0.0.1"
	}
	l := &lb{
		address: hostPort(s.host, freePort(t)),
		admin:   loopback(t),
		socket:  filepath.Join(folder, "admin.sock"),
		file:    filepath.Join(folder, "mqttlb.yaml"),
		log:     newLogBook(),
		set:     s,
	}
	l.configure(t, s)
	l.run(t)
	return l
}

// restart runs mqttlb again as it ran before.
func restart(t *testing.T, l *lb) *lb {
	t.Helper()
	again := *l
	again.log = newLogBook()
	again.run(t)
	return &again
}

func (l *lb) run(t *testing.T) {
	t.Helper()
	cmd := exec.Command(mqttlb, "run", "-c", l.file)
	if l.set.files > 0 {
		cmd = limited(l.set.files, mqttlb, "run", "-c", l.file)
	}
	if l.set.memory != "" {
		cmd.Env = append(os.Environ(), "GOMEMLIMIT="+l.set.memory)
	}
	l.process = start(t, l.log, cmd)
	t.Cleanup(func() { l.checkEnd(t) })
	l.log.wait(t, 0, 10*time.Second, "listening, or the end", func(line string) bool {
		return strings.Contains(line, "listening") || !l.running()
	})
	if !l.running() {
		t.Fatal("mqttlb has ended instead of listening")
	}
}

// limited is a command that runs a program with this limit of open files.
func limited(files int, program string, args ...string) *exec.Cmd {
	script := fmt.Sprintf(`ulimit -n %d && exec "$@"`, files)
	return exec.Command("/bin/sh", append([]string{"-c", script, "sh", program}, args...)...)
}

func hostPort(host string, port int) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("%s:%d", host, port)
}

// configure writes the configuration file; a running mqttlb takes it over at the next reload.
func (l *lb) configure(t *testing.T, s settings) {
	t.Helper()
	var y strings.Builder
	fmt.Fprintf(&y, "instance: {name: %q, state_file: %q}\n", s.instance, s.state)
	fmt.Fprintf(&y, "log: %s\n", orElse(s.log, "{level: info}"))
	fmt.Fprintf(&y, "shutdown: %s\n", orElse(s.shutdown, "{grace: 0s, drain: 1s}"))
	fmt.Fprintf(&y, "admin: {address: %q, socket: %q, token_file: %q}\n", l.admin, l.socket, s.token)
	fmt.Fprintf(&y, "listeners:\n  - name: mqtt\n    address: %q\n", l.address)
	indent(&y, s.listener)
	fmt.Fprintf(&y, "clusters:\n  - name: brokers\n    discovery: %s\n", orElse(s.discovery, static(s.backends)))
	if !strings.Contains(s.cluster, "health:") {
		indent(&y, "health: {interval: 0s}") // a stub would take a probe for a client
	}
	indent(&y, s.cluster)
	l.write(t, y.String())
}

// static is YAML of a list of backends.
func static(list []backend) string {
	var entries []string
	for _, b := range list {
		entries = append(entries, fmt.Sprintf("{name: %q, address: %q}", b.name, b.address))
	}
	return "{static: [" + strings.Join(entries, ", ") + "]}"
}

func (l *lb) write(t *testing.T, configuration string) {
	t.Helper()
	if err := os.WriteFile(l.file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
}

func indent(y *strings.Builder, lines string) {
	for line := range strings.Lines(lines) {
		fmt.Fprintf(y, "    %s\n", strings.TrimRight(line, "\n"))
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// checkEnd stops mqttlb, unless the test has, and looks for what must not be in its log.
func (l *lb) checkEnd(t *testing.T) {
	t.Helper()
	if l.running() {
		_ = l.cmd.Process.Signal(syscall.SIGTERM) // it may be ending already
		if status := l.exit(t, 10*time.Second); status != 0 {
			t.Errorf("mqttlb ended with status %d when told to stop, want 0", status)
		}
	}
	text := l.log.String()
	for _, bad := range []string{"panic:", "fatal error:", "WARNING: DATA RACE"} {
		if strings.Contains(text, bad) {
			t.Errorf("mqttlb logged %q", bad)
		}
	}
	if t.Failed() {
		const most = 8 << 10
		t.Logf("the end of mqttlb's log:\n%s", text[max(0, len(text)-most):])
	}
}

// ended returns the access log's record of the connection that carried this client id: the first one
// behind the offset, and the offset behind it.
func (l *lb) ended(t *testing.T, client string, offset int) (record, int) {
	t.Helper()
	line, next := l.log.wait(t, offset, 10*time.Second, "the end of client "+client, func(line string) bool {
		r := parseRecord(line)
		return r["msg"] == "connection ended" && r["client"] == client
	})
	return parseRecord(line), next
}

// refused returns the access log's record of a connection that was refused for this reason.
func (l *lb) refused(t *testing.T, why string) record {
	t.Helper()
	line, _ := l.log.wait(t, 0, 10*time.Second, "a connection refused for "+why, func(line string) bool {
		r := parseRecord(line)
		return r["msg"] == "connection ended" && r["refused"] == why
	})
	return parseRecord(line)
}

// logged waits for a line of the log with this message.
func (l *lb) logged(t *testing.T, offset int, message string) record {
	t.Helper()
	line, _ := l.log.wait(t, offset, 10*time.Second, "the message "+message, func(line string) bool {
		return parseRecord(line)["msg"] == message
	})
	return parseRecord(line)
}
