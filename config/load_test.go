package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mqttlb.yaml")
	if err := os.WriteFile(path, []byte(leastFile()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("other name", []byte(leastFile()), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %+v, want %+v", cfg, want)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mqttlb.yaml")
	if err := os.WriteFile(path, []byte("log: loud\n"+leastFile()), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path, testOptions())
	if err == nil || !strings.HasPrefix(err.Error(), path+":1:6: log must be") {
		t.Errorf("got %v, want a position in %s", err, path)
	}
}

func TestLoadUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var errs Errors
	if _, err := Load(filepath.Join(dir, "none.yaml"), testOptions()); !errors.Is(err, fs.ErrNotExist) || errors.As(err, &errs) {
		t.Errorf("got %v for a missing file, want that it does not exist", err)
	}
	if _, err := Load(dir, testOptions()); err == nil || errors.As(err, &errs) {
		t.Errorf("got %v for a folder, want an error from reading", err)
	}
}

// TestTooLarge checks that a large file is refused before it is parsed, and
// one of the largest size is not.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	largest := leastFile() + "\n#" + strings.Repeat("x", maxFile-len(leastFile())-2)
	path := filepath.Join(t.TempDir(), "mqttlb.yaml")
	for _, tt := range []struct{ text, want string }{
		{largest, ""},
		{largest + "x", path + ":1:1: the file is larger than 1MiB; split the brokers over several clusters and instances"},
		{strings.Repeat(largest, 3), path + ":1:1: the file is larger than 1MiB; split the brokers over several clusters and instances"},
	} {
		if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path, testOptions())
		if got := text(err); got != tt.want {
			t.Errorf("%d bytes: got %q, want %q", len(tt.text), got, tt.want)
		}
	}
}

// TestAliasBomb checks that a small file cannot expand to a huge
// configuration.
func TestAliasBomb(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("clusters:\n  - discovery: &d\n      static:\n        - address: h0:1\n          labels: &l {")
	for i := range 200 {
		fmt.Fprintf(&b, "k%d: v, ", i)
	}
	b.WriteString("}\n")
	for i := range 100 {
		fmt.Fprintf(&b, "        - {address: \"h%d:1\", labels: *l}\n", i)
	}
	for i := range 120 {
		fmt.Fprintf(&b, "  - {name: c%d, discovery: *d}\n", i)
	}
	_, err := Parse("bomb.yaml", []byte(b.String()), testOptions())
	if want := "bomb.yaml:1:1: the aliases in this file expand to more than 524288 values"; !strings.HasPrefix(text(err), want) {
		t.Errorf("got %q, want it to start with %q", text(err), want)
	}
}

// TestManyEntries checks that the bound on a list is reported once.
func TestManyEntries(t *testing.T) {
	t.Parallel()
	file := "clusters: [{discovery: {static: [" + strings.Repeat("{address: \"h:1\"}, ", 4097) + "]}}]"
	_, err := Parse("many.yaml", []byte(file), testOptions())
	if want := "clusters[0].discovery.static must have 1..4096 entries, got 4097"; strings.Count(text(err), want) != 1 {
		t.Errorf("got %.500q, want it to contain %q once", text(err), want)
	}
}

// TestErrorsAreBounded checks that a file that is wrong in every line gives a
// screen full of errors, in order, and the number of the others.
func TestErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "bogus%d: 1\n", i)
	}
	b.WriteString(leastFile())
	_, err := Parse("bogus.yaml", []byte(b.String()), testOptions())
	var errs Errors
	if !errors.As(err, &errs) || len(errs) != maxErrors+1 {
		t.Fatalf("got %d errors, want %d and a summary", len(errs), maxErrors)
	}
	for i, e := range errs[:maxErrors] {
		if e.Line != i+1 || e.File != "bogus.yaml" {
			t.Errorf("error %d is %v, want it in line %d", i, e, i+1)
		}
	}
	if got, want := errs[maxErrors].Error(), "bogus.yaml: 4980 more mistakes are not shown; correct these first"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFromFlags(t *testing.T) {
	t.Parallel()
	got, err := FromFlags([]string{":1883", "127.0.0.1:1884"}, []string{"10.0.0.1:1883", "10.0.0.2:1883"}, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	want, err := Parse("the same", []byte(`
listeners: [{address: ":1883"}, {address: "127.0.0.1:1884"}]
clusters: [{discovery: {static: [{address: "10.0.0.1:1883"}, {address: "10.0.0.2:1883"}]}}]
`), testOptions())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	checkStable(t, got)

	got, err = FromFlags(nil, []string{"10.0.0.1:1883"}, testOptions())
	if err != nil || len(got.Listeners) != 1 || got.Listeners[0].Address != ":1883" {
		t.Errorf("got (%+v, %v) without --listen, want a listener on :1883", got, err)
	}
}

func TestFromFlagsErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		listen, backends []string
		want             string
	}{
		{nil, nil, `--backend is missing; write --backend HOST:PORT once for each broker`},
		{nil, []string{"10.0.0.1"}, `--backend must be host and port such as "10.0.0.1:1883", got "10.0.0.1"; write "10.0.0.1:1883"`},
		{
			[]string{"1883", ":x"},
			[]string{"h:1", "h:1"},
			`--listen must be an address such as ":1883" or "127.0.0.1:1883", got "1883"; write ":1883"` + "\n" +
				`--listen must be an address such as ":1883" or "127.0.0.1:1883", got ":x"; write ":1883"` + "\n" +
				`--backend repeats "h:1" of another --backend; list each backend once`,
		},
		{[]string{":9180"}, []string{"h:1"}, `--listen cannot be ":9180", which is taken by admin.address; choose another port`},
		{[]string{":1883", ":1883"}, []string{"h:1"}, `--listen cannot be ":1883", which is taken by another --listen; choose another port`},
		{[]string{"\xff:1"}, []string{"h:1"}, `--listen must be an address such as ":1883" or "127.0.0.1:1883", got "\xff:1"`},
	}
	for _, tt := range tests {
		cfg, err := FromFlags(tt.listen, tt.backends, testOptions())
		if cfg != nil || text(err) != tt.want {
			t.Errorf("--listen %q --backend %q: got (%v, %q), want %q", tt.listen, tt.backends, cfg, text(err), tt.want)
		}
	}
}

// TestSocketCanBeTurnedOff tells a key that is missing from one that is empty.
func TestSocketCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		leastFile():                               testOptions().AdminSocket,
		leastFile() + "\nadmin: {socket: \"\"}":   "",
		leastFile() + "\nadmin: {socket: /run/x}": "/run/x",
	} {
		cfg, err := Parse("test", []byte(file), testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Admin.Socket != want {
			t.Errorf("%s: got the socket %q, want %q", file, cfg.Admin.Socket, want)
		}
	}
}

// TestErrorText shows the three forms of an error.
func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{Error{File: "a.yaml", Line: 3, Column: 7, Msg: "m"}, "a.yaml:3:7: m"},
		{Error{File: "a.yaml", Msg: "m"}, "a.yaml: m"},
		{Error{Msg: "m"}, "m"},
		{Errors{{Msg: "m"}, {Msg: "n"}}, "m\nn"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

// TestErrorPath checks that the fields of an error are there for programs.
func TestErrorPath(t *testing.T) {
	t.Parallel()
	_, err := Parse("a.yaml", []byte("listeners:\n  - addresz: x\n"+leastFile()), testOptions())
	want := Errors{{
		File: "a.yaml", Line: 2, Column: 5, Path: "listeners[0].addresz",
		Msg: `unknown key "addresz" in listeners[0]; did you mean "address"?`,
	}}
	if !reflect.DeepEqual(err, error(want)) {
		t.Errorf("got %#v, want %#v", err, want)
	}
}

// text returns the text of an error, "" for none.
func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestCheck has others look for mistakes: theirs have positions, and give way
// to what was found here.
func TestCheck(t *testing.T) {
	t.Parallel()
	const file = `listeners:
  - {address: ":1883", limits: {attempts: 1}}
clusters:
  - discovery: {static: [{address: "10.0.0.1:1883", capacity: 0}]}
    limits: {attempts: many}
`
	opts := testOptions()
	opts.Check = func(cfg *Config, wrong func(path, msg string)) {
		if cfg.Listeners[0].Name != "mqtt" || cfg.Clusters[0].Limits.Attempts != 3 {
			t.Errorf("got %+v, want a configuration with all defaults", cfg)
		}
		wrong("listeners[0].address", "must be nice")
		wrong("clusters[0].discovery.static[0].capacity", "was found already")
		wrong("clusters[0].limits.attempts", "was not read")
		wrong("clusters[0].limits", "has something that was not read")
		wrong("clusters[0].health.mqtt.client_id", "must be better than its default")
		wrong("listeners[0].address", "must be told once")
	}
	_, err := Parse("check.yaml", []byte(file), opts)
	want := `check.yaml:2:15: listeners[0].address must be nice
check.yaml:2:33: unknown key "attempts" in listeners[0].limits; it belongs in clusters[].limits
check.yaml:4:5: clusters[0].health.mqtt.client_id must be better than its default
check.yaml:4:63: clusters[0].discovery.static[0].capacity must be 0.001..1000000, got 0
check.yaml:5:24: clusters[0].limits.attempts must be a whole number, got "many"`
	if got := text(err); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	opts.Check = func(*Config, func(path, msg string)) {}
	if _, err := Parse("check.yaml", []byte(leastFile()), opts); err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// TestEnabled checks what switches load figures and health checks on.
func TestEnabled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		keys         string
		load, health bool
	}{
		{"", false, true},
		{", load: {preset: emqx}", true, true},
		{`, load: {url: "http://{host}/", figures: [{metric: x}]}`, true, true},
		{`, load: {url: "http://{host}/", hot: {metric: x}}, health: {interval: 0}`, true, false},
		{`, load: {url: "http://{host}/", version: {metric: x, label: y}}`, true, true},
		{", load: {}, health: {}", false, true},
		{", load: , health: ", false, true},
		{", health: {tcp: {}}", false, true},
	} {
		cfg, err := Parse("test", []byte(`clusters: [{discovery: {static: [{address: "h:1"}]}`+tt.keys+"}]"), testOptions())
		if err != nil {
			t.Fatal(err)
		}
		if c := &cfg.Clusters[0]; c.Load.Enabled() != tt.load || c.Health.Enabled() != tt.health {
			t.Errorf("%q: got load %v and health %v, want %v and %v", tt.keys, c.Load.Enabled(), c.Health.Enabled(), tt.load, tt.health)
		}
		checkStable(t, cfg)
	}
}
