package mqttparse

import "encoding/binary"

// Property identifiers that mean something to a balancer (MQTT 5.0, 2.2.2.2).
const (
	propPayloadFormat   = 0x01
	propResponseTopic   = 0x08
	propSessionExpiry   = 0x11
	propAssignedID      = 0x12
	propAuthMethod      = 0x15
	propAuthData        = 0x16
	propProblemInfo     = 0x17
	propWillDelay       = 0x18
	propRequestResponse = 0x19
	propServerReference = 0x1C
	propReasonString    = 0x1F
	propReceiveMax      = 0x21
	propUser            = 0x26
	propMaxPacketSize   = 0x27
)

// A section is one of the two places for properties in a CONNECT packet.
type section uint8

const (
	inConnect section = 1 << iota // MQTT 5.0, 3.1.2.11
	inWill                        // MQTT 5.0, 3.1.3.2
)

// A propertyType is how the value of a property is encoded.
type propertyType uint8

const (
	undefined propertyType = iota
	oneByte
	twoBytes
	fourBytes
	varInt
	binaryData
	utf8String
	stringPair
)

// propertyTable has every property of MQTT 5 (table 2-4), with the sections that it may stand in.
// The others can be stepped over, but have no business in a CONNECT.
var propertyTable = [...]struct {
	encoding propertyType
	allowed  section
}{
	propPayloadFormat:   {oneByte, inWill},
	0x02:                {fourBytes, inWill},  // Message Expiry Interval
	0x03:                {utf8String, inWill}, // Content Type
	propResponseTopic:   {utf8String, inWill},
	0x09:                {binaryData, inWill}, // Correlation Data
	0x0B:                {varInt, 0},          // Subscription Identifier
	propSessionExpiry:   {fourBytes, inConnect},
	propAssignedID:      {utf8String, 0},
	propServerKeepAlive: {twoBytes, 0},
	propAuthMethod:      {utf8String, inConnect},
	propAuthData:        {binaryData, inConnect},
	propProblemInfo:     {oneByte, inConnect},
	propWillDelay:       {fourBytes, inWill},
	propRequestResponse: {oneByte, inConnect},
	0x1A:                {utf8String, 0}, // Response Information
	propServerReference: {utf8String, 0},
	propReasonString:    {utf8String, 0},
	propReceiveMax:      {twoBytes, inConnect},
	0x22:                {twoBytes, inConnect}, // Topic Alias Maximum
	0x23:                {twoBytes, 0},         // Topic Alias
	0x24:                {oneByte, 0},          // Maximum QoS
	0x25:                {oneByte, 0},          // Retain Available
	propUser:            {stringPair, inConnect | inWill},
	propMaxPacketSize:   {fourBytes, inConnect},
	0x28:                {oneByte, 0}, // Wildcard Subscription Available
	0x29:                {oneByte, 0}, // Subscription Identifier Available
	0x2A:                {oneByte, 0}, // Shared Subscription Available
}

// A property is one decoded property.
type property struct {
	id       byte
	encoding propertyType
	number   uint32 // of oneByte, twoBytes, fourBytes, varInt
	data     []byte // of binaryData and utf8String; the name of a stringPair
	value    []byte // of a stringPair
}

// nextProperty decodes the property at the start of b, which is not empty. n is its length; 0 means
// that its type is unknown and hence its length, -1 that it runs past b.
func nextProperty(b []byte) (p property, n int) {
	p.id = b[0] // a Variable Byte Integer, but none above 0x2A is defined
	if int(p.id) < len(propertyTable) {
		p.encoding = propertyTable[p.id].encoding
	}
	b = b[1:]
	switch p.encoding {
	case undefined:
		return p, 0
	case oneByte:
		if len(b) >= 1 {
			p.number, n = uint32(b[0]), 1
		}
	case twoBytes:
		if len(b) >= 2 {
			p.number, n = uint32(binary.BigEndian.Uint16(b)), 2
		}
	case fourBytes:
		if len(b) >= 4 {
			p.number, n = binary.BigEndian.Uint32(b), 4
		}
	case varInt:
		p.number, n = varint(b)
	case binaryData, utf8String:
		p.data, n = prefixed(b)
	case stringPair:
		if p.data, n = prefixed(b); n > 0 {
			var m int
			if p.value, m = prefixed(b[n:]); m == 0 {
				return p, -1
			}
			n += m
		}
	}
	if n <= 0 {
		return p, -1
	}
	return p, 1 + n
}

// properties reads one property section at p.off.
func (p *packet) properties(c *Connect, in section) *SyntaxError {
	size, n := varint(p.b[p.off:])
	start := p.off + n
	if n <= 0 || int(size) > p.total-start { // the length is mandatory [MQTT-2.2.2-1]
		return &SyntaxError{p.off, KindProperties, "MQTT 5.0, 2.2.2.1", "property length runs past the packet"}
	}
	if n > varintLen(size) { // [MQTT-1.5.5-1]
		c.Nonconforming |= OverlongLength
	}
	p.off = start + int(size)
	rest := p.b[start:p.off:p.off]
	if in == inConnect {
		c.properties = rest
	}
	var seen uint64 // bit set by identifier; all that are defined are below 64
	for len(rest) > 0 {
		prop, n := nextProperty(rest)
		if n < 0 {
			return &SyntaxError{p.off - len(rest), KindProperties, "MQTT 5.0, 2.2.2.1", "property runs past the property length"}
		}
		if n == 0 { // its length is not known either, but that of the section is: go on behind it
			c.Nonconforming |= UnknownProperty
			break
		}
		rest = rest[n:]
		if propertyTable[prop.id].allowed&in == 0 {
			c.Nonconforming |= MisplacedProperty
			continue
		}
		if seen&(1<<prop.id) != 0 && prop.id != propUser {
			c.Nonconforming |= DuplicateProperty
		}
		seen |= 1 << prop.id
		c.apply(&prop)
	}
	if seen&(1<<propAuthData) != 0 && seen&(1<<propAuthMethod) == 0 { // 3.1.2.11.10
		c.Nonconforming |= AuthDataWithoutMethod
	}
	return nil
}

// apply stores what a balancer needs of a property that stands where it may, and notes forbidden values.
func (c *Connect) apply(p *property) {
	switch p.encoding {
	case stringPair: // [MQTT-1.5.7-1]
		c.Nonconforming |= checkString(p.data) | checkString(p.value)
	case utf8String:
		c.Nonconforming |= checkString(p.data)
	case undefined, oneByte, twoBytes, fourBytes, varInt, binaryData:
	}
	bad := false
	switch p.id {
	case propSessionExpiry:
		c.SessionExpiry = p.number
	case propReceiveMax: // 3.1.2.11.3: not 0
		c.ReceiveMax = uint16(p.number)
		bad = p.number == 0
	case propMaxPacketSize: // 3.1.2.11.4: not 0
		c.MaxPacketSize = p.number
		bad = p.number == 0
	case propAuthMethod:
		c.AuthMethod, c.HasAuthMethod = p.data, true
	case propWillDelay:
		c.WillDelay = p.number
	case propResponseTopic: // [MQTT-3.3.2-14]
		c.Nonconforming |= checkTopic(p.data)
	case propPayloadFormat, propProblemInfo, propRequestResponse: // 3.1.3.2.3, 3.1.2.11.7, 3.1.2.11.6: 0 or 1
		bad = p.number > 1
	}
	if bad {
		c.Nonconforming |= PropertyValue
	}
}
