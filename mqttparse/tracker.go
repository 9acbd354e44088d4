package mqttparse

// A Tracker follows the packet boundaries in one direction of a connection, for any version of MQTT.
// The zero value stands before the first packet. Feed it every byte of its direction, CONNECT included,
// in order and cut anywhere; its state depends on the bytes alone and never on the cuts.
//
// A Tracker is 16 bytes of plain data without pointers: copy it, compare it with ==, or carry it to
// another process with AppendBinary and UnmarshalBinary. It is not safe for concurrent use.
//
// # Exchanges
//
// Asked and Answered tell whether a connection is quiet. Asked counts the packets of this direction
// that the other side has to answer: PUBLISH with QoS 1 or 2, SUBSCRIBE, UNSUBSCRIBE and PINGREQ.
// Answered counts those that end an exchange which the other side opened: PUBACK, PUBCOMP, SUBACK,
// UNSUBACK, PINGRESP, and an MQTT 5 PUBREC with an error code (MQTT 5.0, 4.3.3). A question counts
// from its first byte and an answer when it is complete (PUBREC: when its reason code has passed), so
// what is under way counts as open. Both wrap; see Open.
type Tracker struct {
	left      uint32 // bytes of the body still to come
	remaining uint32 // Remaining Length of the packet begun, as far as it has been read
	asked     uint16
	answered  uint16
	first     byte // first byte of the packet begun
	state     state
	code      byte  // second body byte of the first CONNACK
	qos2      uint8 // QoS 2 PUBLISH less PUBREL of this direction, see begin
}

// A state is how far into a packet the Tracker is, and what has happened before.
type state uint8

const (
	headerBytes    state = 1<<3 - 1             // how many bytes of the fixed header have passed, 0 to 5
	inBody         state = 1 << 3               // all of them, and a body follows
	inPacket             = headerBytes | inBody // 0 at a boundary
	connackSeen    state = 1 << 4
	disconnectSeen state = 1 << 5
	framingLost    state = 1 << 6
)

// Counts counts packets by PacketType. A packet is counted when its first byte passes, so one that is
// still in progress is included.
type Counts [16]uint64

// Bit sets of packet types.
const (
	// asks is what the other side must answer, besides PUBLISH with a QoS and a lone PUBREL.
	asks = 1<<TypeSubscribe | 1<<TypeUnsubscribe | 1<<TypePingreq
	// answers is what ends an exchange, besides PUBREC with an error.
	answers = 1<<TypePuback | 1<<TypePubcomp | 1<<TypeSuback | 1<<TypeUnsuback | 1<<TypePingresp
	// plain is what has no effect but these; PUBLISH only below QoS 2.
	plain = asks | answers | 1<<TypeConnect | 1<<TypePublish | 1<<TypeAuth
)

// has is 1 if the bit set of packet types holds t, else 0.
func has(set uint32, t PacketType) uint16 { return uint16(set >> t & 1) }

// Feed takes the next bytes of the direction. n, owned by the caller, is added to; it may be nil. Bodies
// are skipped whatever their length, so the cost goes with the number of packets and not of bytes. Feed
// does not keep chunk, never allocates, and does nothing once Lost. It returns how many packets have begun.
func (t *Tracker) Feed(chunk []byte, n *Counts) (begun int) {
	for len(chunk) > 0 && t.state&framingLost == 0 {
		switch {
		case t.state&inBody != 0:
			chunk = t.body(chunk)
		case t.state&inPacket != 0:
			t.header(chunk[0])
			chunk = chunk[1:]
		case quick(chunk): // what begin, header, body and end do, in short
			typ := PacketType(chunk[0] >> 4)
			if n != nil {
				n[typ]++
			}
			t.asked += has(asks, typ)
			if typ == TypePublish {
				t.asked += uint16(chunk[0] >> 1 & 1) // QoS 1
			}
			t.answered += has(answers, typ)
			chunk = chunk[2+int(chunk[1]):]
			begun++
		default:
			t.begin(chunk[0], n)
			chunk = chunk[1:]
			begun++
		}
	}
	return begun
}

// quick reports whether chunk begins with a whole, plain packet of less than 130 bytes, as most do.
func quick(chunk []byte) bool {
	return len(chunk) >= 2 && chunk[1] < 0x80 && int(chunk[1]) <= len(chunk)-2 &&
		has(plain, PacketType(chunk[0]>>4)) != 0 && chunk[0]&4 == 0
}

// begin notes the first byte of a packet.
func (t *Tracker) begin(first byte, n *Counts) {
	typ := PacketType(first >> 4)
	t.first = first
	t.state |= 1
	if n != nil {
		n[typ]++
	}
	t.asked += has(asks, typ)
	qos := first >> 1 & 3
	switch {
	case typ == TypePublish && qos == 1:
		t.asked++
	case typ == TypePublish && qos >= 2: // 3 is malformed and ends the connection
		t.asked++
		t.qos2 = min(t.qos2, maxQoS2-1) + 1
	case typ == TypePubrel && t.qos2 == 0:
		// A PUBREL is the second half of an exchange that a PUBLISH opened; but after a reconnect it
		// may come alone [MQTT-4.4.0-1], and then this is what PUBCOMP answers.
		t.asked++
	case typ == TypePubrel && t.qos2 < maxQoS2:
		t.qos2--
	case typ == TypeReserved: // forbidden: these are not packets, the lengths mean nothing
		t.lose()
	}
}

// maxQoS2 marks a counter that has lost count: it stays, and every PUBREL is taken for a second half.
const maxQoS2 = 1<<8 - 1

// header takes the next byte of the Remaining Length.
func (t *Tracker) header(b byte) {
	t.remaining |= uint32(b&0x7f) << (7 * (t.state&headerBytes - 1))
	t.state++
	switch {
	case b >= 0x80:
		if t.state&headerBytes > maxLengthBytes { // MQTT 5.0, 1.5.5: there is no fifth length byte
			t.lose()
		}
	case t.remaining == 0:
		t.end()
	default:
		t.left = t.remaining
		t.state |= inBody
	}
}

// body takes what chunk holds of the body and returns the rest of chunk.
func (t *Tracker) body(chunk []byte) []byte {
	k := min(len(chunk), int(t.left))
	t.look(chunk[:k])
	t.left -= uint32(k)
	if t.left == 0 {
		t.end()
	}
	return chunk[k:]
}

// look picks out the two bytes that matter inside of bodies. part is the next part of the body.
func (t *Tracker) look(part []byte) {
	typ, at := PacketType(t.first>>4), int(t.remaining-t.left)
	if typ == TypeConnack && t.state&connackSeen == 0 { // the code is the second byte (3.2.2.2)
		if i := 1 - at; i >= 0 && i < len(part) {
			t.code = part[i]
		}
	}
	if typ == TypePubrec { // the reason code is the third byte, missing before MQTT 5 (3.5.2)
		if i := 2 - at; i >= 0 && i < len(part) && part[i] >= 0x80 {
			t.answered++
		}
	}
}

// end notes that the packet is complete.
func (t *Tracker) end() {
	typ := PacketType(t.first >> 4)
	t.answered += has(answers, typ)
	switch {
	case typ == TypeConnack && t.remaining >= 2:
		t.state |= connackSeen
	case typ == TypeDisconnect:
		t.state |= disconnectSeen
	}
	t.state &^= inPacket
	t.first, t.remaining = 0, 0
}

// Rest is how many bytes the packet that has begun has at least still to come; 0 at a boundary and when Lost.
func (t *Tracker) Rest() int {
	switch {
	case t.state&inBody != 0:
		return int(t.left)
	case t.state&inPacket != 0:
		return 1
	}
	return 0
}

// lose gives up. Nothing is known of the packet begun, so nothing is kept of it.
func (t *Tracker) lose() {
	t.state = t.state&^inPacket | framingLost
	t.first, t.remaining, t.left = 0, 0, 0
}
