package mqttparse

// A PacketType is the upper half of a packet's first byte (MQTT 5.0, 2.1.2).
type PacketType uint8

// The packet types. 0 is forbidden; TypeAuth exists in MQTT 5 only and is forbidden before.
const (
	TypeReserved PacketType = iota
	TypeConnect
	TypeConnack
	TypePublish
	TypePuback
	TypePubrec
	TypePubrel
	TypePubcomp
	TypeSubscribe
	TypeSuback
	TypeUnsubscribe
	TypeUnsuback
	TypePingreq
	TypePingresp
	TypeDisconnect
	TypeAuth
)

var typeNames = [16]string{
	"reserved", "connect", "connack", "publish", "puback", "pubrec", "pubrel", "pubcomp",
	"subscribe", "suback", "unsubscribe", "unsuback", "pingreq", "pingresp", "disconnect", "auth",
}

// String returns the name of t in lower case, for metric labels.
func (t PacketType) String() string { return typeNames[t&15] }

const (
	// maxLengthBytes is the longest Variable Byte Integer (MQTT 5.0, 1.5.5; 3.1.1, 2.2.3).
	maxLengthBytes = 4
	// maxRemaining is the largest value of one, hence the largest Remaining Length: 256 MiB - 1.
	maxRemaining = 1<<28 - 1
)

// varint decodes the Variable Byte Integer at the start of b. n is its length in bytes; 0 means that b
// ends before the integer does, -1 that a fourth byte announces a fifth, which is malformed.
// More bytes than the value needs are decoded all the same: see varintLen.
func varint(b []byte) (v uint32, n int) {
	for i := range min(len(b), maxLengthBytes) {
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	if len(b) >= maxLengthBytes {
		return 0, -1
	}
	return 0, 0
}

// varintLen returns how many bytes v needs. MQTT 5 forbids more than that [MQTT-1.5.5-1].
func varintLen(v uint32) int {
	switch {
	case v < 1<<7:
		return 1
	case v < 1<<14:
		return 2
	case v < 1<<21:
		return 3
	default:
		return 4
	}
}

// appendVarint appends v in its shortest form [MQTT-1.5.5-1]. v must not exceed maxRemaining.
func appendVarint(dst []byte, v uint32) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}
