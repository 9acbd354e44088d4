package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// A memoryGroup is the cgroup whose limit of memory is the tightest of those that this process is in.
type memoryGroup struct {
	files fs.FS
	dir   string // below the root of files
	v2    bool
	limit uint64
}

// unlimited is what cgroups of the first version say when there is no limit: the largest number of whole pages.
const unlimited = 1 << 60

// findMemoryGroup looks for a limit in the cgroup of this process and in those above it; nil if there is none. Inside a
// container its own group looks like the root.
func findMemoryGroup(files fs.FS) *memoryGroup {
	text, err := fs.ReadFile(files, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var tightest *memoryGroup
	for line := range strings.Lines(string(text)) {
		number, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, dir, ok := strings.Cut(rest, ":")
		g := memoryGroup{files: files}
		switch {
		case !ok:
			continue
		case number == "0" && controllers == "":
			g.v2, g.dir = true, "sys/fs/cgroup"
		case hasWord(controllers, "memory"):
			g.dir = "sys/fs/cgroup/memory"
		default:
			continue
		}
		root := g.dir
		for dir = path.Clean("/" + dir); ; dir = path.Dir(dir) {
			g.dir = path.Join(root, dir)
			if n, ok := g.number(g.limitFile()); ok && n > 0 && n < unlimited && (tightest == nil || n < tightest.limit) {
				found := g
				found.limit = n
				tightest = &found
			}
			if dir == "/" {
				break
			}
		}
	}
	return tightest
}

func hasWord(list, word string) bool {
	for w := range strings.SplitSeq(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

func (g *memoryGroup) limitFile() string {
	if g.v2 {
		return "memory.max"
	}
	return "memory.limit_in_bytes"
}

// used is the memory that the group uses and that the kernel could not take back at once, in bytes: everything but
// files in its cache that nobody has read lately.
func (g *memoryGroup) used() (uint64, bool) {
	file, cache := "memory.usage_in_bytes", "total_inactive_file"
	if g.v2 {
		file, cache = "memory.current", "inactive_file"
	}
	n, ok := g.number(file)
	if !ok {
		return 0, false
	}
	stat, err := fs.ReadFile(g.files, path.Join(g.dir, "memory.stat"))
	if err != nil {
		return n, true
	}
	for lines := bufio.NewScanner(bytes.NewReader(stat)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if inactive, err := strconv.ParseUint(value, 10, 64); key == cache && err == nil {
			return n - min(n, inactive), true
		}
	}
	return n, true
}

// number reads a file with one number; false for "max".
func (g *memoryGroup) number(file string) (uint64, bool) {
	text, err := fs.ReadFile(g.files, path.Join(g.dir, file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}
