package main

import (
	"testing"
	"testing/fstest"
	"time"
)

func TestPressure(t *testing.T) {
	t.Parallel()
	// Up, hovering between the marks, and down again.
	steps := []struct {
		share float64
		want  pressure
	}{
		{0, relaxed},
		{0.79, relaxed},
		{0.80, tight},
		{0.76, tight},
		{0.89, tight},
		{0.90, critical},
		{0.86, critical},
		{0.849, tight},
		{0.95, critical},
		{0.76, tight},
		{0.749, relaxed},
		{0.79, relaxed},
		{1.5, critical},
		{0.1, relaxed},
	}
	p := relaxed
	for i, s := range steps {
		if p = p.next(s.share); p != s.want {
			t.Fatalf("step %d at %v: got %v, want %v", i, s.share, p, s.want)
		}
	}
}

func TestMemoryWatchCollectsFirst(t *testing.T) {
	t.Parallel()
	used, garbage, collections := uint64(50), uint64(0), 0
	w := &memoryWatch{limit: 100, measure: func() uint64 { return used + garbage }}
	w.collect = func() { garbage, collections = 0, collections+1 }
	now := time.Unix(1000, 0)
	step := func(u, g uint64, want pressure, collected int) {
		t.Helper()
		used, garbage, now = u, g, now.Add(time.Second)
		if _, is := w.check(now); is != want || collections != collected {
			t.Fatalf("with %d and %d of garbage: got %v after %d collections, want %v after %d", u, g, is, collections, want, collected)
		}
	}
	step(50, 20, relaxed, 0)
	step(50, 40, relaxed, 1)  // it was garbage
	step(50, 40, critical, 1) // there was no time for another collection; what is used counts
	now = now.Add(collectPause)
	step(50, 10, relaxed, 1)
	step(85, 0, tight, 2)
	step(85, 0, tight, 2) // not again so soon
	now = now.Add(collectPause)
	step(91, 0, critical, 3)
	if f := w.figures(); f.Used != 91 || f.Limit != 100 || f.Pressure != 2 {
		t.Errorf("got the figures %+v", f)
	}
}

func TestFindMemoryGroup(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	tests := []struct {
		name        string
		files       fstest.MapFS
		limit, used uint64
	}{
		{"no cgroups", fstest.MapFS{}, 0, 0},
		{"second version, no limit", fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/mqttlb.service\n"),
			"sys/fs/cgroup/system.slice/mqttlb.service/memory.max": file("max\n"),
		}, 0, 0},
		{"second version, limit above", fstest.MapFS{
			"proc/self/cgroup": file("0::/system.slice/mqttlb.service\n"),
			"sys/fs/cgroup/system.slice/mqttlb.service/memory.max": file("max\n"),
			"sys/fs/cgroup/system.slice/memory.max":                file("1000\n"),
			"sys/fs/cgroup/system.slice/memory.current":            file("600\n"),
			"sys/fs/cgroup/system.slice/memory.stat":               file("anon 400\ninactive_file 150\nactive_file 50\n"),
		}, 1000, 450},
		{"second version, in a container", fstest.MapFS{
			"proc/self/cgroup":             file("0::/\n"),
			"sys/fs/cgroup/memory.max":     file("2000\n"),
			"sys/fs/cgroup/memory.current": file("70\n"),
		}, 2000, 70},
		{"the tightest counts", fstest.MapFS{
			"proc/self/cgroup":                 file("0::/a/b\n"),
			"sys/fs/cgroup/a/b/memory.max":     file("3000\n"),
			"sys/fs/cgroup/a/b/memory.current": file("1\n"),
			"sys/fs/cgroup/a/memory.max":       file("2000\n"),
			"sys/fs/cgroup/a/memory.current":   file("2\n"),
		}, 2000, 2},
		{"first version", fstest.MapFS{
			"proc/self/cgroup":                                  file("8:pids:/x\n4:cpu,memory:/docker/abc\n0::/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":        file("500\n"), // as a container shows its own group
			"sys/fs/cgroup/memory/memory.usage_in_bytes":        file("300\n"),
			"sys/fs/cgroup/memory/memory.stat":                  file("inactive_file 1\ntotal_inactive_file 100\n"),
			"sys/fs/cgroup/memory/docker/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 500, 200},
		{"first version, no limit", fstest.MapFS{
			"proc/self/cgroup":                           file("4:memory:/\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712\n"),
		}, 0, 0},
		{"nonsense", fstest.MapFS{
			"proc/self/cgroup":         file("\n:\nx\n0::../..\n"),
			"sys/fs/cgroup/memory.max": file("-1\n"),
		}, 0, 0},
	}
	for _, test := range tests {
		g := findMemoryGroup(test.files)
		var limit, used uint64
		if g != nil {
			limit = g.limit
			used, _ = g.used()
		}
		if limit != test.limit || used != test.used {
			t.Errorf("%s: got %d of %d, want %d of %d", test.name, used, limit, test.used, test.limit)
		}
	}
}
