package discovery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	// maxFile bounds the file, in bytes. 4096 backends with labels need about half of it.
	maxFile = 1 << 20
	// maxListed bounds the backends in it, as in the configuration.
	maxListed = 4096
)

// File is a list of backends in a file of its own, which may change while mqttlb runs:
//
//	# backends.yaml
//	- {name: n1, address: "10.0.0.1:1883"}
//	- {name: n2, address: "broker-2.example:1883", capacity: 2, labels: {zone: b}}
//
// The same in JSON will do. The keys are those of the static list; address is required, name is the address
// and capacity is 1 if they are missing.
//
// The file is watched, and read again a moment after somebody has written it, has put another one into its
// place, or has turned a symbolic link on the way to it, as Kubernetes does with ConfigMaps. Beside that it
// is read at every interval, for file systems that tell nobody about changes. A file that is missing, empty,
// larger than 1 MiB or 4096 backends, or no such list changes nothing, and the log says what is wrong where;
// a single backend that cannot be used is left out. Write a new file and rename it to this one: what is read
// while it is written may look complete.
type File struct {
	// Path is the file.
	Path string
	// Interval is the pause between two readings when nothing is heard of the file, and between two
	// resolutions of the host names in it; 0 means 30 s.
	Interval time.Duration
	// Allowed are the networks that backends may be in; none means any.
	Allowed []netip.Prefix
	// Lookup resolves a host name; nil uses the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Observer may be nil.
	Observer Observer
	// Log may be nil.
	Log *slog.Logger

	watch watchFunc // nil uses inotify or what the system has
	text  []byte    // what was parsed last
	last  answer    // … and what it was
	wrong error     // … or what was wrong with it
}

// Run implements Source.
func (f *File) Run(ctx context.Context, sets chan<- []balancer.Backend) error {
	if f.Path == "" {
		return errors.New("discovery by file needs the path of the file")
	}
	log, interval := logger(f.Log), orDefault(f.Interval, defaultInterval)
	w := &watcher{path: f.Path, interval: interval, log: log, changed: make(chan struct{}, 1)}
	start := f.watch
	if start == nil {
		start = newFolderWatch
	}
	// Watching begins before the first reading, so that no change falls between the two.
	if err := w.open(start); err != nil {
		log.Warn("cannot watch files; changes are noticed at the next interval", slog.String("path", f.Path), slog.Any("error", err))
	} else {
		watching, stop := context.WithCancel(ctx)
		var running sync.WaitGroup
		running.Go(func() { w.run(watching) })
		defer running.Wait()
		defer stop()
	}
	r := &refresher{
		source: "file", fetch: f.fetch, interval: interval, wake: w.changed, most: maxListed,
		allowed: f.Allowed, lookup: orSystem(f.Lookup), observer: f.Observer, journal: journal{log: log},
	}
	return r.run(ctx, sets)
}

// fetch reads the file. What has not changed since the last time is not parsed again.
func (f *File) fetch(context.Context) (answer, error) {
	text, err := readFile(f.Path, maxFile)
	if err != nil {
		return answer{}, err
	}
	if f.text != nil && bytes.Equal(text, f.text) {
		return f.last, f.wrong
	}
	found, err := parseList(text)
	if wrong, ok := errors.AsType[mistakes](err); ok {
		err = errors.New(wrong.in(f.Path))
	}
	for i := range found.where {
		found.where[i] = f.Path + ":" + found.where[i]
	}
	for i := range found.left {
		found.left[i].where = f.Path + ":" + found.left[i].where
	}
	f.text, f.last, f.wrong = text, found, err
	return found, err
}

// readFile returns the content of a regular file of at most so many bytes. One that changes under the reader
// is an error, as what was read may be half of the old and half of the new.
func readFile(path string, most int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // opening a pipe must not wait for a writer
	if err != nil {
		return nil, err
	}
	defer file.Close()
	before, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if before.Size() > most {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", path, before.Size(), most)
	}
	text, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	after, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if int64(len(text)) > most || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
		return nil, fmt.Errorf("%s is being written", path)
	}
	return text, nil
}

// orDefault is d, or the default if d is 0 or makes no sense.
func orDefault(d, usual time.Duration) time.Duration {
	if d <= 0 {
		return usual
	}
	return d
}
