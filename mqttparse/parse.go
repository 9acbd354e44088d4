package mqttparse

import "encoding/binary"

// Protocol names with their length fields (MQTT 5.0, 3.1.2.1; MQTT 3.1 CONNECT).
const (
	nameMQTT   = "\x00\x04MQTT"
	nameMQIsdp = "\x00\x06MQIsdp"
)

const sessionForever = 0xFFFFFFFF // MQTT 5.0, 3.1.2.11.2

// Bits of the connect flags (MQTT 5.0, 3.1.2.3).
const (
	flagReserved   = 1 << 0
	flagClean      = 1 << 1
	flagWill       = 1 << 2
	flagWillQoS    = 3 << 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUsername   = 1 << 7
)

// ParseConnect reads the CONNECT packet of MQTT 3.1, 3.1.1 or 5.0 at the start of b. It has three
// outcomes:
//
//   - nil: the packet is complete in b[:Len]; what follows it is not looked at.
//   - ErrNeedMore: b is the start of what may become a CONNECT. Connect.Len is the length of the whole
//     packet as soon as two to five bytes have told it, so that the caller can refuse too large a packet
//     before keeping it, and need not call again before it holds that many bytes. Such a call is O(1).
//   - a *SyntaxError: b is not a CONNECT and no further byte will make it one. Protocols that are not
//     MQTT are found by their first bytes; the Connect is zero.
//
// Size and structure are checked strictly, content leniently: what brokers disagree about is accepted
// and noted in Connect.Nonconforming. Nothing is ever allocated, least of all by a length that the peer
// sent, except a SyntaxError that carries an offset of its own.
func ParseConnect(b []byte) (Connect, error) {
	if len(b) == 0 {
		return Connect{}, ErrNeedMore
	}
	if err := sniff(b); err != nil {
		return Connect{}, err
	}
	remaining, n := varint(b[1:])
	if n < 0 {
		return Connect{}, errLength
	}
	if n == 0 {
		return Connect{}, ErrNeedMore
	}
	head := 1 + n
	total := head + int(remaining)
	p := packet{b: b[:min(len(b), total)], head: head, total: total}
	level, err := p.level()
	if err != nil {
		return Connect{}, err
	}
	if len(b) < total {
		return Connect{Len: total}, ErrNeedMore
	}
	c := Connect{Len: total}
	if n > varintLen(remaining) { // [MQTT-1.5.5-1]
		c.Nonconforming |= OverlongLength
	}
	if err := p.parse(&c, level); err != nil {
		return Connect{}, err
	}
	return c, nil
}

// A packet is the part of a CONNECT packet that is there.
type packet struct {
	b     []byte // never more than total bytes
	head  int    // length of the fixed header
	total int    // length of the packet by its fixed header
	off   int    // of the next field to read
}

// level checks the protocol name as far as it is there and returns the offset of the level byte.
func (p *packet) level() (int, *SyntaxError) {
	body := p.b[p.head:]
	name := nameMQTT
	if len(body) >= 2 && body[1] == nameMQIsdp[1] {
		name = nameMQIsdp
	}
	at := p.head + len(name)
	if p.total <= p.head+len(nameMQTT) {
		return 0, errTooShort
	}
	k := min(len(body), len(name))
	if string(body[:k]) != name[:k] { // [MQTT-3.1.2-1]
		return 0, errProtocolName[p.head]
	}
	if p.total <= at {
		return 0, &SyntaxError{p.head, KindTruncated, "MQTT-3.1.2-1", "packet ends before the protocol version"}
	}
	if len(body) <= len(name) {
		return at, nil
	}
	// Flags, keep alive, the length of the properties in MQTT 5 and that of the client identifier
	// always follow, so a packet too short for them need not be waited for.
	version, flags := dialect(name, body[len(name)])
	fixed := 1 + 2 + 2
	switch {
	case flags&UnknownLevel != 0:
		return at, nil
	case version == 5:
		fixed++
	}
	if p.total < at+1+fixed {
		return 0, &SyntaxError{at + 1, KindTruncated, "MQTT-3.1.3-3", "packet ends before the client identifier"}
	}
	return at, nil
}

// dialect tells from protocol name and level byte which layout follows.
//
// MQIsdp with level 4 or 5 counts as 3.1: a broker that accepts it has gone by the name. MQTT with
// level 3 has the layout of 3.1 and 3.1.1, which is the same.
func dialect(name string, level byte) (version byte, flags Nonconforming) {
	version = level
	switch level {
	case 0x83, 0x84, 0x85:
		version &^= 0x80
		flags = BridgeLevel
	}
	switch {
	case version < 3 || version > 5: // [MQTT-3.1.2-2]
		return version, UnknownLevel
	case name == nameMQIsdp && version > 3:
		return 3, flags | LevelMismatch
	case name == nameMQTT && version == 3:
		return 3, flags | LevelMismatch
	}
	return version, flags
}

// parse fills c from a complete packet whose level byte is at the given offset.
func (p *packet) parse(c *Connect, level int) *SyntaxError {
	version, deviations := dialect(string(p.b[p.head:level]), p.b[level])
	c.Version = version
	c.Bridge = deviations&BridgeLevel != 0
	c.Nonconforming |= deviations
	if p.b[0]&0x0f != 0 && version != 3 { // [MQTT-2.2.2-1], [MQTT-2.1.3-1]; 3.1 leaves them unused
		c.Nonconforming |= ReservedFlags
	}
	if deviations&UnknownLevel != 0 {
		return nil
	}
	flags := p.b[level+1]
	c.KeepAlive = binary.BigEndian.Uint16(p.b[level+2:])
	c.CleanStart = flags&flagClean != 0
	if flags&flagReserved != 0 && version != 3 { // [MQTT-3.1.2-3]; "not used" in 3.1
		c.Nonconforming |= ReservedConnectFlag
	}
	p.off = level + 4
	if version == 5 {
		if err := p.properties(c, inConnect); err != nil {
			return err
		}
	} else if !c.CleanStart { // 3.1.1, 3.1.2.4: the session lasts until a client asks for a clean one
		c.SessionExpiry = sessionForever
	}
	return p.payload(c, flags)
}

// payload reads the fields that follow the variable header, always in this order [MQTT-3.1.3-1].
func (p *packet) payload(c *Connect, flags byte) *SyntaxError {
	var ok bool
	if c.ClientID, ok = p.field(); !ok { // [MQTT-3.1.3-3]
		return p.truncated(c, "MQTT-3.1.3-3", "MQTT-3.1.3-3", "client identifier runs past the packet")
	}
	c.checkID()

	if flags&flagWill != 0 {
		c.Will = true
		c.WillQoS = flags & flagWillQoS >> 3
		c.WillRetain = flags&flagWillRetain != 0
		if c.WillQoS == 3 { // [MQTT-3.1.2-14], [MQTT-3.1.2-12]
			c.Nonconforming |= BadWillQoS
		}
		if c.Version == 5 {
			if err := p.properties(c, inWill); err != nil {
				return err
			}
		}
		if c.WillTopic, ok = p.field(); !ok { // [MQTT-3.1.2-9]
			return p.truncated(c, "MQTT-3.1.2-9", "MQTT-3.1.2-9", "will topic runs past the packet")
		}
		c.Nonconforming |= checkTopic(c.WillTopic)
		if c.WillPayload, ok = p.field(); !ok { // [MQTT-3.1.2-9]
			return p.truncated(c, "MQTT-3.1.2-9", "MQTT-3.1.2-9", "will payload runs past the packet")
		}
	} else if flags&(flagWillQoS|flagWillRetain) != 0 { // [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]
		c.Nonconforming |= BadWillFlags
	}

	if flags&flagUsername != 0 && !p.maySkip(c) {
		if c.Username, ok = p.field(); !ok { // [MQTT-3.1.2-19], [MQTT-3.1.2-17]
			return p.truncated(c, "MQTT-3.1.2-19", "MQTT-3.1.2-17", "user name runs past the packet")
		}
		c.HasUsername = true
		c.Nonconforming |= checkString(c.Username) // [MQTT-3.1.3-11], [MQTT-3.1.3-12]
	}
	if flags&flagPassword != 0 && !p.maySkip(c) {
		if c.Password, ok = p.field(); !ok { // [MQTT-3.1.2-21], [MQTT-3.1.2-19]
			return p.truncated(c, "MQTT-3.1.2-21", "MQTT-3.1.2-19", "password runs past the packet")
		}
		c.HasPassword = true
	}
	if flags&(flagUsername|flagPassword) == flagPassword && c.Version != 5 { // [MQTT-3.1.2-22]
		c.Nonconforming |= PasswordWithoutUsername
	}
	if p.off != p.total {
		c.Nonconforming |= TrailingBytes
	}
	return nil
}

// maySkip reports whether a user name or password that is announced may be missing: MQTT 3.1 lets the
// Remaining Length take precedence over both flags.
func (p *packet) maySkip(c *Connect) bool { return c.Version == 3 && p.off == p.total }

// checkID notes what is odd about the client identifier.
func (c *Connect) checkID() {
	c.Nonconforming |= checkString(c.ClientID) | checkControls(c.ClientID) // [MQTT-3.1.3-4]
	switch {
	case len(c.ClientID) == 0:
		// 3.1 wants at least one character; 3.1.1 an id for a kept session [MQTT-3.1.3-7]; MQTT 5
		// assigns one in any case [MQTT-3.1.3-6].
		if c.Version == 3 || c.Version == 4 && !c.CleanStart {
			c.Nonconforming |= EmptyID
		}
	case c.Version == 3 && characters(c.ClientID) > 23:
		c.Nonconforming |= LongID
	}
}

// field reads one string or binary field: two bytes of length and the content (MQTT 5.0, 1.5.4, 1.5.6).
func (p *packet) field() (f []byte, ok bool) {
	f, n := prefixed(p.b[p.off:])
	p.off += n
	return f, n > 0
}

// truncated makes the error for a field that runs past the packet; p.off is where the field begins.
func (p *packet) truncated(c *Connect, clause3, clause5, msg string) *SyntaxError {
	return &SyntaxError{p.off, KindTruncated, c.clause(clause3, clause5), msg}
}

// prefixed returns the field at the start of b and how many bytes it takes with its length; 0 if it
// runs past b. The capacity ends with the field, so that no append can write over what follows.
func prefixed(b []byte) (f []byte, n int) {
	if len(b) < 2 {
		return nil, 0
	}
	n = 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return nil, 0
	}
	return b[2:n:n], n
}
