package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
)

// The state file holds what was learned of clients, so that it survives a restart. It is text: a first line with the
// version, a line for each client, and a last line with their number, without which the file is not whole. Names are
// quoted as in Go, so that any bytes can stand in them.
//
//	mqttlb state 1
//	learned "hivemq" "client-17" "workers"
//	end 1
const (
	stateHeader = "mqttlb state 1"
	saveEvery   = 30 * time.Second
	// maxState bounds the file in bytes: some 100 000 clients with long names. What is beyond is not saved.
	maxState = 64 << 20
	// maxStateLine bounds a line: three names of which each byte may take four, \xff.
	maxStateLine = 64 + 4*(2*1024+1024)
)

// A stateFile keeps the state of some clusters in a file.
type stateFile struct {
	path     string
	clusters func() []*cluster.Cluster
	log      *slog.Logger
	saved    map[string]uint64 // what cluster.Changes was, by cluster, when the file was written
}

// openState teaches the clusters what the file holds; no path is no file. A file that cannot be read is reported and
// ignored, and will be replaced; one that cannot be written is an error.
func openState(path string, clusters func() []*cluster.Cluster, log *slog.Logger) (*stateFile, error) {
	if path == "" {
		return nil, nil //nolint:nilnil // no file is no error
	}
	f := &stateFile{path: path, clusters: clusters, log: log.With(slog.String("file", path))}
	trial, err := f.create()
	if err != nil {
		return nil, fmt.Errorf("instance.state_file cannot be written: %w; its folder must exist and be writable", err)
	}
	_ = trial.Close()
	_ = os.Remove(trial.Name())
	lessons, err := readState(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		f.log.Warn("the state file cannot be used; what was learned before is lost", slog.Any("error", err))
	default:
		f.teach(lessons)
	}
	f.saved = f.changes()
	return f, nil
}

// teach hands what was read to the clusters that are still there and still want to learn.
func (f *stateFile) teach(lessons map[string][]cluster.Lesson) {
	known := 0
	for _, c := range f.clusters() {
		for _, lesson := range lessons[c.Name()] {
			c.Learn(lesson.ClientID, lesson.Group)
		}
		known += c.Status().Learned
	}
	f.log.Info("the groups of clients are known from before", slog.Int("clients", known))
}

// changes are the numbers of changes so far, by cluster.
func (f *stateFile) changes() map[string]uint64 {
	changes := make(map[string]uint64)
	for _, c := range f.clusters() {
		changes[c.Name()] = c.Changes()
	}
	return changes
}

// save writes the file if anything has changed since it was written.
func (f *stateFile) save() {
	if maps.Equal(f.changes(), f.saved) {
		return
	}
	saved, err := f.write()
	if err != nil {
		f.log.Warn("the state file cannot be written; it stays as it was", slog.Any("error", err))
		return
	}
	f.saved = saved
}

// write replaces the file as a whole: whatever happens meanwhile, there is an old one or a new one.
func (f *stateFile) write() (saved map[string]uint64, err error) {
	next, err := f.create()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = next.Close()
			_ = os.Remove(next.Name())
		}
	}()
	w := bufio.NewWriter(next)
	saved = f.format(w)
	if err = w.Flush(); err != nil {
		return nil, err
	}
	if err = next.Sync(); err != nil {
		return nil, err
	}
	if err = next.Close(); err != nil {
		return nil, err
	}
	if err = os.Rename(next.Name(), f.path); err != nil {
		return nil, err
	}
	if folder, err := os.Open(filepath.Dir(f.path)); err == nil {
		_ = folder.Sync() // as good as it gets: not all file systems can
		_ = folder.Close()
	}
	return saved, nil
}

// create makes the file that is to replace the other. Client ids can be personal data: nobody else may read it.
func (f *stateFile) create() (*os.File, error) {
	name := f.path + ".new"
	_ = os.Remove(name) // of a process that was killed
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// format writes the state. Errors stay with w.
func (f *stateFile) format(w *bufio.Writer) (saved map[string]uint64) {
	saved = make(map[string]uint64)
	size, count := len(stateHeader)+1, 0
	_, _ = w.WriteString(stateHeader + "\n")
	var line []byte
	for _, c := range f.clusters() {
		lessons, changes := c.Lessons()
		saved[c.Name()] = changes
		for i := range lessons {
			line = append(line[:0], "learned"...)
			for _, name := range [...]string{c.Name(), lessons[i].ClientID, lessons[i].Group} {
				line = strconv.AppendQuote(append(line, ' '), name)
			}
			line = append(line, '\n')
			if size += len(line); size > maxState-maxStateLine {
				break
			}
			_, _ = w.Write(line)
			count++
		}
	}
	fmt.Fprintf(w, "end %d\n", count)
	return saved
}

// readState reads a state file: the lessons by cluster.
func readState(path string) (map[string][]cluster.Lesson, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseState(file)
}

// parseState reads a state. One that is not whole, or longer than maxState, is an error.
func parseState(r io.Reader) (map[string][]cluster.Lesson, error) {
	lines := bufio.NewScanner(io.LimitReader(r, maxState))
	lines.Buffer(nil, maxStateLine)
	if !lines.Scan() || lines.Text() != stateHeader {
		return nil, errors.Join(fmt.Errorf("the first line is not %q", stateHeader), lines.Err())
	}
	lessons := make(map[string][]cluster.Lesson)
	for count := 0; lines.Scan(); count++ {
		line := lines.Text()
		if line == "end "+strconv.Itoa(count) {
			if lines.Scan() {
				return nil, errors.New("there is something behind the end")
			}
			return lessons, lines.Err()
		}
		names, err := parseLearned(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", count+2, err)
		}
		lessons[names[0]] = append(lessons[names[0]], cluster.Lesson{ClientID: names[1], Group: names[2]})
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	return nil, errors.New("the end is missing")
}

// parseLearned reads the line of one client.
func parseLearned(line string) (names [3]string, err error) {
	rest, ok := strings.CutPrefix(line, "learned")
	for i := range names {
		var quoted string
		if rest, ok = strings.CutPrefix(rest, " "); !ok {
			break
		}
		if quoted, err = strconv.QuotedPrefix(rest); err != nil || quoted[0] != '"' {
			ok = false
			break
		}
		if names[i], err = strconv.Unquote(quoted); err != nil {
			return names, err
		}
		rest = rest[len(quoted):]
	}
	if !ok || rest != "" {
		return names, errors.New("want learned and three names in quotes")
	}
	return names, nil
}
