package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// A headerModel makes headers as slowly as can be: it lists all values as they follow each other in importance, takes what
// fits, and then writes them in hex.
type headerModel struct {
	left    int
	trimmed bool
}

func (m *headerModel) take(size int, value string, mayBeOdd bool) bool {
	odd := printableOf(value) != value
	if value == "" {
		return false
	}
	if odd && !mayBeOdd || size+len(value) > m.left {
		m.trimmed = true
		return false
	}
	m.left -= size + len(value)
	return true
}

// printableOf is the text without what some brokers do not take.
func printableOf(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c >= 0x7f && c < 0xa0 || c == '\ufffd' {
			return -1
		}
		return c
	}, s)
}

func (m *headerModel) header(o *HeaderOptions, f *headerFacts) string {
	tlv := func(kind byte, value string) string { return fmt.Sprintf("%02x%04x%x", kind, len(value), value) }
	addresses, begin := bytes4, proxyTCP4
	if f.src == facts6.src {
		addresses, begin = bytes6, proxyTCP6
	}
	m.left = o.MaxSize - len(addresses)/2
	if o.Checksum {
		m.left -= 7
	}
	ssl := o.SSL && f.tls.client != 0 && m.take(3+5+3, f.tls.version, false)
	name := ssl && o.CommonName && m.take(3, f.tls.cn, false)
	alpn := o.ALPN && m.take(3, f.tls.alpn, false)
	authority := o.Authority && m.take(3, f.tls.authority, false)
	unique := o.UniqueID && m.take(3, f.uniqueID, true)
	cipher := ssl && m.take(3, f.tls.cipher, false)
	out := ""
	if alpn {
		out += tlv(1, f.tls.alpn)
	}
	if authority {
		out += tlv(2, f.tls.authority)
	}
	if unique {
		out += tlv(5, f.uniqueID)
	}
	if ssl {
		value := fmt.Sprintf("%02x%08x", f.tls.client, f.tls.verify) + tlv(0x21, f.tls.version)
		if name {
			value += tlv(0x22, f.tls.cn)
		}
		if cipher {
			value += tlv(0x23, f.tls.cipher)
		}
		raw, _ := hex.DecodeString(value)
		out += tlv(0x20, string(raw))
	}
	for _, c := range o.Custom {
		if value := strings.ReplaceAll(c.Value, "{client_id}", f.clientID); m.take(3, value, false) {
			out += tlv(c.Type, value)
		}
	}
	for _, c := range f.custom {
		if c.Type != 0xE4 && m.take(3, string(c.Value), true) {
			out += tlv(byte(c.Type), string(c.Value))
		}
	}
	if !o.Checksum {
		return begin + fmt.Sprintf("%04x", (len(addresses)+len(out))/2) + addresses + out
	}
	begin += fmt.Sprintf("%04x", (len(addresses)+len(out))/2+7) + addresses + "030004"
	raw, _ := hex.DecodeString(begin + "00000000" + out)
	return begin + fmt.Sprintf("%08x", checksums(raw)[0]) + out
}

// Whatever there is to tell, the header is within its bound, is read by go-proxyproto and by ourselves, and what is left
// out is what goes first in the order of protocol.md, 1.3.
func TestHeaderAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 7))
	letters := func(most int) string {
		b := make([]byte, random.IntN(most+1))
		for i := range b {
			b[i] = byte('a' + random.IntN(26))
		}
		if len(b) > 0 && random.IntN(20) == 0 {
			b[random.IntN(len(b))] = byte(random.IntN(256))
		}
		return string(b)
	}
	flip := func() bool { return random.IntN(3) > 0 }
	trims := 0
	for range 20_000 {
		facts := facts4
		if flip() {
			facts = facts6
		}
		facts.clientID = letters(60)
		facts.uniqueID = "u" + letters(40)
		facts.tls = tlsFacts{alpn: letters(10), authority: letters(80), version: letters(8), cipher: letters(30), cn: letters(40)}
		facts.tls.client, facts.tls.verify = byte(random.IntN(4))*2+byte(random.IntN(2)), uint32(random.IntN(3))
		if facts.tls.client&1 == 0 {
			facts.tls.client = 0
		}
		if flip() {
			facts.custom = []proxyproto.TLV{{Type: 0xE4, Value: []byte("from in front")}, {Type: 0xEA, Value: []byte("\x01\xff")}}
		}
		o := HeaderOptions{
			ALPN: flip(), Authority: flip(), SSL: flip(), CommonName: flip(), UniqueID: flip(), Checksum: flip(),
			Custom:  []CustomTLV{{0xE4, strings.ReplaceAll(letters(20), "{", "")}, {0xE5, "id {client_id}"}},
			MaxSize: MinHeaderSize + random.IntN(400),
		}
		var m headerModel
		want := m.header(&o, &facts)
		got, trimmed := newHeader(t, o).append(nil, &facts)
		if hex.EncodeToString(got) != want || trimmed != m.trimmed {
			t.Fatalf("%+v with %+v:\ngot  %x, trimmed %t\nwant %s, %t", o, facts, got, trimmed, want, m.trimmed)
		}
		if trimmed {
			trims++
		}
		if len(got) > 16+o.MaxSize {
			t.Fatalf("got %d bytes, want at most %d", len(got)-16, o.MaxSize)
		}
		readByOthers(t, got, &facts)
	}
	if trims < 1000 || trims > 19_000 {
		t.Errorf("%d headers were trimmed: the test sees one side alone", trims)
	}
}

// readByOthers has go-proxyproto and what reads our own headers in read a header.
func readByOthers(t *testing.T, b []byte, f *headerFacts) {
	t.Helper()
	d, _, err := decodeHeader(b)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	compareWithCodec(t, b, connect("c"), d)
	in, err := parseHeaderIn(b)
	if err != nil || in.size != len(b) || in.src != f.src || in.tls.alpn != d.value(1) || in.tls.authority != d.value(2) {
		t.Fatalf("got %+v and error %v from %x", in, err, b)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatal(err)
	}
	tlvs, err := h.TLVs()
	if err != nil {
		t.Fatal(err)
	}
	for _, tlv := range tlvs {
		if tlv.Type != proxyproto.PP2_TYPE_SSL {
			continue
		}
		ssl, err := tlvparse.SSL(tlv)
		if err != nil && isASCII(f.tls.version+f.tls.cipher) {
			t.Fatalf("go-proxyproto refuses %x: %v", tlv.Value, err)
		}
		if version, _ := ssl.SSLVersion(); err == nil && (version != f.tls.version || ssl.Client != f.tls.client || ssl.Verify != f.tls.verify) {
			t.Fatalf("go-proxyproto: got %+v, want %+v", ssl, f.tls)
		}
	}
}

func isASCII(s string) bool { return strings.IndexFunc(s, func(c rune) bool { return c > 0x7e }) < 0 }

// FuzzHeaderOfTLS has others read what is made of anything.
func FuzzHeaderOfTLS(f *testing.F) {
	f.Add("mqtt", "a.example", byte(1), uint32(1), "TLSv1.3", "TLS_AES_128_GCM_SHA256", "", byte(0xff), uint16(500))
	f.Add("", "b\x00", byte(7), uint32(0), "TLSv1.2", "C", "device-1", byte(0xff), uint16(43))
	f.Add("h2", strings.Repeat("a", 300), byte(5), uint32(0), "TLSv1.2", strings.Repeat("b", 200), "\xff", byte(0x1f), uint16(4096))
	f.Fuzz(func(t *testing.T, alpn, authority string, client byte, verify uint32, version, cipher, cn string, on byte, limit uint16) {
		o := HeaderOptions{
			ALPN: on&1 != 0, Authority: on&2 != 0, SSL: on&4 != 0, CommonName: on&8 != 0, UniqueID: on&16 != 0, Checksum: on&32 != 0,
			Custom: []CustomTLV{{0xE4, "{client_id}"}}, MaxSize: int(limit),
		}
		h, err := NewHeader(o)
		if err != nil || len(alpn)+len(authority)+len(version)+len(cipher)+len(cn) > maxHeaderIn {
			return // what has come in is no longer
		}
		facts := facts4
		facts.tls = tlsFacts{alpn: alpn, authority: authority, client: client & 7, verify: verify, version: version, cipher: cipher, cn: cn}
		b, _ := h.append(nil, &facts)
		if most := cmp.Or(int(limit), MaxHeaderSize); len(b)-16 > most {
			t.Fatalf("got %d bytes behind the first 16, want at most %d", len(b)-16, most)
		}
		if len(b)-16 > maxHeaderIn {
			return // nobody would read it; the configuration allows no such bound
		}
		readByOthers(t, b, &facts)
	})
}
