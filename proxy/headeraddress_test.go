package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
)

// Version 1 tells the addresses alone, whatever else is configured. It is written by hand from the specification (2.1), and
// go-proxyproto reads it.
func TestLineVectors(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	for _, c := range []struct {
		src, dst netip.AddrPort
		want     string
	}{
		{facts4.src, facts4.dst, "PROXY TCP4 192.0.2.1 198.51.100.7 56324 1883\r\n"},
		{facts6.src, facts6.dst, "PROXY TCP6 2001:db8::1 2001:db8::2 56324 1883\r\n"},
		{facts4.src, facts6.dst, "PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 56324 1883\r\n"},
		{facts6.src, facts4.dst, "PROXY TCP6 2001:db8::1 ::ffff:198.51.100.7 56324 1883\r\n"},
		{at("[::ffff:192.0.2.1]:1"), at("[::ffff:198.51.100.7]:65535"), "PROXY TCP4 192.0.2.1 198.51.100.7 1 65535\r\n"},
		{at("[fe80::1%eth0]:1"), at("[fe80::2%eth0]:2"), "PROXY TCP6 fe80::1 fe80::2 1 2\r\n"},
		{netip.AddrPort{}, facts4.dst, "PROXY TCP4 198.51.100.7 198.51.100.7 1883 1883\r\n"},
		{netip.AddrPort{}, netip.AddrPort{}, "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"},
	} {
		h := newHeader(t, HeaderOptions{
			Version: 1, Instance: "e", UniqueID: true, ALPN: true, Authority: true, SSL: true, Checksum: true, Custom: []CustomTLV{{0xE4, "{client_id}\n"}},
		})
		facts := headerFacts{src: c.src, dst: c.dst, clientID: "c", tls: withCertificate}
		got, trimmed := h.append([]byte("before "), &facts)
		if want := "before " + c.want; string(got) != want || trimmed {
			t.Errorf("%v to %v: got %q, trimmed %t, want %q", c.src, c.dst, got, trimmed, want)
		}
		got = got[len("before "):]
		read, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(got)))
		if err != nil || read.Version != 1 || !read.Command.IsProxy() {
			t.Fatalf("go-proxyproto: got %+v and error %v from %q", read, err, got)
		}
		src, dst := read.SourceAddr.(*net.TCPAddr).AddrPort(), read.DestinationAddr.(*net.TCPAddr).AddrPort()
		if c.src.IsValid() && (src.Addr().Unmap() != c.src.Addr().Unmap().WithZone("") || dst.Addr().Unmap() != c.dst.Addr().Unmap().WithZone("") || src.Port() != c.src.Port() || dst.Port() != c.dst.Port()) {
			t.Errorf("go-proxyproto: got %v to %v from %q, want %v to %v", src, dst, got, c.src, c.dst)
		}
		if ours, err := parseHeaderIn(got); err != nil || ours.size != len(got) || ours.src.Addr() != src.Addr().Unmap() {
			t.Errorf("got %+v and error %v from %q, want %v", ours, err, got, src)
		}
	}
}

// An end that is not known is said to be the other one, for there must be a header.
func TestHeaderWithoutAddresses(t *testing.T) {
	t.Parallel()
	const src, dst, none = "c0000201", "c6336407", "00000000"
	for want, facts := range map[string]headerFacts{
		src + src + "dc04" + "dc04":   {src: facts4.src},
		dst + dst + "075b" + "075b":   {dst: facts4.dst},
		none + none + "0000" + "0000": {},
	} {
		got, trimmed := newHeader(t, HeaderOptions{}).append([]byte("x"), &facts)
		if want := "x" + string(unhex(t, proxyTCP4+"000c"+want)); string(got) != want || trimmed {
			t.Errorf("got %x, trimmed %t, want %x", got, trimmed, want)
		}
	}
}

// With version 1 too, the header and CONNECT leave in one write; there is no unique id to log.
func TestLineLeavesInOneWrite(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{backend: Backend{Header: newHeader(t, HeaderOptions{Version: 1, UniqueID: true})}})
	opening := slices.Concat(connect("at-once"), publish(1000))
	client := r.dial()
	write(t, client, opening)
	broker := r.accept(0)
	b := make([]byte, 64<<10)
	n, err := broker.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	from, to := client.LocalAddr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort(r.addr)
	if want := fmt.Sprintf("PROXY TCP4 %v %v %d %d\r\n%s", from.Addr(), to.Addr(), from.Port(), to.Port(), opening); string(b[:n]) != want {
		t.Errorf("got %.100q with the first read, want %.100q", b[:n], want)
	}
	leave(t, client, broker)
	if rec := r.record(); rec.UniqueID != "" {
		t.Errorf("got unique id %q in the record, want none", rec.UniqueID)
	}
}
