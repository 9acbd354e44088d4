package certs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// watching runs a watcher and counts what it tells. It waits until the watcher watches.
func watching(t *testing.T, files ...string) (*Watcher, *atomic.Int64) {
	t.Helper()
	told := new(atomic.Int64)
	w := NewWatcher(func() { told.Add(1) }, slog.New(slog.DiscardHandler))
	w.Set(files)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	soonTrue(t, "told of the first files", func() bool { return told.Load() == 1 })
	return w, told
}

// soonTrue waits for what must come true.
func soonTrue(t *testing.T, what string, f func() bool) {
	t.Helper()
	const limit = look * 2 / 3 // so that it is not the look that has found it
	for end := time.Now().Add(limit); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %s", what, limit)
		}
	}
}

// Whatever way a file is changed, it is noticed.
func TestWatcher(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f folder) error{
		"written":  func(f folder) error { return os.WriteFile(f.at("a"), []byte("longer"), 0o600) },
		"replaced": func(f folder) error { f.write("a", []byte("longer")); return nil },
		"removed":  func(f folder) error { return os.Remove(f.at("a")) },
		"moded":    func(f folder) error { return os.Chmod(f.at("a"), 0o400) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t)
			_, told := watching(t, f.write("a", []byte("one")))
			if err := change(f); err != nil {
				t.Fatal(err)
			}
			soonTrue(t, "told", func() bool { return told.Load() > 1 })
		})
	}
}

// What Kubernetes does with a secret: the files are links into ..data, which is a link to a folder and is replaced.
func TestWatcherKubernetes(t *testing.T) {
	t.Parallel()
	f, ca := newFolder(t), testcert.NewAuthority(t, "ca")
	turn := func(version int) testcert.Leaf {
		t.Helper()
		l := ca.Sign(t, testcert.Want{Names: []string{"a.test"}})
		folder := fmt.Sprint("..v", version)
		if err := os.Mkdir(f.at(folder), 0o700); err != nil {
			t.Fatal(err)
		}
		f.pair(filepath.Join(folder, "tls"), l)
		if err := os.Symlink(folder, f.at("..tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(f.at("..tmp"), f.at("..data")); err != nil {
			t.Fatal(err)
		}
		return l
	}
	turn(0)
	p := Pair{f.at("tls.crt"), f.at("tls.key")}
	for _, name := range []string{"tls.crt", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", name), f.at(name)); err != nil {
			t.Fatal(err)
		}
	}
	s := newServer(t, ServerOptions{Pairs: []Pair{p}})
	_, told := watching(t, s.Files()...)
	for version := range 3 {
		before := told.Load()
		l := turn(version + 1)
		if version > 0 { // as Kubernetes does it
			if err := os.RemoveAll(f.at(fmt.Sprint("..v", version))); err != nil {
				t.Fatal(err)
			}
		}
		soonTrue(t, "told", func() bool { return told.Load() > before })
		s.wantReload(t, true)
		if got := mustMeet(t, s.Config(), trusting(ca, "a.test")).serverSerial(); got != l.Serial(t) {
			t.Errorf("version %d: got another certificate", version+1)
		}
	}
}

// Other files in the folder are nobody's business.
func TestWatcherIgnoresNeighbours(t *testing.T) {
	t.Parallel()
	f := newFolder(t)
	w, told := watching(t, f.write("a", []byte("one")))
	for i := range 20 {
		f.write("b", []byte{byte(i)})
	}
	time.Sleep(3 * quiet)
	if n := told.Load(); n != 1 {
		t.Errorf("told %d times, want once, at the begin", n)
	}
	w.Set([]string{f.at("a"), f.at("b")})
	soonTrue(t, "told of other files", func() bool { return told.Load() == 2 })
	f.write("b", []byte("longer"))
	soonTrue(t, "told of the other file", func() bool { return told.Load() == 3 })
}

// Handshakes run while files are replaced, written in pieces and damaged: each one sees a whole certificate, the end
// is the last one, and no open connection is touched.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	f, ca := newFolder(t), testcert.NewAuthority(t, "ca")
	s := newServer(t, ServerOptions{Pairs: []Pair{f.pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}}))}})
	_, told := watching(t, s.Files()...)
	var last testcert.Leaf
	stop := make(chan struct{})
	var open []*meeting
	var mu sync.Mutex
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				m := meet(t, s.Config(), trusting(ca, "a.test"))
				if m.err() != nil {
					t.Error(m.err())
					return
				}
				mu.Lock()
				if len(open) < 300 {
					open = append(open, m)
				}
				mu.Unlock()
			}
		})
	}
	for range 25 {
		last = ca.Sign(t, testcert.Want{Names: []string{"a.test"}})
		half := len(last.Cert) / 2
		if err := os.WriteFile(f.at("a.crt"), last.Cert[:half], 0o600); err != nil { // in place, in two steps
			t.Fatal(err)
		}
		if _, err := s.Reload(); err == nil {
			t.Error("half a certificate is accepted")
		}
		f.pair("a", last)
		s.wantReload(t, true)
	}
	close(stop)
	clients.Wait()
	if got := mustMeet(t, s.Config(), trusting(ca, "a.test")).serverSerial(); got != last.Serial(t) {
		t.Error("the last certificate is not in use")
	}
	soonTrue(t, "told of the changes", func() bool { return told.Load() > 1 })
	serials := make(map[string]bool)
	for _, m := range open {
		serials[m.serverSerial()] = true
		if _, err := m.serverConn.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		if _, err := m.clientConn.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
	}
	if len(open) < 2 {
		t.Errorf("only %d connections were open", len(open))
	}
	t.Logf("%d connections with %d different certificates", len(open), len(serials))
}
