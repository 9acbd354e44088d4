package mqttparse

// The first bytes of what else is sent to an MQTT port. Three or four bytes settle each of them, none
// of them begins an acceptable CONNECT.
const (
	// A TLS record: handshake (22), major version 3 (RFC 8446, 5.1). As MQTT this would be a CONNECT
	// with reserved flags and three more bytes, which no protocol name fits into.
	sniffTLS = "\x16\x03"
	// PROXY protocol: "PROXY " (version 1), \r\n\r\n\0\r\nQUIT\n (version 2).
	sniffProxy1 = "PROX"
	sniffProxy2 = "\r\n\r\n"
)

// The methods of RFC 9110 and 5789, and the preface of HTTP/2 (RFC 9113, 3.4), cut to four bytes.
var sniffHTTP = [...]string{"GET ", "POST", "HEAD", "PUT ", "DELE", "CONN", "OPTI", "TRAC", "PATC", "PRI "}

// sniff reports why b cannot begin with a CONNECT packet, nil if it can. b is not empty.
// Fewer than four bytes of foreign protocols other than TLS are told by their first byte not to be
// CONNECT, but not yet named.
func sniff(b []byte) *SyntaxError {
	if len(b) >= len(sniffTLS) && string(b[:len(sniffTLS)]) == sniffTLS {
		return errTLS
	}
	if PacketType(b[0]>>4) == TypeConnect { // [MQTT-3.1.0-1]
		return nil
	}
	if len(b) < 4 {
		return errNotConnect
	}
	head := string(b[:4])
	if head == sniffProxy1 || head == sniffProxy2 {
		return errProxyHeader
	}
	for _, verb := range sniffHTTP {
		if head == verb {
			return errHTTP
		}
	}
	return errNotConnect
}
