//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// startSecureMosquitto runs a mosquitto that takes TLS alone, with a certificate of this life, from clients with one of
// their own.
func (v *vault) startSecureMosquitto(name string, life time.Duration) *broker {
	v.t.Helper()
	need(v.t, "mosquitto")
	cert, key := v.ca.Sign(v.t, testcert.Want{Names: []string{"127.0.0.1"}, For: life}).Write(v.t, v.folder, name)
	b := &broker{address: loopback(v.t), log: newLogBook()}
	_, port, _ := net.SplitHostPort(b.address)
	text := fmt.Sprintf(`allow_anonymous true
user root
log_dest stderr
listener %s 127.0.0.1
cafile %s
certfile %s
keyfile %s
require_certificate true
`, port, v.bundle, cert, key)
	file := filepath.Join(v.folder, name+".conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		v.t.Fatal(err)
	}
	b.process = start(v.t, b.log, exec.Command("mosquitto", "-c", file))
	b.waitUntilUp(v.t, 10*time.Second)
	return b
}

// clusterYAML is the tls section of a cluster that shows this certificate.
func (v *vault) clusterYAML(name string) string {
	return fmt.Sprintf("tls: {enabled: true, ca: %s, cert: %s/%s.crt, key: %s/%s.key}\n", v.bundle, v.folder, name, v.folder, name)
}

// Real brokers that speak TLS and want certificates get clients, with and without TLS of their own, and MQTT probes.
func TestTLSToBrokers(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.serve("own", false)
	v.ca.Sign(t, testcert.Want{CN: "mqttlb"}).Write(t, v.folder, "towards")
	b := v.startSecureMosquitto("broker", time.Hour)
	for _, front := range []string{"plain", "tls"} {
		t.Run(front, func(t *testing.T) {
			t.Parallel()
			set := settings{backends: []backend{{"a", b.address}}, cluster: "health: {interval: 1s}\nsettle: 0s\n" + v.clusterYAML("towards")}
			var secure []string
			if front == "tls" {
				set.listener, secure = v.yaml("own", ""), []string{"--cafile", v.bundle}
			}
			l := startLB(t, set)
			l.reach(t, patience, "ready", "a")
			host, port, _ := net.SplitHostPort(l.address)
			publishOverTLS(t, slices.Concat([]string{"-h", host, "-p", port, "-t", front}, secure), front)
			const of = `mqttlb_backend_tls_handshakes_total{cluster="brokers",result=%q,version="1.3"}`
			if n := l.metric(t, fmt.Sprintf(of, "full")) + l.metric(t, fmt.Sprintf(of, "resumed")); n != 2 {
				t.Errorf("got %v handshakes for clients, want two", n)
			}
		})
	}
}

// A broker whose certificate has expired is passed over, and named in the log with the reason. With health checks it is
// down for it.
func TestTLSToExpiredBroker(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.ca.Sign(t, testcert.Want{CN: "mqttlb"}).Write(t, v.folder, "towards")
	old := v.startSecureMosquitto("old", -time.Hour)
	good := v.startSecureMosquitto("good", time.Hour)
	backends := []backend{{"old", old.address}, {"good", good.address}}
	l := startLB(t, settings{backends: backends, cluster: v.clusterYAML("towards")})
	host, port, _ := net.SplitHostPort(l.address)
	for i := range 8 {
		out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-i", fmt.Sprint("device-", i), "-q", "1", "-t", "t", "-m", "m").CombinedOutput()
		if err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
	}
	r := l.logged(t, 0, "no TLS with a broker; the next one is tried")
	if r["backend"] != "old" || r["reason"] != "tls_expired" || !strings.Contains(fmt.Sprint(r["error"]), "expired") {
		t.Errorf("got %v, want the broker old, tls_expired and an error about it", r)
	}
	if n := strings.Count(l.log.String(), "no TLS with a broker"); n != 1 {
		t.Errorf("got %d lines about it, want one", n)
	}
	if n := l.metric(t, `mqttlb_backend_connect_failures_total{backend="old",cluster="brokers",reason="tls_failed"}`); n < 1 {
		t.Errorf("got %v failures of the broker old, want some", n)
	}
	checked := startLB(t, settings{backends: backends, cluster: "health: {interval: 1s}\nsettle: 0s\n" + v.clusterYAML("towards")})
	eventually(t, patience, "the broker with the expired certificate is down", func() bool {
		phases := checked.phases(t)
		return phases["old"] == "down" && phases["good"] == "ready"
	})
}

// A reload turns TLS on for connections from then on; those that are open stay as they are. A certificate that is
// replaced counts from the next connection on.
func TestTLSToBrokersReloaded(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	testcert.NewAuthority(t, "stranger").Sign(t, testcert.Want{CN: "mqttlb"}).Write(t, v.folder, "towards")
	plain, secure := startMosquitto(t), v.startSecureMosquitto("secure", time.Hour)
	set := settings{backends: []backend{{"a", plain.address}}}
	l := startLB(t, set)
	enter := func(id string) (net.Conn, error) {
		c, err := net.DialTimeout("tcp", l.address, patience)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * patience))
		return c, answered(c, opening{id: id}.bytes(), connack(v311, 0))
	}
	early, err := enter("early")
	if err != nil {
		t.Fatal(err)
	}
	set.backends, set.cluster = []backend{{"a", secure.address}}, v.clusterYAML("towards")+"breaker: {open: 0s}\n"
	l.configure(t, set)
	if said, ok := reloads[0].ask(t, l); !ok {
		t.Fatal(said)
	}
	if _, err := enter("refused"); err == nil {
		t.Error("a broker has taken mqttlb with the certificate of a stranger")
	}
	if r := l.logged(t, 0, "no TLS with a broker; the next one is tried"); r["reason"] != "tls_backend_alert" {
		t.Errorf("got %v, want an alert of the broker", r)
	}
	v.ca.Sign(t, testcert.Want{CN: "mqttlb"}).Write(t, v.folder, "towards")
	eventually(t, patience, "the new certificate is shown", func() bool { _, err := enter("late"); return err == nil })
	if err := answered(early, []byte{0xC0, 0}, []byte{0xD0, 0}); err != nil {
		t.Errorf("the early connection: %v", err)
	}
}
