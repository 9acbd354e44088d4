//go:build linux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A bearer is a server name with a certificate of its own, which is its own authority.
type bearer struct {
	name, cert, key string // files
	trust           *x509.CertPool
}

func newBearer(t *testing.T, name string) bearer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	b := bearer{name: name, cert: filepath.Join(folder, "tls.crt"), key: filepath.Join(folder, "tls.key"), trust: x509.NewCertPool()}
	for file, block := range map[string]*pem.Block{b.cert: {Type: "CERTIFICATE", Bytes: der}, b.key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	b.trust.AddCert(certificate)
	return b
}

// startMosquittoTLS runs a mosquitto that speaks TLS with the certificate of b.
func startMosquittoTLS(t *testing.T, b bearer) *broker {
	t.Helper()
	need(t, "mosquitto")
	broker := &broker{address: loopback(t), log: newLogBook()}
	file := filepath.Join(t.TempDir(), "mosquitto.conf")
	host, port, _ := net.SplitHostPort(broker.address)
	text := fmt.Sprintf("allow_anonymous true\nuser root\nlog_dest stderr\nlistener %s %s\ncertfile %s\nkeyfile %s\n", port, host, b.cert, b.key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	broker.process = start(t, broker.log, exec.Command("mosquitto", "-c", file))
	broker.waitUntilUp(t, patience)
	return broker
}

// A device is a paho client of one tenant, whose server name and certificate it insists on.
type device struct {
	mqtt.Client
	got chan string
}

func newDevice(address string, of bearer, id string) *device {
	d := &device{got: make(chan string, 10)}
	o := mqtt.NewClientOptions().AddBroker("ssl://" + address).SetClientID(id).SetAutoReconnect(false).SetConnectTimeout(patience).
		SetTLSConfig(&tls.Config{ServerName: of.name, RootCAs: of.trust})
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { d.got <- string(m.Payload()) })
	d.Client = mqtt.NewClient(o)
	return d
}

func done(token mqtt.Token) error {
	if !token.WaitTimeout(patience) {
		return fmt.Errorf("no answer within %v", patience)
	}
	return token.Error()
}

// subscribed connects a device that listens to the topic of all tenants.
func subscribed(t *testing.T, address string, of bearer, id string) *device {
	t.Helper()
	d := newDevice(address, of, id)
	if err := done(d.Connect()); err != nil {
		t.Fatalf("%s cannot connect: %v", id, err)
	}
	t.Cleanup(func() { d.Disconnect(0) })
	if err := done(d.Subscribe("news", 1, nil)); err != nil {
		t.Fatalf("%s cannot subscribe: %v", id, err)
	}
	return d
}

// says publishes a text, which these devices must get.
func (d *device) says(t *testing.T, text string, to ...*device) {
	t.Helper()
	if err := done(d.Publish("news", 1, false, text)); err != nil {
		t.Fatalf("cannot publish: %v", err)
	}
	for _, d := range to {
		select {
		case got := <-d.got:
			if got != text {
				t.Errorf("got %q, want %q: tenants hear each other", got, text)
			}
		case <-time.After(patience):
			t.Errorf("%q has not arrived", text)
		}
	}
}

// A tenancy is mqttlb with two tenants, each with a cluster of its own, behind one port.
type tenancy struct {
	*lb
	port   string
	a, b   bearer
	tls    string // YAML of the listener's TLS
	leadTo []string
}

// routes reloads with these routes.
func (p *tenancy) routes(t *testing.T, routes ...string) {
	t.Helper()
	p.layOut(t, []string{fmt.Sprintf("{name: tenants, address: %q, tls: %s, routes: [%s]}", p.port, p.tls, strings.Join(routes, ", "))}, p.leadTo)
	if said, ok := reloads[0].ask(t, p.lb); !ok {
		t.Fatalf("the reload has failed: %s", said)
	}
}

func (p *tenancy) to(of bearer, cluster, limits string) string {
	return fmt.Sprintf("{sni: %s, cluster: %s, limits: {%s}}", of.name, cluster, limits)
}

// newTenancy terminates TLS or passes it through.
func newTenancy(t *testing.T, terminate bool) *tenancy {
	t.Helper()
	p := &tenancy{port: loopback(t), a: newBearer(t, "mqtt.tenant-a.example"), b: newBearer(t, "mqtt.tenant-b.example")}
	var first, second *broker
	if terminate {
		p.tls = fmt.Sprintf("{mode: terminate, certificates: [{cert: %s, key: %s}, {cert: %s, key: %s}]}", p.a.cert, p.a.key, p.b.cert, p.b.key)
		first, second = startMosquitto(t), startMosquitto(t)
	} else {
		p.tls = "{mode: passthrough}"
		first, second = startMosquittoTLS(t, p.a), startMosquittoTLS(t, p.b)
	}
	p.leadTo = []string{
		leadingTo("a", "", weighing(backend{"broker-a", first.address}, 1)),
		leadingTo("b", "", weighing(backend{"broker-b", second.address}, 1)),
	}
	p.lb = startLB(t, settings{backends: []backend{{"broker-a", first.address}}, cluster: "health: {interval: 0s}"})
	return p
}

// Two tenants share a port and nothing else: each has its own brokers, its own limit, and its sessions survive that the
// routes are changed. Clients with an unknown name hear that nobody of that name is here.
func TestTwoTenantsBehindOnePort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		terminate bool
	}{{"passthrough", false}, {"terminate", true}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newTenancy(t, tt.terminate)
			p.routes(t, p.to(p.a, "a", "connections: 2"), p.to(p.b, "b", ""))

			a1, a2 := subscribed(t, p.port, p.a, "one"), subscribed(t, p.port, p.a, "two")
			b1, b2 := subscribed(t, p.port, p.b, "one"), subscribed(t, p.port, p.b, "two")
			a1.says(t, "of a", a1, a2)
			b1.says(t, "of b", b1, b2)

			if err := done(newDevice(p.port, p.a, "three").Connect()); err == nil {
				t.Error("a third client of tenant a has been let in, want 2 at most")
			}
			if r := p.refused(t, "route_connections"); r["route"] != "a" || r["sni"] != p.a.name {
				t.Errorf("logged %v, want route a and its name", r)
			}
			b3 := subscribed(t, p.port, p.b, "three")
			b3.says(t, "more of b", b1, b2, b3)

			if _, err := tls.Dial("tcp", p.port, &tls.Config{ServerName: "mqtt.tenant-c.example", InsecureSkipVerify: true}); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("got %v for an unknown name, want its alert", err)
			}
			p.refused(t, "unknown_name")
			if n := p.metric(t, `mqttlb_route_connections{listener="tenants",route="b"}`); n != 3 {
				t.Errorf("got %v connections of route b in the metrics, want 3", n)
			}
			if _, out := command(t, "clients", "--admin", p.socket, "--json"); strings.Count(out, p.b.name) != 3 {
				t.Errorf("the clients with their server names:\n%s", out)
			}

			p.routes(t, p.to(p.b, "b", ""))
			if err := done(newDevice(p.port, p.a, "four").Connect()); err == nil {
				t.Error("a client of tenant a has been let in without a route")
			}
			a2.says(t, "still here", a1, a2)
			b2.says(t, "here too", b1, b2, b3)
		})
	}
}
