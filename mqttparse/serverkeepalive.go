package mqttparse

// propServerKeepAlive is the property of CONNACK that replaces the client's keep alive.
const propServerKeepAlive = 0x13

// ServerKeepAlive returns the keep alive in seconds that counts after an MQTT 5 broker's CONNACK: the one that the
// broker prescribes, or else the client's own (MQTT 5.0, 3.2.2.3.14). 0 is none. ok is false unless b begins with a
// whole CONNACK of MQTT 5 whose properties can be read.
func ServerKeepAlive(b []byte, own uint16) (seconds uint16, ok bool) {
	if len(b) == 0 || PacketType(b[0]>>4) != TypeConnack {
		return 0, false
	}
	size, n := varint(b[1:])
	if n <= 0 || int(size) > len(b)-1-n || size < 3 {
		return 0, false
	}
	b = b[1+n+2 : 1+n+int(size)] // behind flags and code
	size, n = varint(b)
	if n <= 0 || int(size) > len(b)-n {
		return 0, false
	}
	for rest := b[n : n+int(size)]; len(rest) > 0; {
		p, n := nextProperty(rest)
		if n <= 0 {
			return 0, false
		}
		if p.id == propServerKeepAlive {
			return uint16(p.number), true
		}
		rest = rest[n:]
	}
	return own, true
}
