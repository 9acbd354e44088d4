package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
)

// A hello is what a test puts into a ClientHello.
type hello struct {
	extensions []byte
}

func (h *hello) extension(kind uint16, body []byte) *hello {
	h.extensions = binary.BigEndian.AppendUint16(h.extensions, kind)
	h.extensions = append(h.extensions, vector(2, body)...)
	return h
}

// sni adds a server name as it is.
func (h *hello) sni(name string) *hello {
	return h.extension(extServerName, vector(2, append([]byte{nameTypeHost}, vector(2, []byte(name))...)))
}

// message is the handshake message.
func (h *hello) message() []byte {
	body := binary.BigEndian.AppendUint16(nil, 0x0303)
	body = append(body, make([]byte, 32)...)
	body = append(body, vector(1, []byte("session"))...)
	body = append(body, vector(2, []byte{0x13, 0x01})...)
	body = append(body, vector(1, []byte{0})...)
	if h.extensions != nil {
		body = append(body, vector(2, h.extensions)...)
	}
	return append([]byte{typeClientHello}, vector(3, body)...)
}

func vector(lengthSize int, body []byte) []byte {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(body)))
	return append(slices.Clone(size[8-lengthSize:]), body...)
}

// records cuts a message into records of at most size bytes.
func records(message []byte, size int) []byte {
	var b []byte
	for part := range slices.Chunk(message, size) {
		b = append(b, recordHandshake, 3, 1)
		b = append(b, vector(2, part)...)
	}
	return b
}

func TestClientHelloOf(t *testing.T) {
	t.Parallel()
	grease := []byte{0x5a, 0x5a}
	tests := []struct {
		name     string
		message  []byte
		wantName string
		wantALPN string
		wantTLS  uint16
	}{
		{"nothing", (&hello{}).message(), "", "", 0x0303},
		{"a name", (&hello{}).sni("a.example").message(), "a.example", "", 0x0303},
		{"upper case and a dot", (&hello{}).sni("Mqtt.A.Example.").message(), "mqtt.a.example", "", 0x0303},
		{"IPv4", (&hello{}).sni("10.0.0.1").message(), "", "", 0x0303},
		{"IPv6", (&hello{}).sni("fe80::1").message(), "", "", 0x0303},
		{"control characters", (&hello{}).sni("a\nb.example").message(), "", "", 0x0303},
		{"an empty label", (&hello{}).sni("a..example").message(), "", "", 0x0303},
		{"only dots", (&hello{}).sni("..").message(), "", "", 0x0303},
		{"a label too long", (&hello{}).sni(strings.Repeat("a", 64) + ".example").message(), "", "", 0x0303},
		{"a name too long", (&hello{}).sni(strings.Repeat("a.", 127)).message(), "a." + strings.Repeat("a.", 125) + "a", "", 0x0303},
		{"a name longer than that", (&hello{}).sni(strings.Repeat("a.", 127) + "aa").message(), "", "", 0x0303},
		{"another kind of name", (&hello{}).extension(extServerName, vector(2, append([]byte{7}, vector(2, []byte("x"))...))).message(), "", "", 0x0303},
		{
			"grease everywhere",
			(&hello{}).extension(0x0a0a, nil).sni("a.example").extension(extALPN, vector(2, append(vector(1, grease), vector(1, []byte("mqtt"))...))).
				extension(extVersions, vector(1, []byte{0x5a, 0x5a, 3, 4, 3, 3})).extension(0xfafa, []byte{0}).message(),
			"a.example", "mqtt", 0x0304,
		},
		{"nothing but grease", (&hello{}).extension(extALPN, vector(2, vector(1, grease))).message(), "", "", 0x0303},
		{"a large key share", (&hello{}).extension(51, make([]byte, 20<<10)).sni("late.example").message(), "late.example", "", 0x0303},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, size := range []int{1, 3, 17, 1000, maxRecord} {
				if size < 17 && len(tt.message) > 1000 {
					continue // too many records
				}
				h, err := parseClientHello(append(records(tt.message, size), "and more"...))
				if err != nil {
					t.Fatalf("in records of %d bytes: got %v", size, err)
				}
				if h.name() != tt.wantName || h.protocol() != tt.wantALPN || h.version() != tt.wantTLS {
					t.Errorf("in records of %d bytes: got %q %q %#x, want %q %q %#x",
						size, h.name(), h.protocol(), h.version(), tt.wantName, tt.wantALPN, tt.wantTLS)
				}
			}
		})
	}
}

func TestNoClientHello(t *testing.T) {
	t.Parallel()
	name := vector(2, append([]byte{0}, vector(2, []byte("a.example"))...))
	tests := []struct {
		name  string
		bytes []byte
		want  Refusal
	}{
		{"HTTP", []byte("G"), RefusedNotTLS},
		{"MQTT", []byte{0x10}, RefusedNotTLS},
		{"a PROXY header", []byte("\r"), RefusedNotTLS},
		{"SSL 2", []byte{0x80, 0x2e, 1}, RefusedNotTLS},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 40}, RefusedNotTLS},
		{"another major version", []byte{22, 4}, RefusedNotTLS},
		{"an empty record", []byte{22, 3, 1, 0, 0}, RefusedHello},
		{"a record too large", []byte{22, 3, 1, 0x40, 1}, RefusedHello},
		{"another message", []byte{22, 3, 1, 0, 4, 2}, RefusedHello},
		{"a message too large", []byte{22, 3, 1, 0x40, 0, 1, 0, 0x80, 0}, RefusedHello},
		{"an endless row of records", bytes.Repeat([]byte{22, 3, 1, 0, 1, 1}, maxHello/6+10), RefusedHello},
		{"records of something else", []byte{22, 3, 1, 0, 1, 1, 23, 3, 1, 0, 1, 0}, RefusedHello},
		{"too short", records([]byte{1, 0, 0, 1, 3}, 100), RefusedHello},
		{"a session id that is cut off", records(append([]byte{1}, vector(3, append(make([]byte, 34), 33))...), 100), RefusedHello},
		{"two names", records((&hello{}).sni("a.example").sni("b.example").message(), 1000), RefusedHello},
		{"two names in one", records((&hello{}).extension(0, vector(2, bytes.Repeat(name[2:], 2))).message(), 1000), RefusedHello},
		{"an empty name", records((&hello{}).sni("").message(), 1000), RefusedHello},
		{"no names", records((&hello{}).extension(0, []byte{0, 0}).message(), 1000), RefusedHello},
		{"an empty protocol", records((&hello{}).extension(extALPN, []byte{0, 1, 0}).message(), 1000), RefusedHello},
		{"half a version", records((&hello{}).extension(extVersions, []byte{1, 3}).message(), 1000), RefusedHello},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := parseClientHello(tt.bytes)
			if refused, ok := errors.AsType[*helloError](err); !ok || refused.why != tt.want {
				t.Errorf("got %v, want one because of %s", err, tt.want)
			}
		})
	}
}

// clientHelloMessage is what crypto/tls says first with this configuration.
func clientHelloMessage(tb testing.TB, c *tls.Config) []byte {
	tb.Helper()
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		_ = tls.Client(far, c).Handshake()
		_ = far.Close()
	}()
	var message []byte
	for length := 1; len(message) < length; {
		header := make([]byte, recordHeader)
		if _, err := io.ReadFull(near, header); err != nil {
			tb.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint16(header[3:]))
		if _, err := io.ReadFull(near, body); err != nil {
			tb.Fatal(err)
		}
		message = append(message, body...)
		length = handshakeHeader + int(binary.BigEndian.Uint32(message)&0xffffff)
	}
	return message
}

// seen is what crypto/tls makes of the same bytes; false if it refuses them.
func seen(b []byte) (info tls.ClientHelloInfo, ok bool) {
	conn := &script{Reader: bytes.NewReader(b)}
	_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(i *tls.ClientHelloInfo) (*tls.Config, error) {
		info, ok = *i, true
		return nil, errors.New("that is all")
	}}).Handshake()
	return info, ok
}

// A script is a connection on which certain bytes come, and nobody listens.
type script struct {
	net.Conn
	*bytes.Reader
}

func (s *script) Read(b []byte) (int, error)  { return s.Reader.Read(b) }
func (s *script) Write(b []byte) (int, error) { return len(b), nil }
func (s *script) Close() error                { return nil }

func randomConfig(rng *rand.Rand) *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10 + uint16(rng.IntN(3)),
		MaxVersion:         tls.VersionTLS12 + uint16(rng.IntN(2)),
	}
	if rng.IntN(4) > 0 {
		c.ServerName = fmt.Sprintf("N%d.Tenant-%c.example", rng.IntN(100), 'a'+rune(rng.IntN(26)))
	}
	for range rng.IntN(4) {
		c.NextProtos = append(c.NextProtos, strings.Repeat("p", rng.IntN(60)+1))
	}
	if rng.IntN(3) == 0 { // long lists make long messages
		for i := range 200 {
			c.NextProtos = append(c.NextProtos, strings.Repeat("q", 80)+fmt.Sprint(i))
		}
	}
	if rng.IntN(2) == 0 {
		c.CurvePreferences = []tls.CurveID{tls.CurveP256}
	}
	return c
}

// agree compares the parser with crypto/tls on bytes that it takes.
func agree(t *testing.T, b []byte, info *tls.ClientHelloInfo) {
	t.Helper()
	h, err := parseClientHello(b)
	if err != nil {
		t.Fatalf("got %v for what crypto/tls takes", err)
	}
	if string(h.serverName) != info.ServerName {
		t.Errorf("got the name %q, want %q", h.serverName, info.ServerName)
	}
	var protocols []string
	for list := h.protocols; len(list) > 0; {
		var p []byte
		if !cutVector(&list, 1, &p) {
			t.Fatal("the list of protocols is not what it seemed")
		}
		protocols = append(protocols, string(p))
	}
	if !slices.Equal(protocols, info.SupportedProtos) {
		t.Errorf("got the protocols %q, want %q", protocols, info.SupportedProtos)
	}
	if h.versions != nil {
		for i, v := range info.SupportedVersions {
			if got := binary.BigEndian.Uint16(h.versions[2*i:]); got != v {
				t.Errorf("got the version %#x, want %#x", got, v)
			}
		}
	}
}

// Whatever crypto/tls sends is understood as crypto/tls understands it, in any segmentation and in any records; each part
// of it asks for more.
func TestClientHelloAsCryptoTLSSeesIt(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(7, 1))
	for range 60 {
		b := records(clientHelloMessage(t, randomConfig(rng)), rng.IntN(4000)+50)
		info, ok := seen(b)
		if !ok {
			t.Fatal("crypto/tls does not take its own ClientHello")
		}
		agree(t, b, &info)
		for range 50 {
			if n := rng.IntN(len(b)); !asksForMore(b[:n]) {
				t.Fatalf("the first %d of %d bytes do not ask for more", n, len(b))
			}
		}
		if !asksForMore(b[:len(b)-1]) {
			t.Fatal("all but one byte do not ask for more")
		}
	}
}

func asksForMore(b []byte) bool {
	_, err := parseClientHello(b)
	return errors.Is(err, errHelloNeedMore)
}

// FuzzClientHello holds the parser to what crypto/tls says of the same bytes, and to itself: a part of what is complete
// asks for more, and what is refused stays so.
func FuzzClientHello(f *testing.F) {
	rng := rand.New(rand.NewPCG(7, 2))
	for range 8 {
		message := clientHelloMessage(f, randomConfig(rng))
		f.Add(records(message, maxRecord))
		f.Add(records(message, 100))
	}
	f.Add((&hello{}).sni("a.example.").message())
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseClientHello(b)
		if h.name() != strings.ToLower(h.name()) {
			t.Error("the name is not in lower case")
		}
		h.version()
		h.protocol()
		_, more := parseClientHello(append(slices.Clip(b), 22, 3))
		if refused, ok := errors.AsType[*helloError](err); ok {
			if still, ok := errors.AsType[*helloError](more); !ok || *still != *refused {
				t.Errorf("got %v, and with more bytes %v", err, more)
			}
		}
		if err == nil {
			for n := range min(len(b), 40) {
				if _, err := parseClientHello(b[:n]); err != nil && !errors.Is(err, errHelloNeedMore) {
					t.Errorf("the first %d bytes are refused: %v", n, err)
				}
			}
		}
		if info, ok := seen(b); ok && b[1] == 3 {
			agree(t, b, &info)
		}
	})
}

func BenchmarkClientHello(b *testing.B) {
	bytes := records(clientHelloMessage(b, &tls.Config{ServerName: "mqtt.tenant-a.example", NextProtos: []string{"mqtt"}}), maxRecord)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseClientHello(bytes); err != nil {
			b.Fatal(err)
		}
	}
}
