package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/internal/testbroker"
	"github.com/mqttlb/mqttlb/proxy"
)

// A listening manager is a service manager that writes down what it is told.
type listeningManager struct {
	mu   sync.Mutex
	told []string
}

func (m *listeningManager) tell(message string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, message)
	return nil
}

func (m *listeningManager) messages() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.told)
}

// beats counts the messages that keep the watchdog quiet.
func (m *listeningManager) beats() (n int) {
	for _, told := range m.messages() {
		if slices.Contains(strings.Split(told, "\n"), "WATCHDOG=1") {
			n++
		}
	}
	return n
}

// The messages are those of sd_notify(3), on a socket as systemd opens it.
func TestNotifyProtocol(t *testing.T) { //nolint:paralleltest // it sets variables of the process
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	_ = socket.SetReadDeadline(time.Now().Add(appPatience))
	next := func() string {
		t.Helper()
		b := make([]byte, 4096)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	matches := func(pattern string) {
		t.Helper()
		if got := next(); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			t.Errorf("got message %q, want %s", got, pattern)
		}
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "3600000000") // no message of its own within the test
	s, err := findSupervisor()
	if err != nil || s == nil {
		t.Fatalf("got supervisor %v, error %v", s, err)
	}
	if s.watchdog != time.Hour || s.interval() != statusInterval {
		t.Errorf("got watchdog %v, interval %v, want 1h, %v", s.watchdog, s.interval(), statusInterval)
	}
	broker, err := testbroker.Start(testbroker.Options{Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Stop()
	yaml := appYAML("shutdown: {grace: 0s, drain: 7s}\n", broker.Addr())
	cfg, err := parse(yaml)
	if err != nil {
		t.Fatal(err)
	}
	a := &testApp{t: t, log: new(logBook), yaml: yaml}
	if a.app, err = newApp(cfg, &environment{err: a.log, hostname: "host", supervisor: s}, a.load); err != nil {
		t.Fatal(err)
	}
	a.start()
	matches(`READY=1\nSTATUS=0 connections; test: balanced, 1 of 1 brokers up`)

	before := monotonic()
	if err := a.reload(t.Context()); err != nil {
		t.Error(err)
	}
	began := next()
	text, ok := strings.CutPrefix(began, "RELOADING=1\nMONOTONIC_USEC=")
	at, err := strconv.ParseInt(text, 10, 64)
	if d := time.Duration(at) * time.Microsecond; !ok || err != nil || d < before.Truncate(time.Microsecond) || d > monotonic() {
		t.Errorf("got %q, want the time of the monotonic clock, past %v", began, before)
	}
	matches(`READY=1\nSTATUS=0 connections; test: .*`)
	a.rewrite("nonsense")
	if err := a.reload(t.Context()); err == nil {
		t.Error("got no error for an invalid configuration")
	}
	matches(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	matches(`READY=1\nSTATUS=0 connections; .*; the last reload has failed`) // systemd would wait for ever without it
	a.shutdown(t.Context())
	matches(`STOPPING=1\nSTATUS=stopping\nEXTEND_TIMEOUT_USEC=27000000`)
	if log := a.log.String(); strings.Contains(log, "service manager") {
		t.Errorf("a message was not sent: %s", log)
	}
}

// Without a manager there is nobody to tell, and a watchdog that is no number is an error.
func TestFindSupervisor(t *testing.T) { //nolint:paralleltest // it sets variables of the process
	t.Setenv("NOTIFY_SOCKET", "")
	if s, err := findSupervisor(); s != nil || err != nil {
		t.Errorf("got %v, error %v, want neither", s, err)
	}
	t.Setenv("NOTIFY_SOCKET", "@abstract")
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := findSupervisor(); err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
		t.Errorf("got error %v, want one about WATCHDOG_USEC", err)
	}
}

// The watchdog hears a word twice in its time, none while something does not answer, and again afterwards.
func TestAttend(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const watchdog = 6 * time.Second
		m := new(listeningManager)
		s := &supervisor{tell: m.tell, watchdog: watchdog}
		ctx, cancel := context.WithCancel(t.Context())
		answers := make(chan struct{}, 2)
		answers <- struct{}{}
		answers <- struct{}{}
		go s.attend(ctx, func() string { <-answers; return "fine" }, func(err error) { t.Error(err) })
		time.Sleep(watchdog + time.Second)
		if got := m.messages(); !slices.Equal(got, []string{"STATUS=fine\nWATCHDOG=1", "STATUS=fine\nWATCHDOG=1"}) {
			t.Errorf("got %q, want two words", got)
		}
		time.Sleep(10 * watchdog)
		if n := m.beats(); n != 2 {
			t.Errorf("got %d words, want none without an answer", n-2)
		}
		close(answers)
		time.Sleep(watchdog)
		if n := m.beats(); n < 3 {
			t.Error("got no word after there was an answer")
		}
		cancel()
		synctest.Wait()
		n := m.beats()
		time.Sleep(watchdog)
		if m.beats() != n {
			t.Error("got a word after the end")
		}
	})
}

// A manager that does not listen is told of in the log, and is no reason to stop.
func TestAttendGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var errs []error
		s := &supervisor{tell: func(string) error { return errors.New("gone") }}
		go s.attend(t.Context(), func() string { return "" }, func(err error) { errs = append(errs, err) })
		time.Sleep(3*statusInterval + time.Second)
		synctest.Wait()
		if len(errs) != 3 {
			t.Errorf("got errors %v, want one each time", errs)
		}
	})
}

// A stuckPlacer hangs where the event loop must not, until it is let go.
type stuckPlacer struct{ entered, free chan struct{} }

func (p stuckPlacer) Place(proxy.Request) (proxy.Target, error) {
	close(p.entered)
	<-p.free
	return proxy.Target{}, errors.New("nobody")
}
func (stuckPlacer) Release(string, proxy.Target, proxy.Outcome) {}

// A single event loop that hangs keeps the watchdog from hearing anything, so that it fires.
func TestWatchdogNoticesStuckLoop(t *testing.T) {
	t.Parallel()
	a := startApp(t, appYAML("", "127.0.0.1:1"))
	placer := stuckPlacer{make(chan struct{}), make(chan struct{})}
	p, err := proxy.New(proxy.Options{
		Listeners: []proxy.Listener{{Name: "test", Address: "127.0.0.1:0", Placer: placer}},
		Loops:     2, Observer: a.observer, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	defer p.Close()
	b := &app{proxy: p}
	m := new(listeningManager)
	s := &supervisor{tell: m.tell, watchdog: 20 * time.Millisecond}
	ctx, cancel := context.WithCancel(t.Context())
	var attending sync.WaitGroup
	attending.Go(func() { s.attend(ctx, b.statusLine, func(err error) { t.Error(err) }) })
	defer attending.Wait()
	defer cancel()
	grows := func(from int) bool {
		for range 1000 {
			if m.beats() > from {
				return true
			}
			time.Sleep(10 * time.Millisecond)
		}
		return false
	}
	if !grows(1) {
		t.Fatal("got no word while all is well")
	}
	at, _ := p.Addr("test")
	client, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x")); err != nil {
		t.Fatal(err)
	}
	<-placer.entered
	stuck := m.beats() // one more may be under way
	time.Sleep(500 * time.Millisecond)
	if n := m.beats(); n > stuck+1 {
		t.Errorf("got %d words while a loop hangs, want none", n-stuck)
	}
	close(placer.free)
	if !grows(m.beats()) {
		t.Error("got no word after the loop has gone on")
	}
}
