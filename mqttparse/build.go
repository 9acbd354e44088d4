package mqttparse

import "math"

// A Refusal is a reason not to let a client in. The zero value is ServerUnavailable.
type Refusal uint8

// The refusals, with their MQTT 5 reason code and MQTT 3.x return code.
const (
	ServerUnavailable      Refusal = iota // 0x88, 3
	ServerBusy                            // 0x89, 3
	QuotaExceeded                         // 0x97, 3
	ConnectionRateExceeded                // 0x9F, 3
	UnsupportedVersion                    // 0x84, 1
	BadClientID                           // 0x85, 2
	BadCredentials                        // 0x86, 4
	NotAuthorized                         // 0x87, 5
	MalformedPacket                       // 0x81, none
	ProtocolError                         // 0x82, none
	PacketTooLarge                        // 0x95, none
)

// refusalCodes: MQTT 5.0, 3.2.2.2; MQTT 3.1.1, 3.2.2.3. Before MQTT 5 there is no code for a malformed
// packet: the connection is closed without a CONNACK [MQTT-3.1.4-1].
var refusalCodes = [...]struct{ v5, v3 byte }{
	ServerUnavailable:      {0x88, 3},
	ServerBusy:             {0x89, 3},
	QuotaExceeded:          {0x97, 3},
	ConnectionRateExceeded: {0x9F, 3},
	UnsupportedVersion:     {0x84, 1},
	BadClientID:            {0x85, 2},
	BadCredentials:         {0x86, 4},
	NotAuthorized:          {0x87, 5},
	MalformedPacket:        {0x81, 0},
	ProtocolError:          {0x82, 0},
	PacketTooLarge:         {0x95, 0},
}

// AppendConnack appends a CONNACK that refuses a client of the given Connect.Version; the connection
// must be closed behind it [MQTT-3.2.2-5], [MQTT-3.2.2-7]. Versions other than 5 get the form of
// 3.1.1, unknown ones included: it is what clients of an unknown version are answered by brokers.
// Nothing is appended when the version has no code for the refusal: just close then.
func AppendConnack(dst []byte, version byte, r Refusal) []byte {
	if int(r) >= len(refusalCodes) {
		return dst
	}
	code := refusalCodes[r]
	if version == 5 {
		return append(dst, byte(TypeConnack<<4), 3, 0, code.v5, 0) // no session, code, no properties
	}
	if code.v3 == 0 {
		return dst
	}
	return append(dst, byte(TypeConnack<<4), 2, 0, code.v3)
}

// UseAnotherServer is the reason code by which a server sends a client to another one for now. Its like, 0x9D Server
// moved, is for good: the client should not come back (MQTT 5.0, 4.11).
const UseAnotherServer = 0x9C

// AppendRedirect appends the CONNACK that sends an MQTT 5 client to another server for now: reason code 0x9C, Use
// another server, with a Server Reference, which is host:port (MQTT 5.0, 3.2.2.3.16, 4.11). The connection must be
// closed behind it [MQTT-3.2.2-7]. The client's Maximum Packet Size is in bytes, 0 for none. If the packet would be
// larger, or there is no reference, or it is longer than 65535 bytes, nothing is appended: the packet may not be sent
// then [MQTT-3.1.2-24].
func AppendRedirect(dst []byte, reference string, maxPacketSize uint32) []byte {
	if reference == "" || len(reference) > math.MaxUint16 {
		return dst
	}
	properties := uint32(1 + 2 + len(reference))
	remaining := 2 + uint32(varintLen(properties)) + properties
	if maxPacketSize != 0 && 1+uint32(varintLen(remaining))+remaining > maxPacketSize {
		return dst
	}
	dst = appendVarint(append(dst, byte(TypeConnack<<4)), remaining)
	dst = appendVarint(append(dst, 0, UseAnotherServer), properties)
	return appendString(append(dst, propServerReference), reference)
}

// AppendDisconnect appends the DISCONNECT of an MQTT 5 server with a reason code (0x80 and above; 0x8B
// server shutting down, 0x98 administrative action) and a Reason String, which is always there, since
// some clients read the code only if a property follows. The client's Maximum Packet Size is in bytes, 0
// for none. If the packet would be larger, or reason is longer than 65535 bytes, nothing is appended,
// for it may not be sent then [MQTT-3.14.2-3]: just close.
//
// Only for MQTT 5, behind a successful CONNACK [MQTT-3.14.0-1], at a boundary. The connection must be
// closed behind it [MQTT-3.14.4-2]. Before MQTT 5 a server has no DISCONNECT, and clients have been
// seen to break for good on one.
func AppendDisconnect(dst []byte, code byte, reason string, maxPacketSize uint32) []byte {
	if len(reason) > math.MaxUint16 {
		return dst
	}
	properties := uint32(1 + 2 + len(reason))
	remaining := 1 + uint32(varintLen(properties)) + properties
	size := 1 + uint32(varintLen(remaining)) + remaining
	if maxPacketSize != 0 && size > maxPacketSize {
		return dst
	}
	dst = appendVarint(append(dst, byte(TypeDisconnect<<4)), remaining)
	dst = appendVarint(append(dst, code), properties)
	return appendString(append(dst, propReasonString), reason)
}

// AppendClientDisconnect appends the DISCONNECT by which a client of any version ends its connection
// regularly: the server drops the will and keeps a persistent session (MQTT 5.0, 3.14.4).
func AppendClientDisconnect(dst []byte) []byte { return append(dst, byte(TypeDisconnect<<4), 0) }

// AppendPingreq appends a PINGREQ, which is the same in every version.
func AppendPingreq(dst []byte) []byte { return append(dst, byte(TypePingreq<<4), 0) }

// appendString appends s, at most 65535 bytes, with its length (MQTT 5.0, 1.5.4).
func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, byte(len(s)>>8), byte(len(s)))
	return append(dst, s...)
}
