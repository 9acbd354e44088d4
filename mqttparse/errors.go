package mqttparse

import (
	"errors"
	"fmt"
)

// ErrNeedMore says that the bytes so far may begin a valid CONNECT and that more are needed. The
// Connect returned with it has Len set as soon as the fixed header is complete.
var ErrNeedMore = errors.New("mqttparse: more bytes needed")

// A SyntaxError says why bytes are not a CONNECT packet that can be forwarded. No bytes that follow
// can mend it. Values are shared: do not modify one.
type SyntaxError struct {
	Offset int    // of the byte or field at fault, counted from the start of the input
	Kind   Kind   // closed enumeration, usable as a metric label
	Clause string // conformance statement ("MQTT-3.1.0-1") or, where there is none, the section ("MQTT 5.0, 2.2.2.1")
	Msg    string // constant text, never bytes of the peer
}

// Error names the message, the offset and the clause.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("mqttparse: %s at byte %d [%s]", e.Msg, e.Offset, e.Clause)
}

// A Kind is the class of a SyntaxError. Its String is short, lower-case and constant, so it can label a
// metric.
type Kind uint8

// The kinds of SyntaxError.
const (
	KindTLS           Kind = iota + 1 // a TLS handshake on a plain port
	KindHTTP                          // an HTTP request, WebSocket upgrades included
	KindProxyHeader                   // a PROXY protocol header (version 1 or 2) where none is expected
	KindNotConnect                    // any other first packet or garbage
	KindLength                        // the Remaining Length is malformed
	KindProtocolName                  // neither "MQTT" nor "MQIsdp"
	KindTruncated                     // the packet ends before one of its fields does
	KindProperties                    // the MQTT 5 property section does not add up
	KindNonconforming                 // from StrictError only: well-formed, but against the standard
)

// String returns the label of k.
func (k Kind) String() string {
	switch k {
	case KindTLS:
		return "tls"
	case KindHTTP:
		return "http"
	case KindProxyHeader:
		return "proxy_header"
	case KindNotConnect:
		return "not_connect"
	case KindLength:
		return "length"
	case KindProtocolName:
		return "protocol_name"
	case KindTruncated:
		return "truncated"
	case KindProperties:
		return "properties"
	case KindNonconforming:
		return "nonconforming"
	}
	return "unknown"
}

// What scanners and misdirected clients send arrives in floods, so these refusals are made once and
// cost nothing. The others need their own offset and cost one small allocation.
var (
	errTLS         = &SyntaxError{0, KindTLS, "MQTT-3.1.0-1", "TLS handshake instead of a CONNECT packet"}
	errHTTP        = &SyntaxError{0, KindHTTP, "MQTT-3.1.0-1", "HTTP request instead of a CONNECT packet"}
	errProxyHeader = &SyntaxError{0, KindProxyHeader, "MQTT-3.1.0-1", "PROXY protocol header instead of a CONNECT packet"}
	errNotConnect  = &SyntaxError{0, KindNotConnect, "MQTT-3.1.0-1", "first packet is not CONNECT"}
	// Neither standard numbers this rule: 2.2.3 in 3.1.1, 1.5.5 in 5.0.
	errLength   = &SyntaxError{maxLengthBytes, KindLength, "MQTT 5.0, 1.5.5", "Remaining Length is longer than 4 bytes"}
	errTooShort = &SyntaxError{1, KindTruncated, "MQTT-3.1.2-1", "Remaining Length leaves no room for protocol name and version"}
	// By length of the fixed header, behind which the name is found.
	errProtocolName = [...]*SyntaxError{
		2: {2, KindProtocolName, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp"},
		3: {3, KindProtocolName, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp"},
		4: {4, KindProtocolName, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp"},
		5: {5, KindProtocolName, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp"},
	}
)
