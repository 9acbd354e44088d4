package main

import (
	"encoding/binary"
	"errors"
)

// Where an echo stands in its stream.
const (
	inProxyHeader = iota // the fixed part of a PROXY protocol v2 header
	inProxyBody          // its addresses and TLVs
	inHeader             // a packet's fixed header
	inBody               // the rest of a packet
)

// proxyHeaderLen is the fixed part of a PROXY protocol v2 header: signature, command, family and length.
const proxyHeaderLen = 16

const proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

var (
	errClientLeft  = errors.New("DISCONNECT")
	errNotProxyV2  = errors.New("no PROXY protocol v2 header")
	errNotMQTTName = errors.New("CONNECT without a protocol name")
)

// An echo is one connection of the stub broker as a pure state machine: it turns the bytes that came in into the bytes
// to send back. Packets may be cut anywhere. A PUBLISH is passed on as its bytes arrive and never held, so an echo has
// the same small size whatever the packet's.
type echo struct {
	stage   uint8
	kind    uint8 // type of the current packet
	level   uint8 // protocol level, from CONNECT
	nameLen uint8 // length of the protocol's name, from CONNECT
	have    uint8 // bytes collected in header
	header  [proxyHeaderLen]byte
	seen    uint32 // bytes of the current CONNECT's body so far
	left    uint32 // bytes of the current body still to come
}

// newEcho returns an echo at the start of a connection, which begins with a PROXY header or with CONNECT.
func newEcho(proxyHeader bool) echo {
	if proxyHeader {
		return echo{stage: inProxyHeader}
	}
	return echo{stage: inHeader}
}

// feed appends the answer to in to out. An error means that the connection is to be closed after out was sent; it is
// errClientLeft when the client asked for that.
func (e *echo) feed(in, out []byte) ([]byte, error) {
	for len(in) > 0 {
		switch e.stage {
		case inProxyHeader:
			n := copy(e.header[e.have:], in)
			in = in[n:]
			if e.have += uint8(n); e.have < proxyHeaderLen {
				break
			}
			if string(e.header[:len(proxySignature)]) != proxySignature {
				return out, errNotProxyV2
			}
			e.have = 0
			e.left = uint32(binary.BigEndian.Uint16(e.header[14:]))
			e.stage = inProxyBody
			if e.left == 0 {
				e.stage = inHeader
			}
		case inProxyBody:
			n := min(len(in), int(e.left))
			in = in[n:]
			if e.left -= uint32(n); e.left == 0 {
				e.stage = inHeader
			}
		case inHeader:
			e.header[e.have] = in[0]
			e.have++
			in = in[1:]
			length, size, err := decodeLength(e.header[1:e.have])
			if err != nil {
				return out, err
			}
			if size == 0 {
				break
			}
			e.kind = e.header[0] >> 4
			if e.kind == packetPublish {
				out = append(out, e.header[:e.have]...)
			}
			e.have, e.seen, e.left = 0, 0, uint32(length)
			e.stage = inBody
			if length == 0 {
				if out, err = e.endPacket(out); err != nil {
					return out, err
				}
			}
		case inBody:
			n := min(len(in), int(e.left))
			switch e.kind {
			case packetPublish:
				out = append(out, in[:n]...)
			case packetConnect:
				if err := e.readLevel(in[:n]); err != nil {
					return out, err
				}
			}
			in = in[n:]
			if e.left -= uint32(n); e.left == 0 {
				var err error
				if out, err = e.endPacket(out); err != nil {
					return out, err
				}
			}
		}
	}
	return out, nil
}

// readLevel picks the protocol level out of a CONNECT's body: two bytes of length, the protocol's name, the level.
func (e *echo) readLevel(body []byte) error {
	const longestName = len("MQIsdp")
	for _, c := range body {
		switch {
		case e.seen > uint32(2+longestName):
			return nil
		case e.seen == 0:
			if c != 0 {
				return errNotMQTTName
			}
		case e.seen == 1:
			if c == 0 || int(c) > longestName {
				return errNotMQTTName
			}
			e.nameLen = c
		case e.seen == 2+uint32(e.nameLen):
			e.level = c
		}
		e.seen++
	}
	return nil
}

// endPacket answers the packet that is complete now and makes ready for the next.
func (e *echo) endPacket(out []byte) ([]byte, error) {
	e.stage = inHeader
	switch e.kind {
	case packetConnect:
		out = appendConnack(out, e.level)
	case packetPingreq:
		out = append(out, 0xd0, 0) // PINGRESP
	case packetDisconnect:
		return out, errClientLeft
	}
	return out, nil
}
