//go:build linux

package e2e

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// visitor connects a paho client at a URL, with the TLS of the vault where it needs some.
func (v *vault) visitor(url, id string, tune func(*tls.Config)) (*device, error) {
	v.t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.ca.PEM)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	if tune != nil {
		tune(config)
	}
	d := &device{got: make(chan string, 10)}
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(patience).SetTLSConfig(config)
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { d.got <- string(m.Payload()) })
	d.Client = mqtt.NewClient(o)
	if err := done(d.Connect()); err != nil {
		return nil, err
	}
	v.t.Cleanup(func() { d.Disconnect(0) })
	return d, done(d.Subscribe("news", 1, nil))
}

func (v *vault) mustVisit(url, id string, tune func(*tls.Config)) *device {
	v.t.Helper()
	d, err := v.visitor(url, id, tune)
	if err != nil {
		v.t.Fatalf("%s at %s: %v", id, url, err)
	}
	return d
}

// A reload changes versions, certificates that clients need, paths and routes, and even whether there is TLS at all:
// connections that are open notice nothing of it, and who comes next finds what is new.
func TestReloadOfTheEdgeLeavesConnections(t *testing.T) {
	t.Parallel()
	broker := startMosquitto(t)
	v := newVault(t)
	v.serve("own", false)
	deviceCert, deviceKey := v.ca.Sign(t, testcert.Want{CN: "device-1"}).Write(t, v.folder, "device")
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}})
	tlsAt, wsAt, wssAt := loopback(t), loopback(t), loopback(t)
	cluster := []string{leadingTo("brokers", "", weighing(backend{"a", broker.address}, 1))}
	reload := func(mqtts, ws, wss string) {
		t.Helper()
		l.layOut(t, []string{listening("mqtts", tlsAt, "brokers", mqtts), listening("ws", wsAt, "brokers", ws), listening("wss", wssAt, "brokers", wss)}, cluster)
		if said, ok := reloads[0].ask(t, l); !ok {
			t.Fatal(said)
		}
	}
	const websocket = ", transport: websocket, websocket: {path: %s}"
	reload(", "+v.yaml("own", ""), fmt.Sprintf(websocket, "/old"), fmt.Sprintf(websocket, "/old")+", "+v.yaml("own", ""))
	old := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
	open := []*device{
		v.mustVisit("ssl://"+tlsAt, "tls-1.3", nil),
		v.mustVisit("ssl://"+tlsAt, "tls-1.2", old),
		v.mustVisit("ws://"+wsAt+"/old", "ws", nil),
		v.mustVisit("wss://"+wssAt+"/old", "wss", nil),
	}

	reload(", "+v.yaml("own", `, min_version: "1.3", client_auth: require, client_ca: `+v.bundle),
		fmt.Sprintf(websocket, "/new")+", "+v.yaml("own", ""), fmt.Sprintf(websocket, "/new"))
	for i, d := range open {
		d.says(t, fmt.Sprint("still here ", i), open...)
	}
	authentic := func(c *tls.Config) {
		pair, err := tls.LoadX509KeyPair(deviceCert, deviceKey)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	open = append(open,
		v.mustVisit("ssl://"+tlsAt, "authentic", authentic),
		v.mustVisit("wss://"+wsAt+"/new", "ws with TLS", nil),
		v.mustVisit("ws://"+wssAt+"/new", "wss without TLS", nil),
	)
	for name, try := range map[string]func() error{
		"no certificate": func() error { _, err := v.visitor("ssl://"+tlsAt, "x", nil); return err },
		"TLS 1.2": func() error {
			_, err := v.visitor("ssl://"+tlsAt, "x", func(c *tls.Config) { authentic(c); old(c) })
			return err
		},
		"the old path":         func() error { _, err := v.visitor("wss://"+wsAt+"/old", "x", nil); return err },
		"TLS where is none":    func() error { _, err := v.visitor("wss://"+wssAt+"/new", "x", nil); return err },
		"plain text on TLS":    func() error { _, err := v.visitor("tcp://"+tlsAt, "x", nil); return err },
		"ws where TLS is":      func() error { _, err := v.visitor("ws://"+wsAt+"/new", "x", nil); return err },
		"MQTT on a web socket": func() error { _, err := v.visitor("tcp://"+wssAt, "x", nil); return err },
	} {
		if try() == nil {
			t.Errorf("%s: let in, want it refused", name)
		}
	}
	open[0].says(t, "the last word", open...)
}

// All stages one after the other: HAProxy says who the client is, TLS, WebSocket, and routes by the server name.
func TestWebSocketOverTLSBehindHAProxy(t *testing.T) {
	t.Parallel()
	broker := startMosquitto(t)
	v := newVault(t)
	v.serve("own", false)
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}, listener: strings.Join([]string{
		trusting("127.0.0.0/8"), "transport: websocket", v.yaml("own", ""), "routes: [{name: home, sni: localhost, cluster: brokers}]",
	}, "\n")})
	front := startHAProxy(t, l.address, "send-proxy-v2")
	d := v.mustVisit("wss://"+front+"/mqtt", "behind", nil)
	d.says(t, "hello", d)
	d.Disconnect(0)
	r, _ := l.ended(t, "behind", 0)
	if r["route"] != "home" || r["sni"] != "localhost" || r["via"] == "" || r["via"] == r["remote"] || r["connack"] != "0" {
		t.Errorf("the access log says %v, want route and server name, the client's address and that of HAProxy", r)
	}
}

// A page over wss, in a browser that insists on this certificate.
func TestWebSocketOverTLSFromABrowser(t *testing.T) {
	t.Parallel()
	browser := findBrowser(t)
	site := newSite(t)
	cert, key := certificateFiles(t)
	l := startLB(t, settings{
		backends: []backend{{"a", startMosquitto(t).address}},
		listener: fmt.Sprintf("transport: websocket\nwebsocket: {origins: [%q]}\ntls: {mode: terminate, certificates: [{cert: %q, key: %q}]}", site.server.URL, cert, key),
	})
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
	only := "--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(pin[:])
	if got := site.visit(t, browser, site.server.URL, "wss://"+l.address+"/mqtt", "5", only); got != "all have come" {
		t.Errorf("the page says %q, want that all messages have come", got)
	}
}

// The commands tell tenants apart: which listener leads where, and in which cluster a client is.
func TestCommandsShowTenants(t *testing.T) {
	t.Parallel()
	p := newTenancy(t, true)
	p.routes(t, p.to(p.a, "a", ""), p.to(p.b, "b", ""))
	subscribed(t, p.port, p.a, "of-a")
	subscribed(t, p.port, p.a, "of-both")
	subscribed(t, p.port, p.b, "of-both")
	for _, test := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{"status"}, 0, "tenants   " + p.port + "  TLS     a, b                3\n"},
		{[]string{"explain", "of-a"}, 0, "cluster   a, "},
		{[]string{"explain", "of-both", "--cluster", "b"}, 0, "cluster   b, "},
		{[]string{"explain", "of-both"}, 1, "which cluster? known are a, b; use --cluster"},
		{[]string{"explain", "nobody"}, 1, "which cluster? known are a, b; use --cluster"},
		{[]string{"clients", "--cluster", "b"}, 0, `"of-both"  b `},
	} {
		if status, out := command(t, append(test.args, "--admin", p.socket)...); status != test.status || !strings.Contains(out, test.want) {
			t.Errorf("%v: exit status %d, want %d, and %q in:\n%s", test.args, status, test.status, test.want, out)
		}
	}
	if status, out := command(t, "check", "-c", p.file, "--show"); status != 0 || !strings.Contains(out, p.a.name) || strings.Contains(out, "warning") {
		t.Errorf("check: exit status %d, want the routes and no warning:\n%s", status, out)
	}
}
