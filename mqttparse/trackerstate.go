package mqttparse

import (
	"encoding/binary"
	"errors"
)

// AtBoundary reports whether the last byte fed was the last byte of a packet, or none was fed: the only
// places where a packet may be put into the stream. It is false once Lost.
func (t *Tracker) AtBoundary() bool { return t.state&(inPacket|framingLost) == 0 }

// Lost reports whether the bytes have ceased to be MQTT: a Remaining Length of more than four bytes, or
// the forbidden packet type 0. Nothing may be put into the stream any more.
func (t *Tracker) Lost() bool { return t.state&framingLost != 0 }

// PacketSize returns the declared size in bytes, fixed header included, of the packet in progress; 0 at
// a boundary and as long as the fixed header is not complete. At most 268435460.
func (t *Tracker) PacketSize() int {
	if t.state&inBody == 0 {
		return 0
	}
	return int(t.state&headerBytes) + int(t.remaining)
}

// Connack returns the return code (3.x) or reason code (5) of the first CONNACK, once that packet is
// complete. 0 is success in all versions.
func (t *Tracker) Connack() (code byte, ok bool) {
	if t.state&connackSeen == 0 {
		return 0, false
	}
	return t.code, true
}

// Disconnected reports whether a complete DISCONNECT has passed. Its sender may not send anything more
// [MQTT-3.14.4-1].
func (t *Tracker) Disconnected() bool { return t.state&disconnectSeen != 0 }

// Asked returns how many packets of this direction demanded an answer; it wraps at 65536.
func (t *Tracker) Asked() uint16 { return t.asked }

// Answered returns how many packets of this direction ended an exchange; it wraps at 65536.
func (t *Tracker) Answered() uint16 { return t.answered }

// Open returns how many exchanges that asker opened are not yet ended by answerer, the Tracker of the
// other direction. A connection is quiet when Open is 0 both ways.
//
// The count is exact up to 32767 open exchanges, as long as both sides keep to the standard. A packet
// that is sent twice and answered once is counted as open for good: a caller that waits for quiet needs
// a deadline. It is never below 0.
func Open(asker, answerer *Tracker) int {
	return max(0, int(int16(asker.asked-answerer.answered)))
}

// trackerSize is the length of the binary form.
const trackerSize = 16

var errTrackerState = errors.New("mqttparse: not the state of a Tracker")

// AppendBinary appends the state, always 16 bytes, the same on every machine.
func (t *Tracker) AppendBinary(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, t.left)
	dst = binary.BigEndian.AppendUint32(dst, t.remaining)
	dst = binary.BigEndian.AppendUint16(dst, t.asked)
	dst = binary.BigEndian.AppendUint16(dst, t.answered)
	return append(dst, t.first, byte(t.state), t.code, t.qos2)
}

// UnmarshalBinary restores what AppendBinary made of 16 bytes. It refuses, and leaves t alone, when b
// cannot be the state of a Tracker.
func (t *Tracker) UnmarshalBinary(b []byte) error {
	if len(b) != trackerSize {
		return errTrackerState
	}
	s := Tracker{
		left:      binary.BigEndian.Uint32(b),
		remaining: binary.BigEndian.Uint32(b[4:]),
		asked:     binary.BigEndian.Uint16(b[8:]),
		answered:  binary.BigEndian.Uint16(b[10:]),
		first:     b[12],
		state:     state(b[13]),
		code:      b[14],
		qos2:      b[15],
	}
	if !s.valid() {
		return errTrackerState
	}
	*t = s
	return nil
}

// valid reports whether t keeps what Feed relies on.
func (t *Tracker) valid() bool {
	if t.state&^(inPacket|connackSeen|disconnectSeen|framingLost) != 0 {
		return false
	}
	if t.state&inPacket == 0 {
		return t.first == 0 && t.remaining == 0 && t.left == 0
	}
	read := t.state & headerBytes
	if t.state&framingLost != 0 || read == 0 || t.remaining>>(7*(read-1)) != 0 { // the length fits into its bytes
		return false
	}
	if t.state&inBody == 0 {
		return read <= maxLengthBytes && t.left == 0
	}
	return read <= 1+maxLengthBytes && 0 < t.left && t.left <= t.remaining
}
