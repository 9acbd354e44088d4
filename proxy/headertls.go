package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"unicode"
	"unicode/utf8"

	proxyproto "github.com/pires/go-proxyproto"
)

const (
	tlvSize = 3 // bytes of a TLV before its value
	sslSize = 5 // bytes of PP2_TYPE_SSL before its own values: flags and verdict

	// The flags of PP2_TYPE_SSL (specification, 2.2.6).
	clientSSL      = 1 // the client came over TLS
	clientCertConn = 2 // it has shown a certificate on this connection
	clientCertSess = 4 // … or when the session began that it resumes

	// notVerified is the verdict on the certificate of a client that has shown none. Receivers tell 0 from the rest.
	notVerified = 1
)

// A tlsFacts is what a header tells of the client's TLS. What is empty is not told.
type tlsFacts struct {
	alpn, authority string
	client          byte // flags; 0 if it did not come over TLS, or nobody knows how
	verify          uint32
	version, cipher string // as OpenSSL names them
	cn              string // of a certificate that was verified
}

// facts are what is told of a session that came over TLS. Where nothing was decrypted, that is the name alone: what comes
// of the rest is between the client and the broker.
func (s *security) facts() tlsFacts {
	if s.version == 0 {
		return tlsFacts{authority: s.sni}
	}
	f := tlsFacts{
		alpn: s.alpn, authority: s.sni, client: clientSSL, verify: notVerified,
		version: versionName(s.version), cipher: cipherName(s.cipher),
	}
	if s.verified {
		f.verify, f.cn = 0, s.cn
		f.client |= clientCertSess
		if !s.resumed {
			f.client |= clientCertConn
		}
	}
	return f
}

// versionName is how OpenSSL calls a version of TLS; that is what brokers expect.
func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return tls.VersionName(version)
}

// cipherName is how OpenSSL calls a cipher suite. It has names of its own for those before TLS 1.3.
func cipherName(id uint16) string {
	switch id {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		return "ECDHE-ECDSA-AES128-GCM-SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return "ECDHE-ECDSA-AES256-GCM-SHA384"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return "ECDHE-RSA-AES128-GCM-SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return "ECDHE-RSA-AES256-GCM-SHA384"
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return "ECDHE-ECDSA-CHACHA20-POLY1305"
	case tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return "ECDHE-RSA-CHACHA20-POLY1305"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:
		return "ECDHE-ECDSA-AES128-SHA"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:
		return "ECDHE-ECDSA-AES256-SHA"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:
		return "ECDHE-RSA-AES128-SHA"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:
		return "ECDHE-RSA-AES256-SHA"
	}
	return tls.CipherSuiteName(id)
}

// parseSSL reads the value of a PP2_TYPE_SSL that has come in. Of one that is malformed nothing is kept but what came
// before: it is not worth a client.
func (f *tlsFacts) parseSSL(value []byte) {
	if len(value) < sslSize || value[0]&clientSSL == 0 {
		return
	}
	f.client = value[0] & (clientSSL | clientCertConn | clientCertSess)
	f.verify = binary.BigEndian.Uint32(value[1:])
	for rest := value[sslSize:]; len(rest) >= tlvSize; {
		end := tlvSize + int(binary.BigEndian.Uint16(rest[1:]))
		if end > len(rest) {
			break
		}
		text := string(rest[tlvSize:end])
		switch rest[0] {
		case byte(proxyproto.PP2_SUBTYPE_SSL_VERSION):
			f.version = text
		case byte(proxyproto.PP2_SUBTYPE_SSL_CIPHER):
			f.cipher = text
		case byte(proxyproto.PP2_SUBTYPE_SSL_CN):
			f.cn = text
		}
		rest = rest[end:]
	}
	if f.verify != 0 || f.client&(clientCertConn|clientCertSess) == 0 {
		f.cn = "" // nobody has verified it
	}
}

// appendSSL adds PP2_TYPE_SSL.
func (f *tlsFacts) appendSSL(dst []byte) []byte {
	at := len(dst)
	dst = append(dst, byte(proxyproto.PP2_TYPE_SSL), 0, 0, f.client)
	dst = binary.BigEndian.AppendUint32(dst, f.verify)
	dst = appendTLV(dst, proxyproto.PP2_SUBTYPE_SSL_VERSION, f.version)
	dst = appendTLV(dst, proxyproto.PP2_SUBTYPE_SSL_CN, f.cn)
	dst = appendTLV(dst, proxyproto.PP2_SUBTYPE_SSL_CIPHER, f.cipher)
	binary.BigEndian.PutUint16(dst[at+1:], uint16(len(dst)-at-tlvSize))
	return dst
}

// appendTLV adds a value. One that is empty says nothing and is left out.
func appendTLV[T string | []byte](dst []byte, kind proxyproto.PP2Type, value T) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, byte(kind), byte(len(value)>>8), byte(len(value)))
	return append(dst, value...)
}

// room is what is left of the size of a header.
type room struct {
	left    int  // in bytes
	trimmed bool // something was left out
}

// take tells whether n more bytes fit, and takes them if they do.
func (r *room) take(n int) bool {
	if n > r.left {
		r.trimmed = true
		return false
	}
	r.left -= n
	return true
}

// takeText is take for a value with so many bytes before it. It takes none that is not printable.
func (r *room) takeText(before int, value []byte) bool {
	if !printable(value) {
		r.trimmed = true
		return false
	}
	return r.take(before + len(value))
}

// fit returns the value of a TLV, or nothing if it has no place in the header.
func (r *room) fit(value string) string {
	if value == "" || !r.takeText(tlvSize, []byte(value)) {
		return ""
	}
	return value
}

// printable keeps control characters and broken UTF-8 out of TLVs: some brokers end the connection
// over them (protocol.md, 1.2).
func printable(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexFunc(b, unicode.IsControl) < 0
}
