package discovery

import "github.com/fsnotify/fsnotify"

// A FakeWatch is a watch on folders that a test commands.
type FakeWatch struct {
	Events  chan fsnotify.Event
	Errors  chan error
	Folders func(folders []string) error
	Closed  bool
}

// Watch makes a File hear of changes from a FakeWatch; a nil one cannot be started.
func (f *File) Watch(w *FakeWatch, err error) {
	f.watch = func() (folderWatch, error) { return fake{w}, err }
}

type fake struct{ w *FakeWatch }

func (f fake) set(folders []string) error    { return f.w.Folders(folders) }
func (f fake) events() <-chan fsnotify.Event { return f.w.Events }
func (f fake) errors() <-chan error          { return f.w.Errors }
func (f fake) close() error                  { f.w.Closed = true; return nil }
