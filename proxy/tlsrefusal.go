package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The refusals of TLS handshakes. The client gets the alert that goes with each.
const (
	RefusedTLSTimeout       Refusal = "tls_timeout"         // the handshake was not done in time
	RefusedTLSStalled       Refusal = "tls_stalled"         // it waited for its client while others wanted its place
	RefusedTLSNoCertificate Refusal = "tls_no_certificate"  // the client must have a certificate and has none
	RefusedTLSUnknownCA     Refusal = "tls_unknown_ca"      // its certificate is not from an authority of client_ca
	RefusedTLSExpired       Refusal = "tls_expired"         // its certificate has expired or is not valid yet
	RefusedTLSCertificate   Refusal = "tls_bad_certificate" // its certificate is wrong in another way
	RefusedTLSVersion       Refusal = "tls_version"         // it speaks no version that is allowed
	RefusedTLSCipher        Refusal = "tls_cipher"          // nor a cipher suite, curve or signature
	RefusedTLSProtocol      Refusal = "tls_alpn"            // it insists on other protocols than MQTT
	RefusedTLSByClient      Refusal = "tls_client_alert"    // the client has refused, usually the certificate it was shown
	RefusedTLSHandshake     Refusal = "tls_handshake"       // anything else
)

// A Handshake is a TLS handshake that has ended.
type Handshake struct {
	Listener string
	// Cluster and Backend say with whom; empty if it was with the client.
	Cluster, Backend string
	// Refusal says why it has failed; empty if it has not.
	Refusal Refusal
	// Err is the same in detail, only with a backend, and nil if the backend is not to blame.
	Err error
	// Version is the one of crypto/tls, 0 if it has failed.
	Version uint16
	// Resumed tells that the client came with a session ticket.
	Resumed bool
	// Took is the time from the complete ClientHello, or from the connection to the backend.
	Took time.Duration
}

// handshakeFailure says who has ended a handshake, and why.
func handshakeFailure(err error) (End, Refusal) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ETIMEDOUT) {
		return EndClient, RefusedIncomplete
	}
	if remote, ok := errors.AsType[*net.OpError](err); ok && remote.Op == "remote error" {
		return EndClient, RefusedTLSByClient
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return EndProtocol, certificateFailure(err)
	}
	// crypto/tls has no types for these.
	for _, known := range [...]struct {
		text string
		why  Refusal
	}{
		{"didn't provide a certificate", RefusedTLSNoCertificate},
		{"client offered only unsupported versions", RefusedTLSVersion},
		{"no cipher suite supported by both", RefusedTLSCipher},
		{"no ECDHE curve supported by both", RefusedTLSCipher},
		{"no key exchanges supported by both", RefusedTLSCipher},
		{"peer doesn't support any of the certificate's signature algorithms", RefusedTLSCipher},
		{"unsupported application protocols", RefusedTLSProtocol},
		{"no certificates configured", RefusedUnknownName},
		{"certificate", RefusedTLSCertificate},
	} {
		if strings.Contains(err.Error(), known.text) {
			return EndProtocol, known.why
		}
	}
	return EndProtocol, RefusedTLSHandshake
}

func certificateFailure(err error) Refusal {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return RefusedTLSUnknownCA
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return RefusedTLSExpired
	}
	return RefusedTLSCertificate
}
