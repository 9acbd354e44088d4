//go:build linux

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

// mqttlb is the program under test: E2E_BINARY, or what TestMain builds before any test begins.
var mqttlb string

// underRace tells that the binary is built with the race detector: slower, and several times larger.
var underRace = os.Getenv("E2E_RACE") == "1"

func TestMain(m *testing.M) {
	os.Exit(run(m)) //nolint:forbidigo // TestMain is a main function
}

func run(m *testing.M) int {
	if err := waitTogether(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Debian puts brokers where only root's PATH leads.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// The race detector's runtime waits a second before it lets a process end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if mqttlb = os.Getenv("E2E_BINARY"); mqttlb != "" {
		return m.Run()
	}
	folder, err := os.MkdirTemp("", "mqttlb-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	mqttlb = filepath.Join(folder, "mqttlb")
	// Some tests run the binary as another user.
	if err := os.Chmod(folder, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	args := []string{"build", "-buildvcs=false", "-o", mqttlb}
	if underRace {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "../cmd/mqttlb")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build mqttlb: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// waitTogether lets more tests run at the same time than there are processors, unless the command line says
// how many: what most of them do most of the time is wait.
func waitTogether() error {
	flag.Parse()
	const name = "test.parallel"
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	if given {
		return nil
	}
	return flag.Set(name, strconv.Itoa(4*runtime.GOMAXPROCS(0)))
}

// need ends the test unless these programs are installed.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacks(t, p)
		}
	}
}

// lacks ends the test because a part is missing that can be installed.
func lacks(t *testing.T, part string) {
	t.Helper()
	cannotRun(t, part+" is missing; e2e/install.sh installs it")
}

// cannotRun ends the test because of what this host is: as a failure, because a test that silently does not run keeps no
// promise, or as a skip unless E2E_REQUIRED=1 forbids it.
func cannotRun(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("E2E_REQUIRED") != "1" {
		t.Skip(why)
	}
	t.Fatal(why)
}
