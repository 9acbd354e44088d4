//go:build linux

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A socket that systemd has opened serves its listener, and mqttlb tells what it does. The client that comes before
// mqttlb does waits in the queue, as after a restart.
func TestSystemd(t *testing.T) {
	t.Parallel()
	ln, err := listenPlain(t)
	if err != nil {
		t.Fatal(err)
	}
	socket, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // socket has a duplicate
	defer socket.Close()
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	messages := make(chan string, 1000) // read without a pause: a queue that is full would hold mqttlb up
	go func() {
		defer close(messages)
		b := make([]byte, 4096)
		for {
			n, err := manager.Read(b)
			if err != nil {
				return
			}
			messages <- string(b[:n])
		}
	}()
	told := func(want string) {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case m := <-messages:
				if strings.Contains(m, want) {
					return
				}
			case <-late:
				t.Fatalf("mqttlb has not told %q within %v", want, patience)
			}
		}
	}

	broker := newGreeter(t, "a")
	l := &lb{
		address: ln.Addr().String(), admin: loopback(t), socket: filepath.Join(t.TempDir(), "admin.sock"),
		file: filepath.Join(t.TempDir(), "mqttlb.yaml"), log: newLogBook(), set: settings{backends: []backend{broker.backend()}},
	}
	l.configure(t, l.set)
	early := dial(t, l.address, "")
	send(t, early, opening{id: "early"}.bytes())

	// LISTEN_PID must be that of mqttlb itself.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh", mqttlb, "run", "-c", l.file)
	cmd.ExtraFiles = []*os.File{socket} // becomes descriptor 3
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=mqtt", "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000")
	l.process = start(t, l.log, cmd)
	t.Cleanup(func() { l.checkEnd(t) })
	told("READY=1")
	expect(t, early, connack(0, 0))
	late := connect(t, l, opening{id: "late"}, "")
	told("STATUS=2 connections; brokers: ")
	told("WATCHDOG=1")
	l.signal(t, syscall.SIGHUP)
	told("RELOADING=1\nMONOTONIC_USEC=")
	told("READY=1")
	early.Close()
	late.Close()
	l.signal(t, syscall.SIGTERM)
	told("STOPPING=1")
	if status := l.exit(t, patience); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
}

// A socket for which there is no listener would let clients wait for ever.
func TestSystemdSocketWithoutListener(t *testing.T) {
	t.Parallel()
	ln, err := listenPlain(t)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	socket, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh", mqttlb, "run", "--backend", "127.0.0.1:1")
	cmd.ExtraFiles = []*os.File{socket}
	cmd.Env = append(os.Environ(), "LISTEN_FDS=1", "LISTEN_FDNAMES=mqtts")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FileDescriptorName= of the socket unit to one of mqtt") {
		t.Errorf("got error %v, output %s, want advice about FileDescriptorName=", err, out)
	}
}

// listenPlain opens a socket as systemd does: plain TCP.
func listenPlain(t *testing.T) (*net.TCPListener, error) {
	t.Helper()
	var c net.ListenConfig
	c.SetMultipathTCP(false)
	ln, err := c.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}
