package proxy

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	proxyproto "github.com/pires/go-proxyproto"
)

const (
	// MaxHeaderSize is the default bound of a PROXY header, without its first 16 bytes: mosquitto refuses
	// longer ones (protocol.md, D8).
	MaxHeaderSize = 500
	// MinHeaderSize is the least that a header of version 2 may be bounded to: IPv6 addresses and a checksum.
	MinHeaderSize = 36 + tlvSize + crc32.Size
)

// HeaderOptions say what the PROXY protocol header towards the backends of a cluster holds beside
// the client's address.
type HeaderOptions struct {
	// Version is 1 or 2; 0 means 2. One of version 1 holds nothing but addresses.
	Version int
	// Instance is the value of {instance}.
	Instance string
	// UniqueID adds PP2_TYPE_UNIQUE_ID: what the PROXY header in has brought, or else 24 hex digits, unique to the
	// connection.
	UniqueID bool
	// Nonce distinguishes the unique ids of this process from those of others.
	Nonce uint32
	// ALPN, Authority and SSL tell of the client's TLS: the protocol that was agreed upon, the name that the client has
	// asked for, and version, cipher suite and whether a certificate was verified.
	ALPN, Authority, SSL bool
	// CommonName adds that of the client's verified certificate to SSL. Some brokers take it for the user name.
	CommonName bool
	// Checksum adds PP2_TYPE_CRC32C.
	Checksum bool
	// Custom are further TLVs, in this order. Those of a PROXY header in whose types are not among them follow.
	Custom []CustomTLV
	// MaxSize bounds addresses and TLVs in bytes, from MinHeaderSize on; 0 means MaxHeaderSize.
	MaxSize int
}

// A CustomTLV is a TLV of a type that the PROXY protocol reserves for applications, 0xE0 to 0xEF.
// Value may hold placeholders: {instance} {listener} {client_id} {group} {strategy} {attempt}.
type CustomTLV struct {
	Type  byte
	Value string
}

// A Header makes the PROXY headers for the backends of one cluster. It is immutable.
type Header struct {
	options HeaderOptions
	custom  []template
}

// A template is a custom TLV whose value is cut at its placeholders.
type template struct {
	kind  proxyproto.PP2Type
	parts []part
}

// A part is literal text, or a placeholder.
type part struct {
	text        string
	placeholder bool
}

// headerFacts are what a header tells of one connection.
type headerFacts struct {
	src, dst netip.AddrPort
	listener string
	clientID string
	group    string
	strategy string
	attempt  int
	loop     uint32
	sequence uint32
	tls      tlsFacts
	uniqueID string           // from the PROXY header in; empty if there was none
	custom   []proxyproto.TLV // likewise
}

// Placeholders are the names that a CustomTLV may use in braces.
func Placeholders() []string {
	return []string{"instance", "listener", "client_id", "group", "strategy", "attempt"}
}

// NewHeader prepares headers. It fails when there is no such version, a TLV type is outside of 0xE0…0xEF, a placeholder
// is unknown, or MaxSize leaves no room for addresses.
func NewHeader(o HeaderOptions) (*Header, error) {
	h := &Header{options: o}
	switch o.Version {
	case 0:
		h.options.Version = 2
	case 1, 2:
	default:
		return nil, fmt.Errorf("there is no version %d of the PROXY protocol; use 1 or 2", o.Version)
	}
	switch {
	case o.MaxSize == 0:
		h.options.MaxSize = MaxHeaderSize
	case o.MaxSize < MinHeaderSize:
		return nil, fmt.Errorf("a PROXY header of at most %d bytes has no room for IPv6 addresses; allow %d or more", o.MaxSize, MinHeaderSize)
	}
	for _, tlv := range o.Custom {
		if tlv.Type < 0xE0 || tlv.Type > 0xEF {
			return nil, fmt.Errorf("PROXY TLV type %#02x is not in the custom range 0xE0-0xEF", tlv.Type)
		}
		parts, err := cutTemplate(tlv.Value)
		if err != nil {
			return nil, err
		}
		h.custom = append(h.custom, template{kind: proxyproto.PP2Type(tlv.Type), parts: parts})
	}
	return h, nil
}

func cutTemplate(s string) ([]part, error) {
	var parts []part
	for s != "" {
		before, rest, found := strings.Cut(s, "{")
		if before != "" {
			parts = append(parts, part{text: before})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if _, known := (&Header{}).value(name, &headerFacts{}); !closed || !known {
			return nil, fmt.Errorf("unknown placeholder {%s}; known are {%s}", name, strings.Join(Placeholders(), "} {"))
		}
		parts = append(parts, part{text: name, placeholder: true})
		s = after
	}
	return parts, nil
}

// value is what a placeholder stands for.
func (h *Header) value(name string, f *headerFacts) (string, bool) {
	switch name {
	case "instance":
		return h.options.Instance, true
	case "listener":
		return f.listener, true
	case "client_id":
		return f.clientID, true
	case "group":
		return f.group, true
	case "strategy":
		return f.strategy, true
	case "attempt":
		return strconv.Itoa(f.attempt), true
	}
	return "", false
}

// append adds the header to dst. trimmed tells that a TLV was left out, because it would not have
// been printable or the header would have been too long. It is written by hand, because the codec allocates.
func (h *Header) append(dst []byte, f *headerFacts) (_ []byte, trimmed bool) {
	src, to := addresses(f.src, f.dst)
	if h.options.Version == 1 {
		return appendLine(dst, src, to), false
	}
	start := len(dst)
	dst = append(dst, signatureV2...)
	dst = append(dst, byte(proxyproto.PROXY), byte(family(src)), 0, 0) // the length follows
	dst = appendAddresses(dst, src, to)
	dst, trimmed = h.appendTLVs(dst, start, f)
	binary.BigEndian.PutUint16(dst[start+14:], uint16(len(dst)-start-fixedIn))
	if h.options.Checksum {
		// It is the first value, and its place is zeros so far.
		at := start + fixedIn + addressesSize(src) + tlvSize
		binary.BigEndian.PutUint32(dst[at:], crc32.Checksum(dst[start:], crc32.MakeTable(crc32.Castagnoli)))
	}
	return dst, trimmed
}

// appendTLVs adds the values of the header that begins at start. When there is no room for all of them, it goes to what the
// brokers would miss most: what is left out first is the last of what follows here.
func (h *Header) appendTLVs(dst []byte, start int, f *headerFacts) (_ []byte, trimmed bool) {
	o := &h.options
	r := room{left: o.MaxSize - (len(dst) - start - fixedIn)}
	if o.Checksum {
		dst = append(dst, byte(proxyproto.PP2_TYPE_CRC32C), 0, crc32.Size, 0, 0, 0, 0)
		r.left -= tlvSize + crc32.Size
	}
	t := f.tls
	if !o.SSL || t.version == "" || t.client&clientSSL == 0 || !r.takeText(tlvSize+sslSize+tlvSize, []byte(t.version)) {
		t.client, t.cn, t.cipher = 0, "", ""
	}
	if !o.CommonName {
		t.cn = ""
	}
	t.cn = r.fit(t.cn)
	if !o.ALPN {
		t.alpn = ""
	}
	if !o.Authority {
		t.authority = ""
	}
	t.alpn, t.authority = r.fit(t.alpn), r.fit(t.authority)
	var space [maxUniqueID]byte
	id := space[:0]
	if o.UniqueID {
		if id = append(id, f.uniqueID...); len(id) == 0 {
			id = h.appendUnique(id, f.loop, f.sequence)
		}
		if !r.take(tlvSize + len(id)) {
			id = nil
		}
	}
	t.cipher = r.fit(t.cipher)
	dst = appendTLV(dst, proxyproto.PP2_TYPE_ALPN, t.alpn)
	dst = appendTLV(dst, proxyproto.PP2_TYPE_AUTHORITY, t.authority)
	dst = appendTLV(dst, proxyproto.PP2_TYPE_UNIQUE_ID, id)
	if t.client != 0 {
		dst = t.appendSSL(dst)
	}
	return h.appendCustom(dst, f, &r)
}

// appendCustom adds the values of types 0xE0 to 0xEF: its own, and then those that the PROXY header in has brought.
func (h *Header) appendCustom(dst []byte, f *headerFacts, r *room) (_ []byte, trimmed bool) {
	for i := range h.custom {
		t := &h.custom[i]
		at := len(dst)
		dst = append(dst, byte(t.kind), 0, 0)
		dst = h.fill(dst, t.parts, f)
		value := dst[at+tlvSize:]
		if len(value) == 0 || !r.takeText(tlvSize, value) {
			dst = dst[:at]
			continue
		}
		binary.BigEndian.PutUint16(dst[at+1:], uint16(len(value)))
	}
	for _, tlv := range f.custom {
		if !h.makes(tlv.Type) && r.take(tlvSize+len(tlv.Value)) {
			dst = append(dst, byte(tlv.Type), byte(len(tlv.Value)>>8), byte(len(tlv.Value)))
			dst = append(dst, tlv.Value...)
		}
	}
	return dst, r.trimmed
}

// makes tells whether the header has a value of its own for this type.
func (h *Header) makes(kind proxyproto.PP2Type) bool {
	return slices.ContainsFunc(h.custom, func(t template) bool { return t.kind == kind })
}

func (h *Header) fill(dst []byte, parts []part, f *headerFacts) []byte {
	for _, p := range parts {
		text := p.text
		if p.placeholder {
			text, _ = h.value(p.text, f)
		}
		dst = append(dst, text...)
	}
	return dst
}

// uniqueOf is the unique id of a connection. It is empty if the header has none.
func (h *Header) uniqueOf(loop, sequence uint32) string {
	if !h.options.UniqueID || h.options.Version == 1 {
		return ""
	}
	return string(h.appendUnique(nil, loop, sequence))
}

// appendUnique adds the nonce of the process, the loop and the loop's count of connections, in hex: printable, because
// brokers show it in their logs and APIs.
func (h *Header) appendUnique(dst []byte, loop, sequence uint32) []byte {
	const digits = "0123456789abcdef"
	for _, n := range [...]uint32{h.options.Nonce, loop, sequence} {
		for shift := 28; shift >= 0; shift -= 4 {
			dst = append(dst, digits[n>>shift&15])
		}
	}
	return dst
}

// headerFacts collects what the header of a session tells.
func (l *loop) headerFacts(s *session) headerFacts {
	l.dialled++
	s.sequence = l.dialled
	f := headerFacts{
		src:      s.remote,
		dst:      s.reached(),
		listener: s.listener.Name,
		clientID: s.clientID,
		group:    s.target.Reason.Group,
		strategy: s.target.Reason.Strategy,
		attempt:  int(s.attempts),
		loop:     uint32(l.id),
		sequence: s.sequence,
	}
	if s.forwarded != nil {
		f.tls, f.uniqueID, f.custom = s.forwarded.tls, s.forwarded.uniqueID, s.forwarded.custom
	}
	if s.security != nil { // what it has shown here goes before what somebody tells of it
		f.tls = s.security.facts()
	}
	return f
}
