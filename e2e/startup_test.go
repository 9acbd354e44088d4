//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// failure is how mqttlb must refuse to start.
type failure struct {
	status int
	says   string // regular expression for its one line
}

// expectFailure runs mqttlb and checks that it fails as it should, and soon.
func expectFailure(t *testing.T, want failure, cmd *exec.Cmd) {
	t.Helper()
	log := newLogBook()
	status := start(t, log, cmd).exit(t, 5*time.Second)
	said := strings.TrimSpace(log.String())
	if status != want.status {
		t.Errorf("exit status %d, want %d", status, want.status)
	}
	if strings.Contains(said, "\n") {
		t.Errorf("it took more than one line to say:\n%s", said)
	}
	if !regexp.MustCompile(want.says).MatchString(said) {
		t.Errorf("it said:\n%s\nwant a match of %s", said, want.says)
	}
}

// configured writes a configuration file and returns the command that runs it.
func configured(t *testing.T, yaml string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mqttlb.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
	return exec.Command(mqttlb, "run", "-c", file)
}

// minimal is a configuration with only these two addresses.
func minimal(listener, admin string) string {
	return "listeners: [{address: '" + listener + "'}]\n" +
		"admin: {address: '" + admin + "'}\n" +
		"clusters: [{discovery: {static: [{address: '127.0.0.1:1'}]}}]\n"
}

func TestAPortInUseIsAnError(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := startLB(t, settings{backends: []backend{{"a", "127.0.0.1:1"}}})
	for name, address := range map[string]string{"by_a_stranger": taken.Addr().String(), "by_another_mqttlb": other.address} {
		t.Run("listener_"+name, func(t *testing.T) {
			expectFailure(t, failure{1, "listener mqtt.*" + address + ".*address already in use"}, configured(t, minimal(address, "")))
		})
	}
	t.Run("admin", func(t *testing.T) {
		expectFailure(t, failure{1, "admin.*" + taken.Addr().String() + ".*address already in use"},
			configured(t, minimal(loopback(t), taken.Addr().String())))
	})
}

func TestAnInvalidConfigurationIsAnErrorWithItsPosition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ yaml, says string }{
		"unknown_key":    {"clusters:\n  - discovry: {}\n", `mqttlb\.yaml:2:5: unknown key "discovry".*did you mean "discovery"`},
		"not_a_duration": {minimal("127.0.0.1:1883", "") + "shutdown: {grace: 10}\n", `mqttlb\.yaml:4:19: shutdown\.grace.*10s`},
		"not_yaml":       {"clusters: [\n", `mqttlb\.yaml:\d+:\d+: `},
		"no_cluster":     {"log: {level: info}\n", `mqttlb\.yaml.*clusters`},
		"bad_value":      {minimal("127.0.0.1:1883", "") + "log: {level: loud}\n", `mqttlb\.yaml:4:14: log\.level.*debug`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := configured(t, c.yaml)
			expectFailure(t, failure{2, c.says}, cmd)
			check := exec.Command(mqttlb, "check", "-c", cmd.Args[len(cmd.Args)-1])
			expectFailure(t, failure{2, c.says}, check)
		})
	}
}

func TestEveryMistakeOfAConfigurationIsReportedAtOnce(t *testing.T) {
	t.Parallel()
	log := newLogBook()
	cmd := configured(t, minimal("127.0.0.1:1883", "")+"log: {level: loud}\nshutdown: {grace: 10}\n")
	if status := start(t, log, cmd).exit(t, 5*time.Second); status != 2 {
		t.Errorf("exit status %d, want 2", status)
	}
	if lines := strings.Count(log.String(), "\n"); lines != 2 {
		t.Errorf("%d lines for 2 mistakes:\n%s", lines, log)
	}
}

func TestWrongUsageIsAnError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"missing_file":     {[]string{"run", "-c", "/nowhere/mqttlb.yaml"}, "/nowhere/mqttlb.yaml: no such file"},
		"folder":           {[]string{"run", "-c", "/"}, "/: is a directory"},
		"file_and_flags":   {[]string{"run", "-c", "x.yaml", "--backend", "127.0.0.1:1883"}, "not both"},
		"nothing":          {[]string{"run"}, "--backend"},
		"no_backend":       {[]string{"run", "--listen", "127.0.0.1:1883"}, "--backend"},
		"bad_backend":      {[]string{"run", "--backend", "127.0.0.1"}, "--backend.*port"},
		"unknown_flag":     {[]string{"run", "--bakend", "127.0.0.1:1"}, "bakend"},
		"unknown_command":  {[]string{"start"}, `unknown command "start"`},
		"surplus_argument": {[]string{"run", "mqttlb.yaml"}, "mqttlb.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			expectFailure(t, failure{2, c.says}, exec.Command(mqttlb, c.args...))
		})
	}
}

func TestAnAdminSocketThatCannotBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	config := func(socket string) string {
		return strings.Replace(minimal(loopback(t), ""), "address: ''", "address: '', socket: '"+socket+"'", 1)
	}
	t.Run("missing_folder", func(t *testing.T) {
		expectFailure(t, failure{1, "admin.*/nowhere/admin.sock"}, configured(t, config("/nowhere/admin.sock")))
	})
	t.Run("unwritable_folder", func(t *testing.T) {
		folder := t.TempDir()
		socket := filepath.Join(folder, "admin.sock")
		cmd := configured(t, config(socket))
		if os.Getuid() == 0 { // who may write everywhere
			const nobody = 65534
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil { // where only we may go
				t.Fatal(err)
			}
		}
		if err := os.Chmod(folder, 0o555); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(folder, 0o755) })
		expectFailure(t, failure{1, "admin.*" + socket + ".*permission denied"}, cmd)
	})
}

// What cannot be resolved now may be there in a minute, as after a power cut: mqttlb starts, says what is
// missing, and refuses clients until then.
func TestABackendOfAnUnknownHostIsReported(t *testing.T) {
	t.Parallel()
	began := time.Now()
	l := startLB(t, settings{backends: []backend{{"a", "broker.invalid:1883"}}})
	between(t, time.Since(began), 0, 8*time.Second)
	if r := l.logged(t, 0, "a backend is left out"); r["where"] != "broker.invalid" || r["level"] != "WARN" {
		t.Errorf("logged %v", r)
	}
	c := dial(t, l.address, "")
	send(t, c, opening{id: "early"}.bytes())
	expectFIN(t, c, 2*time.Second)
	l.refused(t, "no_backend")
}

func TestAnUnknownHostDoesNotKeepTheOtherBackendsFromServing(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "b")
	l := startLB(t, settings{backends: []backend{{"a", "broker.invalid:1883"}, broker.backend()}})
	for i := range 10 {
		connect(t, l, opening{id: string(rune('a' + i))}, "").Close()
	}
}

func TestTooFewDescriptorsAreAnError(t *testing.T) {
	t.Parallel()
	for _, files := range []int{10, 15, 20} {
		t.Run(fmt.Sprint(files), func(t *testing.T) {
			cmd := configured(t, minimal(loopback(t), ""))
			expectFailure(t, failure{1, "open files"}, limited(files, mqttlb, cmd.Args[1:]...))
		})
	}
}

func TestVersionAndHelpSucceed(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"version", "--json"}, {"--help"}, {"run", "--help"}, {"check", "--help"}} {
		out, err := exec.Command(mqttlb, args...).CombinedOutput()
		if err != nil || len(out) == 0 {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}
