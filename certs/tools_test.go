package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// An authority signs certificates in tests.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// A leaf is a certificate and its key in PEM.
type leaf struct{ cert, key []byte }

// oneRSAKey is slow to make, and nobody cares which it is.
var oneRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func rsaKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := oneRSAKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key := ecKey(t)
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func serial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A wish changes what is signed.
type wish func(*x509.Certificate)

func valid(from, to time.Time) wish {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = from, to }
}

func named(cn string) wish { return func(c *x509.Certificate) { c.Subject.CommonName = cn } }

func addressed(ip string) wish {
	return func(c *x509.Certificate) { c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip)) }
}

// sign makes a certificate for these names. key is nil for a new ECDSA key.
func (a *authority) sign(t *testing.T, key crypto.Signer, names []string, wishes ...wish) leaf {
	t.Helper()
	if key == nil {
		key = ecKey(t)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	for _, w := range wishes {
		w(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return leaf{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// pair is the leaf as crypto/tls wants it.
func (l leaf) pair(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(l.cert, l.key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A folder has files of a test.
type folder struct {
	t    *testing.T
	path string
}

func newFolder(t *testing.T) folder {
	t.Helper()
	return folder{t, t.TempDir()}
}

func (f folder) at(name string) string { return filepath.Join(f.path, name) }

// write replaces a file at once.
func (f folder) write(name string, data []byte) string {
	f.t.Helper()
	path := f.at(name)
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// pair writes a leaf as NAME.crt and NAME.key.
func (f folder) pair(name string, l leaf) Pair {
	f.t.Helper()
	return Pair{Cert: f.write(name+".crt", l.cert), Key: f.write(name+".key", l.key)}
}

func newServer(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reload wants a reload to work, and to find something new or not.
func (s *Server) wantReload(t *testing.T, want bool) {
	t.Helper()
	if changed, err := s.Reload(); err != nil || changed != want {
		t.Fatalf("got changed %v, error %v, want changed %v", changed, err, want)
	}
}

// patience bounds a handshake.
const patience = 30 * time.Second

// A meeting is what came of a handshake.
type meeting struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
	serverConn           *tls.Conn
	clientConn           *tls.Conn
}

// err is the first error of both sides.
func (m *meeting) err() error { return errors.Join(m.serverErr, m.clientErr) }

// meet has a client and a server shake hands over a socket, and the client receive what comes after the handshake, such
// as tickets. Both connections stay open until the end of the test.
func meet(t *testing.T, server, client *tls.Config) *meeting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := new(meeting)
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			m.serverErr = err
			return
		}
		t.Cleanup(func() { _ = raw.Close() })
		_ = raw.SetDeadline(time.Now().Add(patience))
		m.serverConn = tls.Server(raw, server)
		if m.serverErr = m.serverConn.Handshake(); m.serverErr != nil {
			_ = raw.Close()
			return
		}
		m.server = m.serverConn.ConnectionState()
		_, m.serverErr = m.serverConn.Write([]byte("x"))
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(patience))
	m.clientConn = tls.Client(raw, client)
	if m.clientErr = m.clientConn.Handshake(); m.clientErr == nil {
		m.client = m.clientConn.ConnectionState()
		_, m.clientErr = m.clientConn.Read(make([]byte, 1))
	} else {
		_ = raw.Close()
	}
	<-done
	return m
}

// mustMeet is meet for those who get on.
func mustMeet(t *testing.T, server, client *tls.Config) *meeting {
	t.Helper()
	m := meet(t, server, client)
	if err := m.err(); err != nil {
		t.Fatal(err)
	}
	return m
}

// serverSerial is the certificate that the client saw.
func (m *meeting) serverSerial() string { return m.client.PeerCertificates[0].SerialNumber.Text(16) }

func (l leaf) serial(t *testing.T) string {
	t.Helper()
	return l.pair(t).Leaf.SerialNumber.Text(16)
}

// trusting is a client that trusts an authority.
func trusting(a *authority, name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{RootCAs: pool, ServerName: name}
}
