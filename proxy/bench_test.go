package proxy

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// These benchmarks run the client, the broker and the proxy in one process over loopback: they show the sum
// of all three and of the kernel, on cores that they share. Changes of the proxy show in them; what mqttlb
// costs on its own, how many connections it carries, and how it compares with others is measured in bench/.

// mute is an Observer that does not listen.
type mute struct{}

func (mute) Answered(Answer)      {}
func (mute) Ended(Record)         {}
func (mute) Shed(string, Refusal) {}
func (mute) Contested(Contest)    {}
func (mute) Handshook(Handshake)  {}

// lane is a proxy in front of one broker. serve handles each connection at the broker.
type lane struct{ client string }

func newLane(tb testing.TB, header *Header, serve func(net.Conn)) lane {
	tb.Helper()
	return newLaneWith(tb, Listener{}, header, serve)
}

func newLaneWith(tb testing.TB, ln Listener, header *Header, serve func(net.Conn)) lane {
	tb.Helper()
	broker, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	placer := &fakePlacer{backends: []*Backend{{
		Cluster: "cluster", Name: "a", Address: netip.MustParseAddrPort(broker.Addr().String()), DialTimeout: patience, Header: header,
	}}}
	ln.Name, ln.Address, ln.Placer = "test", "127.0.0.1:0", placer
	p, err := New(Options{
		Listeners: []Listener{ln}, Observer: mute{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	p.Start()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := broker.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	tb.Cleanup(func() {
		p.Close()
		_ = broker.Close()
		<-ended
	})
	at, _ := p.Addr("test")
	return lane{client: at.String()}
}

// echo answers CONNECT with CONNACK and sends everything else back, until the client leaves.
func echo(c net.Conn) {
	defer c.Close()
	b := make([]byte, 256<<10)
	if _, err := io.ReadFull(c, b[:len(connect("c"))]); err != nil {
		return
	}
	if _, err := c.Write(connack()); err != nil {
		return
	}
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// enter connects a client that has its CONNACK.
func (l lane) enter(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", l.client)
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	var answer [4]byte
	if _, err = c.Write(connect("c")); err == nil {
		_, err = io.ReadFull(c, answer[:])
	}
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// enterRaw connects a client that has not said anything.
func (l lane) enterRaw(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := net.Dial("tcp", l.client)
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	return c
}

// pingpong sends a packet and waits until it has come back.
func pingpong(tb testing.TB, c net.Conn, packet, back []byte) {
	tb.Helper()
	if _, err := c.Write(packet); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.ReadFull(c, back); err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkRelay is the time for a packet through the proxy, to the broker and back, on one session. It does
// not show what many sessions at once cost each, nor what the network would add.
func BenchmarkRelay(b *testing.B) {
	for _, n := range []int{60, 1000, 100_000} {
		packet := publish(n)
		b.Run(fmt.Sprintf("bytes=%d", len(packet)), func(b *testing.B) {
			c := newLane(b, nil, echo).enter(b)
			defer c.Close()
			back := make([]byte, len(packet))
			b.SetBytes(2 * int64(len(packet)))
			b.ReportAllocs()
			for b.Loop() {
				pingpong(b, c, packet, back)
			}
		})
	}
}

// BenchmarkConnect is the time from a client's dial to its CONNACK and its goodbye, one client after the
// other. It does not show how many clients per second get in when they come together. The allocations are
// mostly those of the test's own client and broker.
func BenchmarkConnect(b *testing.B) {
	header, err := NewHeader(HeaderOptions{UniqueID: true, Custom: []CustomTLV{{0xE4, "{instance}"}}})
	if err != nil {
		b.Fatal(err)
	}
	for name, h := range map[string]*Header{"none": nil, "v2": header} {
		b.Run("header="+name, func(b *testing.B) {
			l := newLane(b, h, func(c net.Conn) {
				defer c.Close()
				buf := make([]byte, 1024)
				if _, err := c.Read(buf); err != nil {
					return
				}
				_, _ = c.Write(connack())
				_, _ = c.Read(buf)
			})
			b.ReportAllocs()
			for b.Loop() {
				_ = l.enter(b).Close()
			}
		})
	}
}

// BenchmarkHeader shows what building a PROXY header costs, once per connection.
func BenchmarkHeader(b *testing.B) {
	h, err := NewHeader(HeaderOptions{Instance: "edge-1", UniqueID: true, Custom: []CustomTLV{{0xE4, "{instance}"}, {0xE5, "{listener}/{client_id}"}}})
	if err != nil {
		b.Fatal(err)
	}
	dst := make([]byte, 0, 1024)
	facts := facts4
	b.ReportAllocs()
	for b.Loop() {
		_, _ = h.append(dst, &facts)
	}
}

// A packet that passes through allocates nothing, in whatever size it comes. (Not parallel: other tests'
// allocations would count.)
func TestRelayAllocatesNothing(t *testing.T) {
	for _, n := range []int{2, 1000, 60_000} {
		c := newLane(t, nil, echo).enter(t)
		packet := publish(n)
		back := make([]byte, len(packet))
		const warm, rounds = 200, 3000
		for range warm {
			pingpong(t, c, packet, back)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			pingpong(t, c, packet, back)
		}
		runtime.ReadMemStats(&after)
		_ = c.Close()
		// The runtime itself allocates now and then.
		if got := float64(after.Mallocs-before.Mallocs) / (2 * rounds); got > 0.02 {
			t.Errorf("packets of %d bytes: got %.3f allocations per packet, want 0", len(packet), got)
		}
	}
}

// tlsLane is a lane whose clients come over TLS, with their configuration.
func tlsLane(tb testing.TB, version uint16) (lane, *tls.Config) {
	tb.Helper()
	ca := newAuthority(tb)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(tb, "server", time.Now().Add(time.Hour))}, DynamicRecordSizingDisabled: true}
	l := newLaneWith(tb, Listener{TLS: &TLSOptions{Config: func() *tls.Config { return server }}}, nil, echo)
	return l, &tls.Config{RootCAs: ca.pool, ServerName: "localhost", MinVersion: version, MaxVersion: version, CurvePreferences: []tls.CurveID{tls.X25519}}
}

// One message to the broker and back over TLS. The client is in it with its own TLS; what mqttlb allocates for itself
// is 0, and what crypto/tls allocates for each read, on either side, is in the figure.
func BenchmarkTLSMessage(b *testing.B) {
	for _, version := range tlsVersions {
		b.Run(tls.VersionName(version), func(b *testing.B) {
			l, config := tlsLane(b, version)
			c := tls.Client(l.enterRaw(b), config)
			defer c.Close()
			answer := make([]byte, 64)
			pingpong(b, c, connect("c"), answer[:4])
			packet := append([]byte{0x30, 62, 0, 1, 't'}, make([]byte, 59)...)
			b.ReportAllocs()
			for b.Loop() {
				pingpong(b, c, packet, answer)
			}
		})
	}
}

// A connection with its handshake, CONNECT, CONNACK and end.
func BenchmarkTLSHandshake(b *testing.B) {
	for _, version := range tlsVersions {
		b.Run(tls.VersionName(version), func(b *testing.B) {
			l, config := tlsLane(b, version)
			answer := make([]byte, 4)
			b.ReportAllocs()
			for b.Loop() {
				c := tls.Client(l.enterRaw(b), config)
				pingpong(b, c, connect("c"), answer)
				_ = c.Close()
			}
		})
	}
}
