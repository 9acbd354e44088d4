package discovery_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/discovery"
)

// A folder is a place for the file of a test.
type folder struct {
	t   *testing.T
	dir string
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	return &folder{t, t.TempDir()}
}

func (f *folder) path(name string) string { return filepath.Join(f.dir, name) }

func (f *folder) write(name, text string) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(name), []byte(text), 0o600))
}

func (f *folder) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// start runs a File whose poll comes too late for any test.
func (f *folder) start(name string) *running {
	f.t.Helper()
	j := newJournal()
	return run(f.t, &discovery.File{Path: f.path(name), Interval: time.Hour, Log: j.logger(), Observer: j}, j)
}

const one, two = "- {name: a, address: 10.0.0.1:1883}\n", "- {name: b, address: 10.0.0.2:1883}\n"

// However a file is changed, the change is seen without waiting for the poll.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *folder){
		"written in place": func(f *folder) { f.write("list.yaml", one+two) },
		"renamed over": func(f *folder) {
			f.write("list.yaml.tmp", one+two)
			f.must(os.Rename(f.path("list.yaml.tmp"), f.path("list.yaml")))
		},
		"same size, same time": func(f *folder) {
			f.write("new", "- {name: a, address: 10.0.0.1:1884}\n")
			info, err := os.Stat(f.path("list.yaml"))
			f.must(err)
			f.must(os.Chtimes(f.path("new"), info.ModTime(), info.ModTime()))
			f.must(os.Rename(f.path("new"), f.path("list.yaml")))
		},
		"removed and written anew": func(f *folder) {
			f.must(os.Remove(f.path("list.yaml")))
			f.write("list.yaml", two)
		},
		"in many small steps": func(f *folder) {
			file, err := os.Create(f.path("list.yaml"))
			f.must(err)
			for _, c := range []byte(one + two) {
				_, err := file.Write([]byte{c})
				f.must(err)
			}
			f.must(file.Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			f.write("list.yaml", one)
			r := f.start("list.yaml")
			want(t, r.next(patience), "a=10.0.0.1:1883")
			change(f)
			if got := r.next(patience); got == "a=10.0.0.1:1883" {
				t.Error("got the old set again")
			}
			r.end()
		})
	}
}

// Kubernetes mounts a ConfigMap as a link to a file behind a link to a folder, and turns the latter.
func TestFileInConfigMap(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	publish := func(version, text string) {
		f.must(os.Mkdir(f.path(version), 0o700))
		f.write(version+"/list.yaml", text)
		f.must(os.Symlink(version, f.path("..data_tmp")))
		f.must(os.Rename(f.path("..data_tmp"), f.path("..data")))
	}
	publish("..2026_01", one)
	f.must(os.Symlink(filepath.Join("..data", "list.yaml"), f.path("list.yaml")))
	r := f.start("list.yaml")
	want(t, r.next(patience), "a=10.0.0.1:1883")
	publish("..2026_02", two)
	f.must(os.RemoveAll(f.path("..2026_01")))
	want(t, r.next(patience), "b=10.0.0.2:1883")
	publish("..2026_03", one+two)
	f.must(os.RemoveAll(f.path("..2026_02")))
	want(t, r.next(patience), "a=10.0.0.1:1883 b=10.0.0.2:1883")
	r.end()
}

// A link may lead into another folder, where somebody writes.
func TestFileBehindALink(t *testing.T) {
	t.Parallel()
	f, far := newFolder(t), newFolder(t)
	far.write("real.yaml", one)
	f.must(os.Symlink(far.path("real.yaml"), f.path("list.yaml")))
	r := f.start("list.yaml")
	want(t, r.next(patience), "a=10.0.0.1:1883")
	far.write("tmp", two)
	far.must(os.Rename(far.path("tmp"), far.path("real.yaml")))
	want(t, r.next(patience), "b=10.0.0.2:1883")
	r.end()
}

// Whatever is wrong with a file, the last list stays, and the log says what is wrong where.
func TestFileMistakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(f *folder)
		says  string
	}{
		"syntax":      {func(f *folder) { f.write("list.yaml", one+"- {name: b\n") }, "list.yaml:2:3: not valid YAML: "},
		"unknown key": {func(f *folder) { f.write("list.yaml", one+"- {name: b, host: h:1}\n") }, `list.yaml:2:13: unknown key \"host\"; did you mean \"address\"?`},
		"empty":       {func(f *folder) { f.write("list.yaml", "") }, "list.yaml:1:1: the file is empty"},
		"empty list":  {func(f *folder) { f.write("list.yaml", "[]") }, "list.yaml:1:1: the list is empty"},
		"nobody left": {func(f *folder) { f.write("list.yaml", "- address: nowhere\n- address: h:0\n") }, "no backend that can be used: 2 are left out, the first because of: its address must be host:port"},
		"gone":        {func(f *folder) { f.must(os.Remove(f.path("list.yaml"))) }, "list.yaml: no such file or directory"},
		"too large":   {func(f *folder) { f.write("list.yaml", one+strings.Repeat("#", 1<<20)) }, "more than 1048576"},
		"too many": {
			func(f *folder) { f.write("list.yaml", strings.Repeat("- {address: 10.0.0.1:1}\n", 4097)) },
			"list.yaml:4097:1: not valid YAML: more than 4096 backends",
		},
		"too many in one line": {
			func(f *folder) { f.write("list.yaml", "["+strings.Repeat("{address: 10.0.0.1:1},", 4097)+"]") },
			"4097 backends are more than the 4096",
		},
		"a folder": {func(f *folder) {
			f.must(os.Remove(f.path("list.yaml")))
			f.must(os.Mkdir(f.path("list.yaml"), 0o700))
		}, "list.yaml is not a regular file"},
		"a pipe": {func(f *folder) {
			f.must(os.Remove(f.path("list.yaml")))
			f.must(syscall.Mkfifo(f.path("list.yaml"), 0o600))
		}, "list.yaml is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			f.write("list.yaml", one)
			r := f.start("list.yaml")
			want(t, r.next(patience), "a=10.0.0.1:1883")
			c.spoil(f)
			r.fails(1)
			r.logs(`msg="discovery failed; the last known backends stay" source=file backends=1`, c.says)
			_ = os.Remove(f.path("list.yaml"))
			f.write("list.yaml", two)
			want(t, r.next(patience), "b=10.0.0.2:1883")
			r.end()
			r.logs("discovery works again")
		})
	}
}

// One backend that cannot be used is left out, with its place in the file; the others are there.
func TestFileWithBadBackend(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("list.yaml", one+"- {name: \"b c\", address: h:1}\n- {name: d, address: 10.0.0.4:1883, capacity: 0}\n"+two)
	r := f.start("list.yaml")
	want(t, r.next(patience), "a=10.0.0.1:1883 b=10.0.0.2:1883")
	r.until("the report", func() bool { last, _, _ := r.heard(); return last == "ok 2 left 2" })
	r.logs(`msg="a backend is left out" source=file backend=d where=`+f.path("list.yaml")+`:3:3 error="its capacity must be from 0.001 to 1000000, got 0"`,
		`msg="a backend is left out" source=file backend="b c" where=`+f.path("list.yaml")+`:2:3 error="its name contains ' '`)
	r.end()
}

// A file that is not there yet is found when it comes, and so is its folder, if later.
func TestFileComesLate(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	r := f.start("list.yaml")
	r.fails(1)
	f.write("list.yaml", one)
	want(t, r.next(patience), "a=10.0.0.1:1883")
	r.end()

	r = f.start("later/list.yaml")
	r.fails(1)
	f.must(os.Mkdir(f.path("later"), 0o700))
	f.write("later/list.yaml", one)
	want(t, r.next(patience), "a=10.0.0.1:1883") // by the attempts that follow a failure
	r.end()
}

func TestFileNeedsAPath(t *testing.T) {
	t.Parallel()
	if err := (&discovery.File{}).Run(t.Context(), nil); err == nil {
		t.Error("got no error without a path")
	}
}

// A bubble runs a File whose watch the test commands.
func bubble(t *testing.T, f *folder, file *discovery.File) (*running, *discovery.FakeWatch) {
	t.Helper()
	w := &discovery.FakeWatch{Events: make(chan fsnotify.Event), Errors: make(chan error), Folders: func([]string) error { return nil }}
	j := newJournal()
	file.Path, file.Log, file.Observer = f.path("list.yaml"), j.logger(), j
	file.Watch(w, nil)
	r := run(t, file, j)
	r.patience = 24 * time.Hour
	return r, w
}

// What is written in several steps is read when it has been left alone for a moment.
func TestFileDebounce(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("list.yaml", one)
	synctest.Test(t, func(t *testing.T) {
		r, w := bubble(t, f, &discovery.File{Interval: time.Hour})
		want(t, r.next(0), "a=10.0.0.1:1883")
		for i := range 10 { // every 100 ms another backend
			f.write("list.yaml", one+strings.Repeat("# more\n", i)+two)
			w.Events <- fsnotify.Event{}
			r.quiet(100 * time.Millisecond)
		}
		want(t, r.next(100*time.Millisecond), "a=10.0.0.1:1883 b=10.0.0.2:1883")
		synctest.Wait()
		_, good, _ := r.heard()
		for range 1000 { // events about other files
			w.Events <- fsnotify.Event{}
		}
		r.quiet(50 * time.Minute)
		if _, now, _ := r.heard(); now != good {
			t.Errorf("got %d readings for events about other files, want none", now-good)
		}
		r.end()
		if !w.Closed {
			t.Error("got a watch that is still open at the end")
		}
	})
}

// Where nobody tells about changes, or not about all, the file is read at every interval.
func TestFilePoll(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	synctest.Test(t, func(t *testing.T) {
		f.write("list.yaml", one)
		r, w := bubble(t, f, &discovery.File{})
		want(t, r.next(0), "a=10.0.0.1:1883")
		f.write("list.yaml", two)
		r.quiet(26 * time.Second)
		want(t, r.next(7*time.Second), "b=10.0.0.2:1883")
		f.write("list.yaml", one)
		w.Errors <- fsnotify.ErrEventOverflow
		want(t, r.next(200*time.Millisecond), "a=10.0.0.1:1883")
		close(w.Events) // the watch breaks down
		f.write("list.yaml", two)
		want(t, r.next(33*time.Second), "b=10.0.0.2:1883")
		r.end()

		file := &discovery.File{Path: f.path("list.yaml")}
		j := newJournal()
		file.Log, file.Observer = j.logger(), j
		file.Watch(nil, errors.New("too many open files"))
		r = run(t, file, j)
		want(t, r.next(0), "b=10.0.0.2:1883")
		f.write("list.yaml", one)
		want(t, r.next(33*time.Second), "a=10.0.0.1:1883")
		r.end()
		r.logs(`msg="cannot watch files; changes are noticed at the next interval"`, "too many open files")
	})
}

// The folders that are watched follow the links.
func TestFileFollowsFolders(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.must(os.Mkdir(f.path("v1"), 0o700))
	f.must(os.Mkdir(f.path("v2"), 0o700))
	f.must(os.Symlink("v1", f.path("current")))
	f.write("v1/list.yaml", one)
	f.write("v2/list.yaml", two)
	f.must(os.Symlink(filepath.Join("current", "list.yaml"), f.path("list.yaml")))
	real, err := filepath.EvalSymlinks(f.dir)
	f.must(err)
	synctest.Test(t, func(t *testing.T) {
		var watched atomic.Value
		file := &discovery.File{Interval: time.Minute}
		w := &discovery.FakeWatch{Events: make(chan fsnotify.Event), Folders: func(folders []string) error { watched.Store(folders); return nil }}
		j := newJournal()
		file.Path, file.Log = f.path("list.yaml"), j.logger()
		file.Watch(w, nil)
		r := run(t, file, j)
		r.next(0)
		if got, want := watched.Load().([]string), []string{real, real + "/v1"}; !slices.Equal(got, want) {
			t.Errorf("got %v watched, want %v", got, want)
		}
		f.must(os.Remove(f.path("current")))
		f.must(os.Symlink("v2", f.path("current")))
		want(t, r.next(66*time.Second), "b=10.0.0.2:1883")
		r.quiet(time.Minute)
		if got, want := watched.Load().([]string), []string{real, real + "/v2"}; !slices.Equal(got, want) {
			t.Errorf("got %v watched, want %v", got, want)
		}
		r.end()
	})
}

// Host names in a file are resolved like those of the configuration, and again while the file is the same.
func TestFileWithNames(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("list.yaml", "- {name: a, address: one:1883, capacity: 2, labels: {zone: x}}\n- {name: b, address: two:1883}\n")
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}})
		r, _ := bubble(t, f, &discovery.File{Interval: time.Minute, Lookup: dns.lookup})
		set := r.set(0)
		if a := set[0]; a.Capacity != 2 || a.Labels["zone"] != "x" || a.Host != "one" || a.Address != "10.0.0.1:1883" {
			t.Errorf("got %+v", a)
		}
		dns.set("two", "10.0.0.2")
		want(t, r.next(2*time.Second), "a=10.0.0.1:1883 b=10.0.0.2:1883")
		dns.set("one", "10.0.0.11")
		want(t, r.next(66*time.Second), "a=10.0.0.11:1883 b=10.0.0.2:1883")
		dns.remove("one")
		r.quiet(5 * time.Minute)
		r.end()
	})
}

// A source ends at once even if nobody takes its set.
func TestFileEndWhileSending(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	f.write("list.yaml", one)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := (&discovery.File{Path: f.path("list.yaml")}).Run(ctx, make(chan []balancer.Backend)); err != nil {
		t.Errorf("got %v", err)
	}
}
