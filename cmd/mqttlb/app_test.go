package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	legacy "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/internal/testbroker"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// appPatience bounds every wait of these tests; nothing waits that long unless it fails.
const appPatience = 10 * time.Second

// A logBook is a log that can be read while it is written.
type logBook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A testApp is a running mqttlb on ports of its own.
type testApp struct {
	*app
	t       *testing.T
	log     *logBook
	address string
	admin   string

	mu   sync.Mutex
	yaml string
}

// parse reads a configuration as from a file called mqttlb.yaml.
func parse(yaml string) (*config.Config, error) {
	return config.Parse("mqttlb.yaml", []byte(yaml), config.Options{Hostname: "host"})
}

// appYAML is a configuration with one listener on a free port in front of these backends.
func appYAML(more string, backends ...string) string {
	for i, address := range backends {
		backends[i] = fmt.Sprintf("{name: b%d, address: %q}", i, address)
	}
	return "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\n" +
		"clusters: [{name: test, health: {interval: 0s}, discovery: {static: [" + strings.Join(backends, ", ") + "]}}]\n" + more
}

func startApp(t *testing.T, yaml string) *testApp {
	t.Helper()
	runtime.GOMAXPROCS(proxy.Procs(runtime.NumCPU())) // as mqttlb run does
	cfg, err := parse(yaml)
	if err != nil {
		t.Fatal(err)
	}
	a := &testApp{t: t, log: new(logBook), yaml: yaml}
	a.app, err = newApp(cfg, &environment{err: a.log, hostname: "host"}, a.load)
	if err != nil {
		t.Fatal(err)
	}
	a.start()
	t.Cleanup(a.close)
	at, _ := a.proxy.Addr(cfg.Listeners[0].Name)
	a.address = at.String()
	if a.app.admin != nil {
		a.admin = "http://" + a.app.admin.Addr().String()
	}
	return a
}

// load is how the app reads its configuration anew.
func (a *testApp) load() (*config.Config, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return parse(a.yaml)
}

// rewrite changes what the next reload will read.
func (a *testApp) rewrite(yaml string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.yaml = yaml
}

// get asks the admin API.
func (a *testApp) get(path string) (int, string) {
	a.t.Helper()
	client := &http.Client{Timeout: appPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(a.admin + path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// wantMetric waits until the metrics have this line.
func (a *testApp) wantMetric(line string) {
	a.t.Helper()
	got := ""
	for range 100 {
		if _, got = a.get("/metrics"); strings.Contains(got, line+"\n") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	name, _, _ := strings.Cut(line, "{")
	for l := range strings.Lines(got) {
		if strings.HasPrefix(l, name) {
			a.t.Logf("got %s", l)
		}
	}
	a.t.Errorf("got no metric %s", line)
}

// wantLog waits until the log has this text.
func (a *testApp) wantLog(text string) {
	a.t.Helper()
	for range 200 {
		if strings.Contains(a.log.String(), text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	a.t.Errorf("got no %s in\n%s", text, a.log)
}

func startBroker(t *testing.T) *testbroker.Broker {
	t.Helper()
	b, err := testbroker.Start(testbroker.Options{Record: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	return b
}

// enter connects a client that has its CONNACK.
func enter(t *testing.T, address, id string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(appPatience))
	answer := make([]byte, 4)
	if _, err = c.Write(mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{ClientID: id, CleanStart: true, KeepAlive: 60})); err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil || answer[0] != 0x20 || answer[3] != 0 {
		t.Fatalf("client %s: got %x and error %v, want CONNACK", id, answer, err)
	}
	return c
}

// wantAlive checks that a session still answers PINGREQ.
func wantAlive(t *testing.T, c net.Conn) {
	t.Helper()
	answer := make([]byte, 2)
	_, err := c.Write([]byte{0xc0, 0})
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil || answer[0] != 0xd0 {
		t.Errorf("got %x and error %v, want PINGRESP", answer, err)
	}
}

// A client of a real library goes through to a real broker, and is seen in the log, the metrics and the API.
func TestAppCarriesAClient(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	a := startApp(t, appYAML("", broker.Addr()))
	if status, body := a.get("/readyz"); status != http.StatusOK {
		t.Errorf("got readiness %d, %s, want 200", status, body)
	}
	messages := make(chan string, 1)
	client := legacy.NewClient(legacy.NewClientOptions().AddBroker("tcp://" + a.address).SetClientID("paho-1").SetConnectRetry(false).SetAutoReconnect(false))
	finish := func(what string, token legacy.Token) {
		t.Helper()
		if !token.WaitTimeout(appPatience) || token.Error() != nil {
			t.Fatalf("%s: got error %v, want it done", what, token.Error())
		}
	}
	finish("connect", client.Connect())
	finish("subscribe", client.Subscribe("topic", 1, func(_ legacy.Client, m legacy.Message) { messages <- string(m.Payload()) }))
	finish("publish", client.Publish("topic", 1, false, "hello"))
	select {
	case got := <-messages:
		if got != "hello" {
			t.Errorf("got message %q, want hello", got)
		}
	case <-time.After(appPatience):
		t.Error("got no message")
	}
	if got := broker.Clients(); len(got) != 1 || got[0] != "paho-1" {
		t.Errorf("got clients %q at the broker, want paho-1", got)
	}
	if _, body := a.get("/api/v1/clients"); !strings.Contains(body, `"paho-1"`) {
		t.Errorf("got clients %s, want paho-1", body)
	}
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 1`)
	client.Disconnect(250)
	a.wantLog(`msg="connection ended" instance=host listener=mqtt cluster=test client=paho-1 version=4 `)
	a.wantMetric(`mqttlb_connects_total{listener="mqtt",result="accepted"} 1`)
	a.wantMetric(`mqttlb_connack_total{cluster="test",code="0"} 1`)
	a.wantMetric(`mqttlb_placements_total{cluster="test",reason="home",strategy="client-hash"} 1`)
	a.wantMetric(`mqttlb_packets_total{direction="up",type="publish"} 1`)
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 0`)
	a.wantMetric(`mqttlb_config_reloads_total{result="success"} 1`)
}

// What mqttlb refuses is counted by reason, and so are brokers that cannot be reached.
func TestAppRefusals(t *testing.T) {
	t.Parallel()
	gone := startBroker(t)
	gone.Stop()
	a := startApp(t, appYAML("", gone.Addr()))
	for _, opening := range [][]byte{
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{ClientID: "c", CleanStart: true}),
	} {
		c, err := net.Dial("tcp", a.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(appPatience))
		_, _ = c.Write(opening)
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("got %d bytes, want the connection closed", n)
		}
		_ = c.Close()
	}
	a.wantMetric(`mqttlb_refused_total{listener="mqtt",reason="http"} 1`)
	a.wantMetric(`mqttlb_refused_total{listener="mqtt",reason="backend_unreachable"} 1`)
	a.wantMetric(`mqttlb_connects_total{listener="mqtt",result="refused"} 2`)
	a.wantMetric(`mqttlb_backend_connect_failures_total{backend="b0",cluster="test",reason="refused"} 1`)
	a.wantMetric(`mqttlb_placements_total{cluster="test",reason="no_backend",strategy="client-hash"} 1`)
}

// The log is as it was configured.
func TestAppLog(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for more, want := range map[string]string{
		"log: {format: json, client_id: off}": `"msg":"connection ended","instance":"host","listener":"mqtt","cluster":"test","version":4,`,
		"log: {client_id: hash}":              `msg="connection ended" instance=host listener=mqtt cluster=test client=`,
		"instance: {name: edge-1}":            `msg="connection ended" instance=edge-1 listener=mqtt cluster=test client=secret-id `,
		"log: {clients: false}":               `msg=stopped instance=host`,
		"log: {level: error}":                 "",
	} {
		a := startApp(t, appYAML(more+"\nshutdown: {grace: 0s}", broker.Addr()))
		_ = enter(t, a.address, "secret-id").Close()
		a.wantMetric(`mqttlb_connections{listener="mqtt"} 0`)
		a.shutdown(t.Context())
		got := a.log.String()
		if !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: got no %q in\n%s", more, want, got)
		}
		if strings.Contains(got, "secret-id") != strings.Contains(want, "secret-id") || strings.Contains(got, "connection ended") != strings.Contains(want, "connection ended") {
			t.Errorf("%s: got\n%s", more, got)
		}
	}
}

// What cannot be opened is an error before the first client comes, and leaves nothing open behind it.
func TestAppStartErrors(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := startApp(t, appYAML("", "127.0.0.1:1"))
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}()
	yaml := func(listener, admin string) string {
		return fmt.Sprintf("listeners: [{address: %q}]\nadmin: {address: %q, token_file: TOKEN}\nclusters: [{discovery: {static: [{address: \"127.0.0.1:1\"}]}}]\n", listener, admin)
	}
	for name, c := range map[string]struct{ yaml, want string }{
		"listener in use":             {yaml(taken.Addr().String(), ""), "listener mqtt: cannot listen on " + taken.Addr().String() + ": address already in use"},
		"listener of another mqttlb":  {yaml(other.address, ""), "listener mqtt: cannot listen on " + other.address + ": address already in use"},
		"admin in use, listener free": {yaml(free, taken.Addr().String()), "admin: cannot listen on " + taken.Addr().String() + ": "},
	} {
		cfg, err := parse(strings.Replace(c.yaml, ", token_file: TOKEN", "", 1))
		if err != nil {
			t.Fatal(err)
		}
		a, err := newApp(cfg, &environment{err: io.Discard}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || a != nil {
			t.Errorf("%s: got %v and error %v, want %s", name, a, err, c.want)
		}
	}
	cfg, err := parse(strings.Replace(yaml(free, "127.0.0.1:0"), "TOKEN", "/nowhere/token", 1))
	if err != nil {
		t.Fatal(err)
	}
	if a, err := newApp(cfg, &environment{err: io.Discard}, nil); err == nil || err.Error() != "admin.token_file: open /nowhere/token: no such file or directory" {
		t.Errorf("got %v and error %v, want one about the token", a, err)
	}
	if c, err := net.Dial("tcp", free); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got connection %v and error %v at the listener of an app that could not start, want it refused", c, err)
	}
}

// A stop fails readiness first, accepts clients during the grace, then ends the sessions one after the other.
func TestShutdown(t *testing.T) {
	t.Parallel()
	const sessions = 30
	broker := startBroker(t)
	a := startApp(t, appYAML("shutdown: {grace: 300ms, drain: 10s}", broker.Addr()))
	var conns []net.Conn
	for i := range sessions {
		conns = append(conns, enter(t, a.address, fmt.Sprint("c", i)))
	}
	begin := time.Now()
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.shutdown(context.Background()) }()
	a.wantLog("msg=stopping instance=host grace=300ms drain=10s")
	if status, _ := a.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("during the grace: got readiness %d, want 503", status)
	}
	conns = append(conns, enter(t, a.address, "late"))
	for _, c := range conns {
		go func() {
			_, _ = io.Copy(io.Discard, c) // clients close when they see the end
			_ = c.Close()
		}()
	}
	<-stopped
	took := time.Since(begin)
	if pace := time.Duration(sessions) * drainPace; took < 300*time.Millisecond+pace/2 || took > appPatience {
		t.Errorf("got the end after %v, want it after the grace of 300ms and about %v for the sessions", took, pace)
	}
	if c, err := net.Dial("tcp", a.address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got connection %v and error %v, want it refused", c, err)
	}
	for _, want := range []string{
		fmt.Sprintf(`msg="ending sessions" instance=host sessions=%d over=%v`, sessions+1, (sessions+1)*drainPace),
		"end=shutdown moment=", "msg=stopped instance=host\n",
	} {
		if !strings.Contains(a.log.String(), want) {
			t.Errorf("got no %s in\n%s", want, a.log)
		}
	}
	if got := strings.Count(a.log.String(), "end=shutdown"); got != sessions+1 {
		t.Errorf("got %d lines of sessions that the shutdown has ended, want %d", got, sessions+1)
	}
}

// A second signal ends the grace and the drain at once.
func TestShutdownAtOnce(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	for name, shutdown := range map[string]string{"during the grace": "{grace: 1h}", "during the drain": "{grace: 0s, drain: 1h}"} {
		a := startApp(t, appYAML("shutdown: "+shutdown, broker.Addr()))
		for i := range 200 { // two seconds to drain
			enter(t, a.address, fmt.Sprint("c", i))
		}
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		begin := time.Now()
		go func() { defer close(stopped); a.shutdown(ctx) }()
		if name == "during the drain" {
			a.wantLog("msg=\"ending sessions\"")
		} else {
			a.wantLog("msg=stopping")
		}
		cancel()
		<-stopped
		if took := time.Since(begin); took > 1500*time.Millisecond {
			t.Errorf("%s: got the end after %v, want it at once", name, took)
		}
	}
}
