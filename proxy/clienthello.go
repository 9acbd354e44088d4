package proxy

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
)

// A clientHello is what mqttlb reads of the message with which a TLS client begins (RFC 8446, 4.1.2). Its fields are
// slices into the bytes that were parsed or, where the message was cut into several records, into a copy of it.
type clientHello struct {
	serverName []byte // as sent; nil if there is none. See name
	protocols  []byte // the list of ALPN, each with a byte of length before it; nil if there is none. See protocol
	versions   []byte // that the client supports, two bytes each; nil if it sends no list. See version
	legacy     uint16 // its version if it sends no list
}

// maxHello bounds a ClientHello, and what carries it, in bytes. Post-quantum key shares make it a few KiB.
const maxHello = 32 << 10

// What RFC 8446 calls the parts of a record and of the ClientHello.
const (
	recordHeader    = 5 // bytes
	recordHandshake = 22
	maxRecord       = 16 << 10
	handshakeHeader = 4 // bytes
	typeClientHello = 1
	helloFixed      = 2 + 32 // bytes: version and random
	extServerName   = 0
	extALPN         = 16
	extVersions     = 43
	nameTypeHost    = 0
)

// maxHostName is the length of the longest name that DNS has.
const maxHostName = 253

// errHelloNeedMore says that these bytes begin a ClientHello that goes on behind them.
var errHelloNeedMore = errors.New("the ClientHello is not complete")

// A helloError says why bytes do not begin a TLS connection.
type helloError struct {
	why Refusal // RefusedNotTLS or RefusedHello
	msg string
}

// Error says what is wrong.
func (e *helloError) Error() string { return e.msg }

func errNotTLS() error { return &helloError{RefusedNotTLS, "the first bytes are no TLS handshake"} }

func badHello(msg string) error { return &helloError{RefusedHello, msg} }

// parseClientHello reads the ClientHello that b begins with, however it is cut into records and whatever follows it.
// The error is errHelloNeedMore or a *helloError. What is no TLS is told by its first bytes.
func parseClientHello(b []byte) (clientHello, error) {
	message, err := helloMessage(b)
	if err != nil {
		return clientHello{}, err
	}
	return readHello(message)
}

// helloMessage returns the body of the ClientHello message. It copies nothing if one record holds all of it.
func helloMessage(b []byte) ([]byte, error) {
	if len(b) > 1 && b[1] != 3 { // later records may say what they like (RFC 8446, 5.1)
		return nil, errNotTLS()
	}
	var first [handshakeHeader]byte
	header := first[:0] // of the message, as far as it is there
	length, have := 0, 0
	for rest := b; ; {
		payload, whole, err := cutRecord(rest)
		switch {
		case err != nil && len(rest) < len(b):
			return nil, badHello("the records of the ClientHello are malformed")
		case err != nil:
			return nil, err
		}
		have += len(payload)
		if len(header) < handshakeHeader {
			header = append(header, payload[:min(len(payload), handshakeHeader-len(header))]...)
			switch {
			case len(header) > 0 && header[0] != typeClientHello:
				return nil, badHello("the first message is not ClientHello")
			case len(header) == handshakeHeader:
				length = handshakeHeader + int(binary.BigEndian.Uint32(header)&0xffffff)
			}
		}
		consumed := len(b) - len(rest)
		switch {
		case length > maxHello:
			return nil, badHello("the ClientHello is larger than 32 KiB")
		case length > 0 && have >= length && consumed == 0:
			return payload[handshakeHeader:length], nil
		case length > 0 && have >= length:
			return joinRecords(b, length)[handshakeHeader:], nil
		case consumed > maxHello:
			return nil, badHello("the ClientHello is cut into too many records")
		case !whole:
			return nil, errHelloNeedMore
		}
		rest = rest[recordHeader+len(payload):]
	}
}

// joinRecords puts together a message that is complete.
func joinRecords(b []byte, length int) []byte {
	message := make([]byte, 0, length)
	for len(message) < length {
		payload, _, _ := cutRecord(b)
		message = append(message, payload[:min(len(payload), length-len(message))]...)
		b = b[min(len(b), recordHeader+len(payload)):]
	}
	return message
}

// cutRecord returns what there is of the payload of the record that b begins with, and whether that is all of it.
func cutRecord(b []byte) (payload []byte, whole bool, err error) {
	switch {
	case len(b) > 0 && b[0] != recordHandshake:
		return nil, false, errNotTLS()
	case len(b) < recordHeader:
		return nil, false, nil
	}
	switch size := int(binary.BigEndian.Uint16(b[3:])); {
	case size == 0 || size > maxRecord:
		return nil, false, badHello("a TLS record has an impossible length")
	case len(b) < recordHeader+size:
		return b[recordHeader:], false, nil
	default:
		return b[recordHeader : recordHeader+size], true, nil
	}
}

// readHello reads the body of the message.
func readHello(b []byte) (clientHello, error) {
	var h clientHello
	var session, ciphers, compression, extensions []byte
	if len(b) < helloFixed {
		return h, badHello("the ClientHello is too short")
	}
	h.legacy, b = binary.BigEndian.Uint16(b), b[helloFixed:]
	if !cutVector(&b, 1, &session) || !cutVector(&b, 2, &ciphers) || !cutVector(&b, 1, &compression) || len(ciphers)%2 != 0 {
		return h, badHello("the ClientHello is malformed")
	}
	if len(b) == 0 {
		return h, nil // a client without extensions
	}
	if !cutVector(&b, 2, &extensions) || len(b) > 0 {
		return h, badHello("the extensions of the ClientHello are malformed")
	}
	for len(extensions) > 0 {
		var body []byte
		if len(extensions) < 2 {
			return h, badHello("the extensions of the ClientHello are malformed")
		}
		kind := binary.BigEndian.Uint16(extensions)
		extensions = extensions[2:]
		if !cutVector(&extensions, 2, &body) || !h.extension(kind, body) {
			return h, badHello("an extension of the ClientHello is malformed")
		}
	}
	return h, nil
}

// extension takes over one extension. It reports false if that is malformed or there twice.
func (h *clientHello) extension(kind uint16, body []byte) bool {
	switch kind {
	case extServerName:
		return h.serverName == nil && h.readServerName(body)
	case extALPN:
		return h.protocols == nil && cutVector(&body, 2, &h.protocols) && len(body) == 0 && soundProtocols(h.protocols)
	case extVersions:
		return h.versions == nil && cutVector(&body, 1, &h.versions) && len(body) == 0 &&
			len(h.versions) > 0 && len(h.versions)%2 == 0
	}
	return true
}

// readServerName reads the list of names; of those of hosts there may be one (RFC 6066, 3).
func (h *clientHello) readServerName(body []byte) bool {
	var list []byte
	if !cutVector(&body, 2, &list) || len(body) > 0 || len(list) == 0 {
		return false
	}
	for len(list) > 0 {
		var name []byte
		kind := list[0]
		list = list[1:]
		if !cutVector(&list, 2, &name) || len(name) == 0 {
			return false
		}
		if kind != nameTypeHost {
			continue
		}
		if h.serverName != nil {
			return false
		}
		h.serverName = name
	}
	return true
}

// soundProtocols tells whether a list of ALPN is well-formed.
func soundProtocols(list []byte) bool {
	if len(list) == 0 {
		return false
	}
	for len(list) > 0 {
		var protocol []byte
		if !cutVector(&list, 1, &protocol) || len(protocol) == 0 {
			return false
		}
	}
	return true
}

// cutVector takes what follows a length of so many bytes off b.
func cutVector(b *[]byte, lengthSize int, into *[]byte) bool {
	if len(*b) < lengthSize {
		return false
	}
	size := 0
	for _, digit := range (*b)[:lengthSize] {
		size = size<<8 | int(digit)
	}
	rest := (*b)[lengthSize:]
	if len(rest) < size {
		return false
	}
	*into, *b = rest[:size:size], rest[size:]
	return true
}

// name is the server name by which a client is routed: in lower case and without a dot at its end; empty if there is
// none or it is no name of a host, as an IP address is none (RFC 6066, 3).
func (h *clientHello) name() string {
	name := strings.ToLower(strings.TrimSuffix(string(h.serverName), "."))
	if !isHostName(name) {
		return ""
	}
	return name
}

// isHostName tells whether a name in lower case consists of labels, and is no IP address.
func isHostName(name string) bool {
	if name == "" || len(name) > maxHostName {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	_, err := netip.ParseAddr(name)
	return err != nil
}

// protocol is the first protocol of ALPN that the client offers and that is not there to be ignored; empty if there is
// none.
func (h *clientHello) protocol() string {
	for list := h.protocols; len(list) > 0; {
		var protocol []byte
		if cutVector(&list, 1, &protocol); !isGrease(protocol) {
			return string(protocol)
		}
	}
	return ""
}

// version is the highest version of TLS that the client supports.
func (h *clientHello) version() uint16 {
	highest := uint16(0)
	for list := h.versions; len(list) >= 2; list = list[2:] {
		if !isGrease(list[:2]) {
			highest = max(highest, binary.BigEndian.Uint16(list))
		}
	}
	if h.versions == nil {
		return h.legacy
	}
	return highest
}

// isGrease tells whether a value is one of those that mean nothing and keep servers tolerant (RFC 8701).
func isGrease(b []byte) bool { return len(b) == 2 && b[0] == b[1] && b[0]&0x0f == 0x0a }
