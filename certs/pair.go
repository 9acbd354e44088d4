package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// maxFile bounds the files: a bundle of all public authorities has a quarter of a mebibyte.
const maxFile = 4 << 20

// A Pair names the files of a certificate and its private key, both PEM.
type Pair struct {
	Cert string // with the intermediate certificates behind it
	Key  string
}

// A FieldError is about one of the options, which it names as the configuration does, such as certificates[0].key.
type FieldError struct {
	Field string
	Err   error
}

// Error names the field.
func (e *FieldError) Error() string { return e.Field + " " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }

func wrong(field, format string, args ...any) error {
	return &FieldError{Field: field, Err: fmt.Errorf(format, args...)}
}

// readFile reads a file of the configuration. The error says which.
func readFile(field, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, wrong(field, "cannot be read: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, wrong(field, "is %s, which is no file", path)
	}
	if info.Size() > maxFile {
		return nil, wrong(field, "is %s, which has more than %d bytes", path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong(field, "cannot be read: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, wrong(field, "is %s, which is empty", path)
	}
	return data, nil
}

// loadPair reads a certificate and its key. The fields are their names in errors.
func (in *inputs) loadPair(p Pair, certField, keyField string) (*tls.Certificate, error) {
	certPEM, err := in.read(certField, p.Cert)
	if err != nil {
		return nil, err
	}
	keyPEM, err := in.read(keyField, p.Key)
	if err != nil {
		return nil, err
	}
	if err := lookAtCert(certPEM); err != nil {
		return nil, wrong(certField, "is %s, %w", p.Cert, err)
	}
	if err := lookAtKey(keyPEM); err != nil {
		return nil, wrong(keyField, "is %s, %w", p.Key, err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, wrong(keyField, "is %s, which cannot be used with the certificate %s: %w", p.Key, p.Cert, err)
	}
	return &pair, nil
}

// begin is how each part of a PEM file begins.
const begin = "-----BEGIN"

// lookAtCert says more about the usual mistakes with certificates than crypto/tls does.
func lookAtCert(text []byte) error {
	kinds := pemKinds(text)
	switch {
	case len(kinds) == 0 && bytes.Contains(text, []byte(begin)):
		return errors.New("which is not whole: there is no -----END CERTIFICATE-----")
	case len(kinds) == 0:
		return errors.New("in which there is nothing in PEM (-----BEGIN CERTIFICATE-----); convert it with: openssl x509 -inform der -in FILE, or: openssl pkcs12 -nodes -in FILE")
	case kinds["CERTIFICATE"] == 0:
		return errors.New("in which there is no certificate; are cert and key interchanged?")
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("in which a certificate cannot be read: %w", err)
		}
	}
}

// lookAtKey does the same for private keys.
func lookAtKey(text []byte) error {
	kinds := pemKinds(text)
	switch {
	case kinds["ENCRYPTED PRIVATE KEY"] > 0 || bytes.Contains(text, []byte("Proc-Type: 4,ENCRYPTED")):
		return errors.New("whose key has a passphrase; remove it with: openssl pkey -in FILE")
	case len(kinds) == 0 && bytes.Contains(text, []byte(begin)):
		return errors.New("which is not whole: there is no -----END PRIVATE KEY-----")
	case len(kinds) == 0:
		return errors.New("in which there is nothing in PEM (-----BEGIN PRIVATE KEY-----); convert it with: openssl pkey -inform der -in FILE")
	case kinds["PRIVATE KEY"]+kinds["RSA PRIVATE KEY"]+kinds["EC PRIVATE KEY"] == 0:
		return errors.New("in which there is no private key (-----BEGIN PRIVATE KEY-----)")
	}
	return nil
}

// pemKinds counts the parts of a PEM file.
func pemKinds(text []byte) map[string]int {
	kinds := make(map[string]int)
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return kinds
		}
		kinds[block.Type]++
	}
}

// loadAuthorities reads a bundle of certificates of authorities. A part of it that cannot be read is an error: a
// bundle that is half there would lock clients out.
func (in *inputs) loadAuthorities(path, field string) (*x509.CertPool, []*x509.Certificate, error) {
	text, err := in.read(field, path)
	if err != nil {
		return nil, nil, err
	}
	if err := lookAtCert(text); err != nil {
		return nil, nil, wrong(field, "is %s, %w", path, err)
	}
	pool := x509.NewCertPool()
	var all []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if bytes.Contains(rest, []byte(begin)) {
				return nil, nil, wrong(field, "is %s, whose last certificate is not whole", path)
			}
			return pool, all, nil
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, wrong(field, "is %s, in which a certificate cannot be read: %w", path, err)
		}
		pool.AddCert(c)
		all = append(all, c)
	}
}

// namesOf are the names that a certificate is for, in lower case. The subject counts only without any others, as with
// clients that still look at it.
func namesOf(leaf *x509.Certificate) []string {
	var names []string
	for _, name := range leaf.DNSNames {
		names = append(names, normal(name))
	}
	if len(names)+len(leaf.IPAddresses) == 0 && leaf.Subject.CommonName != "" && net.ParseIP(leaf.Subject.CommonName) == nil {
		names = append(names, normal(leaf.Subject.CommonName))
	}
	return names
}

// soon is how long before the end of a certificate there are warnings.
const soon = 14 * 24 * time.Hour

// validity is empty for a certificate that is valid for a while yet, or else what is the matter with it.
func validity(leaf *x509.Certificate, now time.Time) string {
	day := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") + " UTC" }
	switch {
	case now.After(leaf.NotAfter):
		return "has expired at " + day(leaf.NotAfter)
	case now.Before(leaf.NotBefore):
		return "is not valid before " + day(leaf.NotBefore)
	case now.After(leaf.NotAfter.Add(-soon)):
		return "expires at " + day(leaf.NotAfter)
	}
	return ""
}
