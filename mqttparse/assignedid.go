package mqttparse

// AssignedID returns the client identifier that an MQTT 5 broker has given to a client without one, and how many
// seconds that client's session outlives the connection: what the broker says in its CONNACK, or else what the client
// has asked for, which is own (MQTT 5.0, 3.2.2.3.7 and 3.2.2.3.2). 0xFFFFFFFF is for ever. The id points into b. ok is
// false unless b begins with a whole CONNACK of MQTT 5 that accepts the client, whose properties can be read, and that
// has an id.
func AssignedID(b []byte, own uint32) (id []byte, expiry uint32, ok bool) {
	code, rest, whole := connackOf(b)
	if !whole || code != 0 {
		return nil, 0, false
	}
	expiry = own
	for len(rest) > 0 {
		p, n := nextProperty(rest)
		if n <= 0 {
			return nil, 0, false
		}
		switch p.id {
		case propAssignedID:
			id = p.data
		case propSessionExpiry:
			expiry = p.number
		}
		rest = rest[n:]
	}
	return id, expiry, len(id) > 0
}
