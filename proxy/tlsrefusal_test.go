package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// signKey makes a certificate for localhost with a key of any kind, for these uses.
func (a *authority) signKey(tb testing.TB, key, public any, uses ...x509.ExtKeyUsage) tls.Certificate {
	tb.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: uses,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *authority) signRSA(tb testing.TB) tls.Certificate {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return a.signKey(tb, key, &key.PublicKey, x509.ExtKeyUsageServerAuth)
}

func (a *authority) signP384(tb testing.TB, use x509.ExtKeyUsage) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return a.signKey(tb, key, &key.PublicKey, use)
}

// crypto/tls tells most reasons in words only. Each is provoked here, so that a version of Go with other words is noticed.
func TestFaultA3RefusalsThatAreToldInWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		version uint16
		server  func(*testing.T, *tls.Config, *authority)
		client  func(*testing.T, *tls.Config, *authority)
		want    Refusal
	}{
		{"cipher suites of TLS 1.2", tls.VersionTLS12, nil, func(_ *testing.T, c *tls.Config, _ *authority) {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} // without a key for it
		}, RefusedTLSCipher},
		{"curves of TLS 1.3", tls.VersionTLS13, func(_ *testing.T, c *tls.Config, _ *authority) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, func(_ *testing.T, c *tls.Config, _ *authority) {
			c.CurvePreferences = []tls.CurveID{tls.CurveP521}
		}, RefusedTLSCipher},
		{"curves of TLS 1.2", tls.VersionTLS12, func(_ *testing.T, c *tls.Config, _ *authority) { c.CurvePreferences = []tls.CurveID{tls.X25519} }, func(_ *testing.T, c *tls.Config, _ *authority) {
			c.CurvePreferences = []tls.CurveID{tls.CurveP521}
		}, RefusedTLSCipher},
		{"a client's certificate that is for servers", tls.VersionTLS13, func(_ *testing.T, c *tls.Config, ca *authority) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool
		}, func(t *testing.T, c *tls.Config, ca *authority) {
			t.Helper()
			own := ca.signP384(t, x509.ExtKeyUsageServerAuth)
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}, RefusedTLSCertificate},
		{"a client's certificate that is none", tls.VersionTLS13, func(_ *testing.T, c *tls.Config, ca *authority) {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool
		}, func(t *testing.T, c *tls.Config, ca *authority) {
			t.Helper()
			own := ca.signP384(t, x509.ExtKeyUsageClientAuth)
			own.Certificate = [][]byte{[]byte("certificate")}
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}, RefusedTLSCertificate},
		{"TLS 1.1", tls.VersionTLS11, nil, nil, RefusedTLSVersion},
		{"TLS 1.0", tls.VersionTLS10, nil, nil, RefusedTLSVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newTLSRig(t, rigOptions{}, func(config *tls.Config, ca *authority) {
				if c.server != nil {
					c.server(t, config, ca)
				}
			})
			config := r.config(c.version)
			if c.client != nil {
				c.client(t, config, r.ca)
			}
			client := r.over(r.dial(), config)
			if err := client.Handshake(); err == nil {
				_, _ = client.Read(make([]byte, 1))
			}
			_ = client.NetConn().Close()
			if rec := r.record(); rec.Refusal != c.want || rec.End != EndProtocol {
				t.Errorf("got %v, %q; want %q", rec.End, rec.Refusal, c.want)
			}
		})
	}
}

// RSA, alone and beside ECDSA, for clients that can do nothing else.
func TestRSACertificates(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		for _, alone := range []bool{true, false} {
			r := newTLSRig(t, rigOptions{}, func(c *tls.Config, ca *authority) {
				certificates := []tls.Certificate{ca.signRSA(t)}
				if !alone {
					certificates = append(c.Certificates, certificates...)
				}
				c.Certificates = certificates
			})
			config := r.config(version)
			config.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
			client := r.over(r.dial(), config)
			write(t, client, connect("c"))
			expect(t, r.accept(0), connect("c"))
			_, isRSA := client.ConnectionState().PeerCertificates[0].PublicKey.(*rsa.PublicKey)
			if want := alone || version == tls.VersionTLS12; isRSA != want {
				t.Errorf("version %x, alone %v: got an RSA certificate %v, want %v", version, alone, isRSA, want)
			}
		}
	}
}

// A listener that changes leaves handshakes alone that are under way, and their clients get in as it was when they came.
func TestReconfigureAndHandshakesUnderWay(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	raw := r.dial()
	half := &stopped{Conn: raw, stop: make(chan struct{}), reached: make(chan struct{})}
	client := r.over(half, r.config(tls.VersionTLS13))
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	<-half.reached
	eventually(t, func() bool { return r.waiting() == 1 })
	at, _ := r.proxy.Addr("test")
	o := Listener{Name: "test", Address: "127.0.0.1:0", Placer: r.placer, TLS: &TLSOptions{Mode: TLSPassthrough}}
	if err := r.proxy.Reconfigure([]Listener{o}); err != nil {
		t.Fatal(err)
	}
	if now, _ := r.proxy.Addr("test"); now != at {
		t.Fatalf("got another address %v, want %v", now, at)
	}
	close(half.stop)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	write(t, client, connect("c"))
	expect(t, r.accept(0), connect("c"))
}

// A stopped connection sends its first bytes, and the rest only when it may.
type stopped struct {
	net.Conn
	stop, reached chan struct{}
	begun         bool
}

func (c *stopped) Write(b []byte) (int, error) {
	if c.begun {
		<-c.stop
	}
	if !c.begun {
		c.begun = true
		defer close(c.reached)
	}
	return c.Conn.Write(b)
}

// A client that is refused and still heard out keeps the reason for which it was refused, whatever ends it.
func TestTheFirstReasonCounts(t *testing.T) {
	t.Parallel()
	r, _ := tenants(t, passing(), Route{SNI: "a.example"}, Route{SNI: "b.example"})
	c := r.dial()
	write(t, c, greeting("c.example"))
	expect(t, c, unrecognizedName())
	r.proxy.everywhere(func(l *loop) { l.shedOldest(RefusedPendingConnections) })
	if rec := r.record(); rec.Refusal != RefusedUnknownName || rec.End != EndProtocol {
		t.Errorf("got %v, %q; want unknown_name", rec.End, rec.Refusal)
	}
}

// Every refusal of a handshake has its line in the access log, with the reason, and a storm of them has ten.
func TestRefusedHandshakesAreLogged(t *testing.T) {
	t.Parallel()
	for _, why := range []Refusal{
		RefusedTLSTimeout, RefusedTLSStalled, RefusedTLSNoCertificate, RefusedTLSUnknownCA, RefusedTLSExpired, RefusedTLSCertificate,
		RefusedTLSVersion, RefusedTLSCipher, RefusedTLSProtocol, RefusedTLSByClient, RefusedTLSHandshake,
	} {
		var out strings.Builder
		a := NewAccessLog(slog.New(slog.NewTextHandler(&out, nil)), FullID)
		r := Record{Listener: "mqtts", Refusal: why, End: EndProtocol, Connack: -1}
		for range 3 * refusedPerSpell {
			a.write(context.Background(), &r)
		}
		if n := strings.Count(out.String(), fmt.Sprintf("refused=%s\n", why)); n < refusedPerSpell || n > 2*refusedPerSpell {
			t.Errorf("%s: got %d lines, want %d:\n%s", why, n, refusedPerSpell, out.String())
		}
	}
}
