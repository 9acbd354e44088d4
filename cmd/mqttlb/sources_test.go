package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/discovery"
)

// sourceYAML is a configuration whose backends come from this source.
func sourceYAML(source string) string {
	return "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \"127.0.0.1:0\"}\nclusters: [{name: test, health: {interval: 0s}, discovery: {" + source + "}}]\n"
}

// backendFile is a list of backends in a file of its own.
type backendFile struct {
	t    *testing.T
	path string
}

func newBackendFile(t *testing.T) *backendFile {
	t.Helper()
	return &backendFile{t, filepath.Join(t.TempDir(), "backends.yaml")}
}

// write replaces the file as a careful operator does.
func (f *backendFile) write(text string) {
	f.t.Helper()
	next := f.path + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(next, f.path); err != nil {
		f.t.Fatal(err)
	}
}

func (f *backendFile) source() string { return fmt.Sprintf("file: {path: %q}", f.path) }

// wantClientOn waits until new clients go to this broker.
func wantClientOn(t *testing.T, a *testApp, count func() int, prefix string) {
	t.Helper()
	for i := range 200 {
		if count() > 0 {
			return
		}
		enter(t, a.address, fmt.Sprint(prefix, i))
	}
	t.Errorf("got no client on the broker of which discovery has told; the log is\n%s", a.log)
}

// A list in a file is watched: who is written into it gets clients, and what is no such list changes nothing.
func TestFileSource(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	file := newBackendFile(t)
	file.write(fmt.Sprintf("- {name: n1, address: %q}\n", first.Addr()))
	a := startApp(t, sourceYAML(file.source()))
	stays := enter(t, a.address, "stays")
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 1`)

	file.write(fmt.Sprintf("- {name: n1, address: %q}\n- {name: n2, address: %q, capacity: 5}\n- {name: n3, address: nowhere}\n", first.Addr(), second.Addr()))
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 2`)
	a.wantMetric(`mqttlb_discovery_skipped{cluster="test"} 1`)
	a.wantLog(`msg="backend joins" instance=host cluster=test backend=n2`)
	a.wantLog(`msg="a backend is left out" instance=host cluster=test source=file backend=n3`)
	wantClientOn(t, a, second.Count, "c")

	file.write("backends: []\n")
	a.wantMetric(`mqttlb_discovery_failures_total{cluster="test"} 1`)
	a.wantLog(`level=WARN msg="discovery failed; the last known backends stay" instance=host cluster=test source=file backends=2`)
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 2`)
	enter(t, a.address, "later")
	wantAlive(t, stays)
}

// Without any backend, mqttlb starts all the same, and says that it refuses clients.
func TestSourceThatFindsNobody(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	file := newBackendFile(t)
	a := startApp(t, sourceYAML(file.source()))
	a.wantLog(`level=WARN msg="discovery has found no backend yet; clients are refused until it does" instance=host cluster=test`)
	if status, body := a.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("got readiness %d, %s, want 503", status, body)
	}
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 0`)
	file.write(fmt.Sprintf("- {name: n1, address: %q}\n", broker.Addr()))
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 1`)
	enter(t, a.address, "c")
	a.wantLog(`msg="discovery works again" instance=host cluster=test source=file`)
}

// A reload may replace the source by one of another kind. The old one has ended then, and the backends stay
// until the new one has some.
func TestReloadOfTheSource(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	file := newBackendFile(t)
	a := startApp(t, appYAML("", first.Addr()))
	a.rewrite(sourceYAML(file.source()))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.wantLog(`level=WARN msg="discovery has found no backend yet; the last known ones stay until it does" instance=host cluster=test`)
	enter(t, a.address, "before")
	if first.Count() != 1 {
		t.Errorf("got %d clients on the backend from before, want 1", first.Count())
	}
	file.write(fmt.Sprintf("- {name: n2, address: %q}\n", second.Addr()))
	a.wantLog(`msg="backend leaves; it drains until its last connection ends" instance=host cluster=test backend=b0 connections=1`)
	wantClientOn(t, a, second.Count, "c")

	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Count(a.log.String(), "discovery has found no backend yet") != 1 {
		t.Errorf("a reload without a change has begun discovery anew:\n%s", a.log)
	}
}

// A source begins when the one before it has come to its end, and not earlier.
func TestSourcesDoNotOverlap(t *testing.T) {
	t.Parallel()
	a := startApp(t, appYAML("", "127.0.0.1:1"))
	stopped := make(chan struct{})
	before := &finder{stop: func() { close(stopped) }, ended: make(chan struct{})}
	a.sources["test"].stop()
	a.sources["test"] = before
	next := make(chan *finder)
	go func() { next <- a.find(&a.config.Clusters[0]) }()
	<-stopped
	select {
	case <-next:
		t.Error("got a new source while the one before was still at work")
		return
	case <-time.After(50 * time.Millisecond):
	}
	close(before.ended)
	select {
	case <-(<-next).first:
	case <-time.After(appPatience):
		t.Error("got no answer from the new source")
	}
}

// A source that cannot work is told, and does not keep mqttlb from starting.
func TestSourceThatCannotWork(t *testing.T) {
	t.Parallel()
	cfg, err := parse(appYAML("", "127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Clusters[0].Discovery = config.Discovery{DNS: &config.DNSSource{}} // config would not allow it
	log := new(logBook)
	a, err := newApp(cfg, &environment{err: log}, nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	a.start()
	defer a.close()
	if took := time.Since(begin); took >= firstSetTimeout {
		t.Errorf("got the start after %v, want it not to wait for a source that has ended", took)
	}
	if want := `level=ERROR msg="discovery has stopped" instance=host cluster=test error="discovery by DNS needs a name"`; !strings.Contains(log.String(), want) {
		t.Errorf("got no %s in\n%s", want, log)
	}
	if strings.Contains(log.String(), "no backend yet") {
		t.Errorf("got hope for a source that has ended in\n%s", log)
	}
}

// nameserver answers every question for A records with these addresses, one at a time.
func nameserver(t *testing.T, answer *atomic.Pointer[[]netip.Addr]) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if err := m.Unpack(buf[:n]); err != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m = dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true}, Questions: m.Questions}
			for _, ip := range *answer.Load() {
				if q.Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, dnsmessage.Resource{
						Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: ip.As4()},
					})
				}
			}
			if reply, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	return conn.LocalAddr().String()
}

// The records of a name are backends, and what changes there changes here.
func TestDNSSource(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	port := netip.MustParseAddrPort(broker.Addr()).Port()
	var answer atomic.Pointer[[]netip.Addr]
	answer.Store(&[]netip.Addr{netip.MustParseAddr("127.0.0.1")})
	server := nameserver(t, &answer)
	a := startApp(t, sourceYAML(fmt.Sprintf("dns: {name: brokers.test., port: %d, interval: 1s, server: %q}", port, server)))
	enter(t, a.address, "c")
	a.wantMetric(`mqttlb_backend_connections{backend="127.0.0.1",cluster="test"} 1`)
	answer.Store(&[]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")})
	a.wantLog(fmt.Sprintf(`msg="backend joins" instance=host cluster=test backend=127.0.0.2 address=127.0.0.2:%d`, port))
	answer.Store(&[]netip.Addr{})
	a.wantLog(`msg="discovery failed; the last known backends stay" instance=host cluster=test source=dns backends=2`)
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 2`)
}

// The objects of HiveMQ's extension are backends; the credentials come from files.
func TestS3Source(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	node := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "4||||%d||||Ab3dE||||127.0.0.1||||7000", time.Now().UnixMilli()))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !strings.Contains(r.Header.Get("Authorization"), "Credential=the-key/"):
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/hivemq/nodes/Ab3dE":
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			fmt.Fprint(w, node)
		case r.URL.Query().Get("prefix") == "nodes/":
			fmt.Fprintf(w, `<ListBucketResult><Contents><Key>nodes/Ab3dE</Key><Size>%d</Size></Contents></ListBucketResult>`, len(node))
		}
	}))
	defer server.Close()
	folder := t.TempDir()
	for name, secret := range map[string]string{"access": "the-key\n", "secret": "shh\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(secret), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := startApp(t, sourceYAML(fmt.Sprintf("s3: {bucket: hivemq, prefix: nodes/, endpoint: %q, region: eu-central-1, port: %d, access_key_file: %q, secret_key_file: %q}",
		server.URL, netip.MustParseAddrPort(broker.Addr()).Port(), filepath.Join(folder, "access"), filepath.Join(folder, "secret"))))
	enter(t, a.address, "c")
	a.wantMetric(`mqttlb_backend_connections{backend="127.0.0.1",cluster="test"} 1`)
	a.wantMetric(`mqttlb_discovery_failures_total{cluster="test"} 0`)
}

// Every key of a source gets where it belongs.
func TestNewSource(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		yaml string
		want discovery.Source
	}{
		{`static: [{address: "h:1"}, {name: b, address: "h:2", capacity: 2, labels: {zone: a}}]`, &discovery.Static{Backends: []balancer.Backend{
			{Name: "h:1", Address: "h:1", Capacity: 1},
			{Name: "b", Address: "h:2", Capacity: 2, Labels: map[string]string{"zone": "a"}},
		}}},
		{`file: {path: x}`, &discovery.File{Path: "x"}},
		{`dns: {name: h}`, &discovery.DNS{Name: "h", Type: "A", Port: 1883, Interval: 30 * time.Second}},
		{`dns: {name: h, type: AAAA, port: 8883, interval: 5s, server: 10.0.0.2}`, &discovery.DNS{
			Name: "h", Type: "AAAA", Port: 8883, Interval: 5 * time.Second, Server: "10.0.0.2",
		}},
		{`dns: {name: h, type: SRV}`, &discovery.DNS{Name: "h", Type: "SRV", Interval: 30 * time.Second}},
		{`s3: {bucket: abc}`, &discovery.S3{Bucket: "abc", Port: 1883, Interval: time.Minute, Expiration: 6 * time.Minute}},
		{`s3: {bucket: abc, prefix: p, endpoint: e, region: r, port: 1, interval: 1s, expiration: 0, access_key_file: a, secret_key_file: s, session_token_file: t}`, &discovery.S3{
			Bucket: "abc", Prefix: "p", Endpoint: "e", Region: "r", Port: 1, Interval: time.Second, Expiration: -1,
			AccessKeyFile: "a", SecretKeyFile: "s", SessionTokenFile: "t",
		}},
	} {
		cfg, err := parse(sourceYAML(test.yaml))
		if err != nil {
			t.Fatal(err)
		}
		if got := newSource(&cfg.Clusters[0].Discovery, nil, nil); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.yaml, got, test.want)
		}
	}
}

// config and discovery agree about what a source can work with, each in its own words.
func TestSourcesAgree(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]bool{
		"dns: {name: h, server: 10.0.0.2}":                          true,
		"dns: {name: h, server: \"10.0.0.2:53\"}":                   true,
		"dns: {name: h, server: \"::1\"}":                           true,
		"dns: {name: h, server: \"[::1]\"}":                         true,
		"dns: {name: h, server: \"[::1]:53\"}":                      true,
		"dns: {name: h, server: \"10.0.0.2:0\"}":                    false,
		"dns: {name: h, server: \"10.0.0.2:x\"}":                    false,
		"dns: {name: h, server: dns}":                               false,
		"dns: {name: h, type: MX}":                                  false,
		"dns: {name: \"\"}":                                         false,
		"file: {path: \"\"}":                                        false,
		"s3: {bucket: abc}":                                         true,
		"s3: {bucket: 1a.b-c}":                                      true,
		"s3: {bucket: 1.2.3}":                                       true,
		"s3: {bucket: a_b}":                                         false,
		"s3: {bucket: Abc}":                                         false,
		"s3: {bucket: 10.0.0.256}":                                  false,
		"s3: {bucket: ab}":                                          false,
		"s3: {bucket: a..b}":                                        false,
		"s3: {bucket: a.-b}":                                        false,
		"s3: {bucket: a-.b}":                                        false,
		"s3: {bucket: -ab}":                                         false,
		"s3: {bucket: abc.}":                                        false,
		"s3: {bucket: a b}":                                         false,
		"s3: {bucket: 10.0.0.1}":                                    false,
		"s3: {bucket: " + strings.Repeat("a", 64) + "}":             false,
		"s3: {bucket: abc, endpoint: minio}":                        true,
		"s3: {bucket: abc, endpoint: \"minio:9000\"}":               true,
		"s3: {bucket: abc, endpoint: \"::1\"}":                      true,
		"s3: {bucket: abc, endpoint: \"[::1]:9000\"}":               true,
		"s3: {bucket: abc, endpoint: \"http://minio:9000/\"}":       true,
		"s3: {bucket: abc, endpoint: \"http://minio:9000/bucket\"}": false,
		"s3: {bucket: abc, endpoint: \"http://minio?x=1\"}":         false,
		"s3: {bucket: abc, endpoint: \"http://minio#x\"}":           false,
		"s3: {bucket: abc, endpoint: \"http://k:s@minio\"}":         false,
		"s3: {bucket: abc, endpoint: \"minio:port\"}":               false,
		"s3: {bucket: abc, endpoint: \"ftp://minio\"}":              false,
		"s3: {bucket: abc, endpoint: \"http://\"}":                  false,
		"s3: {bucket: abc, access_key_file: a}":                     false,
		"s3: {bucket: abc, session_token_file: a}":                  false,
	} {
		_, err := parse(sourceYAML(yaml))
		if (err == nil) != want {
			t.Errorf("%s: got error %v from config, want one: %v", yaml, err, !want)
		}
		if got := runs(t, yaml); got != want {
			t.Errorf("%s: discovery can work with it: %v, want %v", yaml, got, want)
		}
	}
}

// runs tells whether the source of a configuration can work, whatever config says about it.
func runs(t *testing.T, yaml string) bool {
	t.Helper()
	cfg := new(config.Config)
	_, err := config.Parse("test", []byte(sourceYAML(yaml)), config.Options{Check: func(read *config.Config, _ func(string, string)) { *cfg = *read }})
	if err != nil && !errors.As(err, new(config.Errors)) {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // the options are looked at before that
	return newSource(&cfg.Clusters[0].Discovery, nil, nil).Run(ended, make(chan []balancer.Backend)) == nil
}
