// Package testcert makes certificates for tests: an Authority signs them, and they are written as the files that the
// configuration names.
package testcert

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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// An Authority signs certificates.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// PEM is its certificate.
	PEM []byte
}

// A Leaf is a certificate and its key, both PEM.
type Leaf struct{ Cert, Key []byte }

// NewAuthority makes one.
func NewAuthority(t *testing.T, name string) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t, false)}
	a.cert = &x509.Certificate{
		SerialNumber: newSerial(t), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

// A Want says which certificate is wanted, for servers and clients alike.
type Want struct {
	// CN is the common name of the subject.
	CN string
	// Names are host names and IP addresses.
	Names []string
	// RSA is for a key of 2048 bits instead of one on P-256.
	RSA bool
	// For is how long it is valid from now on, 1000 hours if it is 0; below 0 it has expired that long ago.
	For time.Duration
	// From and Until are used instead, if they are set.
	From, Until time.Time
}

// Sign makes a certificate.
func (a *Authority) Sign(t *testing.T, w Want) Leaf {
	t.Helper()
	if w.For == 0 {
		w.For = 1000 * time.Hour
	}
	key := newKey(t, w.RSA)
	template := &x509.Certificate{
		SerialNumber: newSerial(t), Subject: pkix.Name{CommonName: w.CN}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(min(0, w.For) - time.Hour), NotAfter: time.Now().Add(w.For),
	}
	if !w.Until.IsZero() {
		template.NotBefore, template.NotAfter = w.From, w.Until
	}
	for _, name := range w.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Leaf{
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}
}

// Write puts the leaf into a folder as NAME.crt and NAME.key, each replaced at once.
func (l Leaf) Write(t *testing.T, folder, name string) (cert, key string) {
	t.Helper()
	return Write(t, folder, name+".crt", l.Cert), Write(t, folder, name+".key", l.Key)
}

// Write replaces a file at once, and returns its path.
func Write(t *testing.T, folder, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Pair is the leaf as crypto/tls wants it.
func (l Leaf) Pair(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := tls.X509KeyPair(l.Cert, l.Key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Serial is the serial number in hexadecimal digits.
func (l Leaf) Serial(t *testing.T) string {
	t.Helper()
	block, _ := pem.Decode(l.Cert)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber.Text(16)
}

// oneRSAKey is slow to make, and nobody cares which it is.
var oneRSAKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func newKey(t *testing.T, isRSA bool) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	if isRSA {
		key, err = oneRSAKey()
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newSerial(t *testing.T) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
