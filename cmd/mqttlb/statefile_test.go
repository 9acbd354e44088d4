package main

import (
	"bufio"
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

// learners makes clusters that learn.
func learners(tb testing.TB, names ...string) (list func() []*cluster.Cluster) {
	tb.Helper()
	var made []*cluster.Cluster
	for _, name := range names {
		c, err := cluster.New(cluster.Options{
			Name: name, Strategy: "client-hash", Rules: []cluster.GroupRule{{Learn: true}}, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			tb.Fatal(err)
		}
		made = append(made, c)
	}
	return func() []*cluster.Cluster { return made }
}

// lessons are what a cluster knows, by client.
func lessons(c *cluster.Cluster) map[string]string {
	known := make(map[string]string)
	list, _ := c.Lessons()
	for _, l := range list {
		known[l.ClientID] = l.Group
	}
	return known
}

// quietState opens a state file that must be usable.
func quietState(t *testing.T, path string, clusters func() []*cluster.Cluster) (f *stateFile, log string) {
	t.Helper()
	var text bytes.Buffer
	f, err := openState(path, clusters, slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f, text.String()
}

// What was learned is there again after a restart, whatever bytes the names are made of.
func TestStateSurvives(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	before := learners(t, "one", "two", "gone")
	f, log := quietState(t, path, before)
	if log != "" {
		t.Errorf("at the first start the log has %q, want nothing", log)
	}
	f.save()
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was written although there is nothing to say")
	}
	odd := "\xff\x00\n\"\\é\u2028" + strings.Repeat("x", 1000)
	before()[0].Learn("c1", "workers")
	before()[0].Learn(odd, "\xff\n \" end 2")
	before()[1].Learn("c1", "others")
	before()[2].Learn("c9", "gone")
	f.save()
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Fatalf("got %v, %v, want a file for nobody else", info, err)
	}
	after := learners(t, "two", "one", "new")
	_, log = quietState(t, path, after)
	if !strings.Contains(log, "clients=3") {
		t.Errorf("the log has %q, want it to tell of three clients", log)
	}
	for i, want := range []string{"map[c1:others]", fmt.Sprint(map[string]string{"c1": "workers", odd: "\xff\n \" end 2"}), "map[]"} {
		if got := fmt.Sprint(lessons(after()[i])); got != want {
			t.Errorf("cluster %s knows %q, want %q", after()[i].Name(), got, want)
		}
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("got files %v, want one", left)
	}
}

// The file is written when something has changed, and not otherwise; what is forgotten leaves it.
func TestStateIsSavedWhenItChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state")
	clusters := learners(t, "one")
	f, _ := quietState(t, path, clusters)
	for _, step := range []struct {
		learn [2]string
		saved bool
	}{
		{[2]string{"c", "g"}, true}, {[2]string{"c", "g"}, false}, {[2]string{"c", "h"}, true}, {[2]string{"", "h"}, false},
	} {
		_ = os.Remove(path)
		clusters()[0].Learn(step.learn[0], step.learn[1])
		f.save()
		if _, err := os.Stat(path); (err == nil) != step.saved {
			t.Errorf("learned %q: got saved %t, want %t", step.learn, err == nil, step.saved)
		}
	}
}

// A broken file is told of, ignored as a whole, and replaced.
func TestBrokenState(t *testing.T) {
	t.Parallel()
	whole := stateHeader + "\nlearned \"one\" \"c\" \"g\"\nend 1\n"
	for name, test := range map[string]struct{ text, want string }{
		"empty":          {"", "the first line is not"},
		"other version":  {strings.Replace(whole, "1", "2", 1), "the first line is not"},
		"cut":            {whole[:len(whole)-6], "the end is missing"},
		"line missing":   {strings.Replace(whole, "learned \"one\" \"c\" \"g\"\n", "", 1), "line 2: want learned"},
		"name missing":   {strings.Replace(whole, ` "g"`, "", 1), "line 2: want learned"},
		"one more":       {strings.Replace(whole, ` "g"`, ` "g" "h"`, 1), "line 2: want learned"},
		"raw quotes":     {strings.Replace(whole, `"g"`, "`g`", 1), "line 2: want learned"},
		"something else": {strings.Replace(whole, "learned", "forgot", 1), "line 2: want learned"},
		"more behind":    {whole + "x", "something behind the end"},
		"long line":      {strings.Replace(whole, "g", strings.Repeat("g", 1<<20), 1), "token too long"},
		"noise":          {"\x00\xff\x80", "the first line is not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			clusters := learners(t, "one")
			f, log := quietState(t, path, clusters)
			if !strings.Contains(log, test.want) || len(lessons(clusters()[0])) > 0 {
				t.Errorf("got %v, log %q, want nothing learned and %q", lessons(clusters()[0]), log, test.want)
			}
			clusters()[0].Learn("c", "g")
			f.save()
			if got, _ := os.ReadFile(path); string(got) != whole {
				t.Errorf("got %q saved, want %q", got, whole)
			}
		})
	}
}

// A file that can never be written is told at the start.
func TestStateNeedsItsFolder(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(folder, "none", "state"): "its folder cannot be used: stat " + folder + "/none: no such file or directory; create the folder",
		filepath.Join(file, "state"):           "but " + file + " is no folder",
		folder:                                 "which is no file; name a file that mqttlb may create",
		filepath.Join(folder, "state"):         "",
		file:                                   "",
		"":                                     "",
	} {
		got := ""
		vetState("instance.state_file", path, func(at, msg string) { got = at + " " + msg })
		if (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
	_, err := openState(filepath.Join(folder, "none", "state"), learners(t), slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "instance.state_file cannot be written") {
		t.Errorf("got %v, want an error", err)
	}
}

// FuzzState reads arbitrary bytes: what is accepted can be written, and then says the same.
func FuzzState(f *testing.F) {
	f.Add([]byte(stateHeader + "\nlearned \"one\" \"c\" \"g\"\nlearned \"one\" \"\\xff\" \"g\"\nend 2\n"))
	f.Add([]byte(stateHeader + "\nend 0\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		read, err := parseState(bytes.NewReader(in))
		if err != nil {
			return
		}
		clusters := learners(t, "one")
		s := &stateFile{clusters: clusters, log: slog.New(slog.DiscardHandler)}
		s.teach(read)
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		s.format(w)
		_ = w.Flush()
		again, err := parseState(&out)
		if err != nil {
			t.Fatalf("%q: cannot be read again: %v", out.Bytes(), err)
		}
		known := lessons(clusters()[0])
		if len(again["one"]) != len(known) {
			t.Fatalf("got %d lessons, want %d", len(again["one"]), len(known))
		}
		for _, l := range again["one"] {
			if known[l.ClientID] != l.Group {
				t.Fatalf("got %q, want group %q", l, known[l.ClientID])
			}
		}
	})
}

// What explain says of a group tells how it is known.
func TestExplainLearned(t *testing.T) {
	t.Parallel()
	c := learners(t, "hivemq")()[0]
	c.Apply([]balancer.Backend{{Name: "a", Address: "10.0.0.1:1883"}})
	c.Learn("client-1", "workers")
	o := operated()
	o.Clusters = []admin.Cluster{c}
	_, socket := serveAdmin(t, o)
	for id, want := range map[string]string{"client-1": "kind      member of group workers, learned from SUBSCRIBE\n", "client-2": "kind      fleeting, no session outlives its connection\n"} {
		if out, err := execCommand(t, explainCommand, "--admin", socket, id); err != nil || !strings.Contains(out, want) {
			t.Errorf("got %q, %v, want %q", out, err, want)
		}
	}
}
