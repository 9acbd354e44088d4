package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"slices"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// A load balancer in front of mqttlb says with a PROXY header, version 1 or 2, who the client is. Whether there is one
// is never guessed: on a listener with Trusted sources every connection must begin with one, and a connection from
// elsewhere is refused, because its header could claim anything (protocol.md, 1.4). Header bytes are collected like
// those of an incomplete CONNECT; what is behind them is CONNECT.

const (
	// headerInTimeout bounds the time from accept to a complete header, within ConnectTimeout.
	headerInTimeout = 5 * time.Second
	// maxHeaderIn bounds addresses and TLVs of a version 2 header in bytes, as the codec does.
	maxHeaderIn = 4 << 10
	// maxLineIn bounds a version 1 header in bytes, with its line end (specification, 2.1).
	maxLineIn = 107
	// maxUniqueID bounds a unique id in bytes (specification, 2.2.5).
	maxUniqueID = 128
	// fixedIn is what every version 2 header begins with: signature, command, family and length.
	fixedIn = 16

	signatureV1 = "PROXY "
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Networks are the sources of connections that must begin with a PROXY header. They are immutable.
type Networks struct{ list []netip.Prefix }

// NewNetworks returns these networks. Without any, nobody is trusted.
func NewNetworks(list []netip.Prefix) *Networks { return &Networks{slices.Clone(list)} }

// contains tells whether an address, which is no IPv4-mapped one, is in one of the networks.
func (n *Networks) contains(a netip.Addr) bool {
	return slices.ContainsFunc(n.list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// equal tells whether the networks are the same; nil is another thing than none.
func (n *Networks) equal(other *Networks) bool {
	if n == nil || other == nil {
		return n == other
	}
	return slices.Equal(n.list, other.list)
}

// A forwarded is what the PROXY header of a session has told. A session without one has none.
type forwarded struct {
	via      netip.AddrPort // who has sent the header
	dst      netip.AddrPort // where the client has reached it; invalid if the header has no addresses
	tls      tlsFacts       // of the client's TLS with who is in front
	uniqueID string
	custom   []proxyproto.TLV // of types 0xE0 to 0xEF
	named    bool             // the header has addresses
	rest     []byte           // what came behind it and has not been read yet
}

// A headerIn is a PROXY header that has come in.
type headerIn struct {
	size     int            // in bytes
	probe    bool           // LOCAL: the load balancer itself wants to know whether somebody is here
	src, dst netip.AddrPort // invalid if it names none
	tls      tlsFacts
	uniqueID string
	custom   []proxyproto.TLV
}

// These are the reasons for which bytes are no PROXY header. They are final but for the first one.
var (
	errHeaderShort  = errors.New("the PROXY header is not complete")
	errNoHeader     = errors.New("no PROXY header")
	errHeaderTooBig = fmt.Errorf("a PROXY header of more than %d bytes", maxHeaderIn)
	errHeaderFamily = errors.New("a PROXY header of a connection that is none of TCP")
	errHeaderTLV    = errors.New("a PROXY header with a value that is cut off")
	errHeaderCRC    = errors.New("a PROXY header with a wrong checksum")
)

// parseHeaderIn reads the PROXY header at the beginning of b. errHeaderShort asks for more bytes; a verdict never
// depends on how the bytes were cut. No more than fixedIn+maxHeaderIn bytes are ever asked for.
func parseHeaderIn(b []byte) (headerIn, error) {
	size, err := headerInSize(b)
	if err != nil {
		return headerIn{}, err
	}
	h := headerIn{size: size}
	b = b[:size]
	if b[0] == signatureV1[0] {
		return h, h.parse(b)
	}
	if proxyproto.ProtocolVersionAndCommand(b[12]) == proxyproto.PROXY && proxyproto.AddressFamilyAndProtocol(b[13]) == proxyproto.UNSPEC {
		return h, h.parseTLVs(b, fixedIn) // the codec refuses it, a receiver must not (protocol.md, 1.1)
	}
	return h, h.parse(b)
}

// headerInSize is the size of the header that b begins with, once all of it is there.
func headerInSize(b []byte) (int, error) {
	switch {
	case begins(b, signatureV1):
		line := b[:min(len(b), maxLineIn)]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			return end + 1, nil
		}
		if len(line) == maxLineIn {
			return 0, errHeaderTooBig
		}
		return 0, errHeaderShort
	case !begins(b, signatureV2):
		return 0, errNoHeader
	case len(b) < fixedIn:
		return 0, errHeaderShort
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case length > maxHeaderIn:
		return 0, errHeaderTooBig
	case len(b) < fixedIn+length:
		return 0, errHeaderShort
	}
	return fixedIn + length, nil
}

// begins tells whether b begins with the signature, as far as it goes.
func begins(b []byte, signature string) bool {
	n := min(len(b), len(signature))
	return string(b[:n]) == signature[:n]
}

// parse has the codec read b, which is exactly one header.
func (h *headerIn) parse(b []byte) error {
	read, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(b), 2*maxLineIn))
	if err != nil {
		return err
	}
	if read.Command == proxyproto.LOCAL {
		h.probe = read.Version == 2 // version 1 says UNKNOWN, which is no probe but a client without an address
		return nil
	}
	at := fixedIn
	switch src := read.SourceAddr.(type) {
	case *net.TCPAddr:
		h.src = plainAddr(src)
		if dst, ok := read.DestinationAddr.(*net.TCPAddr); ok {
			h.dst = plainAddr(dst)
		}
		at += 2 * (len(src.IP) + 2)
	case *net.UnixAddr:
		if !read.TransportProtocol.IsStream() {
			return errHeaderFamily
		}
		at += 2 * 108
	default:
		return errHeaderFamily
	}
	if read.Version == 1 {
		return nil
	}
	return h.parseTLVs(b, at)
}

// plainAddr is the address as accept would tell it: an IPv4-mapped one is one of IPv4.
func plainAddr(a *net.TCPAddr) netip.AddrPort {
	at := a.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// parseTLVs reads the TLVs of b, which begin there. It keeps what is passed on, the first value of each type: brokers keep
// one.
func (h *headerIn) parseTLVs(b []byte, at int) error {
	for at < len(b) {
		if len(b)-at < 3 {
			return errHeaderTLV
		}
		kind, from := proxyproto.PP2Type(b[at]), at+3
		at = from + int(binary.BigEndian.Uint16(b[at+1:]))
		if at > len(b) {
			return errHeaderTLV
		}
		value := b[from:at]
		switch {
		case kind == proxyproto.PP2_TYPE_CRC32C && !isChecksum(b, from, at):
			return errHeaderCRC
		case kind == proxyproto.PP2_TYPE_UNIQUE_ID && len(value) <= maxUniqueID && h.uniqueID == "":
			h.uniqueID = string(value)
		case kind == proxyproto.PP2_TYPE_ALPN && h.tls.alpn == "":
			h.tls.alpn = string(value)
		case kind == proxyproto.PP2_TYPE_AUTHORITY && h.tls.authority == "":
			h.tls.authority = string(value)
		case kind == proxyproto.PP2_TYPE_SSL && h.tls.client == 0:
			h.tls.parseSSL(value)
		case kind.App() && !slices.ContainsFunc(h.custom, func(t proxyproto.TLV) bool { return t.Type == kind }):
			h.custom = append(h.custom, proxyproto.TLV{Type: kind, Value: slices.Clone(value)})
		}
	}
	return nil
}

// isChecksum tells whether b[from:to] is the CRC32C of b with these bytes as zeros.
func isChecksum(b []byte, from, to int) bool {
	if to-from != crc32.Size {
		return false
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:from])
	sum = crc32.Update(sum, table, make([]byte, crc32.Size))
	sum = crc32.Update(sum, table, b[to:])
	return sum == binary.BigEndian.Uint32(b[from:])
}

// trusts tells whether the connection may begin with a PROXY header. If it may not, the session has ended.
func (l *loop) trusts(s *session) bool {
	if s.listener.Trusted.contains(s.remote.Addr()) {
		return true
	}
	s.state = stateClosing // it never was among those that may become a client
	l.refuse(s, EndProtocol, RefusedProxyUntrusted)
	return false
}

// collectHeader reads the PROXY header. What is behind it is for the client's next step.
func (l *loop) collectHeader(s *session) {
	for s.client.has(readable) {
		if chunk := l.read(s, &s.client, l.buffer[:openingSize]); len(chunk) > 0 {
			if !l.hold(s, chunk) {
				return
			}
			collected := s.backend.out.bytes()
			h, err := parseHeaderIn(collected)
			switch {
			case err == nil && h.probe:
				l.finish(s, EndProbe)
				return
			case err == nil:
				l.takeHeader(s, &h, collected[h.size:])
				return
			case !errors.Is(err, errHeaderShort):
				l.refuse(s, EndProtocol, RefusedProxyHeader)
				return
			}
		}
		if s.client.has(ended | broken) {
			l.leaveEarly(s)
			return
		}
	}
}

// takeHeader takes over what the header tells, and goes on with what came behind it.
func (l *loop) takeHeader(s *session, h *headerIn, rest []byte) {
	s.forwarded = &forwarded{via: s.remote, dst: h.dst, tls: h.tls, uniqueID: h.uniqueID, custom: h.custom, named: h.src.IsValid()}
	if s.forwarded.named {
		s.remote = h.src
	}
	s.client.bytes = 0 // it is those of MQTT that count
	if len(rest) > 0 {
		s.forwarded.rest = slices.Clone(rest)
		s.client.set(readable)
	}
	l.unhold(s)
	l.timers.set(s, l.now, l.connectTimeLeft(s))
	l.nextEntry(s)
}

// readEarly reads before CONNECT is complete: first what came with the PROXY header.
func (l *loop) readEarly(s *session) []byte {
	room := l.buffer[:openingSize]
	if f := s.forwarded; f != nil && len(f.rest) > 0 {
		n := copy(room, f.rest)
		f.rest = nil // both are of one read at most, so all of it has found room
		s.client.bytes += uint64(n)
		return room[:n]
	}
	return l.read(s, &s.client, room)
}

// readMore reads early; all is what was held before, and chunk behind it. It is not ok if that was too much to hold, and
// the session has ended.
func (l *loop) readMore(s *session) (chunk, all []byte, ok bool) {
	chunk = l.readEarly(s)
	if s.backend.out == nil {
		return chunk, chunk, true
	}
	if !l.hold(s, chunk) {
		return nil, nil, false
	}
	return chunk, s.backend.out.bytes(), true
}

// leaveEarly ends a session whose other end has left before CONNECT was complete. A load balancer that opens a connection
// in nobody's name or, as HAProxy does with version 1, in its own, and closes it without a byte behind the header, has only
// looked whether somebody is here.
func (l *loop) leaveEarly(s *session) {
	if s.forwarded != nil && s.remote == s.forwarded.via && s.backend.out == nil {
		l.finish(s, EndProbe)
		return
	}
	l.refuse(s, EndClient, RefusedIncomplete)
}

// via is who has sent the PROXY header of the session; invalid if there was none.
func (s *session) via() netip.AddrPort {
	if s.forwarded == nil {
		return netip.AddrPort{}
	}
	return s.forwarded.via
}

// reached is where the client has reached the first that listened for it: mqttlb, or who is in front of it.
func (s *session) reached() netip.AddrPort {
	if s.forwarded != nil && s.forwarded.named {
		return s.forwarded.dst
	}
	return localAddr(s.client.fd)
}

// upstreamID is the unique id that the PROXY header in has given the connection, in hex if it cannot be shown as it is.
func (s *session) upstreamID() string {
	if s.forwarded == nil {
		return ""
	}
	id := s.forwarded.uniqueID
	if !printable([]byte(id)) {
		return fmt.Sprintf("%x", id)
	}
	return id
}
