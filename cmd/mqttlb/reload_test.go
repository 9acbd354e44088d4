package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/config"
)

// mustReload reloads this configuration.
func (a *testApp) mustReload(yaml string) {
	a.t.Helper()
	a.rewrite(yaml)
	if err := a.reload(a.t.Context()); err != nil {
		a.t.Fatal(err)
	}
}

// at is where a listener listens.
func (a *testApp) at(listener string) string {
	a.t.Helper()
	at, ok := a.proxy.Addr(listener)
	if !ok {
		a.t.Fatalf("got no listener %s", listener)
	}
	return at.String()
}

// noMetric waits until no metric has this text.
func (a *testApp) noMetric(text string) {
	a.t.Helper()
	body := ""
	for range 300 {
		if _, body = a.get("/metrics"); !strings.Contains(body, text) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for l := range strings.Lines(body) {
		if strings.Contains(l, text) {
			a.t.Errorf("got metric %s", l)
		}
	}
}

// site writes a cluster in YAML, and listenerYAML a listener in front of it.
func siteYAML(name, more string, backends ...string) string {
	for i, address := range backends {
		backends[i] = fmt.Sprintf("{name: %s%d, address: %q}", name, i, address)
	}
	return "  - {name: " + name + ", " + more + "settle: 0s, discovery: {static: [" + strings.Join(backends, ", ") + "]}}\n"
}

func listenerYAML(name, cluster, more string) string {
	return fmt.Sprintf("  - {name: %s, address: \"127.0.0.1:0\", cluster: %s%s}\n", name, cluster, more)
}

func wholeYAML(listeners, clusters string) string {
	return "admin: {address: \"127.0.0.1:0\"}\nlisteners:\n" + listeners + "clusters:\n" + clusters
}

func refused(t *testing.T, address string) {
	t.Helper()
	if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got connection %v and error %v at %s, want it refused", c, err, address)
	}
}

// Listeners come, change, get other names and go, and no session notices.
func TestReloadListeners(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	one := siteYAML("one", "", broker.Addr())
	a := startApp(t, wholeYAML(listenerYAML("mqtt", "one", ""), one))
	client := enter(t, a.address, "stays")

	a.mustReload(wholeYAML(listenerYAML("mqtt", "one", ", limits: {connections: 1}")+listenerYAML("second", "one", ""), one))
	a.wantLog(`msg="a listener has new settings" instance=host listener=mqtt cluster=one`)
	a.wantLog(`msg=listening instance=host listener=second address=` + a.at("second"))
	if c, err := net.Dial("tcp", a.address); err == nil {
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("got a second connection, want it shed: the limit is 1")
		}
		_ = c.Close()
	}
	second := a.at("second")
	other := enter(t, second, "other")
	a.wantMetric(`mqttlb_connections{listener="second"} 1`)
	a.wantMetric(`mqttlb_refused_total{listener="mqtt",reason="connections"} 1`)

	a.mustReload(wholeYAML(listenerYAML("renamed", "one", ""), one))
	a.wantLog(`msg="a listener was removed; its connections stay until they end" instance=host listener=second connections=1`)
	refused(t, second)
	if a.at("renamed") != a.address {
		t.Errorf("got the renamed listener at %s, want it at %s", a.at("renamed"), a.address)
	}
	wantAlive(t, client)
	wantAlive(t, other)
	wantAlive(t, enter(t, a.address, "new"))
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 1`)
	a.wantMetric(`mqttlb_connections{listener="renamed"} 1`)
	_ = other.Close()
	a.wantLog(`client=other`)
	a.noMetric(`listener="second"`)
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 1`)
	wantAlive(t, client)
	if log := a.log.String(); strings.Contains(log, "level=WARN") || strings.Contains(log, "level=ERROR") {
		t.Errorf("got warnings in\n%s", log)
	}
}

// A listener that cannot be opened keeps everything as it is, and the error says where it stands in the file.
func TestReloadAllOrNothing(t *testing.T) {
	t.Parallel()
	broker, another := startBroker(t), startBroker(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	old := wholeYAML(listenerYAML("mqtt", "one", ""), siteYAML("one", "", broker.Addr()))
	a := startApp(t, old)
	a.locate = func(path, msg string) error {
		_, err := config.Parse("mqttlb.yaml", []byte(a.yaml), config.Options{Check: func(_ *config.Config, wrong func(path, msg string)) { wrong(path, msg) }})
		return err
	}
	client := enter(t, a.address, "stays")
	before := a.config
	a.rewrite("log: {level: debug}\n" + wholeYAML(
		listenerYAML("mqtt", "two", ", limits: {connections: 1}")+listenerYAML("fine", "two", "")+
			strings.Replace(listenerYAML("bad", "one", ""), "127.0.0.1:0", taken.Addr().String(), 1),
		siteYAML("one", "placement: {strategy: random}, ", another.Addr())+siteYAML("two", "", another.Addr())))
	err = a.reload(t.Context())
	want := fmt.Sprintf(`mqttlb.yaml:6:26: listeners[2].address is %q, and listener bad cannot listen there: `+
		"address already in use; stop the other process or choose another port", taken.Addr().String())
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	a.wantLog(`level=ERROR msg="the configuration cannot be taken over; nothing has changed" instance=host error="mqttlb.yaml:6:26: `)
	a.wantMetric(`mqttlb_config_reloads_total{result="failure"} 1`)
	a.wantMetric("mqttlb_config_last_reload_successful 0")
	if _, ok := a.proxy.Addr("fine"); ok || a.config != before || a.level.Level().String() != "INFO" {
		t.Error("got something changed")
	}
	if s := a.clusters()[0].Status(); len(a.clusters()) != 1 || s.Strategy != "adaptive" || s.Generation != 1 {
		t.Errorf("got %d clusters, the first %+v, want one as before", len(a.clusters()), s)
	}
	wantAlive(t, client)
	wantAlive(t, enter(t, a.address, "new")) // no limit, and the old backends
	if broker.Count() != 2 || another.Count() != 0 {
		t.Errorf("got %d and %d clients, want all on the old broker", broker.Count(), another.Count())
	}
	a.noMetric(`cluster="two"`)
	if status, _ := a.get("/api/v1/clusters/two"); status != http.StatusNotFound {
		t.Errorf("got status %d for a cluster that was not taken over, want 404", status)
	}
	a.locate = func(string, string) error { return errors.New("somebody has removed the file") }
	if err := a.reload(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "listener bad: cannot listen on "+taken.Addr().String()) {
		t.Errorf("got error %v, want the one of the listener when its place is not known", err)
	}
	_ = taken.Close()
	if err := a.reload(t.Context()); err != nil {
		t.Errorf("got %v when the port is free, want none", err)
	}
	enter(t, a.at("bad"), "now")
	a.wantMetric("mqttlb_config_last_reload_successful 1")
}

// Clusters come with their listeners, change, and go when their last connection has ended.
func TestReloadClusters(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	one, two := siteYAML("one", "", first.Addr()), siteYAML("two", "", second.Addr())
	a := startApp(t, wholeYAML(listenerYAML("mqtt", "one", ""), one))
	client := enter(t, a.address, "stays")

	a.mustReload(wholeYAML(listenerYAML("mqtt", "one", "")+listenerYAML("other", "two", ""), one+two))
	a.wantLog(`msg="a cluster was added" instance=host cluster=two`)
	guest := enter(t, a.at("other"), "guest") // its backends are known already
	a.wantMetric(`mqttlb_backend_connections{backend="two0",cluster="two"} 1`)
	a.wantMetric(`mqttlb_discovery_backends{cluster="two"} 1`)
	if status, body := a.get("/readyz"); status != http.StatusOK {
		t.Errorf("got %d %s, want it ready", status, body)
	}

	// The listener now leads to the second cluster; who is on the first one stays there.
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), siteYAML("two", "placement: {strategy: least-connections}, limits: {attempts: 1}, ", second.Addr())))
	a.wantLog(`msg="a cluster has new settings" instance=host cluster=two`)
	a.wantLog(`msg="a cluster was removed; its connections stay until they end" instance=host cluster=one connections=1`)
	moved := enter(t, a.address, "moved")
	wantAlive(t, client)
	wantAlive(t, guest)
	if first.Count() != 1 || second.Count() != 2 {
		t.Errorf("got %d and %d clients, want 1 and 2", first.Count(), second.Count())
	}
	a.wantMetric(`mqttlb_backend_connections{backend="one0",cluster="one"} 1`)
	if _, body := a.get("/api/v1/clusters/two"); !strings.Contains(body, `"least-connections"`) {
		t.Errorf("got %s, want the new strategy", body)
	}
	if _, body := a.get("/api/v1/clients?cluster=one"); !strings.Contains(body, `"stays"`) {
		t.Errorf("got %s, want the client of the removed cluster", body)
	}
	_ = client.Close()
	a.wantLog(`msg="a removed cluster has no connections any more" instance=host cluster=one`)
	a.noMetric(`cluster="one"`)
	if status, body := a.get("/api/v1/clusters/one"); status != http.StatusNotFound || !strings.Contains(body, "known are two") {
		t.Errorf("got %d %s, want 404", status, body)
	}
	wantAlive(t, moved)

	// Without connections a cluster goes at once.
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), one+two))
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two))
	if status, _ := a.get("/api/v1/clusters/one"); status != http.StatusNotFound {
		t.Errorf("got %d for a cluster without connections that was removed, want 404 at once", status)
	}
	wantAlive(t, guest)
	wantAlive(t, moved)
}

// A cluster that comes back before its last connection has ended is the one that it was.
func TestReloadBringsAClusterBack(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	one, two := siteYAML("one", "", first.Addr()), siteYAML("two", "", second.Addr())
	both := wholeYAML(listenerYAML("mqtt", "one", ""), one+two)
	a := startApp(t, both)
	client := enter(t, a.address, "stays")
	was := a.cluster("one")
	for range 2 {
		a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two))
		a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two)) // nothing more happens to it
		a.mustReload(both)
	}
	for message, want := range map[string]int{"a cluster was removed": 2, "a cluster that was removed is back": 2} {
		if got := strings.Count(a.log.String(), message); got != want {
			t.Errorf("got %q %d times in the log, want %d", message, got, want)
		}
	}
	if a.cluster("one") != was {
		t.Error("got another cluster, want the one that was there")
	}
	again := enter(t, a.address, "again")
	a.wantMetric(`mqttlb_backend_connections{backend="one0",cluster="one"} 2`)
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two))
	a.mustReload(wholeYAML(listenerYAML("mqtt", "one", ""), siteYAML("one", "", first.Addr(), second.Addr())+two)) // with another backend
	a.wantMetric(`mqttlb_discovery_backends{cluster="one"} 2`)
	wantAlive(t, client)
	wantAlive(t, again)
}

// Reloads wait for each other, and whoever looks meanwhile sees something whole.
func TestReloadsAtOnce(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	one := siteYAML("one", "", first.Addr())
	a := startApp(t, wholeYAML(listenerYAML("mqtt", "one", ""), one))
	client := enter(t, a.address, "stays")
	var looking, reloading sync.WaitGroup
	stop := make(chan struct{})
	for _, path := range []string{"/metrics", "/api/v1/status", "/api/v1/clients", "/readyz"} {
		looking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if status, body := a.get(path); status != http.StatusOK {
						t.Errorf("%s: got %d %s, want 200", path, status, body)
					}
				}
			}
		})
	}
	const reloads = 20
	for i := range reloads {
		reloading.Go(func() {
			listeners, clusters := listenerYAML("mqtt", "one", fmt.Sprintf(", limits: {connections: %d}", 10+i)), one
			if i%2 == 0 {
				listeners, clusters = listeners+listenerYAML("more", "two", ""), clusters+siteYAML("two", "", second.Addr())
			}
			a.rewrite(wholeYAML(listeners, clusters))
			if err := a.reload(t.Context()); err != nil {
				t.Errorf("got %v, want none", err)
			}
			_ = enter(t, a.address, fmt.Sprint("c", i)).Close()
		})
	}
	reloading.Wait()
	close(stop)
	looking.Wait()
	a.wantMetric(fmt.Sprintf(`mqttlb_config_reloads_total{result="success"} %d`, reloads+1))
	wantAlive(t, client)
}

// A client that is still sending its CONNECT when its cluster is removed is served by it, and the cluster waits for it.
func TestReloadWhileAClientComes(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	one, two := siteYAML("one", "", first.Addr()), siteYAML("two", "", second.Addr())
	a := startApp(t, wholeYAML(listenerYAML("mqtt", "one", ""), one+two))
	c, err := net.Dial("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(appPatience))
	connect := []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'}
	if _, err := c.Write(connect[:5]); err != nil {
		t.Fatal(err)
	}
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 1`)
	a.mustReload(wholeYAML(listenerYAML("mqtt", "two", ""), two))
	time.Sleep(2 * sweepEvery)
	if status, _ := a.get("/api/v1/clusters/one"); status != http.StatusOK {
		t.Errorf("got %d for the removed cluster while a client is on its way there, want 200", status)
	}
	if _, err := c.Write(connect[5:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil || first.Count() != 1 {
		t.Errorf("got %v and %d clients on the first broker, want CONNACK and 1", err, first.Count())
	}
	_ = c.Close()
	a.noMetric(`cluster="one"`)
}
