//go:build linux

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// A vault has the files of a test about TLS, of which the certificates of mqttlb are for 127.0.0.1 and localhost.
type vault struct {
	t      *testing.T
	folder string
	ca     *testcert.Authority
	bundle string // with ca
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{t: t, folder: t.TempDir(), ca: testcert.NewAuthority(t, "e2e")}
	v.bundle = testcert.Write(t, v.folder, "ca.pem", v.ca.PEM)
	return v
}

// serve writes a certificate for mqttlb, and returns its serial number.
func (v *vault) serve(name string, isRSA bool) string {
	v.t.Helper()
	l := v.ca.Sign(v.t, testcert.Want{Names: []string{"localhost", "127.0.0.1"}, RSA: isRSA})
	l.Write(v.t, v.folder, name)
	return l.Serial(v.t)
}

// yaml is the tls section of the listener.
func (v *vault) yaml(name, more string) string {
	return fmt.Sprintf("tls: {mode: terminate, certificates: [{cert: %s/%s.crt, key: %s/%s.key}]%s}", v.folder, name, v.folder, name, more)
}

// dial comes over TLS, without MQTT.
func (v *vault) dial(address string) (*tls.Conn, error) {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.ca.PEM)
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*tls.Conn), nil
}

// Real clients come over both versions of TLS, with both kinds of keys, and with certificates of their own where these
// are required.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t)
	v := newVault(t)
	v.serve("ecdsa", false)
	v.serve("rsa", true)
	deviceCert, deviceKey := v.ca.Sign(t, testcert.Want{CN: "device-1"}).Write(t, v.folder, "device")
	for _, kind := range []string{"ecdsa", "rsa"} {
		for _, version := range []string{"1.2", "1.3"} {
			for _, auth := range []string{"none", "require"} {
				t.Run(fmt.Sprint(kind, "_", version, "_", auth), func(t *testing.T) {
					t.Parallel()
					more, id := "", []string{}
					if auth == "require" {
						more = ", client_auth: require, client_ca: " + v.bundle
						id = []string{"--cert", deviceCert, "--key", deviceKey}
					}
					l := startLB(t, settings{backends: []backend{{"a", b.address}}, listener: v.yaml(kind, more)})
					host, port, _ := net.SplitHostPort(l.address)
					name := fmt.Sprint(kind, version, auth)
					common := slices.Concat([]string{"-h", host, "-p", port, "-t", name, "--cafile", v.bundle, "--tls-version", "tlsv" + version}, id)
					publishOverTLS(t, common, name)
					args := []string{"testdata/mqttjs_tls.js", host, port, "TLSv" + version, "js-" + name, v.bundle}
					if auth == "require" {
						args = append(args, deviceCert, deviceKey)
					}
					out := newLogBook()
					if status := start(t, out, nodeScript(t, args...)).exit(t, patience); status != 0 {
						t.Errorf("node ended with status %d:\n%s", status, out)
					}
				})
			}
		}
	}
}

// publishOverTLS has mosquitto_sub receive what mosquitto_pub sends.
func publishOverTLS(t *testing.T, common []string, text string) {
	t.Helper()
	need(t, "mosquitto_pub", "mosquitto_sub")
	out := newLogBook()
	sub := start(t, out, exec.Command("stdbuf", slices.Concat([]string{"-oL", "mosquitto_sub"}, common,
		[]string{"-i", "sub-" + text, "-q", "1", "-C", "1", "-W", "30", "-d"})...))
	out.wait(t, 0, patience, "mosquitto_sub has subscribed", func(line string) bool { return strings.HasPrefix(line, "Subscribed") })
	if out, err := exec.Command("mosquitto_pub", slices.Concat(common, []string{"-i", "pub-" + text, "-q", "1", "-m", text})...).CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
	if status := sub.exit(t, patience); status != 0 || !strings.Contains(out.String(), text) {
		t.Errorf("mosquitto_sub ended with status %d:\n%s", status, out)
	}
}

// Who may not come in hears the right alert, as OpenSSL names it, and the log says why, but not of each of many.
func TestTLSRefusesClients(t *testing.T) {
	t.Parallel()
	need(t, "openssl")
	v := newVault(t)
	v.serve("own", false)
	v.ca.Sign(t, testcert.Want{CN: "expired", For: -time.Hour}).Write(t, v.folder, "expired")
	testcert.NewAuthority(t, "stranger").Sign(t, testcert.Want{CN: "unknown"}).Write(t, v.folder, "unknown")
	l := startLB(t, settings{instance: "edge", backends: []backend{{"a", "127.0.0.1:1"}}, listener: v.yaml("own", ", client_auth: require, client_ca: "+v.bundle)})
	for _, test := range []struct{ cert, version, alert, why string }{
		{"", "-tls1_3", "certificate required", "tls_no_certificate"},
		{"", "-tls1_2", "handshake failure", "tls_no_certificate"},
		{"expired", "-tls1_3", "certificate expired", "tls_expired"},
		{"expired", "-tls1_2", "certificate expired", "tls_expired"},
		{"unknown", "-tls1_3", "unknown ca", "tls_unknown_ca"},
		{"unknown", "-tls1_2", "unknown ca", "tls_unknown_ca"},
	} {
		args := []string{"10", "openssl", "s_client", "-connect", l.address, "-CAfile", v.bundle, test.version}
		if test.cert != "" {
			args = append(args, "-cert", v.folder+"/"+test.cert+".crt", "-key", v.folder+"/"+test.cert+".key")
		}
		cmd := exec.Command("timeout", args...)
		stdin, err := cmd.StdinPipe() // open, or it would leave before the alert has come
		if err != nil {
			t.Fatal(err)
		}
		out, _ := cmd.CombinedOutput()
		stdin.Close()
		if !strings.Contains(string(out), "alert "+test.alert) {
			t.Errorf("certificate %q, %s: got\n%s\nwant the alert %q", test.cert, test.version, out, test.alert)
		}
		l.refused(t, test.why)
	}
	for _, why := range []string{"tls_no_certificate", "tls_expired", "tls_unknown_ca"} {
		if n := l.metric(t, fmt.Sprintf(`mqttlb_refused_total{listener="mqtt",reason=%q}`, why)); n != 2 {
			t.Errorf("%s is counted %v times, want twice", why, n)
		}
	}
	come := func() {
		if c, err := v.dial(l.address); err == nil { // with TLS 1.3 the client is done before it is refused
			_, _ = c.Read(make([]byte, 1))
			c.Close()
		}
	}
	const many = 200
	var crowd sync.WaitGroup
	for range many {
		crowd.Go(come)
	}
	crowd.Wait()
	eventually(t, patience, "all are counted", func() bool {
		return l.metric(t, `mqttlb_refused_total{listener="mqtt",reason="tls_no_certificate"}`) == many+2
	})
	eventually(t, patience, "the next who is refused after a second has it told how many were not logged", func() bool {
		come()
		time.Sleep(100 * time.Millisecond)
		return strings.Contains(l.log.String(), `msg="refused connections not logged one by one" instance=edge refused=tls_no_certificate`)
	})
}

// A certificate is replaced under open connections, by its file alone, with HUP and over the API: none of them notices,
// and who comes next sees the new one.
func TestTLSCertificateReplaced(t *testing.T) {
	t.Parallel()
	broker := startMosquitto(t)
	v := newVault(t)
	serial := v.serve("own", false)
	l := startLB(t, settings{backends: []backend{{"a", broker.address}}, listener: v.yaml("own", "")})
	const connections = 500
	var open []*tls.Conn
	enter := func(id string) {
		t.Helper()
		c, err := v.dial(l.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * patience))
		if err := answered(c, opening{id: id}.bytes(), connack(v311, 0)); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for i := range connections {
		enter(fmt.Sprint("tls-", i))
	}
	seen := func() string {
		t.Helper()
		c, err := v.dial(l.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Text(16)
	}
	if got := seen(); got != serial {
		t.Fatalf("got serial %s, want %s", got, serial)
	}
	serial = v.serve("own", true)
	eventually(t, patience, "the new certificate is shown", func() bool { return seen() == serial })
	serial = v.serve("own", false)
	if said, ok := reloads[0].ask(t, l); !ok {
		t.Fatal(said)
	}
	if got := seen(); got != serial {
		t.Errorf("after HUP: got serial %s, want %s", got, serial)
	}
	serial = v.serve("own", true)
	if status, said := l.ask(t, http.MethodPost, "/api/v1/reload", l.socket, ""); status != http.StatusOK {
		t.Fatalf("POST reload: status %d: %s", status, said)
	}
	if got := seen(); got != serial {
		t.Errorf("after POST: got serial %s, want %s", got, serial)
	}
	for i, c := range open {
		if err := answered(c, []byte{0xC0, 0}, []byte{0xD0, 0}); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	enter("late")
}

// answered sends a packet and wants this answer.
func answered(c net.Conn, packet, want []byte) error {
	if _, err := c.Write(packet); err != nil {
		return err
	}
	got, err := readPacket(c)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("got % x, want % x", got, want)
	}
	return err
}
