package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// The vectors below are written by hand from the PROXY protocol specification, as those of header_test.go are.
const (
	lineTCP4 = "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n"
	lineTCP6 = "PROXY TCP6 2001:db8::1 2001:db8::2 56324 1883\r\n"
	localTCP = signature + "20" + "00" + "0000"
	unixAddr = 216 // bytes
)

// mappedBytes are the addresses of bytes4 as IPv4-mapped ones.
const mappedBytes = "00000000000000000000ffffc0000201" + "00000000000000000000ffffc6336407" + "dc04" + "075b"

func TestHeadersThatComeIn(t *testing.T) {
	t.Parallel()
	v4 := headerIn{src: facts4.src, dst: facts4.dst}
	v6 := headerIn{src: facts6.src, dst: facts6.dst}
	with := func(h headerIn, uniqueID string, custom ...proxyproto.TLV) headerIn {
		h.uniqueID, h.custom = uniqueID, custom
		return h
	}
	secured := func(h headerIn, f tlsFacts) headerIn {
		h.tls = f
		return h
	}
	for _, c := range []struct {
		name string
		in   string // in hex, unless it is of version 1
		want headerIn
		err  error // any, if it is errAny
	}{
		{"version 1, IPv4", lineTCP4, v4, nil},
		{"version 1, IPv6", lineTCP6, v6, nil},
		{"version 1, IPv4-mapped", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 56324 1883\r\n", v4, nil},
		{"version 1, unknown", "PROXY UNKNOWN\r\n", headerIn{}, nil},
		{"version 1, unknown with more", "PROXY UNKNOWN " + strings.Repeat("f", 91) + "\r\n", headerIn{}, nil},
		{"version 1, 108 bytes", "PROXY UNKNOWN " + strings.Repeat("f", 92) + "\r\n", headerIn{}, errHeaderTooBig},
		{"version 1 without CR", "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\n", headerIn{}, errAny},
		{"version 1, port too large", "PROXY TCP4 192.0.2.1 198.51.100.7 65536 1883\r\n", headerIn{}, errAny},
		{"version 1, wrong family", "PROXY TCP4 2001:db8::1 2001:db8::2 56324 1883\r\n", headerIn{}, errAny},
		{"version 1, two spaces", "PROXY  TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n", headerIn{}, errAny},
		{"version 1, lower case", "proxy TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n", headerIn{}, errNoHeader},
		{"version 1, half", lineTCP4[:20], headerIn{}, errHeaderShort},

		{"IPv4", proxyTCP4 + "000c" + bytes4, v4, nil},
		{"IPv6", proxyTCP6 + "0024" + bytes6, v6, nil},
		{"IPv4-mapped", proxyTCP6 + "0024" + mappedBytes, v4, nil},
		{"IPv4, length of none", proxyTCP4 + "0000", headerIn{}, errAny},
		{"IPv6, length of IPv4", proxyTCP6 + "000c" + bytes4, headerIn{}, errAny},
		{"half a signature", signature[:12], headerIn{}, errHeaderShort},
		{"signature alone", signature, headerIn{}, errHeaderShort},
		{"half", proxyTCP6 + "0024" + bytes6[:40], headerIn{}, errHeaderShort},
		{"wrong signature", "0d0a0d0a000d0a515549540b" + "21110000", headerIn{}, errNoHeader},
		{"version 3", signature + "31" + "11" + "000c" + bytes4, headerIn{}, errAny},
		{"no such command", signature + "22" + "11" + "000c" + bytes4, headerIn{}, errAny},
		{"no such family", signature + "21" + "13" + "000c" + bytes4, headerIn{}, errAny},
		{"UDP", signature + "21" + "12" + "000c" + bytes4, headerIn{}, errHeaderFamily},
		{"unix stream", signature + "21" + "31" + "00d8" + strings.Repeat("00", unixAddr), headerIn{}, nil},
		{"unix datagram", signature + "21" + "32" + "00d8" + strings.Repeat("00", unixAddr), headerIn{}, errHeaderFamily},
		{"unspecified", signature + "21" + "00" + "0000", headerIn{}, nil},
		{"unspecified with values", signature + "21" + "00" + "0004" + "050001" + text("u"), with(headerIn{}, "u"), nil},
		{"local", localTCP, headerIn{probe: true}, nil},
		{"local with an address", signature + "20" + "11" + "000c" + bytes4, headerIn{probe: true}, nil},
		{"local with anything", signature + "20" + "11" + "0003" + "ffffff", headerIn{probe: true}, nil},
		{"65535 bytes", proxyTCP4 + "ffff", headerIn{}, errHeaderTooBig},
		{"4097 bytes", proxyTCP4 + "1001", headerIn{}, errHeaderTooBig},
		{"4096 bytes, of which none is there", proxyTCP4 + "1000", headerIn{}, errHeaderShort},

		{"unique id", proxyTCP4 + "0010" + bytes4 + "050001" + text("u"), with(v4, "u"), nil},
		{"unique id of 129 bytes", proxyTCP4 + "0090" + bytes4 + "050081" + strings.Repeat("75", 129), v4, nil},
		{
			"values of one's own",
			proxyTCP6 + "0032" + bytes6 + "ea0002" + "01ff" + "e40001" + text("a") + "e40002" + text("bc"),
			with(v6, "", proxyproto.TLV{Type: 0xEA, Value: []byte("\x01\xff")}, proxyproto.TLV{Type: 0xE4, Value: []byte("a")}),
			nil,
		},
		{"other values", proxyTCP4 + "0014" + bytes4 + "300002" + text("ab") + "f00000", v4, nil},
		{
			"TLS, the first of each",
			proxyTCP4 + "004d" + bytes4 + "010004" + text("mqtt") + "020001" + text("a") +
				"20001c" + "07" + "00000000" + "210007" + text("TLSv1.3") + "220001" + text("d") + "230001" + text("C") + "fe0002" + "0000" +
				"010001" + text("x") + "020001" + text("b") + "20000c" + "01" + "00000001" + "210004" + text("SSL3"),
			secured(v4, tlsFacts{alpn: "mqtt", authority: "a", client: 7, version: "TLSv1.3", cipher: "C", cn: "d"}), nil,
		},
		{
			"TLS, a certificate that was not verified",
			proxyTCP4 + "001b" + bytes4 + "20000c" + "07" + "00000012" + "220004" + text("root"),
			secured(v4, tlsFacts{client: 7, verify: 0x12}), nil,
		},
		{"TLS without a certificate, and a name", proxyTCP4 + "001b" + bytes4 + "20000c" + "01" + "00000000" + "220004" + text("root"), secured(v4, tlsFacts{client: 1}), nil},
		{"no TLS", proxyTCP4 + "001b" + bytes4 + "20000c" + "00" + "00000000" + "210004" + text("none"), v4, nil},
		{"TLS, cut off", proxyTCP4 + "0013" + bytes4 + "200004" + "01000000", v4, nil},
		{"TLS, its value cut off", proxyTCP4 + "001a" + bytes4 + "20000b" + "01" + "00000001" + "210004" + text("TLS"), secured(v4, tlsFacts{client: 1, verify: 1}), nil},
		{"a value that is cut off", proxyTCP4 + "0010" + bytes4 + "050002" + text("u"), headerIn{}, errHeaderTLV},
		{"a value without length", proxyTCP4 + "000e" + bytes4 + "0500", headerIn{}, errHeaderTLV},
		{"checksum", proxyTCP4 + "0013" + bytes4 + "030004" + "c4053124", v4, nil},
		{"checksum behind padding", proxyTCP4 + "0018" + bytes4 + "040002" + "ffff" + "030004" + "dcc5f84c", v4, nil},
		{"wrong checksum", proxyTCP4 + "0013" + bytes4 + "030004" + "c4053125", headerIn{}, errHeaderCRC},
		{"short checksum", proxyTCP4 + "0011" + bytes4 + "030002" + "c405", headerIn{}, errHeaderCRC},

		{"nothing", "", headerIn{}, errHeaderShort},
		{"CONNECT", "100d00044d515454", headerIn{}, errNoHeader},
	} {
		b := []byte(c.in)
		if !strings.HasPrefix(strings.ToUpper(c.in), "PROXY") {
			b = unhex(t, c.in)
		}
		if c.want.size = len(b); c.err != nil {
			c.want.size = 0
		}
		for _, behind := range []string{"", "\x10\x0d"} {
			if errors.Is(c.err, errHeaderShort) {
				behind = ""
			}
			got, err := parseHeaderIn(slices.Concat(b, []byte(behind)))
			switch {
			case c.err == nil && err != nil, c.err != nil && err == nil, c.err != nil && !errors.Is(c.err, errAny) && !errors.Is(err, c.err):
				t.Errorf("%s, with %q behind: got error %v, want %v", c.name, behind, err, c.err)
			case err == nil && !reflect.DeepEqual(got, c.want):
				t.Errorf("%s, with %q behind:\ngot  %+v\nwant %+v", c.name, behind, got, c.want)
			}
		}
	}
}

var errAny = errors.New("any error but one for more bytes")

// behind is a rig of which every connection must begin with a PROXY header.
func behind(t *testing.T, o rigOptions) *rig {
	t.Helper()
	o.listener.Trusted = NewNetworks([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.0/8")})
	return newRig(t, o)
}

// P7: a header from somewhere that may not send one could claim any address.
func TestFaultP7ASpoofedHeaderIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{Trusted: NewNetworks([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})}})
	for _, opening := range []string{lineTCP4 + string(connect("c")), string(unhex(t, proxyTCP4+"000c"+bytes4)) + string(connect("c")), string(connect("c"))} {
		c := r.dial()
		_, _ = c.Write([]byte(opening)) // it may be closed already
		expectEnd(t, c)
		rec := r.record()
		if rec.Refusal != RefusedProxyUntrusted || rec.End != EndProtocol || rec.Remote.String() != c.LocalAddr().String() || rec.Bytes[Up] != 0 {
			t.Errorf("got %+v, want it refused as %s, by its real address and unread", rec, RefusedProxyUntrusted)
		}
	}
	if got := r.placer.told(); len(got) != 0 {
		t.Errorf("got places used as %v, want none", got)
	}
	if open := r.proxy.Connections()["test"]; open != 0 {
		t.Errorf("got %d connections counted as open, want 0", open)
	}
	r.proxy.everywhere(func(l *loop) {
		if l.reading != 0 {
			t.Errorf("got %d connections counted as without a CONNECT, want 0", l.reading)
		}
	})
}

// P7: a header, and what is behind it, may be cut anywhere.
func TestFaultP7AHeaderSplitAnywhereIsRead(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{})
	for name, header := range map[string]string{
		"version 1, IPv4": lineTCP4, "version 1, IPv6": lineTCP6,
		"version 2, IPv4": string(unhex(t, proxyTCP4+"000c"+bytes4)),
		"version 2, IPv6": string(unhex(t, proxyTCP6+"0028"+bytes6+"050001"+text("u"))),
	} {
		opening := header + string(connect("c"))
		for cut := 1; cut < len(opening); cut++ {
			c := r.dial()
			write(t, c, []byte(opening[:cut]))
			read := cut
			if cut >= len(header) {
				read -= len(header) // only MQTT counts once the header is there
			}
			r.waitUntilRead(read)
			write(t, c, []byte(opening[cut:]))
			b := r.accept(0)
			expect(t, b, connect("c"))
			_, _ = c.Close(), b.Close()
			if rec := r.record(); rec.Remote.Port() != 56324 || rec.Via.String() != c.LocalAddr().String() {
				t.Fatalf("%s, cut at %d: got remote %v via %v, want the address of the header via %v", name, cut, rec.Remote, rec.Via, c.LocalAddr())
			}
		}
	}
}

// P7: a header that says that it has 65535 bytes is refused before they come.
func TestFaultP7AHeaderOf65535BytesIsNotCollected(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{})
	c := r.dial()
	write(t, c, unhex(t, proxyTCP4+"ffff"))
	expectEnd(t, c)
	if rec := r.record(); rec.Refusal != RefusedProxyHeader || rec.End != EndProtocol || rec.Bytes[Up] != 16 {
		t.Errorf("got %+v, want it refused as %s after 16 bytes", rec, RefusedProxyHeader)
	}
	r.proxy.everywhere(func(l *loop) {
		if l.pool.lent != 0 || l.held != 0 {
			t.Errorf("got %d bytes of buffers in use, %d of them held, want none", l.pool.lent, l.held)
		}
	})
}

// P7: a load balancer that only looks whether mqttlb is here is no client, and no client was refused.
func TestFaultP7AProbeIsClosedQuietly(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{})
	for name, opening := range map[string]string{
		"LOCAL":                   localTCP,
		"LOCAL and CONNECT":       localTCP + "100d",
		"LOCAL with an address":   signature + "20" + "21" + "0024" + bytes6,
		"UNKNOWN, and the end":    text("PROXY UNKNOWN\r\n"),
		"no address, and the end": signature + "21" + "00" + "0000",
	} {
		c := r.dial()
		write(t, c, unhex(t, opening))
		if strings.HasSuffix(name, "the end") {
			_ = c.CloseWrite()
		}
		expectEnd(t, c)
		if rec := r.record(); rec.End != EndProbe || rec.Refusal != "" {
			t.Errorf("%s: got end %v, refused for %q, want a probe", name, rec.End, rec.Refusal)
		}
	}
	c := r.dial() // as HAProxy does it with version 1
	at := c.LocalAddr().(*net.TCPAddr)
	write(t, c, fmt.Appendf(nil, "PROXY TCP4 127.0.0.1 127.0.0.1 %d 1883\r\n", at.Port))
	_ = c.CloseWrite()
	expectEnd(t, c)
	if rec := r.record(); rec.End != EndProbe || rec.Refusal != "" {
		t.Errorf("in its own name: got end %v, refused for %q, want a probe", rec.End, rec.Refusal)
	}
	c = r.dial()
	write(t, c, []byte(lineTCP4))
	_ = c.CloseWrite()
	expectEnd(t, c)
	if rec := r.record(); rec.End != EndClient || rec.Refusal != RefusedIncomplete {
		t.Errorf("in a client's name: got end %v, refused for %q, want %q", rec.End, rec.Refusal, RefusedIncomplete)
	}
}

// P7: where a header must be, everything else is refused, also a whole CONNECT.
func TestFaultP7AMissingHeaderIsRefused(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{listener: Listener{ConnectTimeout: 300 * time.Millisecond}})
	for name, opening := range map[string]string{
		"CONNECT":     string(connect("c")),
		"HTTP":        "POST / HTTP/1.1\r\n",
		"UDP":         string(unhex(t, signature+"21"+"12"+"000c"+bytes4)),
		"half":        lineTCP4[:20],
		"endless":     "PROXY UNKNOWN " + strings.Repeat("f", 200),
		"wrong CRC":   string(unhex(t, proxyTCP4+"0013"+bytes4+"030004"+"00000000")),
		"two of them": lineTCP4 + string(unhex(t, proxyTCP4+"000c"+bytes4)),
	} {
		c := r.dial()
		write(t, c, []byte(opening))
		expectEnd(t, c)
		end := EndProtocol
		if name == "half" {
			end = EndTimeout
		}
		if rec := r.record(); rec.Refusal != RefusedProxyHeader || rec.End != end {
			t.Errorf("%s: got refused for %q, ended by %v, want %q and %v", name, rec.Refusal, rec.End, RefusedProxyHeader, end)
		}
	}
	c := r.dial()
	write(t, c, []byte(lineTCP4+string(connect("c")[:5])))
	expectEnd(t, c)
	if rec := r.record(); rec.Refusal != RefusedConnectTimeout || rec.Remote != facts4.src {
		t.Errorf("got %+v, want it refused as %s: its header was there", rec, RefusedConnectTimeout)
	}
}

// Without Trusted a header is what it always was: garbage.
func TestAHeaderThatNobodyExpectsIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	for _, header := range []string{lineTCP4, string(unhex(t, proxyTCP4+"000c"+bytes4))} {
		c := r.dial()
		write(t, c, []byte(header+string(connect("c"))))
		expectEnd(t, c)
		if rec := r.record(); rec.Refusal != RefusedProxyHeader || rec.Target.Backend != nil {
			t.Errorf("got %+v, want it refused as %s", rec, RefusedProxyHeader)
		}
	}
}

// The time for the header is part of the time for CONNECT.
func TestTimeForTheHeader(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{listener: Listener{ConnectTimeout: time.Minute}})
	left := func() (d time.Duration) {
		r.proxy.everywhere(func(l *loop) {
			for i := range uint32(len(l.sessions.chunks) * slabSize) {
				if s := l.sessions.at(i); s.state == stateReading {
					d = time.Duration(s.timer.deadline)*tick + time.Duration(l.timers.lag) - time.Duration(s.accepted)
				}
			}
		})
		return d
	}
	c := r.dial()
	write(t, c, []byte(lineTCP4[:5]))
	r.waitUntilRead(5)
	if got := left(); got < headerInTimeout || got > headerInTimeout+2*tick {
		t.Errorf("got a deadline of %v after accept, want %v", got, headerInTimeout)
	}
	write(t, c, []byte(lineTCP4[5:]))
	eventually(t, func() bool { return left() > headerInTimeout+2*tick })
	if got := left(); got < time.Minute || got > time.Minute+2*tick {
		t.Errorf("got a deadline of %v after accept once the header was there, want a minute", got)
	}
	r.proxy.everywhere(func(l *loop) {
		if l.held != 0 {
			t.Errorf("got %d bytes held although nothing has come behind the header, want 0", l.held)
		}
	})
	write(t, c, connect("c"))
	expect(t, r.accept(0), connect("c"))
}

// The header that backends get tells what the one from the load balancer has told.
func TestHeadersArePassedOn(t *testing.T) {
	t.Parallel()
	h := newHeader(t, HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, "mine"}}})
	r := behind(t, rigOptions{backend: Backend{Header: h}})
	tlvs := "050002" + text("id") + "e40006" + text("theirs") + "ea0003" + "0176ff" + "200001" + "00"
	c := r.dial()
	write(t, c, slices.Concat(unhex(t, proxyTCP6+"003c"+bytes6+tlvs), connect("c")))
	want := slices.Concat(unhex(t, proxyTCP6+"0036"+bytes6+"050002"+text("id")+"e40004"+text("mine")+"ea0003"+"0176ff"), connect("c"))
	b := r.accept(0)
	expect(t, b, want)
	sessions := r.proxy.Sessions(func(*SessionInfo) bool { return true }, 0)
	if len(sessions) != 1 || sessions[0].Remote != facts6.src {
		t.Errorf("got sessions %+v, want one of %v", sessions, facts6.src)
	}
	_, _ = c.Close(), b.Close()
	if rec := r.record(); rec.UniqueID != "id" || rec.Remote != facts6.src {
		t.Errorf("got unique id %q and remote %v, want id and %v", rec.UniqueID, rec.Remote, facts6.src)
	}

	// Without addresses there is nothing to tell but what is known.
	c = r.dial()
	write(t, c, slices.Concat([]byte("PROXY UNKNOWN\r\n"), connect("c")))
	header := make([]byte, 16+12+3+24+3+4)
	b = r.accept(0)
	if _, err := io.ReadFull(b, header); err != nil {
		t.Fatal(err)
	}
	d, _, err := decodeHeader(header)
	if err != nil || d.src.String() != c.LocalAddr().String() || d.dst.String() != r.addr {
		t.Errorf("got %v to %v (error %v), want the connection's own %v to %v", d.src, d.dst, err, c.LocalAddr(), r.addr)
	}
}

// What the load balancer has sent goes first when the header gets too long.
func TestPassedOnValuesFitOrStayOut(t *testing.T) {
	t.Parallel()
	facts := facts4
	facts.uniqueID = "upstream"
	facts.custom = []proxyproto.TLV{{Type: 0xEA, Value: bytes.Repeat([]byte{1}, 470)}, {Type: 0xE0, Value: []byte("12345678")}}
	b, trimmed := newHeader(t, HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, "mine"}}}).append(nil, &facts)
	d, _, err := decodeHeader(b)
	if err != nil || !trimmed || d.types() != "05 e4 e0" || d.value(5) != "upstream" {
		t.Errorf("got TLVs %q, unique id %q, trimmed %v (error %v), want 05 e4 e0, upstream, and told", d.types(), d.value(5), trimmed, err)
	}
}

// Clients behind one load balancer take turns by their own addresses, and are told apart by them.
func TestAdmissionGoesByTheClientsAddress(t *testing.T) {
	t.Parallel()
	r := behind(t, rigOptions{})
	for i := range 2 * contestMoves {
		c := r.dial()
		line := "PROXY TCP4 192.0.2." + string(rune('1'+i%2)) + " 198.51.100.7 56324 1883\r\n"
		write(t, c, []byte(line+string(connect("shared"))))
		_, _ = c.Close(), r.accept(0).Close()
	}
	select {
	case c := <-r.told.contests:
		if !strings.HasPrefix(c.Remote.String(), "192.0.2.") {
			t.Errorf("got a contest with %v, want an address from the headers", c.Remote)
		}
	case <-time.After(patience):
		t.Error("got no contest between two addresses behind one load balancer, want one")
	}
}

func TestTrustedNetworks(t *testing.T) {
	t.Parallel()
	list := func(networks ...string) *Networks {
		var l []netip.Prefix
		for _, n := range networks {
			l = append(l, netip.MustParsePrefix(n))
		}
		return NewNetworks(l)
	}
	a, same, other := Listener{Trusted: list("10.0.0.0/8")}, Listener{Trusted: list("10.0.0.0/8")}, Listener{Trusted: list("10.0.0.0/9")}
	if !a.same(same) || a.same(other) || a.same(Listener{}) || (Listener{}).same(a) || a.same(Listener{Trusted: a.Trusted, MaxConnections: 1}) {
		t.Error("listeners are not compared by what they are")
	}
	for address, want := range map[string]bool{"10.1.2.3": true, "11.0.0.1": false, "2001:db8::1": true, "2001:db9::1": false} {
		if got := list("10.0.0.0/8", "2001:db8::/32").contains(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: got trusted %v, want %v", address, got, want)
		}
	}
	if list().contains(netip.MustParseAddr("127.0.0.1")) {
		t.Error("no networks: got somebody trusted, want nobody")
	}
}
