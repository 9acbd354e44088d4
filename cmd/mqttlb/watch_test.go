package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/internal/testbroker"
	"github.com/mqttlb/mqttlb/proxy"
)

// clusterOf is the first cluster of a configuration with these keys.
func clusterOf(t *testing.T, keys string) *config.Cluster {
	t.Helper()
	cfg, err := parse("clusters:\n- name: c\n  discovery: {static: [{name: a, address: \"127.0.0.1:1\"}]}\n" + keys)
	if err != nil {
		t.Fatal(err)
	}
	return &cfg.Clusters[0]
}

// The configuration becomes the settings of the cluster.
func TestWatcherSettings(t *testing.T) {
	t.Parallel()
	usual := balancer.DefaultPhaseRules()
	for keys, want := range map[string]struct {
		watched bool
		change  func(r *balancer.PhaseRules)
		window  time.Duration
	}{
		"":                            {true, func(*balancer.PhaseRules) {}, 0},
		"  health: {interval: 0s}\n":  {false, func(*balancer.PhaseRules) {}, 0},
		"  health: {fall: 7}\n":       {true, func(r *balancer.PhaseRules) { r.FailedChecks = 7 }, 0},
		"  settle: 0s\n  ramp: 0s\n":  {true, func(r *balancer.PhaseRules) { r.Settle, r.Ramp = 0, 0 }, 0},
		"  settle: 5s\n  ramp: 10m\n": {true, func(r *balancer.PhaseRules) { r.Settle, r.Ramp = 5e9, 600e9 }, 0},
		"  load: {preset: hivemq}\n":  {true, func(*balancer.PhaseRules) {}, 5 * time.Minute},
		"  load: {preset: rabbitmq, interval: 1m, window: 20m, hot: {enter: 9, leave: 7}}\n": {
			true, func(r *balancer.PhaseRules) { r.HotLevel, r.CoolLevel, r.Stale = 9, 7, 240e9 }, 20 * time.Minute,
		},
		"  load: {preset: emqx, interval: 1s}\n": {true, func(*balancer.PhaseRules) {}, 5 * time.Minute},
	} {
		o, err := new(site).settings(clusterOf(t, keys), &config.Instance{}, new(tlsChange))
		if err != nil {
			t.Fatal(err)
		}
		rules := usual
		want.change(&rules)
		if o.Watched != want.watched || o.Phases != rules || time.Duration(o.Load.Window) != want.window || o.Members == nil {
			t.Errorf("%q: got %+v, want watched %t, %+v and a window of %v", keys, o, want.watched, rules, want.window)
		}
	}
}

// The probe is the one that is configured, and sends a PROXY header to brokers that expect one.
func TestProbeOfTheConfiguration(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for keys, want := range map[string]string{
		"":                       "*health.MQTT",
		"  health: {mqtt: {}}\n": "*health.MQTT",
		fmt.Sprintf("  health: {mqtt: {username: u, password_file: %q}}\n", secret): "*health.MQTT",
		"  health: {http: {}}\n": "*health.HTTP",
		"  health: {tcp: {}}\n":  "*health.TCP",
	} {
		probe, err := newProbe(clusterOf(t, keys), "edge-1", nil)
		if got := fmt.Sprintf("%T", probe); err != nil || got != want {
			t.Errorf("%q: got %s and error %v, want %s", keys, got, err, want)
		}
	}
	// With TLS, a probe of MQTT speaks it, and one of TCP does not.
	secured := new(proxy.BackendTLS)
	secured.Config = func(string) *tls.Config { return new(tls.Config) }
	if probe, err := newProbe(clusterOf(t, "  health: {tcp: {}}\n"), "edge-1", secured); err != nil || probe.(*health.TCP).TLS != nil {
		t.Errorf("got %+v and error %v, want a probe of TCP without TLS", probe, err)
	}
	broker := acceptOne(t)
	probe, err := newProbe(clusterOf(t, ""), "edge-1", secured)
	if err != nil {
		t.Fatal(err)
	}
	if r := probe.Probe(t.Context(), health.Target{Backend: balancer.Backend{Name: "a", Address: broker}}); r.Err == nil || !strings.Contains(r.Err.Error(), "TLS handshake") {
		t.Errorf("got %v, want an error about the TLS handshake", r.Err)
	}
	for version, begins := range []string{"", "PROXY TCP4 ", "\r\n\r\n\x00\r\nQUIT\n\x21\x11"} {
		probe, err := newProbe(clusterOf(t, fmt.Sprintf("  health: {tcp: {}}\n  proxy_protocol: {version: %d}\n", version)), "edge-1", nil)
		if err != nil {
			t.Fatal(err)
		}
		preface := probe.(*health.TCP).Preface
		if (preface != nil) != (version > 0) {
			t.Errorf("PROXY version %d: got %+v, want a header: %t", version, probe, version > 0)
			continue
		}
		if preface == nil {
			continue
		}
		if got := preface(fromTo{}); !strings.HasPrefix(string(got), begins) {
			t.Errorf("PROXY version %d: got %q, want it to begin with %q", version, got, begins)
		}
	}
	if _, err := newProbe(clusterOf(t, ""), "edge-1", nil); err != nil {
		t.Error(err)
	}
}

// What cannot work is an error that names the cluster.
func TestWatcherThatCannotWork(t *testing.T) {
	t.Parallel()
	for keys, want := range map[string]string{
		"  health: {mqtt: {password_file: /nowhere}}\n":             "cluster c: health: ",
		"  load: {preset: emqx, figures: [{metric: \"a b\"}]}\n":    "cluster c: load: figures[0].metric ",
		"  load: {preset: emqx, bearer_token_file: \"/nowhere\"}\n": "cluster c: load: bearer_token_file ",
	} {
		c := clusterOf(t, keys)
		w := new(watcher)
		var o cluster.Options
		watchSettings(&o, c)
		o.Log = slog.New(slog.DiscardHandler)
		to, err := cluster.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.watch(to, c, "edge-1", nil, o.Log); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got error %v, want %q…", keys, err, want)
		}
	}
}

// status is the state of a backend as the API shows it.
func (a *testApp) backend(name string) cluster.BackendStatus {
	list := a.clusters()[0].Status().Backends
	i := slices.IndexFunc(list, func(b cluster.BackendStatus) bool { return b.Name == name })
	if i < 0 {
		a.t.Fatalf("got backends %+v, want %s among them", list, name)
	}
	return list[i]
}

// eventually waits for a backend to be as wanted.
func (a *testApp) eventually(name, what string, ok func(b *cluster.BackendStatus) bool) {
	a.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		b := a.backend(name)
		if ok(&b) {
			return
		}
		if time.Now().After(deadline) {
			a.t.Fatalf("got %+v for 20 s, want %s; the log is\n%s", b, what, a.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A broker that stops is found down, and one that starts again is taken in, by a real mqttlb with real checks; and
// so is its load.
func TestTheLivingCluster(t *testing.T) {
	t.Parallel()
	mesh, err := testbroker.StartMesh(2, testbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(mesh.Stop)
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		load := map[string]string{"/a": "0.9", "/b": "0.3"}[r.URL.Path]
		_, _ = io.WriteString(w, "busy "+load+"\nlevel 2\n")
	}))
	t.Cleanup(exporter.Close)
	a := startApp(t, fmt.Sprintf(`listeners: [{address: "127.0.0.1:0"}]
admin: {address: "127.0.0.1:0"}
clusters:
- name: test
  health: {interval: 100ms, fall: 2, rise: 1}
  settle: 1s
  ramp: 0s
  load: {url: "%s/{name}", interval: 1s, figures: [{metric: busy}], hot: {metric: level}}
  discovery: {static: [{name: a, address: %q}, {name: b, address: %q}]}
`, exporter.URL, mesh.Brokers()[0].Addr(), mesh.Brokers()[1].Addr()))
	a.eventually("a", "a check that passes", func(b *cluster.BackendStatus) bool { return b.Check != nil && b.Check.Passed })
	a.eventually("a", "a load of 0.9", func(b *cluster.BackendStatus) bool {
		return b.Load != nil && b.Load.Load != nil && *b.Load.Load == 0.9 && *b.Load.Level == 2 && !b.Load.Stale
	})
	enter(t, a.address, "before")

	mesh.Brokers()[0].Stop()
	a.eventually("a", "down because of its checks", func(b *cluster.BackendStatus) bool {
		return b.Phase == "down" && strings.HasSuffix(b.Why, "connection refused")
	})
	a.wantLog(`level=WARN msg="a backend's phase has changed" instance=host cluster=test backend=a from=ready to=down reason="`)
	a.wantMetric(`mqttlb_backend_up{backend="a",cluster="test"} 0`)
	a.wantMetric(`mqttlb_backend_load{backend="b",cluster="test"} 0.3`)
	for i := range 20 {
		enter(t, a.address, fmt.Sprint("meanwhile-", i))
	}
	if got := a.backend("a").Failures; len(got) != 0 {
		t.Errorf("got failures %v of a backend that is known to be down, want none", got)
	}

	if err := mesh.Brokers()[0].Restart(); err != nil {
		t.Fatal(err)
	}
	a.eventually("a", "ready again", func(b *cluster.BackendStatus) bool { return b.Phase == "ready" })
	a.wantMetric(`mqttlb_backend_up{backend="a",cluster="test"} 1`)
}

// The versions of brokers are read from their metrics, as long as the configuration says where they are.
func TestVersionsReachTheCluster(t *testing.T) {
	t.Parallel()
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "busy 0.1\nbuild_info{version=\""+map[string]string{"/b0": "4.9", "/b1": "4.10"}[r.URL.Path]+"\"} 1\n")
	}))
	t.Cleanup(exporter.Close)
	load := "load: {url: \"" + exporter.URL + "/{name}\", interval: 1s, figures: [{metric: busy}]%s}, "
	yaml := func(version string) string {
		return strings.Replace(appYAML("", "127.0.0.1:1", "127.0.0.1:2"), "{name: test, ", "{name: test, "+fmt.Sprintf(load, version), 1)
	}
	a := startApp(t, yaml(", version: {metric: build_info, label: version}"))
	labelled := func(version string) func(*cluster.BackendStatus) bool {
		return func(b *cluster.BackendStatus) bool { return b.Labels[balancer.VersionLabel] == version }
	}
	a.eventually("b0", "version 4.9", labelled("4.9"))
	a.eventually("b1", "version 4.10", labelled("4.10"))
	a.wantLog(`msg="the cluster's state has changed" instance=host cluster=test from=balanced to=rolling`)
	if _, body := a.get("/api/v1/clusters/test/backends"); !strings.Contains(body, `"labels":{"version":"4.10"}`) {
		t.Errorf("got backends %s, want the label", body)
	}
	a.mustReload(yaml(""))
	a.eventually("b0", "no version", labelled(""))
	a.eventually("b0", "its load still", func(b *cluster.BackendStatus) bool { return b.Load != nil && b.Load.Load != nil })
}

// The brokers' answers reach the cluster.
func TestAnswersReachTheCluster(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	a := startApp(t, appYAML("", broker.Addr()))
	for i := range 12 {
		enter(t, a.address, fmt.Sprint("c", i))
	}
	a.eventually("b0", "the time that CONNACK takes", func(b *cluster.BackendStatus) bool { return b.ConnackSeconds > 0 })
}

// fromTo is a connection with addresses.
type fromTo struct{ net.Conn }

func (fromTo) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }
func (fromTo) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 2} }

// acceptOne is the address of a broker that says something else than TLS to one client.
func acceptOne(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		if c, err := l.Accept(); err == nil {
			_, _ = c.Write([]byte("no TLS here"))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}
