package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var lastPort atomic.Int64

// quietAddress is an address on which nobody listens. Its port lies below those that the kernel gives to connections
// and to listeners that leave the choice to it: it stays free, on all addresses, until somebody wants this very one.
func quietAddress(t *testing.T) string {
	t.Helper()
	const first, last = 12_500, 15_000
	for range last - first {
		port := first + (int64(os.Getpid())*97+lastPort.Add(1))%(last-first)
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return fmt.Sprint("127.0.0.1:", port)
	}
	t.Fatal("no free port")
	return ""
}

// slowReload begins a reload that adds a listener on a free port in front of a cluster whose discovery finds nobody
// until the file is written.
func (a *testApp) slowReload(old, oldCluster string) (address, file string, reloaded <-chan error) {
	a.t.Helper()
	address, file = quietAddress(a.t), filepath.Join(a.t.TempDir(), "backends.yaml")
	a.rewrite(wholeYAML(old+strings.Replace(listenerYAML("new", "two", ""), "127.0.0.1:0", address, 1),
		oldCluster+"  - {name: two, health: {interval: 0s}, discovery: {file: {path: "+file+"}}}\n"))
	ended := make(chan error, 1)
	go func() { ended <- a.reload(a.t.Context()) }()
	a.wantLog("cluster=two") // there is no file yet
	return address, file, ended
}

func writeBackend(t *testing.T, file, address string) {
	t.Helper()
	if err := os.WriteFile(file, fmt.Appendf(nil, "- {name: n, address: %q}\n", address), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A new cluster knows its backends before its listener opens.
func TestReloadWaitsForTheBackends(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	listener, one := listenerYAML("mqtt", "one", ""), siteYAML("one", "", broker.Addr())
	a := startApp(t, wholeYAML(listener, one))
	address, file, reloaded := a.slowReload(listener, one)
	refused(t, address)
	if status, body := a.get("/readyz"); status != http.StatusOK {
		t.Errorf("got %d %s while a reload is under way, want it ready", status, body)
	}
	writeBackend(t, file, broker.Addr())
	if err := <-reloaded; err != nil {
		t.Fatal(err)
	}
	enter(t, address, "at once")
}

// When a listener cannot be opened in the last moment, the new cluster is taken back.
func TestReloadTakesBackWhatItHasBegun(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	listener, one := listenerYAML("mqtt", "one", ""), siteYAML("one", "", broker.Addr())
	a := startApp(t, wholeYAML(listener, one))
	address, file, reloaded := a.slowReload(listener, one)
	quick, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	writeBackend(t, file, broker.Addr())
	if err := <-reloaded; !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want an error about the address", err)
	}
	if a.cluster("two") != nil || a.sources["two"] != nil {
		t.Error("got the new cluster, want it gone")
	}
	a.noMetric(`cluster="two"`)
	_ = quick.Close()
	if err := a.reload(t.Context()); err != nil {
		t.Errorf("got %v when the address is free again, want none", err)
	}
	enter(t, address, "now")
}

// A cluster that was removed is not asked how it is any more, although it lives on for its connections.
func TestReloadEndsTheChecks(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	checked, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer checked.Close()
	checks := make(chan struct{}, 10000)
	go func() {
		for {
			c, err := checked.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
			checks <- struct{}{}
		}
	}()
	one := siteYAML("one", "placement: {strategy: client-hash}, health: {interval: 100ms, timeout: 50ms, tcp: {}}, ", broker.Addr(), checked.Addr().String())
	two := siteYAML("two", "", broker.Addr())
	a := startApp(t, wholeYAML(listenerYAML("mqtt", "one", ""), one+two))
	<-checks
	for i := range 50 {
		if id := fmt.Sprint("c", i); a.clusters()[0].Explain(id, false).Backend == "one0" {
			enter(t, a.address, id)
			break
		}
	}
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two))
	for len(checks) > 0 {
		<-checks
	}
	time.Sleep(300 * time.Millisecond)
	if n := len(checks); n > 1 { // one may have been on its way
		t.Errorf("got %d more checks, want none", n)
	}
	if a.roster.find("one") == nil {
		t.Error("got the cluster gone, want it there for its connection")
	}
}

// Whoever asks the backends how they are begins, changes and ends with the configuration.
func TestReloadHealth(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	with := func(health string) string {
		return wholeYAML(listenerYAML("mqtt", "one", ""), siteYAML("one", health, broker.Addr(), "127.0.0.1:1"))
	}
	a := startApp(t, with("health: {interval: 0s}, "))
	client := enter(t, a.address, "stays")
	if s := a.clusters()[0].Status(); s.Backends[0].Check != nil {
		t.Errorf("got %+v, want no check", s.Backends[0])
	}
	a.mustReload(with("health: {interval: 100ms, timeout: 50ms, fall: 1, tcp: {}}, "))
	a.wantMetric(`mqttlb_backend_up{backend="one0",cluster="one"} 1`)
	a.wantMetric(`mqttlb_backend_up{backend="one1",cluster="one"} 0`)
	a.mustReload(with("health: {interval: 100ms, timeout: 50ms, fall: 1}, ")) // another probe
	a.wantMetric(`mqttlb_backend_up{backend="one1",cluster="one"} 0`)
	a.mustReload(with("health: {interval: 0s}, "))
	a.wantMetric(`mqttlb_backend_up{backend="one1",cluster="one"} 1`)
	if s := a.clusters()[0].Status(); s.Backends[0].Check != nil {
		t.Errorf("got %+v, want no check any more", s.Backends[0])
	}
	wantAlive(t, client)
}
