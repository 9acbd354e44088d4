//go:build linux

package e2e

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// A proxyHeader is a decoded PROXY protocol v2 header.
type proxyHeader struct {
	src, dst netip.AddrPort
	tlvs     map[byte]string
	size     int // in bytes, of the whole header
}

// parseProxyHeader decodes by the specification (haproxy, doc/proxy-protocol.txt, 2.2), with no code in
// common with what encodes.
func parseProxyHeader(b []byte) (proxyHeader, error) {
	var h proxyHeader
	if !bytes.HasPrefix(b, []byte("\r\n\r\n\x00\r\nQUIT\n")) || len(b) < 16 {
		return h, fmt.Errorf("no signature: %.16x", b)
	}
	if b[12] != 0x21 {
		return h, fmt.Errorf("version and command are %#02x, want 0x21 for version 2, PROXY", b[12])
	}
	h.size = 16 + int(binary.BigEndian.Uint16(b[14:]))
	if len(b) < h.size {
		return h, fmt.Errorf("the header has %d bytes, of which %d came", h.size, len(b))
	}
	rest := b[16:h.size]
	size := map[byte]int{0x11: 4, 0x21: 16}[b[13]] // TCP over IPv4, TCP over IPv6
	if size == 0 || len(rest) < 2*size+4 {
		return h, fmt.Errorf("family %#02x with %d bytes", b[13], len(rest))
	}
	address := func(i int) netip.AddrPort {
		ip, _ := netip.AddrFromSlice(rest[i*size : (i+1)*size])
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(rest[2*size+2*i:]))
	}
	h.src, h.dst = address(0), address(1)
	h.tlvs = make(map[byte]string)
	for rest = rest[2*size+4:]; len(rest) > 0; {
		if len(rest) < 3 || len(rest) < 3+int(binary.BigEndian.Uint16(rest[1:])) {
			return h, errors.New("a TLV is cut off")
		}
		end := 3 + int(binary.BigEndian.Uint16(rest[1:]))
		if _, twice := h.tlvs[rest[0]]; twice {
			return h, fmt.Errorf("type %#02x occurs twice", rest[0])
		}
		h.tlvs[rest[0]], rest = string(rest[3:end]), rest[end:]
	}
	return h, nil
}

// readHeader reads what a broker gets first, in one read: some brokers insist on that.
func readHeader(t *testing.T, b *net.TCPConn, connect []byte) proxyHeader {
	t.Helper()
	buffer := make([]byte, 4096)
	n, err := b.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseProxyHeader(buffer[:n])
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(buffer[h.size:n], connect) {
		t.Errorf("behind the header came %.64x, want CONNECT %.64x in the same read", buffer[h.size:n], connect)
	}
	return h
}

const (
	proxyUniqueID = 0x05
	proxyOn       = `proxy_protocol:
  version: 2
  custom:
    - {type: 0xE4, value: "{instance}"}
    - {type: 0xE5, value: "{listener}"}
    - {type: 0xE6, value: "id={client_id} by={strategy}"}
    - {type: 0xE7, value: "{attempt}"}
    - {type: 0xE8, value: "constant"}
`
)

func TestBrokersLearnTheClientsAddress(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			if host == "::1" {
				needIPv6(t)
			}
			broker := newStub(t, "a")
			l := startLB(t, settings{backends: []backend{broker.backend()}, host: host, cluster: "proxy_protocol: {version: 2}"})
			o := opening{id: "known", version: v5}
			c := dial(t, l.address, "")
			send(t, c, o.bytes())
			h := readHeader(t, broker.accept(t), o.bytes())
			if h.src.String() != c.LocalAddr().String() || h.dst.String() != c.RemoteAddr().String() {
				t.Errorf("the header says %v to %v, the connection is %v to %v", h.src, h.dst, c.LocalAddr(), c.RemoteAddr())
			}
		})
	}
}

func TestHeaderCarriesTheConfiguredValues(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, cluster: proxyOn, instance: "edge-7"})
	ids := make(map[string]bool)
	for i := range 20 {
		o := opening{id: fmt.Sprint("c", i)}
		c := dial(t, l.address, "")
		send(t, c, o.bytes())
		h := readHeader(t, broker.accept(t), o.bytes())
		want := map[byte]string{0xE4: "edge-7", 0xE5: "mqtt", 0xE6: "id=" + o.id + " by=client-hash", 0xE7: "1", 0xE8: "constant"}
		for kind, value := range want {
			if h.tlvs[kind] != value {
				t.Errorf("type %#02x is %q, want %q", kind, h.tlvs[kind], value)
			}
		}
		unique := h.tlvs[proxyUniqueID]
		if len(unique) == 0 || len(unique) > 128 || ids[unique] {
			t.Errorf("UNIQUE_ID %q is empty, too long, or was used before", unique)
		}
		ids[unique] = true
		if len(h.tlvs) != len(want)+1 {
			t.Errorf("the header has %d values, want %d", len(h.tlvs), len(want)+1)
		}
	}
}

func TestHeaderIsMadeAnewForTheSecondBroker(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "b")
	l := startLB(t, settings{backends: []backend{{"a", loopback(t)}, broker.backend()}, cluster: proxyOn})
	attempts := make(map[string]bool)
	for i := range 20 {
		o := opening{id: fmt.Sprint("c", i)}
		c := dial(t, l.address, "")
		send(t, c, o.bytes())
		attempts[readHeader(t, broker.accept(t), o.bytes()).tlvs[0xE7]] = true
	}
	if len(attempts) != 2 || !attempts["1"] || !attempts["2"] {
		t.Errorf("attempts are %v, want 1 and 2", attempts)
	}
}

// Brokers end a connection over a header that is too long or has control characters in it
// (mosquitto: 500 bytes). The client must not be able to make one.
func TestAClientCannotSpoilTheHeader(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, cluster: proxyOn})
	for name, id := range map[string]string{
		"long":     string(bytes.Repeat([]byte{'x'}, 2000)),
		"controls": "a\nb\x1b[31m",
		"invalid":  "\xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			o := opening{id: id}
			c := dial(t, l.address, "")
			send(t, c, o.bytes())
			h := readHeader(t, broker.accept(t), o.bytes())
			if h.size > 16+500 {
				t.Errorf("the header has %d bytes", h.size)
			}
			if v, ok := h.tlvs[0xE6]; ok {
				t.Errorf("the client id is in the header: %q", v)
			}
			if h.tlvs[0xE8] != "constant" {
				t.Error("the other values are missing")
			}
		})
	}
}
