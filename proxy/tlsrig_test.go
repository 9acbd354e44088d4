package proxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// An authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := a.sign(tb, template, nil)
	a.cert, a.key = leaf.Leaf, leaf.PrivateKey.(*ecdsa.PrivateKey)
	a.pool.AddCert(a.cert)
	return a
}

// issue makes a certificate for localhost and for a client of this name.
func (a *authority) issue(tb testing.TB, name string, until time.Time) tls.Certificate {
	tb.Helper()
	return a.sign(tb, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: until.Add(-24 * time.Hour), NotAfter: until, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a)
}

func (a *authority) sign(tb testing.TB, template *x509.Certificate, by *authority) tls.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// A tlsRig is a rig whose clients come over TLS.
type tlsRig struct {
	*rig
	ca     *authority
	server *tls.Config
}

// newTLSRig makes one. o.listener.TLS may be set, but for its Config; change may alter the server's configuration.
func newTLSRig(t *testing.T, o rigOptions, change func(*tls.Config, *authority)) *tlsRig {
	t.Helper()
	r := &tlsRig{ca: newAuthority(t)}
	r.server = &tls.Config{Certificates: []tls.Certificate{r.ca.issue(t, "server", time.Now().Add(time.Hour))}, DynamicRecordSizingDisabled: true}
	if change != nil {
		change(r.server, r.ca)
	}
	if o.listener.TLS == nil {
		o.listener.TLS = &TLSOptions{}
	}
	o.listener.TLS.Config = func() *tls.Config { return r.server }
	r.rig = newRig(t, o)
	return r
}

func (r *tlsRig) config(version uint16) *tls.Config {
	return &tls.Config{RootCAs: r.ca.pool, ServerName: "localhost", MinVersion: version, MaxVersion: version}
}

// over is a TLS client on a connection.
func (r *tlsRig) over(c net.Conn, config *tls.Config) *tls.Conn { return tls.Client(c, config) }

// tlsSession is rig.session over TLS.
func (r *tlsRig) tlsSession(version uint16) (client *tls.Conn, broker *net.TCPConn) {
	r.t.Helper()
	client = r.over(r.dial(), r.config(version))
	return client, r.greet(client)
}

// shaken waits for the next handshake to end.
func (r *tlsRig) shaken() Handshake {
	r.t.Helper()
	select {
	case h := <-r.told.shaken:
		return h
	case <-time.After(patience):
		r.t.Fatal("no handshake has ended")
		return Handshake{}
	}
}

// waiting is the number of handshakes that wait for their clients.
func (r *tlsRig) waiting() (n int) {
	r.proxy.everywhere(func(l *loop) {
		for _, h := range l.shaker.under {
			if h.waits.Load() > 0 {
				n++
			}
		}
	})
	return n
}
