package proxy

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	proxyproto "github.com/pires/go-proxyproto"
)

// MaxHeaderSize is the default bound of a PROXY header, without its first 16 bytes: mosquitto refuses
// longer ones (protocol.md, D8).
const MaxHeaderSize = 500

// HeaderOptions say what the PROXY protocol v2 header towards the backends of a cluster holds beside
// the client's address.
type HeaderOptions struct {
	// Instance is the value of {instance}.
	Instance string
	// UniqueID adds PP2_TYPE_UNIQUE_ID: what the PROXY header in has brought, or else 24 hex digits, unique to the
	// connection.
	UniqueID bool
	// Nonce distinguishes the unique ids of this process from those of others.
	Nonce uint32
	// Custom are further TLVs, in this order. Those of a PROXY header in whose types are not among them follow.
	Custom []CustomTLV
	// MaxSize bounds addresses and TLVs in bytes; 0 means MaxHeaderSize.
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
	instance string
	uniqueID bool
	nonce    uint32
	custom   []template
	maxSize  int
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
	uniqueID string           // from the PROXY header in; empty if there was none
	custom   []proxyproto.TLV // likewise
}

// Placeholders are the names that a CustomTLV may use in braces.
func Placeholders() []string {
	return []string{"instance", "listener", "client_id", "group", "strategy", "attempt"}
}

// NewHeader prepares headers. It fails when a TLV type is outside of 0xE0…0xEF or a placeholder is unknown.
func NewHeader(o HeaderOptions) (*Header, error) {
	h := &Header{instance: o.Instance, uniqueID: o.UniqueID, nonce: o.Nonce, maxSize: o.MaxSize}
	if h.maxSize == 0 {
		h.maxSize = MaxHeaderSize
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
		return h.instance, true
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
// been printable or the header would have been too long; what goes first is what the PROXY header in has
// brought, then custom, then the unique id.
func (h *Header) append(dst []byte, f headerFacts) (_ []byte, trimmed bool) {
	header := proxyproto.HeaderProxyFromAddrs(2, tcpAddr(f.src), tcpAddr(f.dst))
	if header.Command != proxyproto.PROXY {
		return dst, true // without both addresses there is nothing truthful to say
	}
	room := h.maxSize - 2*(addrSize(f.src, f.dst)+2)
	var tlvs []proxyproto.TLV
	if h.uniqueID {
		id := cmp.Or(f.uniqueID, h.uniqueOf(f.loop, f.sequence))
		if trimmed = 3+len(id) > room; !trimmed {
			tlvs = append(tlvs, proxyproto.TLV{Type: proxyproto.PP2_TYPE_UNIQUE_ID, Value: []byte(id)})
			room -= 3 + len(id)
		}
	}
	for _, t := range h.custom {
		value := h.fill(t.parts, &f)
		if len(value) == 0 {
			continue
		}
		if 3+len(value) > room || !printable(value) {
			trimmed = true
			continue
		}
		tlvs = append(tlvs, proxyproto.TLV{Type: t.kind, Value: value})
		room -= 3 + len(value)
	}
	for _, tlv := range f.custom {
		switch {
		case h.makes(tlv.Type):
		case 3+len(tlv.Value) > room:
			trimmed = true
		default:
			tlvs = append(tlvs, tlv)
			room -= 3 + len(tlv.Value)
		}
	}
	if err := header.SetTLVs(tlvs); err != nil {
		return dst, true
	}
	b, err := header.Format()
	if err != nil {
		return dst, true
	}
	return append(dst, b...), trimmed
}

// makes tells whether the header has a value of its own for this type.
func (h *Header) makes(kind proxyproto.PP2Type) bool {
	return slices.ContainsFunc(h.custom, func(t template) bool { return t.kind == kind })
}

func (h *Header) fill(parts []part, f *headerFacts) []byte {
	var value []byte
	for _, p := range parts {
		if p.placeholder {
			text, _ := h.value(p.text, f)
			value = append(value, text...)
		} else {
			value = append(value, p.text...)
		}
	}
	return value
}

const uniqueIDSize = 24 // hex digits

// uniqueOf is the nonce of the process, the loop and the loop's count of connections, in hex: printable,
// because brokers show it in their logs and APIs. It is empty if the header has none.
func (h *Header) uniqueOf(loop, sequence uint32) string {
	if !h.uniqueID {
		return ""
	}
	var raw [uniqueIDSize / 2]byte
	binary.BigEndian.PutUint32(raw[0:], h.nonce)
	binary.BigEndian.PutUint32(raw[4:], loop)
	binary.BigEndian.PutUint32(raw[8:], sequence)
	return hex.EncodeToString(raw[:])
}

// printable keeps control characters and broken UTF-8 out of TLVs: some brokers end the connection
// over them (protocol.md, 1.2).
func printable(b []byte) bool {
	return utf8.Valid(b) && strings.IndexFunc(string(b), unicode.IsControl) < 0
}

func tcpAddr(a netip.AddrPort) *net.TCPAddr { return net.TCPAddrFromAddrPort(a) }

// addrSize is the size of one address in the header: IPv4 only if both are.
func addrSize(src, dst netip.AddrPort) int {
	if src.Addr().Is4() && dst.Addr().Is4() {
		return 4
	}
	return 16
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
		f.uniqueID, f.custom = s.forwarded.uniqueID, s.forwarded.custom
	}
	return f
}
