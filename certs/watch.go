package certs

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long the files must have been left alone before they are read: a certificate and its key are
	// two files, and nobody writes both at once.
	quiet = 300 * time.Millisecond
	// look is the time between two looks at files of whose changes the system has told nothing, such as those on
	// network file systems.
	look = 30 * time.Second
)

// A Watcher notices that files change. It watches their folders and not the files themselves: whoever replaces a file
// by renaming makes another one, and the secrets of Kubernetes are changed by turning a symbolic link to another
// folder. All methods may be called from any goroutine.
type Watcher struct {
	changed func()
	log     *slog.Logger
	again   chan struct{} // capacity 1: the files are others

	mu    sync.Mutex
	files []string
}

// NewWatcher makes a watcher that calls changed, from Run, after files have changed and been left alone.
func NewWatcher(changed func(), log *slog.Logger) *Watcher {
	return &Watcher{changed: changed, log: log, again: make(chan struct{}, 1)}
}

// Set makes these the files. If they are not the same as before, changed is called once for them: they may have become
// others since they were read.
func (w *Watcher) Set(files []string) {
	files = slices.Clone(files)
	slices.Sort(files)
	files = slices.Compact(files)
	w.mu.Lock()
	same := slices.Equal(files, w.files)
	w.files = files
	w.mu.Unlock()
	if same {
		return
	}
	select {
	case w.again <- struct{}{}:
	default: // Run has not come to the last one yet
	}
}

// Run watches until ctx is done. Where the system cannot tell of changes, they are noticed within half a minute.
func (w *Watcher) Run(ctx context.Context) {
	var events <-chan fsnotify.Event
	var errs <-chan error
	var notify *fsnotify.Watcher
	defer func() {
		if notify != nil {
			_ = notify.Close()
		}
	}()
	told := false
	// follow begins with the first file: without any, it costs no descriptor, and systems have few of these watches.
	follow := func() {
		if notify == nil && len(w.list()) > 0 {
			var err error
			if notify, err = fsnotify.NewWatcher(); err == nil {
				events, errs = notify.Events, notify.Errors
			} else if notify = nil; !told {
				told = true
				w.log.Warn("cannot watch the files of TLS; changes are noticed late", slog.Any("error", err), slog.String("after", look.String()))
			}
		}
		w.follow(notify)
	}
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	settled := time.NewTimer(quiet)
	settled.Stop()
	defer settled.Stop()
	seen := w.state()
	// compare waits for the end of a change, if there is one.
	compare := func() {
		if now := w.state(); !slices.Equal(now, seen) {
			seen = now
			settled.Reset(quiet)
		}
	}
	follow()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.again:
			seen = w.state()
			settled.Reset(quiet)
			follow()
		case <-events:
			compare() // most of what happens in a folder is about other files
		case err := <-errs:
			w.log.Debug("a change of files may have been missed", slog.Any("error", err))
			compare()
		case <-ticker.C:
			follow()
			compare()
		case <-settled.C:
			follow()
			w.changed()
		}
	}
}

// follow watches the folders in which the files are now. A folder that does not exist is looked for again later.
func (w *Watcher) follow(notify *fsnotify.Watcher) {
	if notify == nil {
		return
	}
	var folders []string
	for _, file := range w.list() {
		// Each step of a chain of links can be turned; two are enough for Kubernetes: the file points into a folder
		// that is a link itself, and both links are in the folder of the file.
		if folder, err := filepath.EvalSymlinks(filepath.Dir(file)); err == nil {
			folders = append(folders, folder)
		}
		if target, err := filepath.EvalSymlinks(file); err == nil {
			folders = append(folders, filepath.Dir(target))
		}
		// The folder itself may be a link, as with releases that are switched.
		if info, err := os.Lstat(filepath.Dir(file)); err == nil && info.Mode()&os.ModeSymlink != 0 {
			folders = append(folders, filepath.Dir(filepath.Dir(file)))
		}
	}
	slices.Sort(folders)
	folders = slices.Compact(folders)
	watched := notify.WatchList()
	for _, folder := range watched {
		if !slices.Contains(folders, folder) {
			_ = notify.Remove(folder) // it may be gone by itself
		}
	}
	for _, folder := range folders {
		if slices.Contains(watched, folder) {
			continue
		}
		if err := notify.Add(folder); err != nil {
			w.log.Debug("cannot watch a folder; changes are noticed late", slog.String("path", folder), slog.Any("error", err))
		}
	}
}

func (w *Watcher) list() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.files
}

// state is what can be seen of all files without reading them.
func (w *Watcher) state() []fingerprint {
	var all []fingerprint
	for _, file := range w.list() {
		all = append(all, fingerprintOf(file))
	}
	return all
}

// A fingerprint is the identity of a file and its state.
type fingerprint struct {
	path, target  string
	inode         uint64
	size          int64
	written, meta int64 // in nanoseconds; meta is the time of the last change of mode or owner, which can make a file readable
	mode          os.FileMode
}

// fingerprintOf returns one with nothing but the path for a file that is not there.
func fingerprintOf(path string) fingerprint {
	f := fingerprint{path: path}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return f
	}
	info, err := os.Stat(target)
	if err != nil {
		return f
	}
	f.target, f.size, f.written, f.mode = target, info.Size(), info.ModTime().UnixNano(), info.Mode()
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		f.inode, f.meta = stat.Ino, stat.Ctim.Nano()
	}
	return f
}
