package main

import "errors"

// MQTT control packet types: the high half of a packet's first byte (MQTT 3.1.1 and 5, section 2.2.1).
const (
	packetConnect    = 1
	packetPublish    = 3
	packetPingreq    = 12
	packetDisconnect = 14
)

// Protocol levels, the byte behind the protocol name in CONNECT.
const (
	levelMQTT311 = 4
	levelMQTT5   = 5
)

// maxHeader is a fixed header's largest size: the type byte and four bytes of length.
const maxHeader = 5

// disconnectPacket says goodbye in both versions (in MQTT 5 a missing reason code means a normal end).
var disconnectPacket = []byte{packetDisconnect << 4, 0}

var errMalformedLength = errors.New("packet length of more than four bytes")

// appendLength appends a Remaining Length (section 2.2.3 of MQTT 3.1.1).
func appendLength(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

// decodeLength reads a Remaining Length from the start of b. It returns size 0 when b ends before it does.
func decodeLength(b []byte) (length, size int, err error) {
	for i, c := range b {
		if i == maxHeader-1 {
			return 0, 0, errMalformedLength
		}
		length |= int(c&0x7f) << (7 * i)
		if c < 0x80 {
			return length, i + 1, nil
		}
	}
	if len(b) >= maxHeader-1 {
		return 0, 0, errMalformedLength
	}
	return 0, 0, nil
}

// connectPacket is a CONNECT with a clean session and no more than a client identifier.
func connectPacket(level byte, clientID string, keepAlive uint16) []byte {
	const cleanSession = 0x02
	body := []byte{0, 4, 'M', 'Q', 'T', 'T', level, cleanSession, byte(keepAlive >> 8), byte(keepAlive)}
	if level >= levelMQTT5 {
		body = append(body, 0) // no properties
	}
	body = append(body, byte(len(clientID)>>8), byte(len(clientID)))
	body = append(body, clientID...)
	return append(appendLength([]byte{packetConnect << 4}, len(body)), body...)
}

// appendConnack appends an accepting CONNACK in the client's version.
func appendConnack(dst []byte, level byte) []byte {
	if level >= levelMQTT5 {
		return append(dst, 0x20, 3, 0, 0, 0)
	}
	return append(dst, 0x20, 2, 0, 0)
}

// publishPacket is a PUBLISH of quality 0 whose payload has the given number of zero bytes, and the payload's offset.
func publishPacket(level byte, topic string, payload int) (packet []byte, offset int) {
	header := append([]byte{byte(len(topic) >> 8), byte(len(topic))}, topic...)
	if level >= levelMQTT5 {
		header = append(header, 0) // no properties
	}
	packet = append(appendLength([]byte{packetPublish << 4}, len(header)+payload), header...)
	return append(packet, make([]byte, payload)...), len(packet)
}
