//go:build linux

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checkInterval is how often HAProxy looks whether mqttlb is there.
const checkInterval = 100 * time.Millisecond

// startHAProxy runs an HAProxy that passes connections on to mqttlb, says with a header who the client is, and looks all
// the while whether mqttlb is there. It returns where it listens.
func startHAProxy(t *testing.T, to, header string) string {
	t.Helper()
	need(t, "haproxy")
	at := loopback(t)
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	configuration := fmt.Sprintf(`defaults
	mode tcp
	timeout connect 5s
	timeout client 1m
	timeout server 1m
	timeout check 5s
listen mqtt
	bind %s
	server mqttlb %s %s check inter %s
`, at, to, header, checkInterval)
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &broker{address: at, log: newLogBook()}
	b.process = start(t, b.log, exec.Command("haproxy", "-db", "-f", file))
	b.waitUntilUp(t, patience) // which makes a connection
	return at
}

// trusting is a listener behind load balancers on this network.
func trusting(network string) string { return fmt.Sprintf("proxy_protocol: {trusted: [%q]}", network) }

// P7 with the real thing: HAProxy in front, mosquitto behind.
func TestFaultP7BehindHAProxy(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"} {
		t.Run(header, func(t *testing.T) {
			t.Parallel()
			broker := startMosquitto(t)
			l := startLB(t, settings{backends: []backend{{"a", broker.address}}, listener: trusting("127.0.0.0/8")})
			front := startHAProxy(t, l.address, header)

			const client = "127.0.0.9"
			c := dial(t, front, client)
			send(t, c, opening{id: "behind"}.bytes())
			expect(t, c, connack(v311, 0))
			var shown struct {
				Clients []struct {
					Remote string `json:"remote"`
				} `json:"clients"`
			}
			l.get(t, "/api/v1/clients", nil, &shown)
			if len(shown.Clients) != 1 || shown.Clients[0].Remote != c.LocalAddr().String() {
				t.Errorf("clients shows %v, want one at %v", shown.Clients, c.LocalAddr())
			}
			time.Sleep(5 * checkInterval)
			c.Close()
			r, _ := l.ended(t, "behind", 0)
			if r["remote"] != c.LocalAddr().String() || !strings.HasPrefix(r["via"], "127.0.0.1:") || r["backend"] != "a" {
				t.Errorf("the access log says %v, want remote %v via HAProxy", r, c.LocalAddr())
			}
			// HAProxy has looked several times by now, and none of that is anybody's business. The other line is about the
			// connection that startHAProxy has made and not used.
			if n := strings.Count(l.log.String(), "connection ended"); n != 2 {
				t.Errorf("the log tells of %d connections, want 2", n)
			}
		})
	}
}

func TestFaultP7OnlyLoadBalancersMayConnect(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, listener: trusting("127.0.0.2")})
	connect := opening{id: "c"}.bytes()
	header := []byte("PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n")

	c := dial(t, l.address, "127.0.0.3")
	_, _ = c.Write(append(header, connect...)) // it may be closed already
	expectClosed(t, c, patience)
	if r := l.refused(t, "proxy_untrusted"); r["remote"] != c.LocalAddr().String() {
		t.Errorf("the access log says %v, want remote %v", r, c.LocalAddr())
	}
	c = dial(t, l.address, "127.0.0.2")
	send(t, c, connect)
	expectClosed(t, c, patience)
	l.refused(t, "proxy_header")
	for _, reason := range []string{"proxy_untrusted", "proxy_header"} {
		if n := l.metric(t, fmt.Sprintf(`mqttlb_refused_total{listener="mqtt",reason=%q}`, reason)); n != 1 {
			t.Errorf("%s is counted %v times, want once", reason, n)
		}
	}
	c = dial(t, l.address, "127.0.0.2")
	send(t, c, append(header, connect...))
	expect(t, broker.accept(t), connect)
}
