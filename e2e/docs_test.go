//go:build linux

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Whoever copies the commands of docs/getting-started.md into a terminal, block by block, sees what the page says. The
// only difference is the ports, which other tests may have.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	need(t, "mosquitto", "mosquitto_sub", "curl", "bash")
	text, err := os.ReadFile("../docs/getting-started.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(text), `":1883"`, `"127.0.0.1:1883"`) // a test listens to nobody else
	page = strings.ReplaceAll(page, "[::]:1883", "127.0.0.1:1883")
	own := make(map[string]string)
	page = regexp.MustCompile(`\b(1883|1[1-4]883|9180)\b`).ReplaceAllStringFunc(page, func(port string) string {
		if own[port] == "" {
			own[port] = strconv.Itoa(freePort(t))
		}
		return own[port]
	})
	if len(own) != 6 {
		t.Fatalf("got the ports %v, want six", own)
	}
	steps := stepsOf(t, page)
	if len(steps) < 20 {
		t.Fatalf("got %d blocks of commands, want more; is the test blind?", len(steps))
	}
	terminal := newTerminal(t)
	claims := claimsOfGettingStarted()
	last := make(map[string]int) // look at the brokers, by section
	for i, s := range steps {
		if strings.HasPrefix(s.commands, "mqttlb status") {
			last[s.section] = i
		}
	}
	for i, s := range steps {
		var claim claim
		if last[s.section] == i {
			claim = claims[s.section]
			delete(claims, s.section)
		}
		terminal.follow(t, s, claim)
	}
	for section := range claims {
		t.Errorf("nobody looks at the brokers in the section %s", section)
	}
	terminal.leave(t)
}

// A claim is what the page says of the connections of the brokers; it returns what is wrong.
type claim func(connections map[string]int) string

func claimsOfGettingStarted() map[string]claim {
	balanced := func(brokers int) claim {
		return func(connections map[string]int) string {
			all := 0
			for _, n := range connections {
				all += n
			}
			if all != 66 || len(connections) != brokers {
				return fmt.Sprintf("got %v, want 66 connections on %d brokers", connections, brokers)
			}
			for name, n := range connections {
				if fair := 66 / float64(brokers); float64(n) < 0.7*fair || float64(n) > 1.3*fair {
					return fmt.Sprintf("%s has %d connections, want %.1f, give or take 30 %%", name, n, fair)
				}
			}
			return ""
		}
	}
	return map[string]claim{
		"Clients":                          balanced(3),
		"A fourth broker, and a rebalance": balanced(4),
		"Drain a broker": func(connections map[string]int) string {
			if connections["n2"] > 0 || connections["n1"]+connections["n3"]+connections["n4"] != 66 {
				return fmt.Sprintf("got %v, want all 66 connections, and none of them on n2", connections)
			}
			return ""
		},
		"Pull the plug": balanced(4),
	}
}

// connectionsOf reads the table of mqttlb status.
func connectionsOf(output string) map[string]int {
	connections := make(map[string]int)
	row := regexp.MustCompile(`(?m)^(n\d) +(?:ready|ramping|draining|joining|down) .*? (\d+) +(?:-|[\d.]+%) +[\d.]+%`)
	for _, m := range row.FindAllStringSubmatch(output, -1) {
		connections[m[1]], _ = strconv.Atoi(m[2])
	}
	return connections
}

// A terminal is a shell into which somebody types what a page says, in a folder of its own.
type terminal struct {
	shell  *process
	keys   io.WriteCloser
	screen *logBook
	offset int // of what has been read on the screen
	typed  int
	folder string
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	folder, bin := t.TempDir(), t.TempDir()
	if err := os.Symlink(mqttlb, filepath.Join(bin, "mqttlb")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "--norc", "--noprofile")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	keys, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	screen := newLogBook()
	terminal := &terminal{keys: keys, screen: screen, folder: folder}
	t.Cleanup(func() { // behind the end of the shell
		if t.Failed() {
			text := screen.String()
			t.Logf("the end of the screen:\n%s", text[max(0, len(text)-4<<10):])
		}
	})
	terminal.shell = start(t, screen, cmd)
	return terminal
}

// enter types a command, and returns its exit status and what it has printed.
func (m *terminal) enter(t *testing.T, command string) (status int, output string) {
	t.Helper()
	m.typed++
	mark := fmt.Sprintf("=== end of block %d, status ", m.typed)
	// Not all output ends with a line.
	if _, err := fmt.Fprintf(m.keys, "%s\nprintf '\\n%s%%d\\n' $?\n", strings.TrimSuffix(command, "\n"), mark); err != nil {
		t.Fatalf("the shell is gone: %v", err)
	}
	begin := m.offset
	line, end := m.screen.wait(t, begin, unhindered+patience, "the end of "+command, func(line string) bool { return strings.HasPrefix(line, mark) })
	m.offset = end
	status, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, mark)))
	if err != nil {
		t.Fatal(err)
	}
	output = strings.TrimRight(m.screen.String()[begin:end-len(line)], "\n")
	if output != "" {
		output += "\n"
	}
	return status, output
}

// harmlessly is a command that only looks: a reader who is too early looks again.
var harmlessly = regexp.MustCompile(`^(?:mqttlb (?:version|check|status|groups|clients|explain|rebalance .*--dry-run)|curl -s|wc) ?.*\n$`)

// follow does what a block says and compares.
func (m *terminal) follow(t *testing.T, s step, claim claim) {
	t.Helper()
	deadline := time.Now().Add(patience)
	wrong := ""
	for {
		status, output := m.enter(t, s.commands)
		switch {
		case status != 0:
			wrong = fmt.Sprintf("exit status %d", status)
		case s.prints != "" && !pattern(s.prints).MatchString(output):
			wrong = "the page says\n" + s.prints
		case claim != nil:
			wrong = claim(connectionsOf(output))
		default:
			wrong = ""
		}
		if wrong == "" {
			return
		}
		if !harmlessly.MatchString(s.commands) || time.Now().After(deadline) {
			t.Fatalf("section %s:\n%s\nhas printed\n%s\n%s", s.section, s.commands, output, wrong)
		}
		time.Sleep(300 * time.Millisecond)
	}
}

// leave ends the shell, which must have ended what it has started, and cleaned up.
func (m *terminal) leave(t *testing.T) {
	t.Helper()
	status, output := m.enter(t, "jobs -p; ls")
	if status != 0 || output != "" {
		t.Errorf("the page leaves behind\n%s", output)
	}
	m.keys.Close()
	if status := m.shell.exit(t, patience); status != 0 {
		t.Errorf("the shell ended with status %d, want 0", status)
	}
}
