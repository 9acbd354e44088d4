package mqttparse

// propServerKeepAlive is the property of CONNACK that replaces the client's keep alive.
const propServerKeepAlive = 0x13

// ServerKeepAlive returns the keep alive in seconds that counts after an MQTT 5 broker's CONNACK: the one that the
// broker prescribes, or else the client's own (MQTT 5.0, 3.2.2.3.14). 0 is none. ok is false unless b begins with a
// whole CONNACK of MQTT 5 whose properties can be read.
func ServerKeepAlive(b []byte, own uint16) (seconds uint16, ok bool) {
	_, rest, ok := connackOf(b)
	for ok && len(rest) > 0 {
		p, n := nextProperty(rest)
		if n <= 0 {
			return 0, false
		}
		if p.id == propServerKeepAlive {
			return uint16(p.number), true
		}
		rest = rest[n:]
	}
	if !ok {
		return 0, false
	}
	return own, true
}

// connackOf returns the reason code and the properties of the CONNACK of MQTT 5 that b begins with. ok is false unless
// it is whole.
func connackOf(b []byte) (code byte, properties []byte, ok bool) {
	if len(b) == 0 || PacketType(b[0]>>4) != TypeConnack {
		return 0, nil, false
	}
	size, n := varint(b[1:])
	if n <= 0 || int(size) > len(b)-1-n || size < 3 {
		return 0, nil, false
	}
	b = b[1+n : 1+n+int(size)]
	code, b = b[1], b[2:] // behind the flags
	size, n = varint(b)
	if n <= 0 || int(size) > len(b)-n {
		return 0, nil, false
	}
	return code, b[n : n+int(size)], true
}
