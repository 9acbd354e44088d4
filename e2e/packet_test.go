//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Protocol levels.
const (
	v31  = 3
	v311 = 4
	v5   = 5
)

// An opening is a CONNECT packet to be.
type opening struct {
	id       string
	version  byte   // 0 means 3.1.1
	username string // makes the packet long
	keep     bool   // a persistent session
	group    string // the value of the user property lb-group, in MQTT 5
	will     string // the topic of the last will, whose message is the client id
	delay    byte   // of the will in seconds, in MQTT 5
	expiry   byte   // of the session in seconds, in MQTT 5
}

func (o opening) bytes() []byte {
	if o.version == 0 {
		o.version = v311
	}
	name := "MQTT"
	if o.version == v31 {
		name = "MQIsdp"
	}
	var flags byte
	if !o.keep {
		flags |= 0x02 // clean session, clean start
	}
	if o.username != "" {
		flags |= 0x80
	}
	if o.will != "" {
		flags |= 0x04
	}
	body := text(nil, name)
	body = append(body, o.version, flags, 0, 60)
	if o.version == v5 {
		var properties []byte
		if o.group != "" {
			properties = text(text([]byte{0x26}, "lb-group"), o.group)
		}
		if o.expiry > 0 {
			properties = append(properties, 0x11, 0, 0, 0, o.expiry)
		}
		body = append(append(body, byte(len(properties))), properties...) // fewer than 128 bytes
	}
	body = text(body, o.id)
	if o.will != "" {
		if o.version == v5 {
			body = append(body, 5, 0x18, 0, 0, 0, o.delay)
		}
		body = text(text(body, o.will), o.id)
	}
	if o.username != "" {
		body = text(body, o.username)
	}
	return packet(0x10, body)
}

// connack is the answer of a broker to a client of this version.
func connack(version, code byte) []byte {
	if version == v5 {
		return []byte{0x20, 3, 0, code, 0}
	}
	return []byte{0x20, 2, 0, code}
}

// publish is a QoS 0 message, framed as in MQTT 3.1.1.
func publish(topic string, payload []byte) []byte {
	return packet(0x30, append(text(nil, topic), payload...))
}

func text(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func packet(first byte, body []byte) []byte {
	b := []byte{first}
	for n := len(body); ; {
		digit := byte(n % 128)
		if n /= 128; n > 0 {
			digit |= 0x80
		}
		b = append(b, digit)
		if n == 0 {
			return append(b, body...)
		}
	}
}

// readPacket reads exactly one packet from an unbuffered stream.
func readPacket(r io.Reader) ([]byte, error) {
	b := make([]byte, 2, 64)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	size, shift := int(b[1]&0x7f), 7
	for b[len(b)-1]&0x80 != 0 {
		if len(b) > 4 {
			return nil, errors.New("the remaining length has more than 4 bytes")
		}
		b = append(b, 0)
		if _, err := io.ReadFull(r, b[len(b)-1:]); err != nil {
			return nil, err
		}
		size |= int(b[len(b)-1]&0x7f) << shift
		shift += 7
	}
	head := len(b)
	b = append(b, make([]byte, size)...)
	_, err := io.ReadFull(r, b[head:])
	return b, err
}

// parseOpening reads the client id and the version back from a CONNECT that opening has made.
func parseOpening(b []byte) (opening, error) {
	var o opening
	i := bytes.Index(b, []byte("MQ"))
	if len(b) == 0 || b[0] != 0x10 || i < 2 {
		return o, fmt.Errorf("not a CONNECT packet: %.32x", b)
	}
	i += int(binary.BigEndian.Uint16(b[i-2:]))
	o.version = b[i]
	i += 4 // version, flags, keep alive
	if o.version == v5 {
		i += 1 + int(b[i])
	}
	size := int(binary.BigEndian.Uint16(b[i:]))
	o.id = string(b[i+2 : i+2+size])
	return o, nil
}
