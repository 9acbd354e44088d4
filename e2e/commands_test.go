//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// command runs a command of mqttlb against a running one and returns its exit status and output.
func command(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out := newLogBook()
	status := start(t, out, exec.Command(mqttlb, args...)).exit(t, patience)
	return status, out.String()
}

func TestCommandsShowWhatRuns(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), instance: "edge-7", cluster: workers})
	connect(t, l, opening{id: "shown"}, "")
	for i := range 6 {
		connect(t, l, opening{id: fmt.Sprint("worker-", i)}, "")
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"status":      {[]string{"status"}, []string{"edge-7", "brokers", "mqtt", "adaptive, balanced for", "1 group with 6 members"}},
		"backends":    {[]string{"backends"}, []string{"a", "b", "c", brokers[0].address}},
		"clients":     {[]string{"clients"}, []string{"shown"}},
		"explain":     {[]string{"explain", "shown"}, []string{"shown", "home by hash"}},
		"groups":      {[]string{"groups", "--limit", "5", "--cluster", "brokers"}, []string{"worker        6       0       0  a 2/2.0, b 2/2.0, c 2/2.0\n"}},
		"members":     {[]string{"clients", "--group", "worker"}, []string{"worker-0", "worker-5", "group worker: emptiest of"}},
		"member":      {[]string{"explain", "worker-6"}, []string{"member of group worker", "group worker: emptiest of a,b,c", "state balanced"}},
		"session":     {[]string{"explain", "--persistent", "shown"}, []string{"persistent", "home by hash"}},
		"reload":      {[]string{"reload"}, []string{"reloaded"}},
		"healthcheck": {[]string{"healthcheck"}, nil},
	} {
		for how, target := range map[string][]string{"socket": {"--admin", l.socket}, "file": {"-c", l.file}} {
			t.Run(name+"_by_"+how, func(t *testing.T) {
				status, out := command(t, append(c.args, target...)...)
				if status != 0 {
					t.Errorf("exit status %d:\n%s", status, out)
				}
				for _, want := range c.want {
					if !strings.Contains(out, want) {
						t.Errorf("no %q in:\n%s", want, out)
					}
				}
			})
		}
	}
	for _, name := range []string{"status", "backends", "clients", "groups"} {
		t.Run(name+"_in_JSON", func(t *testing.T) {
			status, out := command(t, name, "--json", "--admin", l.socket)
			if status != 0 || !json.Valid([]byte(out)) {
				t.Errorf("exit status %d:\n%s", status, out)
			}
		})
	}
}

func TestCommandsFailWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"http://" + loopback(t), t.TempDir() + "/admin.sock"} {
		for _, name := range []string{"status", "backends", "clients", "groups", "reload", "healthcheck"} {
			status, out := command(t, name, "--admin", target)
			if status != 1 || !strings.HasPrefix(out, "mqttlb: cannot reach mqttlb at "+target) || strings.Count(out, "\n") != 1 {
				t.Errorf("%s: exit status %d, said:\n%s", name, status, out)
			}
		}
	}
}

func TestHealthcheckFailsWhileStopping(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: "{grace: 30s, drain: 1s}"})
	l.signal(t, syscall.SIGTERM)
	l.logged(t, 0, "stopping")
	status, out := command(t, "healthcheck", "--admin", l.socket)
	if status != 1 || !strings.Contains(out, "stopping") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
	if status, out := command(t, "healthcheck", "--live", "--admin", l.socket); status != 0 {
		t.Errorf("--live: exit status %d:\n%s", status, out)
	}
}

func TestReloadCommandPrintsWhatIsWrong(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	set := settings{backends: []backend{broker.backend()}}
	l := startLB(t, set)
	set.cluster = "limits: {attempts: many}"
	l.configure(t, set)
	status, out := command(t, "reload", "--admin", l.socket)
	if status != 1 || !strings.Contains(out, "mqttlb.yaml:") || !strings.Contains(out, "attempts") {
		t.Errorf("exit status %d:\n%s", status, out)
	}
}
