package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// The vectors below are written by hand from the PROXY protocol specification (section 2.2), and so is the
// decoder: the codec that builds our headers must not be its own oracle.
const (
	signature = "0d0a0d0a000d0a515549540a"
	proxyTCP4 = signature + "21" + "11" // version 2, command PROXY; AF_INET, STREAM
	proxyTCP6 = signature + "21" + "21" // … AF_INET6, STREAM
)

var (
	facts4 = headerFacts{
		src: netip.MustParseAddrPort("192.0.2.1:56324"), dst: netip.MustParseAddrPort("198.51.100.7:1883"),
		listener: "mqtt", clientID: "sensor-1", strategy: "client-hash", attempt: 1, loop: 2, sequence: 3,
	}
	facts6 = headerFacts{
		src: netip.MustParseAddrPort("[2001:db8::1]:56324"), dst: netip.MustParseAddrPort("[2001:db8::2]:1883"),
		listener: "mqtt", clientID: "sensor-1", strategy: "client-hash", attempt: 12, loop: 0xffffffff, sequence: 0x01020304,
	}
)

const (
	bytes4 = "c0000201" + "c6336407" + "dc04" + "075b"
	bytes6 = "20010db8000000000000000000000001" + "20010db8000000000000000000000002" + "dc04" + "075b"
)

func TestHeaderVectors(t *testing.T) {
	t.Parallel()
	mixed := facts4
	mixed.dst = facts6.dst
	mapped := facts4
	mapped.src, mapped.dst = netip.MustParseAddrPort("[::ffff:192.0.2.1]:56324"), netip.MustParseAddrPort("[::ffff:198.51.100.7]:1883")
	for _, c := range []struct {
		name  string
		o     HeaderOptions
		facts headerFacts
		want  string
	}{
		{"IPv4", HeaderOptions{}, facts4, proxyTCP4 + "000c" + bytes4},
		{"IPv6", HeaderOptions{}, facts6, proxyTCP6 + "0024" + bytes6},
		{
			"IPv4 to IPv6",
			HeaderOptions{},
			mixed,
			proxyTCP6 + "0024" + "00000000000000000000ffffc0000201" + "20010db8000000000000000000000002" + "dc04" + "075b",
		},
		{"IPv4-mapped", HeaderOptions{}, mapped, proxyTCP4 + "000c" + bytes4},
		{
			"unique id",
			HeaderOptions{UniqueID: true, Nonce: 0xdeadbeef},
			facts4,
			proxyTCP4 + "0027" + bytes4 + "05" + "0018" + text("deadbeef"+"00000002"+"00000003"),
		},
		{
			"unique id, IPv6",
			HeaderOptions{UniqueID: true},
			facts6,
			proxyTCP6 + "003f" + bytes6 + "05" + "0018" + text("00000000"+"ffffffff"+"01020304"),
		},
		{
			"literal text",
			HeaderOptions{Custom: []CustomTLV{{0xE4, "edge"}}},
			facts4,
			proxyTCP4 + "0013" + bytes4 + "e4" + "0004" + text("edge"),
		},
		{
			"order",
			HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xEF, "b"}, {0xE0, "a"}}},
			facts4,
			proxyTCP4 + "002f" + bytes4 + "05" + "0018" + text("000000000000000200000003") + "ef" + "0001" + text("b") + "e0" + "0001" + text("a"),
		},
		{
			"placeholders",
			HeaderOptions{Instance: "edge-1", Custom: []CustomTLV{{0xE4, "{instance}/{listener}"}, {0xE5, "<{client_id}>"}, {0xE6, "{strategy}#{attempt}"}}},
			facts6,
			proxyTCP6 + "0050" + bytes6 + "e4" + "000b" + text("edge-1/mqtt") + "e5" + "000a" + text("<sensor-1>") + "e6" + "000e" + text("client-hash#12"),
		},
		{
			// A value that is empty says nothing and is left out.
			"empty values",
			HeaderOptions{Custom: []CustomTLV{{0xE4, "{group}"}, {0xE5, ""}, {0xE6, "{instance}{group}"}, {0xE7, "x"}}},
			facts4,
			proxyTCP4 + "0010" + bytes4 + "e7" + "0001" + text("x"),
		},
		{
			"printable beyond ASCII",
			HeaderOptions{Custom: []CustomTLV{{0xE4, "Zürich ✓"}}},
			facts4,
			proxyTCP4 + "001a" + bytes4 + "e4" + "000b" + "5ac3bc7269636820e29c93",
		},
	} {
		got, trimmed := newHeader(t, c.o).append([]byte("before "), &c.facts)
		if want := "before " + string(unhex(t, c.want)); string(got) != want {
			t.Errorf("%s:\ngot  %x\nwant %x", c.name, got, want)
		}
		if trimmed {
			t.Errorf("%s: got told of something left out, want all of it there", c.name)
		}
	}
}

// Control characters and broken UTF-8 make some brokers end the connection: such a value is left out, and
// told; the others stay.
func TestUnprintableValuesAreLeftOut(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{Custom: []CustomTLV{{0xE4, "{client_id}"}, {0xE5, "kept"}, {0xE6, "c:{client_id}"}}})
	for _, id := range []string{"a\x00", "\n", "a\x1b[31m", "\x7f", "a\u0085b", "\u009b1m", "\xff", "a\xc3", "\xed\xa0\x80"} {
		facts := facts4
		facts.clientID = id
		got, trimmed := h.append(nil, &facts)
		if want := unhex(t, proxyTCP4+"0013"+bytes4+"e5"+"0004"+text("kept")); !bytes.Equal(got, want) || !trimmed {
			t.Errorf("client %q:\ngot  %x, trimmed %t\nwant %x, trimmed", id, got, trimmed, want)
		}
	}
}

// The part after the first 16 bytes stays within the limit, 500 bytes unless configured. Custom values that
// do not fit go, later and shorter ones may stay; the unique id goes last, the addresses never.
func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name    string
		o       HeaderOptions
		facts   headerFacts
		size    int
		kept    string // the types of the TLVs
		trimmed bool
	}{
		{"fits exactly", HeaderOptions{Custom: []CustomTLV{{0xE4, long(485)}}}, facts4, 500, "e4", false},
		{"one byte too long", HeaderOptions{Custom: []CustomTLV{{0xE4, long(486)}}}, facts4, 12, "", true},
		{"fits exactly, IPv6", HeaderOptions{Custom: []CustomTLV{{0xE4, long(461)}}}, facts6, 500, "e4", false},
		{"one byte too long, IPv6", HeaderOptions{Custom: []CustomTLV{{0xE4, long(462)}}}, facts6, 36, "", true},
		{"fits exactly with a unique id", HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, long(458)}}}, facts4, 500, "05 e4", false},
		{"the unique id before custom values", HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, long(459)}}}, facts4, 39, "05", true},
		{
			"the long one goes, the short one stays",
			HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, long(400)}, {0xE5, long(100)}, {0xE6, "short"}}},
			facts4, 450, "05 e4 e6", true,
		},
		{"another limit", HeaderOptions{MaxSize: 1000, Custom: []CustomTLV{{0xE4, long(900)}}}, facts4, 915, "e4", false},
		{"room for the unique id only", HeaderOptions{UniqueID: true, MaxSize: 63, Custom: []CustomTLV{{0xE4, "x"}}}, facts6, 63, "05", true},
		{"no room for the unique id", HeaderOptions{UniqueID: true, MaxSize: 62, Custom: []CustomTLV{{0xE4, "x"}}}, facts6, 40, "e4", true},
		{"room for addresses only", HeaderOptions{UniqueID: true, MaxSize: MinHeaderSize, Custom: []CustomTLV{{0xE4, "12345"}}}, facts6, 36, "", true},
		{"room for a checksum", HeaderOptions{UniqueID: true, Checksum: true, MaxSize: MinHeaderSize, Custom: []CustomTLV{{0xE4, "x"}}}, facts6, 43, "03", true},
	} {
		b, trimmed := newHeader(t, c.o).append(nil, &c.facts)
		d, rest, err := decodeHeader(b)
		if err != nil || len(rest) != 0 {
			t.Errorf("%s: got error %v and %d bytes behind the header", c.name, err, len(rest))
			continue
		}
		if got := d.types(); len(b)-16 != c.size || got != c.kept || trimmed != c.trimmed {
			t.Errorf("%s: got %d bytes with TLVs %q, trimmed %t, want %d with %q, %t", c.name, len(b)-16, got, trimmed, c.size, c.kept, c.trimmed)
		}
		if d.src != c.facts.src || d.dst != c.facts.dst {
			t.Errorf("%s: got addresses %v and %v, want %v and %v", c.name, d.src, d.dst, c.facts.src, c.facts.dst)
		}
	}
}

func TestHeaderOptionErrors(t *testing.T) {
	t.Parallel()
	const known = "known are {instance} {listener} {client_id} {group} {strategy} {attempt}"
	for _, c := range []struct {
		tlv  CustomTLV
		want string
	}{
		{CustomTLV{0xDF, "x"}, "PROXY TLV type 0xdf is not in the custom range 0xE0-0xEF"},
		{CustomTLV{0xF0, "x"}, "PROXY TLV type 0xf0 is not in the custom range 0xE0-0xEF"},
		{CustomTLV{0x05, "x"}, "PROXY TLV type 0x05 is not in the custom range 0xE0-0xEF"},
		{CustomTLV{0x00, "x"}, "PROXY TLV type 0x00 is not in the custom range 0xE0-0xEF"},
		{CustomTLV{0xE4, "{instances}"}, "unknown placeholder {instances}; " + known},
		{CustomTLV{0xE4, "a {instance} {}"}, "unknown placeholder {}; " + known},
		{CustomTLV{0xE4, "{Instance}"}, "unknown placeholder {Instance}; " + known},
		{CustomTLV{0xE4, "{instance"}, "unknown placeholder {instance}; " + known},
		{CustomTLV{0xE4, "{a{instance}"}, "unknown placeholder {a{instance}; " + known},
	} {
		h, err := NewHeader(HeaderOptions{Custom: []CustomTLV{{0xE0, "good"}, c.tlv}})
		if err == nil || err.Error() != c.want || h != nil {
			t.Errorf("%#x %q: got %v and error %v, want %s", c.tlv.Type, c.tlv.Value, h, err, c.want)
		}
	}
	for _, c := range []struct {
		o    HeaderOptions
		want string
	}{
		{HeaderOptions{Version: 3}, "there is no version 3 of the PROXY protocol; use 1 or 2"},
		{HeaderOptions{Version: -1}, "there is no version -1 of the PROXY protocol; use 1 or 2"},
		{HeaderOptions{MaxSize: 42}, "a PROXY header of at most 42 bytes has no room for IPv6 addresses; allow 43 or more"},
	} {
		if h, err := NewHeader(c.o); err == nil || err.Error() != c.want || h != nil {
			t.Errorf("%+v: got %v and error %v, want %s", c.o, h, err, c.want)
		}
	}
	for _, good := range []CustomTLV{{0xE0, ""}, {0xEF, "}"}, {0xE7, "a}b {attempt}}"}} {
		if _, err := NewHeader(HeaderOptions{Custom: []CustomTLV{good}}); err != nil {
			t.Errorf("%#x %q: got error %v, want none", good.Type, good.Value, err)
		}
	}
	for _, name := range Placeholders() {
		if _, err := NewHeader(HeaderOptions{Custom: []CustomTLV{{0xE0, "{" + name + "}"}}}); err != nil {
			t.Errorf("{%s}: got error %v, want none", name, err)
		}
	}
}

// readHeader reads what the proxy sends first to a broker.
func readHeader(t *testing.T, broker net.Conn) (decoded, []byte) {
	t.Helper()
	b := make([]byte, 16)
	if _, err := readFull(broker, b); err != nil {
		t.Fatal(err)
	}
	b = append(b, make([]byte, binary.BigEndian.Uint16(b[14:]))...)
	if _, err := readFull(broker, b[16:]); err != nil {
		t.Fatal(err)
	}
	d, rest, err := decodeHeader(b)
	if err != nil || len(rest) > 0 {
		t.Fatalf("got %x, which does not decode: %v", b, err)
	}
	return d, b
}

// leave ends a session from the client's side.
func leave(t *testing.T, client, broker net.Conn) {
	t.Helper()
	_ = client.Close()
	expectEOF(t, broker)
	_ = broker.Close()
}

// The broker gets the header with the client's addresses, CONNECT, and what the client has sent behind it,
// byte for byte.
func TestHeaderGoesFirst(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{Instance: "edge-1", UniqueID: true, Nonce: 0xabc, Custom: []CustomTLV{
		{0xE4, "{instance}"}, {0xE5, "{listener}"}, {0xE6, "{client_id}"}, {0xE7, "{strategy}/{attempt}"}, {0xE8, "of {group}"},
	}})
	r := newRig(t, rigOptions{backend: Backend{Header: h}})
	r.placer.gather("workers")
	opening := slices.Concat(connect("first"), []byte{0xc0, 0}, publish(5000))
	seen := make(map[string]bool)
	for range 3 {
		client := r.dial()
		write(t, client, opening)
		broker := r.accept(0)
		d, _ := readHeader(t, broker)
		expect(t, broker, opening)
		if got, want := d.src.String()+" "+d.dst.String(), client.LocalAddr().String()+" "+r.addr; got != want {
			t.Errorf("got addresses %s, want %s", got, want)
		}
		for kind, want := range map[byte]string{0xE4: "edge-1", 0xE5: "test", 0xE6: "first", 0xE7: "fake/1", 0xE8: "of workers"} {
			if got := d.value(kind); got != want {
				t.Errorf("got %q in TLV %#x, want %q", got, kind, want)
			}
		}
		leave(t, client, broker)
		rec := r.record()
		if id := d.value(0x05); len(id) != 24 || !strings.HasPrefix(id, "00000abc") || seen[id] || rec.UniqueID != id {
			t.Errorf("got unique id %q, and %q in the record, want the same 24 digits, new for every connection", id, rec.UniqueID)
		}
		seen[d.value(0x05)] = true
		if want := uint64(len(opening)); rec.Bytes[Up] != want {
			t.Errorf("got %d bytes up in the record, want %d: the header is not the client's", rec.Bytes[Up], want)
		}
	}
}

// Header, CONNECT and what is behind it leave in one write: brokers exist that want to read them at once.
func TestHeaderLeavesInOneWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{backend: Backend{Header: newHeader(t, HeaderOptions{UniqueID: true})}})
	opening := slices.Concat(connect("at-once"), publish(1000))
	client := r.dial()
	write(t, client, opening)
	b := make([]byte, 64<<10)
	n, err := r.accept(0).Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, rest, err := decodeHeader(b[:n]); err != nil || !bytes.Equal(rest, opening) {
		t.Errorf("got %x and error %v with the first read, want the header and %x", b[:n], err, opening)
	}
}

// The next candidate gets a header of its own, and still the client's bytes unchanged.
func TestHeaderIsRebuiltForTheNextAttempt(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE7, "{attempt}"}}})
	r := newRig(t, rigOptions{backend: Backend{Header: h}, brokers: 3})
	_ = r.brokers[0].Close()
	_ = r.brokers[1].Close()
	opening := slices.Concat(connect("again"), []byte{0xc0, 0})
	client := r.dial()
	write(t, client, opening)
	broker := r.accept(2)
	d, _ := readHeader(t, broker)
	expect(t, broker, opening)
	if got := d.value(0xE7); got != "3" {
		t.Errorf("got attempt %q, want 3", got)
	}
	if got, want := d.src.String(), client.LocalAddr().String(); got != want {
		t.Errorf("got source %s, want %s", got, want)
	}
	leave(t, client, broker)
	if rec := r.record(); rec.UniqueID != d.value(0x05) {
		t.Errorf("got unique id %q in the record, want %q as in the last header", rec.UniqueID, d.value(0x05))
	}
}

// The same when the first candidate does not answer at all, so that its header was made but never sent.
func TestHeaderAfterATimeout(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{Custom: []CustomTLV{{0xE7, "{attempt}"}}})
	r := newRig(t, rigOptions{backend: Backend{Header: h, DialTimeout: 300 * time.Millisecond}})
	r.placer.prepend(fullQueue(t))
	client := r.dial()
	write(t, client, connect("patient"))
	broker := r.accept(0)
	d, _ := readHeader(t, broker)
	expect(t, broker, connect("patient"))
	if got := d.value(0xE7); got != "2" {
		t.Errorf("got attempt %q, want 2", got)
	}
}

// A header from which something was left out is counted.
func TestTrimmedHeadersAreCounted(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{Custom: []CustomTLV{{0xE6, "{client_id}"}}})
	r := newRig(t, rigOptions{backend: Backend{Header: h}})
	for i, id := range []string{"plain", "odd\u009b", "plain too", strings.Repeat("l", 100)} {
		client := r.dial()
		write(t, client, connect(id))
		broker := r.accept(0)
		d, _ := readHeader(t, broker)
		expect(t, broker, connect(id))
		if got, kept := d.value(0xE6), i != 1; kept != (got == id) {
			t.Errorf("got %q in the header of client %q, want it: %t", got, id, kept)
		}
		leave(t, client, broker)
		r.record()
	}
	if got := r.proxy.Stats().HeadersTrimmed; got != 1 {
		t.Errorf("got %d headers trimmed, want 1", got)
	}
}

func newHeader(t *testing.T, o HeaderOptions) *Header {
	t.Helper()
	h, err := NewHeader(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func text(s string) string { return hex.EncodeToString([]byte(s)) }

func unhex(tb testing.TB, s string) []byte {
	tb.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}
