package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files and the reference page")

// testOptions are the surroundings of all tests.
func testOptions() Options {
	return Options{Hostname: "edge-1", AdminSocket: "/run/mqttlb/admin.sock"}
}

// TestBadFiles reads testdata/bad_*.yaml, one file per rule, and compares the
// errors with the .txt file beside it.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, "testdata/bad_*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			_, err := Parse(filepath.Base(path), readFile(t, path), testOptions())
			var errs Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got error %v, want Errors", err)
			}
			for _, e := range errs {
				if strings.ContainsAny(e.Msg, "\n\r\t") {
					t.Errorf("the message %q is not one line", e.Msg)
				}
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", err.Error()+"\n")
		})
	}
}

// TestGoodFiles reads testdata/good_*.yaml and compares the effective
// configuration with the .txt file beside it.
func TestGoodFiles(t *testing.T) {
	t.Parallel()
	for _, path := range glob(t, "testdata/good_*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			cfg, err := Parse(filepath.Base(path), readFile(t, path), testOptions())
			if err != nil {
				t.Fatal(err)
			}
			golden(t, strings.TrimSuffix(path, ".yaml")+".txt", string(cfg.Marshal()))
			checkStable(t, cfg)
		})
	}
}

// TestExample holds docs/example.yaml to its promise: it is valid, and shows
// every key.
func TestExample(t *testing.T) {
	t.Parallel()
	const path = "../docs/example.yaml"
	cfg, err := Load(path, testOptions())
	if err != nil {
		t.Fatal(err)
	}
	checkStable(t, cfg)
	r := newReport(path)
	root := parseYAML(readFile(t, path), r)
	decode(root, newConfig(testOptions()), r)
	shown := map[string]bool{}
	for at := range r.where {
		shown[pattern(at)] = true
	}
	for _, key := range allKeys() {
		if !shown[pattern(key.path)] {
			t.Errorf("%s does not show the key %s", path, pattern(key.path))
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files match %s (error %v)", pattern, err)
	}
	return paths
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// golden compares got with the content of a file, or writes the file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want := string(readFile(t, path)); got != want {
		t.Errorf("%s (go test ./config -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
