package mqttparse

import "iter"

// A Connect is what a balancer wants to know of a CONNECT packet (MQTT 3.1.1 and 5.0, section 3.1).
// Every slice points into the input of ParseConnect and is valid as long as that is.
//
// The client identifier is the raw bytes of the packet: nothing is folded, trimmed or normalised, and
// it may be empty, which means "a new, anonymous client" and never one shared name.
type Connect struct {
	// ClientID may be empty. It may hold any bytes; see IDControlChars, NulCharacter, InvalidUTF8.
	ClientID []byte
	// Username is set if HasUsername, and may be empty then.
	Username []byte
	// Password is set if HasPassword, and may be empty then.
	Password []byte
	// WillTopic and WillPayload are set if Will; the payload may be empty.
	WillTopic   []byte
	WillPayload []byte
	// AuthMethod is set if HasAuthMethod: enhanced authentication will run, AUTH packets come before
	// the CONNACK (MQTT 5.0, 4.12).
	AuthMethod []byte

	properties []byte // CONNECT properties without their length

	// Len is the length of the whole packet in bytes. With ErrNeedMore it is the length that the
	// packet will have, or 0 while that is not known. At most 268435460.
	Len int
	// SessionExpiry says how many seconds the session outlives the connection; 0xFFFFFFFF is for ever.
	// Before MQTT 5 it is 0xFFFFFFFF if CleanStart is false, else 0. A client may still shorten it
	// in its DISCONNECT (MQTT 5.0, 3.14.2.2.2), and a broker may cap it in its CONNACK.
	SessionExpiry uint32
	// WillDelay is how many seconds after the end of the connection the will is published at the
	// earliest (MQTT 5.0, 3.1.3.2.2); 0 means at once.
	WillDelay uint32
	// MaxPacketSize is the largest packet in bytes that the client accepts (MQTT 5.0, 3.1.2.11.4);
	// 0 means that there is no limit.
	MaxPacketSize uint32
	// Nonconforming is what is wrong with the packet though it was accepted.
	Nonconforming Nonconforming
	// KeepAlive is in seconds; 0 switches it off. The broker closes after one and a half times that.
	KeepAlive uint16
	// ReceiveMax is how many QoS 1 and 2 messages the client takes at a time (MQTT 5.0, 3.1.2.11.3);
	// 0 means not given, which is 65535.
	ReceiveMax uint16
	// Version is 3 for MQTT 3.1, 4 for 3.1.1, 5 for 5.0. With UnknownLevel it is the level byte as
	// sent, and of the other fields only Len and Nonconforming are set.
	Version byte
	// WillQoS is 0 to 3, 3 being nonsense; it is 0 without Will.
	WillQoS byte

	Bridge        bool // the level byte had bit 7 set: a bridge of Mosquitto's kind
	CleanStart    bool // Clean Session before MQTT 5
	HasUsername   bool
	HasPassword   bool
	HasAuthMethod bool
	Will          bool
	WillRetain    bool // false without Will
}

// Persistent reports whether the session survives the end of the connection.
func (c *Connect) Persistent() bool { return c.SessionExpiry > 0 }

// UserProperties yields the user properties of the CONNECT packet (not those of the will) in their
// order, as name and value. Names may come more than once (MQTT 5.0, 3.1.2.11.8).
func (c *Connect) UserProperties() iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for rest := c.properties; len(rest) > 0; {
			p, n := nextProperty(rest)
			if n <= 0 { // behind an unknown property
				return
			}
			if p.id == propUser && !yield(p.data, p.value) {
				return
			}
			rest = rest[n:]
		}
	}
}

// clause picks the statement that counts for the version of c.
func (c *Connect) clause(v3, v5 string) string {
	if c.Version >= 5 {
		return v5
	}
	return v3
}
