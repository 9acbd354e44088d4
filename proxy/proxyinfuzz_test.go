package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"
)

// FuzzProxyHeaderIn compares with go-proxyproto, and cuts the bytes everywhere.
func FuzzProxyHeaderIn(f *testing.F) {
	for _, seed := range []string{
		proxyTCP4 + "000c" + bytes4, proxyTCP6 + "0024" + bytes6, proxyTCP4 + "0018" + bytes4 + "040002" + "ffff" + "030004" + "dcc5f84c",
		localTCP, signature + "21" + "00" + "0004" + "050001" + text("u"), signature + "21" + "31" + "00d8" + strings.Repeat("00", unixAddr),
		proxyTCP4 + "ffff", proxyTCP6 + "0032" + bytes6 + "ea0002" + "01ff" + "e40001" + text("a") + "e40002" + text("bc"),
		text(lineTCP4), text(lineTCP6), text("PROXY UNKNOWN\r\n"), text("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 1 2\r\n"),
	} {
		f.Add(append(unhex(f, seed), connect("c")...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeaderIn(b)
		for cut := range b {
			if cut > 300 && cut < len(b)-1 {
				continue
			}
			part, partErr := parseHeaderIn(b[:cut])
			switch {
			case errors.Is(partErr, errHeaderShort):
				if err == nil && cut >= h.size || cut >= fixedIn+maxHeaderIn {
					t.Fatalf("got %d bytes of %x asking for more, want a verdict", cut, b)
				}
			case (err == nil) != (partErr == nil) || !reflect.DeepEqual(part, h):
				t.Fatalf("got %+v, %v from %d bytes and %+v, %v from all of %x", part, partErr, cut, h, err, b)
			}
		}
		compareHeaderIn(t, b, h, err)
	})
}

// compareHeaderIn checks a verdict against that of go-proxyproto, which is stricter about connections without an address
// and does not look at values and checksums.
func compareHeaderIn(t *testing.T, b []byte, h headerIn, err error) {
	t.Helper()
	source := bytes.NewReader(b)
	r := bufio.NewReaderSize(source, 2*maxHeaderIn)
	codec, codecErr := proxyproto.Read(r)
	unspecified := len(b) > 13 && b[0] == '\r' && b[12] == 0x21 && b[13] == 0
	switch {
	case err == nil && unspecified:
		return
	case err == nil && codecErr != nil:
		t.Fatalf("got %+v from %x, which go-proxyproto refuses: %v", h, b, codecErr)
	case err == nil:
		compareWithRead(t, b[:h.size], h, codec)
		if left := source.Len() + r.Buffered(); left != len(b)-h.size {
			t.Fatalf("got a header of %d bytes, go-proxyproto leaves %d of %d", h.size, left, len(b))
		}
	case codecErr == nil:
		_, tlvErr := codec.TLVs()
		stream := codec.TransportProtocol.IsStream()
		if stream && tlvErr == nil && !errors.Is(err, errHeaderCRC) {
			t.Fatalf("got %v for %x, which go-proxyproto takes", err, b)
		}
	}
}

func compareWithRead(t *testing.T, b []byte, h headerIn, codec *proxyproto.Header) {
	t.Helper()
	if h.probe != (codec.Version == 2 && codec.Command == proxyproto.LOCAL) {
		t.Fatalf("%x: got probe %v, go-proxyproto has command %v", b, h.probe, codec.Command)
	}
	src, isTCP := codec.SourceAddr.(*net.TCPAddr)
	if isTCP = isTCP && !h.probe; isTCP != h.src.IsValid() {
		t.Fatalf("%x: got source %v, go-proxyproto has %v", b, h.src, codec.SourceAddr)
	}
	if isTCP && (!src.IP.Equal(h.src.Addr().AsSlice()) || src.Port != int(h.src.Port()) || h.src.Addr().Is4In6()) {
		t.Fatalf("%x: got source %v, go-proxyproto has %v", b, h.src, src)
	}
	if dst, _ := codec.DestinationAddr.(*net.TCPAddr); isTCP && (!dst.IP.Equal(h.dst.Addr().AsSlice()) || dst.Port != int(h.dst.Port())) {
		t.Fatalf("%x: got destination %v, go-proxyproto has %v", b, h.dst, dst)
	}
	if h.probe || codec.Version == 1 {
		return
	}
	tlvs, err := codec.TLVs()
	if err != nil {
		t.Fatalf("%x: got %+v, go-proxyproto cannot read the values: %v", b, h, err)
	}
	id, custom := "", []proxyproto.TLV(nil)
	for _, tlv := range tlvs {
		switch {
		case tlv.Type == proxyproto.PP2_TYPE_UNIQUE_ID && id == "" && len(tlv.Value) <= maxUniqueID:
			id = string(tlv.Value)
		case tlv.Type.App() && !slices.ContainsFunc(custom, func(t proxyproto.TLV) bool { return t.Type == tlv.Type }):
			custom = append(custom, tlv)
		case tlv.Type == proxyproto.PP2_TYPE_CRC32C:
			if len(tlv.Value) != 4 || !slices.Contains(checksums(b), binary.BigEndian.Uint32(tlv.Value)) {
				t.Fatalf("%x: got a header with a wrong checksum %x", b, tlv.Value)
			}
		}
	}
	if id != h.uniqueID || !slices.EqualFunc(custom, h.custom, func(a, b proxyproto.TLV) bool { return a.Type == b.Type && bytes.Equal(a.Value, b.Value) }) {
		t.Fatalf("%x: got %q and %v, want %q and %v", b, h.uniqueID, h.custom, id, custom)
	}
}

// checksums are the CRC32Cs of b with each of the places zeroed at which a checksum may be, bit by bit.
func checksums(b []byte) (sums []uint32) {
	for at := 0; at+7 <= len(b); at++ {
		if b[at] != 3 || b[at+1] != 0 || b[at+2] != 4 {
			continue
		}
		sum := ^uint32(0)
		for i, c := range b {
			if i >= at+3 && i < at+7 {
				c = 0
			}
			sum ^= uint32(c)
			for range 8 {
				sum = sum>>1 ^ 0x82f63b78*(sum&1)
			}
		}
		sums = append(sums, ^sum)
	}
	return sums
}
