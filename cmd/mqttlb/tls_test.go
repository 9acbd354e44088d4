package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/internal/testcert"
)

// A tlsFolder has the files of a test about TLS.
type tlsFolder struct {
	t    *testing.T
	path string
	ca   *testcert.Authority
}

func newTLSFolder(t *testing.T) *tlsFolder {
	t.Helper()
	return &tlsFolder{t, t.TempDir(), testcert.NewAuthority(t, "ca")}
}

// pair writes a new certificate for host.test, and returns its serial number.
func (f *tlsFolder) pair(name string, valid time.Duration) string {
	f.t.Helper()
	l := f.ca.Sign(f.t, testcert.Want{Names: []string{"host.test"}, For: valid})
	l.Write(f.t, f.path, name)
	return l.Serial(f.t)
}

// yaml is the tls section of a listener with such a certificate.
func (f *tlsFolder) yaml(name, more string) string {
	return fmt.Sprintf(", tls: {mode: terminate, certificates: [{cert: %s/%s.crt, key: %s/%s.key}]%s}", f.path, name, f.path, name, more)
}

// serial is that of the certificate that a listener shows.
func (f *tlsFolder) serial(address string) string {
	f.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(f.ca.PEM)
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: appPatience}, Config: &tls.Config{RootCAs: pool, ServerName: "host.test"}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	return c.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
}

// Certificates change with their files, with a reload, and with the configuration; what cannot be used changes nothing,
// and is told once.
func TestCertificatesChange(t *testing.T) {
	t.Parallel()
	broker, f := startBroker(t), newTLSFolder(t)
	one := f.pair("a", 0)
	clusters := siteYAML("one", "", broker.Addr())
	first := wholeYAML(listenerYAML("mqtts", "one", f.yaml("a", "")), clusters)
	a := startApp(t, first)
	if got := f.serial(a.address); got != one {
		t.Errorf("got serial %s, want %s", got, one)
	}
	a.wantMetric(`mqttlb_certificate_reloads_total{result="success"} 0`)
	options := a.tls.options("mqtts")

	two := f.pair("a", 0)
	a.wantLog(`msg="changed files of TLS are in use" instance=host listener=mqtts`)
	if got := f.serial(a.address); got != two {
		t.Errorf("after a change of the file: got serial %s, want %s", got, two)
	}
	a.wantMetric(`mqttlb_certificate_reloads_total{result="success"} 1`)

	if err := os.Remove(filepath.Join(f.path, "a.key")); err != nil {
		t.Fatal(err)
	}
	a.wantLog(`msg="changed files of TLS cannot be used; what was read before stays in use" instance=host listener=mqtts`)
	a.reloadCertificates()
	if n := strings.Count(a.log.String(), "cannot be used"); n != 1 {
		t.Errorf("told %d times that a file is missing, want once", n)
	}
	a.wantMetric(`mqttlb_certificate_reloads_total{result="failure"} 1`)
	if err := a.reload(t.Context()); err == nil || !strings.Contains(err.Error(), "a.key") {
		t.Errorf("reload without a key: got error %v", err)
	}
	if got := f.serial(a.address); got != two {
		t.Errorf("without a key: got serial %s, want %s", got, two)
	}

	f.pair("a", 0)
	a.mustReload(first)
	if a.tls.options("mqtts") != options {
		t.Error("the proxy was given another TLS although its settings are the same")
	}
	three := f.pair("b", 0)
	a.mustReload(wholeYAML(listenerYAML("mqtts", "one", f.yaml("b", ""))+listenerYAML("second", "one", f.yaml("a", ", handshakes: 1")), clusters))
	if got := f.serial(a.address); got != three || a.tls.options("mqtts") != options {
		t.Errorf("another certificate: got serial %s, want %s", got, three)
	}
	a.wantMetric(`mqttlb_certificate_reloads_total{result="success"} 1`) // a reload of the configuration is no change of files
	f.serial(a.at("second"))
	a.mustReload(wholeYAML(listenerYAML("mqtts", "one", f.yaml("b", ", handshakes: 9")), clusters))
	a.noMetric(`mqttlb_certificate_expiry_timestamp_seconds{listener="second"`)
	if a.tls.options("mqtts") == options {
		t.Error("the proxy does not know of another limit")
	}
	a.mustReload(wholeYAML(listenerYAML("mqtts", "one", ""), clusters))
	a.noMetric(`mqttlb_certificate_expiry_timestamp_seconds{`)
	wantAlive(t, enter(t, a.address, "without TLS"))
}

// A certificate that ends soon is told, and when.
func TestCertificateExpires(t *testing.T) {
	t.Parallel()
	f := newTLSFolder(t)
	f.pair("a", 48*time.Hour)
	a := startApp(t, wholeYAML(listenerYAML("mqtts", "one", f.yaml("a", "")), siteYAML("one", "", "127.0.0.1:1")))
	a.wantLog(`msg="a certificate needs to be replaced" instance=host listener=mqtts`)
	a.wantLog(`name=host.test`)
	a.wantLog(`concern="expires at `)
	a.reloading.Lock()
	a.warnOfCertificates()
	a.reloading.Unlock()
	if n := strings.Count(a.log.String(), "needs to be replaced"); n != 1 {
		t.Errorf("told %d times, want once a day", n)
	}
	_, body := a.get("/metrics")
	var at float64
	_, line, found := strings.Cut(body, `mqttlb_certificate_expiry_timestamp_seconds{listener="mqtts",name="host.test"} `)
	if _, err := fmt.Sscan(line, &at); !found || err != nil || time.Until(time.Unix(int64(at), 0)).Round(time.Hour) != 48*time.Hour {
		t.Errorf("got %v, %v, want in two days", at, err)
	}
}

// What is wrong with files is told at its place, and what is doubtful as a warning.
func TestVetTLS(t *testing.T) {
	t.Parallel()
	f := newTLSFolder(t)
	f.pair("good", 0)
	f.pair("old", -time.Hour)
	f.pair("open", 0)
	f.pair("other", 0)
	if err := os.Chmod(filepath.Join(f.path, "open.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	listener := func(tls string) string {
		return "listeners:\n  - " + strings.TrimPrefix(tls, ", ") + "\n" + vetYAML("")
	}
	mixed := strings.Replace(f.yaml("good", ""), "good.key", "other.key", 1)
	for _, test := range []struct {
		yaml   string
		status int
		want   string
	}{
		{listener(f.yaml("good", "")), 0, ""},
		{listener(f.yaml("nowhere", "")), 2, ":2:50: listeners[0].tls.certificates[0].cert cannot be read: stat " + f.path + "/nowhere.crt: no such file"},
		{listener(mixed), 2, "listeners[0].tls.certificates[0].key is " + f.path + "/other.key, which cannot be used with the certificate"},
		{listener(f.yaml("good", ", ticket_keys: /nowhere")), 2, "listeners[0].tls.ticket_keys cannot be read"},
		{listener(f.yaml("good", ", client_auth: require, client_ca: /nowhere")), 2, "listeners[0].tls.client_ca cannot be read"},
		{listener(f.yaml("old", "")), 0, ":2:50: warning: listeners[0].tls.certificates[0].cert is " + f.path + "/old.crt, whose certificate has expired at "},
		{listener(f.yaml("open", "")), 0, "warning: listeners[0].tls.certificates[0].key is " + f.path + "/open.key, a secret that everybody on this host can read"},
	} {
		path := configFile(t, test.yaml)
		got := execLine("check", "-c", path)
		if got.status != test.status || !strings.Contains(got.err, test.want) || test.want == "" && got.err != "" {
			t.Errorf("%s: got status %d and %q, want %d and %q", test.yaml, got.status, got.err, test.status, test.want)
		}
	}
}

// What makes TLS towards brokers weak, or what cannot work, is told.
func TestConcerns(t *testing.T) {
	t.Parallel()
	dns, srv := config.Discovery{DNS: &config.DNSSource{Type: "A"}}, config.Discovery{DNS: &config.DNSSource{Type: "SRV"}}
	for _, test := range []struct {
		cluster config.Cluster
		want    string
	}{
		{config.Cluster{Discovery: dns}, ""},
		{config.Cluster{Discovery: srv, TLS: config.ClusterTLS{Enabled: true, Verify: true}}, ""},
		{config.Cluster{Discovery: dns, TLS: config.ClusterTLS{Enabled: true, Verify: true}}, "clusters[0].tls.server_name is missing"},
		{config.Cluster{Discovery: dns, TLS: config.ClusterTLS{Enabled: true, Verify: true, ServerName: "x"}}, ""},
		{config.Cluster{Discovery: srv, TLS: config.ClusterTLS{Enabled: true}}, "clusters[0].tls.verify is false"},
	} {
		got := ""
		concerns(&config.Config{Listeners: []config.Listener{{}}, Clusters: []config.Cluster{test.cluster}}, func(path, msg string) { got += path + " " + msg })
		if !strings.HasPrefix(got, test.want) || test.want == "" && got != "" {
			t.Errorf("%+v: got %q, want %q", test.cluster.TLS, got, test.want)
		}
	}
}
