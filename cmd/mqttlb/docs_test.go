package main

import (
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
