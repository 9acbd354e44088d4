package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// ran is what became of a command line.
type ran struct {
	status   int
	out, err string
}

// execLine runs a command line as main does.
func execLine(args ...string) ran {
	var out, err bytes.Buffer
	status := execute(args, &environment{in: strings.NewReader(""), out: &out, err: &err, hostname: "host"})
	return ran{status, out.String(), err.String()}
}

// configFile writes a configuration file called mqttlb.yaml.
func configFile(t *testing.T, yaml string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mqttlb.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const validYAML = `listeners: [{address: "127.0.0.1:1883"}]
admin: {address: "", socket: ""}
instance: {name: edge-1, hash_key: "very secret"}
clusters:
  - name: hivemq
    discovery: {static: [{name: n1, address: "10.0.0.1:1883"}, {name: n2, address: "10.0.0.2:1883", capacity: 2}]}
`

// Wrong usage and invalid configurations end with status 2 and say on one line, on the standard error, what
// to do. What is fine writes nothing there.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	valid := configFile(t, validYAML)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	inUse := configFile(t, strings.Replace(validYAML, "127.0.0.1:1883", taken.Addr().String(), 1))
	folder := t.TempDir()
	for _, c := range []struct {
		args   []string
		status int
		err    string
	}{
		{[]string{"foo"}, 2, `mqttlb: unknown command "foo"; see mqttlb --help`},
		{[]string{"--nope"}, 2, "mqttlb: unknown flag: --nope; see mqttlb --help"},
		{[]string{"run", "--nope"}, 2, "mqttlb: unknown flag: --nope; see mqttlb run --help"},
		{[]string{"run", "x"}, 2, `mqttlb: unknown command "x" for "mqttlb run"; see mqttlb run --help`},
		{[]string{"run"}, 2, "mqttlb: nothing to run: use -c FILE, or --backend HOST:PORT once for each broker"},
		{[]string{"run", "-c", valid, "--backend", "10.0.0.1:1883"}, 2, "mqttlb: use either -c FILE or --listen and --backend, not both"},
		{[]string{"run", "-c", valid, "--listen", ":1883"}, 2, "mqttlb: use either -c FILE or --listen and --backend, not both"},
		{[]string{"run", "--listen", ":1883"}, 2, "mqttlb: --backend is missing; write --backend HOST:PORT once for each broker"},
		{[]string{"run", "--backend", "x"}, 2, `mqttlb: --backend must be host and port such as "10.0.0.1:1883", got "x"; write "x:1883"`},
		{[]string{"run", "-c", "/nowhere/mqttlb.yaml"}, 2, "mqttlb: read the configuration: open /nowhere/mqttlb.yaml: no such file or directory"},
		{[]string{"run", "-c", inUse}, 1, "mqttlb: listener mqtt: cannot listen on " + taken.Addr().String() + ": address already in use; stop the other process or choose another port"},
		{[]string{"check"}, 2, "mqttlb: which configuration? use -c FILE"},
		{[]string{"check", "-c"}, 2, "mqttlb: flag needs an argument: 'c' in -c; see mqttlb check --help"},
		{[]string{"check", "-c", valid, "x"}, 2, `mqttlb: unknown command "x" for "mqttlb check"; see mqttlb check --help`},
		{[]string{"check", "-c", folder}, 2, "mqttlb: read the configuration: read " + folder + ": is a directory"},
		{[]string{"check", "-c", valid}, 0, ""},
		{[]string{"version", "x"}, 2, `mqttlb: unknown command "x" for "mqttlb version"; see mqttlb version --help`},
		{[]string{"explain"}, 2, "mqttlb: CLIENT-ID is missing; see mqttlb explain --help"},
		{[]string{"explain", "a", "b"}, 2, "mqttlb: got 2 arguments, want CLIENT-ID only; see mqttlb explain --help"},
		{[]string{"status", "--admin", "nonsense"}, 2, "mqttlb: "},
		{[]string{"status", "--admin", "/nowhere/admin.sock"}, 1, "mqttlb: cannot reach mqttlb at /nowhere/admin.sock: no such file or directory; is it running? say where with -c FILE or --admin"},
		{[]string{"healthcheck", "--admin", "/nowhere/admin.sock"}, 1, "mqttlb: "},
		{nil, 0, ""},
		{[]string{"--help"}, 0, ""},
		{[]string{"run", "--help"}, 0, ""},
	} {
		got := execLine(c.args...)
		if got.status != c.status {
			t.Errorf("mqttlb %q: got status %d, want %d", c.args, got.status, c.status)
		}
		exact := !strings.HasSuffix(c.err, " ")
		if said := strings.TrimSuffix(got.err, "\n"); strings.Contains(said, "\n") || exact && said != c.err || !strings.HasPrefix(said, c.err) {
			t.Errorf("mqttlb %q: got\n%s\nwant\n%s", c.args, got.err, c.err)
		}
		if (got.out == "") != (c.status != 0) {
			t.Errorf("mqttlb %q: got output %q with status %d", c.args, got.out, got.status)
		}
	}
}

// Every command is in the overview, and its help shows how it is used.
func TestHelp(t *testing.T) {
	t.Parallel()
	overview := execLine("--help").out
	for _, c := range rootCommand(&environment{}).Commands() {
		if c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		if !strings.Contains(overview, "\n  "+c.Name()+" ") {
			t.Errorf("got no %s in\n%s", c.Name(), overview)
		}
		if got := execLine(c.Name(), "--help"); got.status != 0 || !strings.Contains(got.out, "Examples:\n") || !strings.Contains(got.out, "  mqttlb "+c.Name()+" ") {
			t.Errorf("%s --help: got status %d and\n%s\nwant an example", c.Name(), got.status, got.out)
		}
	}
}

// All mistakes of a configuration are shown at once, each with its place and what to write instead.
func TestCheckInvalid(t *testing.T) {
	t.Parallel()
	path := configFile(t, `listeners:
  - address: "1883"
    limits: {connections: -1, connect_timeout: 10}
clusters:
  - name: hivemq
    discovry: {static: []}
    placement: {strategy: fastest}
log: {level: loud}
`)
	for _, command := range []string{"check", "run"} {
		got := execLine(command, "-c", path)
		if got.status != 2 || got.out != "" {
			t.Errorf("%s: got status %d and output %q, want 2 and none", command, got.status, got.out)
		}
		compareGolden(t, "check_invalid.txt", strings.ReplaceAll(got.err, path, "mqttlb.yaml"))
	}
}

func TestCheckValid(t *testing.T) {
	t.Parallel()
	path := configFile(t, validYAML)
	if got, want := execLine("check", "-c", path), path+" is valid: 1 listener(s), 1 cluster(s)\n"; got.out != want || got.status != 0 {
		t.Errorf("got status %d and %q, want 0 and %q", got.status, got.out, want)
	}
}

// check --show prints the whole configuration, without secrets; except for these, what it prints is valid and
// means the same.
func TestCheckShow(t *testing.T) {
	t.Parallel()
	shown := execLine("check", "-c", configFile(t, validYAML), "--show")
	if shown.status != 0 || strings.Contains(shown.out, "very secret") {
		t.Errorf("got status %d and\n%s\nwant 0 and no secret", shown.status, shown.out)
	}
	compareGolden(t, "check_show.txt", shown.out)
	complete := strings.Replace(shown.out, `"<redacted>"`, "very secret", 1)
	if again := execLine("check", "-c", configFile(t, complete), "--show"); again.status != 0 || again.out != shown.out {
		t.Errorf("got status %d, %s and\n%s\nwant the same again", again.status, again.err, again.out)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := execLine("version", "--json")
	var b build
	d := json.NewDecoder(strings.NewReader(got.out))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil || got.status != 0 {
		t.Fatalf("got status %d, %q and error %v", got.status, got.out, err)
	}
	if b.Version != version || b.Go != runtime.Version() || b.Commit == "" {
		t.Errorf("got %+v, want version %s of %s", b, version, runtime.Version())
	}
	if got, want := execLine("version").out, "mqttlb "+b.Version+", commit "+b.Commit+", "+b.Go+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// run serves until its context ends.
func TestRun(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	cfg, err := parse(appYAML("", broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log := new(logBook)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, cfg, nil, nil, &environment{err: log}) }()
	address := ""
	for deadline := time.Now().Add(appPatience); address == ""; time.Sleep(10 * time.Millisecond) {
		if _, after, ok := strings.Cut(log.String(), "msg=listening instance=host listener=mqtt address="); ok {
			address, _, _ = strings.Cut(after, " ")
		} else if time.Now().After(deadline) {
			t.Fatalf("got no address in\n%s", log)
		}
	}
	c := enter(t, address, "c")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got error %v, want none", err)
	}
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("got %d bytes, want the connection ended", n)
	}
}
