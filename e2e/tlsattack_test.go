//go:build linux

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// openSSL runs s_client for a while, has it say something, and returns its output.
func openSSL(t *testing.T, address, say string, args ...string) string {
	t.Helper()
	need(t, "openssl")
	cmd := exec.Command("timeout", append([]string{"10", "openssl", "s_client", "-connect", address}, args...)...)
	stdin, err := cmd.StdinPipe() // open, or it would leave before an alert has come
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	out := newLogBook()
	p := start(t, out, cmd)
	eventually(t, patience, "openssl has shaken hands, or has ended", func() bool {
		return !p.running() || strings.Contains(out.String(), "---\n")
	})
	_, _ = stdin.Write([]byte(say)) // it may have ended
	eventually(t, patience, "openssl ends", func() bool { return !p.running() })
	return out.String()
}

// A3: odd handshakes are served or refused as the configuration says, and nobody else notices them.
func TestFaultA3OddHandshakes(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.serve("own", false)
	broker := startMosquitto(t)
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}, listener: v.yaml("own", "")})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.ca.PEM)
	for name, protocols := range map[string][]string{"no ALPN": nil, "odd ALPN": {"h2", "x-unheard-of"}, "MQTT's ALPN": {"h2", "mqtt"}} {
		// An address is not sent as a name.
		c, err := tls.Dial("tcp", l.address, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", NextProtos: protocols})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = c.SetDeadline(time.Now().Add(patience))
		if err := answered(c, opening{id: "odd"}.bytes(), connack(v311, 0)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
	for _, version := range []string{"-tls1", "-tls1_1"} {
		out := openSSL(t, l.address, "", version, "-cipher", "DEFAULT:@SECLEVEL=0")
		if !strings.Contains(out, "alert protocol version") {
			t.Errorf("%s: got\n%s\nwant the alert protocol version", version, out)
		}
	}
	l.refused(t, "tls_version")
	// s_client asks for a renegotiation when it reads R.
	if out := openSSL(t, l.address, "R\n", "-tls1_2"); !strings.Contains(out, "alert unexpected message") {
		t.Errorf("renegotiation: got\n%s\nwant an alert", out)
	}
}

// A3: a thousand clients that stop in the middle of the handshake, and a thousand that say nothing at all, delay nobody
// by more than the handshake takes anyway.
func TestFaultA3HalfHandshakes(t *testing.T) {
	v := newVault(t)
	v.serve("own", false)
	broker := startMosquitto(t)
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}, listener: v.yaml("own", "") + "\nlimits: {connect_timeout: 1m}"})
	best := func() time.Duration {
		least := time.Hour
		for range 30 {
			began := time.Now()
			c, err := v.dial(l.address)
			if err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(began))
			c.Close()
		}
		return least
	}
	alone := best()
	hello := clientHello(t)
	for range 1000 {
		dial(t, l.address, "")                 // silent
		send(t, dial(t, l.address, ""), hello) // and never a word after the server's
	}
	// The oldest give way, as there are more than may be without a CONNECT.
	eventually(t, patience, "all have come", func() bool {
		gone := l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="pending_connections"}`)
		return gone > 0 && gone+l.metric(t, `mqttlb_connections{listener="mqtt"}`) >= 2000
	})
	crowded := best()
	t.Logf("the best handshake of 30 takes %v alone and %v beside 2000 that stall", alone, crowded)
	if most := 2*alone + 2*time.Millisecond; crowded > most {
		t.Errorf("the best handshake of 30 takes %v beside 2000 that stall, want %v at most", crowded, most)
	}
}
