package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func quiet(t *testing.T, address, socket string) *Server {
	t.Helper()
	o := oneCluster()
	o.Address, o.Socket, o.Log = address, socket, slog.New(slog.DiscardHandler)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// leaveSocket makes a socket on which nobody listens any more.
func leaveSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	folder := t.TempDir()
	live := filepath.Join(folder, "live.sock")
	other, err := net.Listen("unix", live)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	datagram := filepath.Join(folder, "datagram")
	d, err := net.ListenPacket("unixgram", datagram)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	long := filepath.Join(folder, strings.Repeat("x", 108))
	missing := filepath.Join(folder, "missing")

	for _, test := range []struct{ name, address, socket, message string }{
		{"port in use", taken.Addr().String(), "", fmt.Sprintf("admin: cannot listen on %s: address already in use; stop the other process or set admin.address to another port", taken.Addr())},
		{"not our address", "192.0.2.1:0", "", "admin: cannot listen on 192.0.2.1:0: cannot assign requested address; this host has no such address"},
		{"no address at all", "9180", "", "admin: cannot listen on 9180: listen tcp: address 9180: missing port in address"},
		{"another mqttlb", "", live, fmt.Sprintf("admin: cannot open the socket %s: another mqttlb is running and answers on it; stop that one or set admin.socket to another path", live)},
		{"a file", "", file, fmt.Sprintf("admin: cannot open the socket %s: there is a file that is not a socket; remove it or set admin.socket to another path", file)},
		{"a folder", "", folder, fmt.Sprintf("admin: cannot open the socket %s: there is a file that is not a socket; remove it or set admin.socket to another path", folder)},
		{"another kind of socket", "", datagram, fmt.Sprintf("admin: cannot open the socket %s: it exists, and whether another mqttlb is running cannot be found out: protocol wrong type for socket", datagram)},
		{"no folder", "", missing + "/admin.sock", fmt.Sprintf("admin: cannot open the socket %[1]s/admin.sock: the folder %[1]s does not exist; create it (systemd: RuntimeDirectory=) or set admin.socket to another path", missing)},
		{"long path", "", long, fmt.Sprintf("admin: cannot open the socket %s: invalid argument; Linux allows at most 107 bytes for the path of a socket", long)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := quiet(t, test.address, test.socket)
			defer s.Close()
			if err := s.Listen(); err == nil || err.Error() != test.message {
				t.Errorf("got  %v\nwant %s", err, test.message)
			}
		})
	}
}

func TestListenInFolderOfOthers(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for path, mode := range map[string]fs.FileMode{folder: 0o555, filepath.Dir(folder): 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(folder, "admin.sock")
	want := fmt.Sprintf("admin: cannot open the socket %s: permission denied; this user must be able to write to the folder %s, or set admin.socket to another path", path, folder)
	s := quiet(t, "", path)
	var err error
	unprivileged(t, func() { err = s.Listen() })
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// unprivileged calls f as somebody who may not write everywhere: where root runs the tests, on a thread whose user
// for files is nobody.
func unprivileged(t *testing.T, f func()) {
	t.Helper()
	if os.Getuid() == 0 {
		const nobody = 65534
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(nobody); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Setfsuid(0); err != nil {
				t.Error(err)
			}
		}()
	}
	f()
}

// When the socket cannot be opened, the port is free again.
func TestListenAllOrNothing(t *testing.T) {
	t.Parallel()
	s := quiet(t, "127.0.0.1:0", t.TempDir())
	if s.Listen() == nil {
		t.Fatal("got no error, want one")
	}
	if c, err := net.Dial("tcp", s.Addr().String()); err == nil {
		c.Close()
		t.Errorf("somebody still listens on %s", s.Addr())
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	leaveSocket(t, path)
	s := quiet(t, "", path)
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := fs.ModeSocket | 0o660; info.Mode() != want {
		t.Errorf("got mode %v, want %v", info.Mode(), want)
	}
	// It now belongs to a running mqttlb, even before Serve.
	if err := quiet(t, "", path).Listen(); err == nil || !strings.Contains(err.Error(), "another mqttlb is running") {
		t.Errorf("got %v, want that another mqttlb is running", err)
	}
	s.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("Close has left the socket behind (error %v)", err)
	}
	s.Close() // is harmless
}

func TestNothingToListenOn(t *testing.T) {
	t.Parallel()
	s := quiet(t, "", "")
	if err := s.Listen(); err != nil || s.Addr() != nil {
		t.Errorf("got address %v and error %v, want neither", s.Addr(), err)
	}
}

// A listener that fails ends Serve, and with it the other listener.
func TestServeReportsFailure(t *testing.T) {
	t.Parallel()
	s := quiet(t, "127.0.0.1:0", filepath.Join(t.TempDir(), "admin.sock"))
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	s.listeners[0].Close()
	if err := s.Serve(t.Context()); err == nil || !strings.Contains(err.Error(), "use of closed network connection") {
		t.Errorf("got %v, want the failure of the listener", err)
	}
	if c, err := net.Dial("unix", s.options.Socket); err == nil {
		c.Close()
		t.Error("the socket is still open")
	}
}

// Connections over TCP are bounded; the socket always lets operators in.
func TestTooManyRemotes(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	held := make([]net.Conn, maxRemotes)
	for i := range held {
		c, err := net.Dial("tcp", r.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held[i] = c
	}
	surplus, err := net.Dial("tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer surplus.Close()
	// At once, that is, and not because no header comes.
	if err := surplus.SetReadDeadline(time.Now().Add(headerTimeout / 2)); err != nil {
		t.Fatal(err)
	}
	if n, err := surplus.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes (error %v), want the connection closed", n, err)
	}
	if a := get(t, r.unix, "/livez"); a.status != http.StatusOK {
		t.Errorf("over the socket: got %d, want 200", a.status)
	}
	for _, c := range held {
		c.Close()
	}
	for end := time.Now().Add(20 * time.Second); ; { // the server notices in its own time
		response, err := r.tcp.Get("http://mqttlb/livez")
		if err == nil {
			response.Body.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	r.stop()
	if n := r.remotes.Load(); n != 0 {
		t.Errorf("%d connections are still counted, want none", n)
	}
}
