package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// The kinds of certificates that the proxies have.
const (
	keyECDSA = "ecdsa" // P-256
	keyRSA   = "rsa"   // 2048 bits
)

// writeCertificates makes a certificate of each kind. One file has it and its key, which every proxy understands.
func writeCertificates(folder string) error {
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	for kind, key := range map[string]crypto.Signer{keyECDSA: ecdsaKey, keyRSA: rsaKey} {
		text, err := selfSigned(key)
		if err != nil {
			return fmt.Errorf("%s certificate: %w", kind, err)
		}
		if err := os.WriteFile(certificatePath(folder, kind), text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func certificatePath(folder, kind string) string { return filepath.Join(folder, kind+".pem") }

// selfSigned is a certificate of its own, which the clients do not verify: that would cost them and not the proxy.
func selfSigned(key crypto.Signer) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: serverName}, DNSNames: []string{serverName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}
