package discovery

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// quiet is how long a file must have been left alone before it is read: an editor writes in several steps.
const quiet = 200 * time.Millisecond

// A folderWatch tells that something has happened in one of several folders. It is what fsnotify does, as far
// as it is needed here.
type folderWatch interface {
	// set makes these the folders. It may be called again at any time.
	set(folders []string) error
	// events are what has happened.
	events() <-chan fsnotify.Event
	// errors are why something may have been missed.
	errors() <-chan error
	close() error
}

// A watchFunc starts a folderWatch.
type watchFunc func() (folderWatch, error)

// A watcher notices changes of one file. It watches folders and not the file, as a new file under the
// old name is another file: the folder in which the file is, and the one to which a symbolic link leads.
type watcher struct {
	path     string
	interval time.Duration // between two looks at whether the folders are still the same
	log      *slog.Logger
	changed  chan struct{} // one change that nobody has taken yet

	from    folderWatch
	folders []string
	seen    fingerprint
}

// open begins to watch. Without it, or after an error, the file is read at every interval all the same.
func (w *watcher) open(start watchFunc) error {
	var err error
	if w.from, err = start(); err != nil {
		return err
	}
	w.follow()
	w.seen = fingerprintOf(w.path)
	return nil
}

// run watches until ctx is done, and closes then.
func (w *watcher) run(ctx context.Context) {
	defer w.from.close()
	look := time.NewTicker(w.interval)
	defer look.Stop()
	settled := time.NewTimer(quiet)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-w.from.events():
			if !open {
				return
			}
			// Most of what happens in a folder is about other files.
			if now := fingerprintOf(w.path); now != w.seen {
				w.seen = now
				settled.Reset(quiet)
			}
		case err, open := <-w.from.errors():
			if !open {
				return
			}
			w.log.Debug("a change of files may have been missed", slog.String("path", w.path), slog.Any("error", err))
			settled.Reset(quiet)
		case <-settled.C:
			w.follow()
			select {
			case w.changed <- struct{}{}:
			default: // the last one has not been taken yet
			}
		case <-look.C:
			w.follow()
		}
	}
}

// follow watches the folders in which the file is now. A folder that does not exist yet, or no longer, is
// looked for again later.
func (w *watcher) follow() {
	var folders []string
	if folder, err := filepath.EvalSymlinks(filepath.Dir(w.path)); err == nil {
		folders = append(folders, folder)
	}
	if target, err := filepath.EvalSymlinks(w.path); err == nil && !slices.Contains(folders, filepath.Dir(target)) {
		folders = append(folders, filepath.Dir(target))
	}
	if err := w.from.set(folders); err != nil && !slices.Equal(folders, w.folders) {
		w.log.Warn("cannot watch a folder; changes are noticed at the next interval", slog.String("path", w.path), slog.Any("error", err))
	}
	w.folders = folders
}

// A fingerprint is the identity of a file and its state, as far as they can be seen without reading it.
type fingerprint struct {
	target  string
	inode   uint64
	size    int64
	changed int64
	mode    os.FileMode
}

// fingerprintOf returns the zero fingerprint for a file that is not there.
func fingerprintOf(path string) fingerprint {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fingerprint{}
	}
	info, err := os.Stat(target)
	if err != nil {
		return fingerprint{}
	}
	f := fingerprint{target: target, size: info.Size(), changed: info.ModTime().UnixNano(), mode: info.Mode()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		f.inode = stat.Ino
	}
	return f
}

// notifier is the folderWatch of the system.
type notifier struct{ *fsnotify.Watcher }

func newFolderWatch() (folderWatch, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	return notifier{w}, nil
}

// set adds what is not watched: a folder that was removed has lost its watch, even if it is there again.
func (n notifier) set(folders []string) error {
	watched := n.WatchList()
	var first error
	for _, folder := range watched {
		if !slices.Contains(folders, folder) {
			_ = n.Remove(folder) // it may be gone by itself
		}
	}
	for _, folder := range folders {
		if slices.Contains(watched, folder) {
			continue
		}
		if err := n.Add(folder); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (n notifier) events() <-chan fsnotify.Event { return n.Events }
func (n notifier) errors() <-chan error          { return n.Errors }
func (n notifier) close() error                  { return n.Close() }
