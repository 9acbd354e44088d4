package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// pages are what users read.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("got no pages (error %v)", err)
	}
	read := make(map[string]string)
	for _, f := range append(files, "../../README.md") {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		read[f] = string(text)
	}
	return read
}

// Every command line that the pages show is one that mqttlb understands.
func TestCommandsInTheDocs(t *testing.T) {
	t.Parallel()
	root := rootCommand(&environment{})
	root.InitDefaultHelpFlag()
	line := regexp.MustCompile("(?:^|[`$ ])mqttlb ([a-z]+)( [^`|;&)\n]*)?")
	flag := regexp.MustCompile(`(?:^| )--([a-z-]+)`)
	found := 0
	check := func(page, name, rest string) {
		cmd, _, err := root.Find([]string{name})
		if err != nil || cmd == root {
			return // a sentence about mqttlb
		}
		found++
		for _, f := range flag.FindAllStringSubmatch(rest, -1) {
			if cmd.Flags().Lookup(f[1]) == nil && f[1] != "help" {
				t.Errorf("%s: mqttlb %s has no --%s", page, name, f[1])
			}
		}
	}
	for page, text := range pages(t) {
		for l := range strings.SplitSeq(text, "\n") {
			for _, m := range line.FindAllStringSubmatch(l, -1) {
				check(page, m[1], m[2])
			}
		}
	}
	if found < 30 {
		t.Errorf("got %d command lines in all pages, want more; is the test blind?", found)
	}
}

// What changes something in a running mqttlb is in the operator's page.
func TestOperationsMentionsEveryHandle(t *testing.T) {
	t.Parallel()
	text := pages(t)["../../docs/operations.md"]
	for _, construct := range []func(*environment) *cobra.Command{drainCommand, resumeCommand, rebalanceCommand, stateCommand, eventsCommand, explainCommand} {
		if name := construct(&environment{}).Name(); !strings.Contains(text, "mqttlb "+name) {
			t.Errorf("docs/operations.md does not mention mqttlb %s", name)
		}
	}
	for _, part := range []string{"/drain", "/resume", "/rebalance", "/state", "/lost", "/events", "skip", "publish", "suppress", "instance.count", "mqttlb_evicted_lost_total"} {
		if !strings.Contains(text, part) {
			t.Errorf("docs/operations.md does not mention %s", part)
		}
	}
}

// Links between the pages lead somewhere.
func TestLinksInTheDocs(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#]+)(?:#[^)]*)?\)`)
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", page, m[1])
			}
		}
	}
}

// Every test that the page about reliability names is there, and every fault test is on the page.
func TestReliabilityNamesTests(t *testing.T) {
	t.Parallel()
	declared := make(map[string]bool)
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			declared[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page := pages(t)["../../docs/reliability.md"]
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllStringSubmatch(page, -1)
	if len(named) < 80 {
		t.Errorf("got %d names of tests, want more; is the test blind?", len(named))
	}
	on := make(map[string]bool)
	for _, m := range named {
		on[m[1]] = true
		if !declared[m[1]] {
			t.Errorf("docs/reliability.md names %s, which does not exist", m[1])
		}
	}
	for name := range declared {
		if strings.HasPrefix(name, "TestFault") && !on[name] {
			t.Errorf("docs/reliability.md does not name %s", name)
		}
	}
	for id := range strings.FieldsSeq("P1 P2 P3 P4 P5 P6 P7 P8 B1 B2 B3 B4 B5 B6 B7 B8 B9 B10 S1 S2 R1 R2 R3 R4 D1 D2 D3 M1 M2 E1 E2 E3 E4 E5 E6 U1–U3 U4 T1 T2 A1 A2 A3 L1 I1 I2 I3 I4 I5 I6 I7 I8 I9 I10") {
		if strings.Count(page, "\n| "+id+" |") != 1 {
			t.Errorf("docs/reliability.md does not have one line for %s", id)
		}
	}
}
