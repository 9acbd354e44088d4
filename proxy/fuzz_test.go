package proxy

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// FuzzPeekFragmented sends the same bytes twice, at once and cut at fuzzed points: the proxy must come to the
// same verdict, and the broker must get the same bytes. The proxy has read each part before the next is sent.
func FuzzPeekFragmented(f *testing.F) {
	v5 := mqttparse.AppendConnect(nil, &mqttparse.ConnectOptions{
		Version: 5, ClientID: "sensor-1", KeepAlive: 60, Username: "u", Password: []byte("p"), SessionExpiry: 3600,
		WillTopic: "t", WillPayload: []byte("gone"), UserProperties: [][2]string{{"lb-group", "ingest"}},
	})
	for _, opening := range [][]byte{
		connect("c"), slices.Concat(connect("pipelined"), []byte{0xc0, 0}, publish(300)), v5, slices.Concat(v5, publish(20_000)),
		connect("incomplete")[:9],
		{0x10},
		{},
		v5[:len(v5)-1],
		[]byte("GET / HTTP/1.1\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), []byte("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n"),
		[]byte("\x10\xff\xff\xff\xff\x7f"), []byte("\x10\xff\xff\xff\x7f"), []byte("\x10\x10\x00\x04MQTX\x04\x02\x00\x3c\x00\x04abcd"),
		slices.Concat([]byte{0x10, 0x90, 0x4e}, connect("too long")[2:], make([]byte, 10_000)),
	} {
		f.Add(opening, uint64(1), byte(3))
		f.Add(opening, uint64(2), byte(255))
	}
	shared := fuzzRig(f, Listener{ConnectSize: 4096})
	f.Fuzz(func(t *testing.T, opening []byte, seed uint64, cuts byte) {
		if len(opening) > 32<<10 {
			return
		}
		r := *shared
		r.t = t
		whole := r.open(opening)
		rng := rand.New(rand.NewPCG(seed, 1))
		var parts [][]byte
		for rest := opening; len(rest) > 0; {
			n := len(rest)
			if len(parts) < int(cuts%32) {
				n = 1 + rng.IntN(min(len(rest), 1<<rng.IntN(15)))
			}
			parts = append(parts, rest[:n])
			rest = rest[n:]
		}
		cut := r.open(parts...)
		if cut.verdict != whole.verdict || !bytes.Equal(cut.arrived, whole.arrived) {
			t.Fatalf("%x, cut into %d parts: got %q and %d bytes at the broker, want %q and %d bytes",
				opening, len(parts), cut.verdict, len(cut.arrived), whole.verdict, len(whole.arrived))
		}
		if len(whole.arrived) > 0 && !bytes.Equal(whole.arrived, opening) {
			t.Fatalf("got %x at the broker, want %x", whole.arrived, opening)
		}
	})
}

// fuzzRig is a rig for all the inputs of a fuzz test, one after the other.
func fuzzRig(f *testing.F, ln Listener) *rig {
	f.Helper()
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = broker.Close() })
	r := &rig{told: newTeller(), brokers: []net.Listener{broker}, placer: &fakePlacer{backends: []*Backend{{
		Cluster: "cluster", Name: "a", Address: netip.MustParseAddrPort(broker.Addr().String()), DialTimeout: patience,
	}}}}
	ln.Name, ln.Address, ln.Placer = "test", "127.0.0.1:0", r.placer
	r.proxy, err = New(Options{Listeners: []Listener{ln}, Observer: r.told, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	at, _ := r.proxy.Addr("test")
	r.addr = at.String()
	r.proxy.Start()
	f.Cleanup(r.proxy.Close)
	return r
}

// opened is what became of an opening.
type opened struct {
	verdict string
	arrived []byte // at the broker
}

// open connects a client that sends these parts one by one, closes its side, and waits for the end.
func (r *rig) open(parts ...[]byte) opened {
	r.t.Helper()
	client := r.dial()
	arrived := make(chan []byte, 1)
	ended := make(chan struct{})
	l := r.brokers[0].(*net.TCPListener)
	_ = l.SetDeadline(time.Now().Add(patience))
	go func() {
		defer close(ended)
		broker, err := l.Accept()
		if err != nil {
			return
		}
		defer broker.Close()
		b, _ := io.ReadAll(broker)
		arrived <- b
	}()
	sent := 0
	for _, part := range parts {
		if _, err := client.Write(part); err != nil {
			break // refused already
		}
		sent += len(part)
		r.waitUntilRead(sent)
	}
	_ = client.CloseWrite()
	rec := r.record()
	_ = client.Close()
	var o opened
	if rec.Attempts > 0 {
		<-ended
		o.arrived = <-arrived
	} else {
		_ = l.SetDeadline(time.Now())
		<-ended
	}
	if rec.End == EndProtocol || rec.End == EndLimit {
		rec.Refusal, rec.End = "cannot be a CONNECT that we take", EndProtocol // what it is instead depends on how much came at once
	}
	o.verdict = fmt.Sprintf("refused %q, end %v, client %q, version %d, attempts %d, packets %v", rec.Refusal, rec.End, rec.ClientID, rec.Version, rec.Attempts, rec.Packets)
	return o
}

// waitUntilRead waits until the proxy has read so many bytes from its only client, or has sent it away.
func (r *rig) waitUntilRead(bytes int) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if len(r.told.ended) > 0 {
			return
		}
		read := 0
		r.proxy.everywhere(func(l *loop) {
			for i := range uint32(len(l.sessions.chunks) * slabSize) {
				read += int(l.sessions.at(i).client.bytes)
			}
		})
		if read >= bytes {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the proxy has read %d bytes, want %d", read, bytes)
		}
		runtime.Gosched()
	}
}

// FuzzHeader builds headers from anything and decodes them twice: by hand, and with go-proxyproto.
func FuzzHeader(f *testing.F) {
	f.Add(facts4.src.Addr().AsSlice(), facts4.dst.Addr().AsSlice(), uint16(56324), uint16(1883), "sensor-1", "edge-1", true, byte(0xE4), "{instance}/{client_id}", uint16(500))
	f.Add(facts6.src.Addr().AsSlice(), facts4.dst.Addr().AsSlice(), uint16(1), uint16(65535), "\xff", "", false, byte(0xE5), "", uint16(0))
	f.Add(facts6.src.Addr().AsSlice(), facts6.dst.Addr().AsSlice(), uint16(1), uint16(2), strings.Repeat("long", 200), "e", true, byte(0xEF), "{client_id}", uint16(600))
	f.Add([]byte{1, 2, 3, 4}, facts6.dst.Addr().AsSlice(), uint16(1), uint16(2), "c\n", "e", true, byte(0xE0), "{attempt}{attempt}", uint16(64))
	f.Fuzz(func(t *testing.T, src, dst []byte, srcPort, dstPort uint16, clientID, instance string, unique bool, kind byte, value string, limit uint16) {
		from, ok1 := netip.AddrFromSlice(src)
		to, ok2 := netip.AddrFromSlice(dst)
		h, err := NewHeader(HeaderOptions{
			Instance: instance, UniqueID: unique, Nonce: 7, MaxSize: int(limit),
			Custom: []CustomTLV{{kind, value}, {0xE1, "{client_id}"}, {0xE2, "-"}},
		})
		if err != nil || !ok1 || !ok2 {
			return
		}
		facts := headerFacts{
			src: netip.AddrPortFrom(from, srcPort), dst: netip.AddrPortFrom(to, dstPort), clientID: clientID,
			listener: "mqtt", strategy: "fake", attempt: 3, loop: 1, sequence: 9,
		}
		payload := connect("c")
		b, trimmed := h.append(nil, &facts)
		d, rest, err := decodeHeader(slices.Concat(b, payload))
		if err != nil {
			t.Fatalf("got %x, which does not decode: %v", b, err)
		}
		if !bytes.Equal(rest, payload) {
			t.Fatalf("got %x behind the header, want %x", rest, payload)
		}
		if most := max(cmp.Or(int(limit), MaxHeaderSize), addressSize(d)); len(b)-16 > most {
			t.Fatalf("got %d bytes behind the first 16, want at most %d", len(b)-16, most)
		}
		if d.src.Addr().Unmap() != from.Unmap() || d.dst.Addr().Unmap() != to.Unmap() || d.src.Port() != srcPort || d.dst.Port() != dstPort {
			t.Fatalf("got %v and %v, want %v and %v", d.src, d.dst, facts.src, facts.dst)
		}
		if !trimmed && (unique != strings.Contains(d.types(), "05") || clientID != "" && d.value(0xE1) != clientID && kind != 0xE1) {
			t.Fatalf("got TLVs %q and nothing told of what is missing", d.types())
		}
		compareWithCodec(t, b, payload, d)
	})
}

// compareWithCodec decodes the header with go-proxyproto and compares.
func compareWithCodec(t *testing.T, header, payload []byte, d decoded) {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(slices.Concat(header, payload)))
	h, err := proxyproto.Read(r)
	if err != nil {
		t.Fatalf("go-proxyproto refuses %x: %v", header, err)
	}
	if h.Version != 2 || h.Command != proxyproto.PROXY || r.Buffered() != len(payload) {
		t.Fatalf("go-proxyproto: got version %d, command %v, %d bytes left, want 2, PROXY, %d", h.Version, h.Command, r.Buffered(), len(payload))
	}
	src, dst := h.SourceAddr.(*net.TCPAddr).AddrPort(), h.DestinationAddr.(*net.TCPAddr).AddrPort()
	if src.Addr().Unmap() != d.src.Addr().Unmap() || dst.Addr().Unmap() != d.dst.Addr().Unmap() || src.Port() != d.src.Port() || dst.Port() != d.dst.Port() {
		t.Fatalf("go-proxyproto: got %v and %v, want %v and %v", src, dst, d.src, d.dst)
	}
	tlvs, err := h.TLVs()
	if err != nil || len(tlvs) != len(d.tlvs) {
		t.Fatalf("go-proxyproto: got %d TLVs and error %v, want %d", len(tlvs), err, len(d.tlvs))
	}
	for i := range tlvs {
		if byte(tlvs[i].Type) != d.tlvs[i].kind || string(tlvs[i].Value) != d.tlvs[i].value {
			t.Fatalf("go-proxyproto: got TLV %#x %q, want %#x %q", byte(tlvs[i].Type), tlvs[i].Value, d.tlvs[i].kind, d.tlvs[i].value)
		}
	}
}

// decoded is a PROXY header as the decoder of these tests reads it.
type decoded struct {
	src, dst netip.AddrPort
	tlvs     []decodedTLV
}

type decodedTLV struct {
	kind  byte
	value string
}

func (d decoded) types() string {
	var list []string
	for _, tlv := range d.tlvs {
		list = append(list, fmt.Sprintf("%02x", tlv.kind))
	}
	return strings.Join(list, " ")
}

func (d decoded) value(kind byte) string {
	for _, tlv := range d.tlvs {
		if tlv.kind == kind {
			return tlv.value
		}
	}
	return ""
}

func addressSize(d decoded) int { return 2 * (d.src.Addr().BitLen()/8 + 2) }

// decodeHeader reads a PROXY v2 header of TCP over IPv4 or IPv6, and returns what is behind it.
func decodeHeader(b []byte) (d decoded, rest []byte, err error) {
	if len(b) < 16 || hex.EncodeToString(b[:12]) != signature {
		return d, nil, errors.New("no signature")
	}
	if b[12] != 0x21 {
		return d, nil, fmt.Errorf("version and command %#x", b[12])
	}
	size := map[byte]int{0x11: 4, 0x21: 16}[b[13]]
	length := int(binary.BigEndian.Uint16(b[14:]))
	if size == 0 || len(b) < 16+length || length < 2*size+4 {
		return d, nil, fmt.Errorf("family %#x, length %d of %d", b[13], length, len(b)-16)
	}
	body, rest := b[16:16+length], b[16+length:]
	address := func(at, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(body[at : at+size])
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(body[port:]))
	}
	d.src, d.dst = address(0, 2*size), address(size, 2*size+2)
	for body = body[2*size+4:]; len(body) > 0; {
		if len(body) < 3 {
			return d, nil, errors.New("half a TLV")
		}
		n := int(binary.BigEndian.Uint16(body[1:]))
		if len(body) < 3+n {
			return d, nil, errors.New("a TLV longer than the header")
		}
		d.tlvs = append(d.tlvs, decodedTLV{body[0], string(body[3 : 3+n])})
		body = body[3+n:]
	}
	return d, rest, nil
}
