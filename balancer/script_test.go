package balancer_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata/*.txt")

// TestScripts runs testdata/*.txt. A script is a list of blocks: commands, a line ----, and what they print
// up to an empty line. Every script starts without backends, with the strategy client-hash and no bound.
//
//	key SECRET                                 new snapshots use this key
//	strategy NAME [bound=1.25] [anonymous=NAME] [seed=7] [scope=node]
//	backends NAME:CAPACITY[@ADDRESS] …         a new membership; seats are kept by name
//	phase NAME PHASE      ramp NAME FACTOR     change one backend
//	version NAME VERSION
//	live NAME=N …                              who holds how many connections
//	tried [NAME …]                             who has failed the clients from now on
//	state STATE [target=VERSION]               what adaptive is told
//	forecast NAME=FACTOR[/LOAD] …              load figures; the mean traffic is 1000, which is a load of 0.5
//	heavy client=ID on=NAME rate=N             the traffic of one connection
//	groups [hold=30] [ordinals=on]             members of groups have seats from now on; hold in seconds
//	wait SECONDS
//	pick CLIENT [times=N]                      decide, and count nothing
//	place CLIENT [times=N]                     decide, and count the client
//	leave CLIENT                               its last connection ends
//	preview CLIENT                             decide as explain does
//	order CLIENT                               all choices of a client, one after the other
//	spread prefix=P n=N                        decide for the ids P0 … P(N-1) and count
//	show                                       the snapshot and the seats
//
// CLIENT is [client=ID] [persistent=yes] [group=G [ordinal=N]].
func TestScripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d scripts and error %v, want some", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(content))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compareLines(t, file, got, string(content))
		})
	}
}

// compareLines reports the first line that differs.
func compareLines(t *testing.T, file, got, want string) {
	t.Helper()
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("%s:%d: got  %s\nwant %s\n(go test ./balancer -update rewrites the file)", file, i+1, g[i], w[i])
			return
		}
	}
	if len(g) != len(w) {
		t.Errorf("%s: got %d lines, want %d", file, len(g), len(w))
	}
}

// runScript returns the script with the output that its commands give now.
func runScript(t *testing.T, script string) string {
	t.Helper()
	s := newStage(t)
	var result, output strings.Builder
	expected := false // we are in the old output
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "----":
			result.WriteString("----\n" + output.String())
			output.Reset()
			expected = true
			continue
		case expected && line != "":
			continue
		case line != "" && !strings.HasPrefix(line, "#"):
			output.WriteString(s.execute(line))
		}
		expected = false
		result.WriteString(line + "\n")
	}
	if output.Len() > 0 {
		t.Fatalf("the script ends without ---- after commands that print %q", output.String())
	}
	return result.String()
}
