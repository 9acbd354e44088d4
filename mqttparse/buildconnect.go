package mqttparse

import (
	"encoding/binary"
	"math"
	"slices"
)

// A ConnectOptions describes a CONNECT packet to build, for probes, load generators and tests. The zero
// value is an anonymous MQTT 3.1.1 client that asks to keep its session, which brokers refuse: set
// CleanStart or ClientID. Fields that the version does not have are ignored.
type ConnectOptions struct {
	Version    byte // 3, 4 or 5; 0 is 4
	CleanStart bool
	KeepAlive  uint16 // seconds, 0 is off
	ClientID   string
	Username   string // "" sends none
	Password   []byte // nil sends none; before MQTT 5 a Username goes with it, be it empty [MQTT-3.1.2-22]

	WillTopic   string // "" sends no will
	WillPayload []byte
	WillQoS     byte // 0 to 2
	WillRetain  bool

	// MQTT 5 properties; the zero value sends none.
	WillDelay      uint32 // seconds
	SessionExpiry  uint32 // seconds, 0xFFFFFFFF is for ever
	MaxPacketSize  uint32 // bytes
	ReceiveMax     uint16
	AuthMethod     string
	UserProperties [][2]string // name, value
}

// AppendConnect appends the CONNECT packet. A string or payload that is longer than its length field can
// say, 65535 bytes, or user properties of more than 256 MiB make it append nothing.
func AppendConnect(dst []byte, o *ConnectOptions) []byte {
	if o.tooLong() {
		return dst
	}
	name, version := nameMQTT, o.Version
	switch version {
	case 0:
		version = 4
	case 3:
		name = nameMQIsdp
	}
	flags := o.flags(version)

	dst = append(dst, byte(TypeConnect<<4))
	start := len(dst)
	dst = append(append(dst, name...), version, flags)
	dst = binary.BigEndian.AppendUint16(dst, o.KeepAlive)
	if version == 5 {
		dst = o.appendProperties(dst)
	}
	dst = appendString(dst, o.ClientID)
	if flags&flagWill != 0 {
		if version == 5 {
			at := len(dst)
			dst = insertLength(appendNumber(dst, propWillDelay, o.WillDelay), at)
		}
		dst = appendString(appendString(dst, o.WillTopic), o.WillPayload)
	}
	if flags&flagUsername != 0 {
		dst = appendString(dst, o.Username)
	}
	if flags&flagPassword != 0 {
		dst = appendString(dst, o.Password)
	}
	return insertLength(dst, start)
}

// flags makes the connect flags (MQTT 5.0, 3.1.2.3).
func (o *ConnectOptions) flags(version byte) (f byte) {
	if o.CleanStart {
		f |= flagClean
	}
	if o.WillTopic != "" {
		f |= flagWill | o.WillQoS<<3&flagWillQoS
		if o.WillRetain {
			f |= flagWillRetain
		}
	}
	if o.Username != "" || o.Password != nil && version != 5 {
		f |= flagUsername
	}
	if o.Password != nil {
		f |= flagPassword
	}
	return f
}

// appendProperties appends the CONNECT properties with their length.
func (o *ConnectOptions) appendProperties(dst []byte) []byte {
	start := len(dst)
	dst = appendNumber(dst, propSessionExpiry, o.SessionExpiry)
	dst = appendNumber(dst, propMaxPacketSize, o.MaxPacketSize)
	if o.ReceiveMax != 0 {
		dst = binary.BigEndian.AppendUint16(append(dst, propReceiveMax), o.ReceiveMax)
	}
	if o.AuthMethod != "" {
		dst = appendString(append(dst, propAuthMethod), o.AuthMethod)
	}
	for _, p := range o.UserProperties {
		dst = appendString(appendString(append(dst, propUser), p[0]), p[1])
	}
	return insertLength(dst, start)
}

// tooLong reports whether a length field cannot hold what o asks for.
func (o *ConnectOptions) tooLong() bool {
	longest := max(len(o.ClientID), len(o.Username), len(o.Password), len(o.WillTopic), len(o.WillPayload), len(o.AuthMethod))
	total := 1 << 19 // more than everything but the user properties together
	for _, p := range o.UserProperties {
		longest = max(longest, len(p[0]), len(p[1]))
		total += 5 + len(p[0]) + len(p[1])
	}
	return longest > math.MaxUint16 || total > maxRemaining
}

// appendNumber appends a property of four bytes unless it is 0.
func appendNumber(dst []byte, id byte, v uint32) []byte {
	if v == 0 {
		return dst
	}
	return binary.BigEndian.AppendUint32(append(dst, id), v)
}

// insertLength puts the length of dst[start:] before it, as a Variable Byte Integer.
func insertLength(dst []byte, start int) []byte {
	var buf [maxLengthBytes]byte
	return slices.Insert(dst, start, appendVarint(buf[:0], uint32(len(dst)-start))...)
}
