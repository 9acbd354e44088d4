//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// device dials over TLS, up to this version of it, with a certificate for device-1.
func (v *vault) device(address string, version uint16) *tls.Conn {
	v.t.Helper()
	pair := v.ca.Sign(v.t, testcert.Want{CN: "device-1"}).Pair(v.t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.ca.PEM)
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, &tls.Config{
		RootCAs: pool, ServerName: "localhost", Certificates: []tls.Certificate{pair}, MaxVersion: version, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { c.Close() })
	return c
}

// RabbitMQ verifies the checksum of a header, and shows what the header tells of TLS as if the client had come to it.
func TestRabbitMQLearnsOfTheClientsTLS(t *testing.T) {
	t.Parallel()
	r := startRabbitMQ(t)
	v := newVault(t)
	v.serve("server", true)
	l := startLB(t, settings{
		backends: []backend{{"rabbit", r.address}}, listener: v.yaml("server", ", client_auth: require, client_ca: "+v.bundle),
		cluster: "proxy_protocol: {version: 2, crc32c: true, ssl_cn: true}",
	})
	for version, want := range map[uint16][]string{
		tls.VersionTLS12: {"true", "tlsv1.2", "ecdhe_rsa", "aes_128_gcm"},
		tls.VersionTLS13: {"true", "tlsv1.3", "any", "aes_128_gcm"},
	} {
		id := fmt.Sprintf("tls%#x", version)
		c := v.device(l.address, version)
		if err := answered(c, opening{id: id}.bytes(), connack(v311, 0)); err != nil {
			t.Fatalf("%s: %v", tls.VersionName(version), err)
		}
		_, port, _ := net.SplitHostPort(c.LocalAddr().String())
		list := r.ctl(t, "list_mqtt_connections", "client_id", "peer_port", "ssl", "ssl_protocol", "ssl_key_exchange", "ssl_cipher")
		lines := strings.Split(list, "\n")
		at := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, id) })
		if at < 0 {
			t.Fatalf("RabbitMQ knows these connections, want one of %s:\n%s", id, list)
		}
		for _, field := range append(want, port) {
			if !strings.Contains(lines[at], field) {
				t.Errorf("RabbitMQ says %q, want %q in it", lines[at], field)
			}
		}
	}
}

// Brokers that take version 1 see the client's address, and mqttlb's checks begin with a header of that version, too.
func TestRabbitMQTakesVersion1(t *testing.T) {
	t.Parallel()
	r := startRabbitMQ(t)
	l := startLB(t, settings{
		backends: []backend{{"rabbit", r.address}},
		cluster:  "proxy_protocol: {version: 1}\nhealth: {interval: 1s, mqtt: {}}",
	})
	const from = "127.0.0.78"
	r.log.wait(t, 0, patience, "a check", func(line string) bool { return strings.Contains(line, "client id: mqttlb-health-") })
	connect(t, l, opening{id: "line"}, from)
	list := r.ctl(t, "list_mqtt_connections", "client_id", "peer_host")
	if !strings.Contains(list, "line\t"+from) {
		t.Errorf("RabbitMQ knows these connections, want line from %s:\n%s", from, list)
	}
}

// runHAProxy runs an HAProxy with this configuration, which listens there.
func runHAProxy(t *testing.T, at, configuration string) *broker {
	t.Helper()
	need(t, "haproxy")
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := "global\n\tlog stdout format raw local0\ndefaults\n\tmode tcp\n\ttimeout connect 5s\n\ttimeout client 1m\n\ttimeout server 1m\n" + configuration
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &broker{address: at, log: newLogBook()}
	b.process = start(t, b.log, exec.Command("haproxy", "-db", "-f", file))
	b.waitUntilUp(t, patience)
	return b
}

// behindHAProxy runs an HAProxy that ends TLS and tells mqttlb of it, and returns where it listens.
func behindHAProxy(t *testing.T, v *vault, to string) string {
	t.Helper()
	leaf := v.ca.Sign(t, testcert.Want{Names: []string{"localhost"}})
	pem := testcert.Write(t, v.folder, "haproxy.pem", slices.Concat(leaf.Cert, leaf.Key))
	at := loopback(t)
	runHAProxy(t, at, fmt.Sprintf(`listen front
	bind %s ssl crt %s ca-file %s verify required
	unique-id-format id-of-front
	server mqttlb %s send-proxy-v2-ssl-cn proxy-v2-options authority,unique-id,ssl-cipher,crc32c
`, at, pem, v.bundle, to))
	return at
}

// What HAProxy in front tells of its client's TLS comes to the broker, where the name is for those who ask for it.
func TestHeaderPassesOnWhatHAProxyTells(t *testing.T) {
	t.Parallel()
	for _, named := range []bool{false, true} {
		t.Run(fmt.Sprint("ssl_cn ", named), func(t *testing.T) {
			t.Parallel()
			v := newVault(t)
			stub := newStub(t, "a")
			l := startLB(t, settings{
				backends: []backend{stub.backend()}, listener: trusting("127.0.0.0/8"),
				cluster: fmt.Sprintf("proxy_protocol: {version: 2, ssl_cn: %t}", named),
			})
			c := v.device(behindHAProxy(t, v, l.address), tls.VersionTLS13)
			o := opening{id: "behind"}
			if _, err := c.Write(o.bytes()); err != nil {
				t.Fatal(err)
			}
			h := readHeader(t, stub.accept(t), o.bytes())
			cipher := tls.CipherSuiteName(c.ConnectionState().CipherSuite)
			want := "\x07\x00\x00\x00\x00" + "\x21\x00\x07TLSv1.3"
			if named {
				want += "\x22\x00\x08device-1"
			}
			want += fmt.Sprintf("\x23\x00%c%s", len(cipher), cipher)
			if h.tlvs[0x20] != want || h.tlvs[2] != "localhost" || h.tlvs[5] != "id-of-front" || h.src.String() != c.LocalAddr().String() {
				t.Errorf("got SSL %q in %+v, want %q, AUTHORITY localhost and UNIQUE_ID id-of-front from %v", h.tlvs[0x20], h, want, c.LocalAddr())
			}
		})
	}
}

// A chain of three: HAProxy ends TLS, mqttlb places the client, and another HAProxy reads mqttlb's header in front of
// mosquitto.
func TestHAProxyReadsTheHeader(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	mosquitto := startMosquitto(t)
	at := loopback(t)
	reader := runHAProxy(t, at, fmt.Sprintf(`listen back
	bind %s accept-proxy
	log global
	log-format "reads src=%%[src]:%%[src_port] authority=%%[fc_pp_authority] id=%%[fc_pp_unique_id]"
	server mosquitto %s
`, at, mosquitto.address))
	for _, version := range []int{1, 2} {
		l := startLB(t, settings{
			backends: []backend{{"a", reader.address}}, listener: trusting("127.0.0.0/8"),
			cluster: fmt.Sprintf("proxy_protocol: {version: %d, crc32c: true, ssl_cn: true}", version),
		})
		c := v.device(behindHAProxy(t, v, l.address), tls.VersionTLS13)
		if err := answered(c, opening{id: fmt.Sprint("chain", version)}.bytes(), connack(v311, 0)); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if err := answered(c, []byte{0xc0, 0}, []byte{0xd0, 0}); err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		c.Close()
		want := fmt.Sprintf("reads src=%v authority=localhost id=id-of-front", c.LocalAddr())
		if version == 1 {
			want = fmt.Sprintf("reads src=%v authority=- id=-", c.LocalAddr())
		}
		reader.log.wait(t, 0, patience, want, func(line string) bool { return strings.Contains(line, want) })
	}
}
