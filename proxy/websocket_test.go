package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// However the client's stream is cut, the broker gets MQTT and nothing else, and the client the broker's bytes in frames.
func TestWebSocketCarriesBothWays(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 11))
		up, down := connect("c"), slices.Clone(connack())
		for range 40 {
			up = append(up, publish(rng.IntN(1<<rng.IntN(16)))...)
			down = append(down, publish(rng.IntN(1<<rng.IntN(18)))...)
		}
		client := r.upgraded()
		go func() {
			for _, part := range cutUp(rng, fragment(rng, up)) {
				_, _ = client.Write(part)
			}
		}()
		broker := r.accept(0)
		go func() { _, _ = broker.Write(down) }()
		expect(t, broker, up)
		for got := 0; got < len(down); {
			f, err := client.next()
			switch {
			case err != nil:
				t.Fatalf("seed %d: after %d bytes: %v", seed, got, err)
			case f.Header.OpCode == ws.OpPong && string(f.Payload) == "between":
			case f.Header.OpCode == ws.OpBinary && slices.Equal(down[got:min(len(down), got+len(f.Payload))], f.Payload):
				got += len(f.Payload)
			default:
				t.Fatalf("seed %d: after %d bytes got frame %+v, want the next of them", seed, got, f.Header)
			}
		}
		client.send(ws.OpClose, "\x03\xe8")
		expectEOF(t, broker)
		_ = broker.Close()
		rec := r.record()
		if rec.End != EndClient || rec.Bytes != [2]uint64{uint64(len(up)), uint64(len(down))} {
			t.Errorf("seed %d: got end %v and %v bytes, want client and %d and %d: those of MQTT", seed, rec.End, rec.Bytes, len(up), len(down))
		}
	}
}

// The opening may come byte by byte.
func TestWebSocketOpeningByteByByte(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client := r.dial()
	_ = client.SetNoDelay(true)
	for _, b := range bytewise(upgradeRequest("GET /mqtt", nil)) {
		write(t, client, b)
	}
	upgraded := make([]byte, 1)
	expect(t, client, []byte("HTTP/1.1 101 Switching Protocols\r\n"))
	for line := ""; line != "\r\n"; {
		for line = ""; len(line) < 2 || line[len(line)-2:] != "\r\n"; line += string(upgraded) {
			if _, err := client.Read(upgraded); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, b := range bytewise(slices.Concat(frame(ws.OpBinary, false, string(connect("c")[:3])), frame(ws.OpPing, true, ""), frame(ws.OpContinuation, true, string(connect("c")[3:])))) {
		write(t, client, b)
	}
	expect(t, r.accept(0), connect("c"))
	expect(t, client, []byte{0x8a, 0})
}

// The client's Close is its end: it is answered and followed by FIN at once, and the broker gets FIN.
func TestWebSocketClosedByTheClient(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client, broker := r.webSocketSession()
	write(t, client, slices.Concat(frame(ws.OpBinary, true, "\xe0\x00"), frame(ws.OpClose, true, "\x0f\xa1bye")))
	expect(t, broker, []byte{0xe0, 0})
	expectEOF(t, broker)
	_ = client.SetReadDeadline(time.Now().Add(closeGrace - time.Second)) // FIN does not wait for the broker
	client.expectClose(4001)
	_ = broker.Close()
	if rec := r.record(); rec.End != EndClient || rec.Refusal != "" {
		t.Errorf("got end %v and refusal %q, want client", rec.End, rec.Refusal)
	}
}

// The broker's FIN becomes Close behind the last byte, and FIN.
func TestWebSocketClosedByTheBroker(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client, broker := r.webSocketSession()
	write(t, broker, publish(300_000))
	_ = broker.CloseWrite()
	client.expect(publish(300_000))
	client.expectClose(ws.StatusNormalClosure)
	client.send(ws.OpClose, "\x03\xe8")
	expectEOF(t, broker)
	if rec := r.record(); rec.End != EndBackend {
		t.Errorf("got end %v, want backend", rec.End)
	}
}

// A connection that just ends, as of a page that is closed, ends for the broker in the same way.
func TestWebSocketEndsWithoutClose(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client, broker := r.webSocketSession()
	_ = client.Conn.(*net.TCPConn).CloseWrite()
	expectEOF(t, broker)
	_ = broker.Close()
	client.expectClose(ws.StatusNormalClosure)
	if rec := r.record(); rec.End != EndClient {
		t.Errorf("got end %v, want client", rec.End)
	}
	client, broker = r.webSocketSession()
	_ = client.Conn.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	if _, err := broker.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client was reset: got %v at the broker, want the same", err)
	}
	if rec := r.record(); rec.End != EndClient {
		t.Errorf("got end %v, want client", rec.End)
	}
	client, broker = r.webSocketSession()
	_ = broker.SetLinger(0)
	_ = broker.Close()
	if _, err := client.next(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the broker was reset: got %v at the client, want the same", err)
	}
	if rec := r.record(); rec.End != EndBackend {
		t.Errorf("got end %v, want backend", rec.End)
	}
}

// Who is evicted is told that the server goes away, between two packets.
func TestWebSocketEvicted(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{stages: brisk()})
	client, broker := r.webSocketSession()
	r.evict(Eviction{})
	expectEOF(t, broker)
	_ = broker.Close()
	client.expectClose(ws.StatusGoingAway)
	client.send(ws.OpClose, "\x03\xe9")
	r.evicted(MomentQuiet)
}

// A busy session is held where a packet ends, although frames end elsewhere.
func TestWebSocketEvictedBetweenPackets(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{stages: brisk()})
	client, broker := r.webSocketSession()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		rng := rand.New(rand.NewPCG(1, 5))
		for rest := []byte(nil); ; {
			select {
			case <-stop:
				return
			default:
			}
			rest = append(rest, publish(100)...)
			n := 1 + rng.IntN(len(rest))
			if _, err := client.Write(frame(ws.OpBinary, true, string(rest[:n]))); err != nil {
				return
			}
			rest = rest[n:]
			time.Sleep(time.Millisecond)
		}
	}()
	k := r.evict(Eviction{})
	got := read(t, broker)
	_ = broker.Close()
	if whole(got) != len(got) || len(got) == 0 {
		t.Errorf("the broker got %d bytes, of which %d are whole packets; want all", len(got), whole(got))
	}
	client.expectClose(ws.StatusGoingAway)
	close(stop)
	<-stopped
	client.send(ws.OpClose, "\x03\xe9")
	r.evicted(MomentBoundary)
	if len(k) != 0 {
		t.Errorf("the eviction was given up: %v", <-k)
	}
}

// What a client does not read is kept from the broker by TCP, and arrives when it reads.
func TestWebSocketSlowReader(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client, broker := r.webSocketSession()
	packet := publish(1 << 20)
	sent := make(chan int, 1)
	go func() {
		n := 0
		_ = broker.SetWriteDeadline(time.Now().Add(time.Second))
		for {
			k, err := broker.Write(packet)
			if n += k; err != nil {
				sent <- n
				return
			}
		}
	}()
	all := <-sent // nothing moves any more
	if held := r.lent(); held > 3*readSize {
		t.Errorf("mqttlb holds %d bytes for a client that does not read, want at most %d", held, 3*readSize)
	}
	want := slices.Repeat(packet, all/len(packet)+1)[:all]
	client.expect(want)
}

// lent is the memory that the sessions' buffers have.
func (r *rig) lent() (n int64) {
	r.t.Helper()
	for _, l := range r.proxy.loops {
		answer := make(chan int64, 1)
		l.do(func(l *loop) { answer <- l.pool.lent })
		n += <-answer
	}
	return n
}

// A client that floods mqttlb with pings and reads no pong costs no memory, and others are served meanwhile.
func TestWebSocketPingFlood(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	client, broker := r.webSocketSession()
	flood := slices.Repeat(frame(ws.OpPing, true, string(make([]byte, 125))), 500)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := client.Write(flood); err != nil {
				return
			}
		}
	}()
	client.expectFrame(ws.OpPong, string(make([]byte, 125))) // the flood has begun
	for range 5 {
		other, backend := r.webSocketSession()
		other.send(ws.OpBinary, string(publish(100)))
		expect(t, backend, publish(100))
		other.send(ws.OpClose, "")
		other.expectFrame(ws.OpClose, "")
		_ = backend.Close()
		r.record()
	}
	if held := r.lent(); held > 2*readSize {
		t.Errorf("mqttlb holds %d bytes, want at most %d", held, 2*readSize)
	}
	close(stop)
	_ = broker.Close()
	_ = client.Close()
	<-stopped
}

// However many pings come from a client that reads nothing, few pongs wait for it.
func TestWebSocketPongsAreBounded(t *testing.T) {
	t.Parallel()
	l, s, w := &loop{}, &session{state: stateRelaying}, &webSocket{}
	g := &s.client
	g.out = l.pool.add(nil, []byte("what it does not read"))
	for range 10_000 {
		w.pong(l, s, g, make([]byte, 125))
	}
	if n := len(g.out.bytes()); n < 127 || n > maxPongs+100 {
		t.Errorf("got %d bytes that wait, want some pongs and at most %d bytes of them", n, maxPongs)
	}
	held := len(g.out.bytes())
	s.state, g.out = stateReading, nil // nothing waits any more, but CONNECT has not come
	w.pong(l, s, g, nil)
	if g.out != nil || w.pongs != maxPongs {
		t.Errorf("before CONNECT got a pong behind %d bytes of them, want none", held)
	}
}

// A chatterer is a layer whose peer sends without end, and nothing of it is MQTT.
type chatterer struct {
	webSocket
	reads int
}

func (c *chatterer) take(_ *loop, _ *session, g *leg, _ []byte) []byte {
	if c.reads++; c.reads == 1000 {
		g.clear(readable)
	}
	return nil
}

// Whoever sends nothing but what its layer uses up has its turn, and no more than that.
func TestChatterKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]func(*loop, *session){
		"before CONNECT": func(l *loop, s *session) { l.readConnect(s) },
		"behind it":      func(l *loop, s *session) { l.pump(s, Up) },
	} {
		l, c := &loop{buffer: make([]byte, readSize)}, new(chatterer)
		s := &session{listener: &listener{}, client: leg{is: open | readable | writable, layer: c}}
		give(l, s)
		if c.reads > 10 || !s.queued {
			t.Errorf("%s: got %d reads in one turn, and another turn %v; want few, and another", name, c.reads, s.queued)
		}
	}
}

// A flood before CONNECT ends at the deadline of that.
func TestWebSocketPingFloodBeforeConnect(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{listener: Listener{ConnectTimeout: 500 * time.Millisecond}})
	client := r.upgraded()
	flood := slices.Repeat(frame(ws.OpPing, true, string(make([]byte, 125))), 500)
	for {
		if _, err := client.Write(flood); err != nil {
			break
		}
	}
	if rec := r.record(); rec.Refusal != RefusedConnectTimeout {
		t.Errorf("got refusal %q, want connect_timeout", rec.Refusal)
	}
}

// Whoever breaks the rules is told by Close, before CONNECT and behind it.
func TestWebSocketViolation(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{})
	for name, tt := range map[string]struct {
		bytes  []byte
		status ws.StatusCode
	}{
		"text":                {frame(ws.OpText, true, "hello"), 1003},
		"not masked":          {[]byte{0x82, 1, 0}, 1002},
		"a long ping":         {frame(ws.OpPing, true, string(make([]byte, 126))), 1002},
		"half a close status": {frame(ws.OpClose, true, "x"), 1002},
	} {
		client := r.upgraded()
		write(t, client, append(tt.bytes, publish(50_000)...))
		client.expectClose(tt.status)
		if rec := r.record(); rec.Refusal != RefusedFrame || rec.End != EndProtocol {
			t.Errorf("%s before CONNECT: got refusal %q and end %v, want websocket_frame and protocol", name, rec.Refusal, rec.End)
		}
		client, broker := r.webSocketSession()
		write(t, client, append(tt.bytes, publish(50_000)...))
		client.expectClose(tt.status)
		if rest, err := io.ReadAll(broker); len(rest) != 0 {
			t.Errorf("%s: got %d bytes at the broker and %v, want none", name, len(rest), err)
		}
		if rec := r.record(); rec.Refusal != RefusedFrame || rec.End != EndProtocol {
			t.Errorf("%s: got refusal %q and end %v, want websocket_frame and protocol", name, rec.Refusal, rec.End)
		}
	}
}

// The limits of MQTT hold behind the frames, and Close says that one has been reached.
func TestWebSocketLimits(t *testing.T) {
	t.Parallel()
	r := webSocketRig(t, rigOptions{listener: Listener{PacketSize: 1000, ConnectSize: 100}})
	client, _ := r.webSocketSession()
	client.send(ws.OpBinary, string(publish(2000)))
	client.expectClose(ws.StatusMessageTooBig)
	if rec := r.record(); rec.Refusal != RefusedPacketSize {
		t.Errorf("got refusal %q, want packet_size", rec.Refusal)
	}
	client = r.upgraded()
	client.send(ws.OpBinary, string(connect(string(make([]byte, 110)))))
	client.expectClose(ws.StatusMessageTooBig)
	if rec := r.record(); rec.Refusal != RefusedConnectSize {
		t.Errorf("got refusal %q, want connect_size", rec.Refusal)
	}
}

// A wireTap keeps what is read from a connection.
type wireTap struct {
	net.Conn
	read []byte
}

func (c *wireTap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read = append(c.read, b[:n]...)
	return n, err
}

// lastRecord returns type and size of the last TLS record.
func (c *wireTap) lastRecord() (kind byte, size int) {
	for rest := c.read; len(rest) >= 5; rest = rest[5+size:] {
		kind, size = rest[0], int(rest[3])<<8|int(rest[4])
	}
	return kind, size
}

// WebSocket on TLS: the same, and both are ended in order.
func TestWebSocketOverTLS(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		r := newTLSRig(t, rigOptions{listener: Listener{WebSocket: &WebSocketOptions{Path: "/mqtt"}}}, nil)
		wire := &wireTap{Conn: r.dial()}
		secure := r.over(wire, r.config(version))
		client := r.upgrade(secure)
		rng := rand.New(rand.NewPCG(uint64(version), 1))
		up := slices.Concat(connect("c"), publish(100_000), publish(10), publish(70_000))
		go func() {
			for _, part := range cutUp(rng, slices.Concat(frame(ws.OpBinary, true, string(up[:5])), frame(ws.OpPing, true, "between"), frame(ws.OpBinary, true, string(up[5:])))) {
				_, _ = client.Write(part)
			}
		}()
		broker := r.accept(0)
		expect(t, broker, up)
		client.expectFrame(ws.OpPong, "between")
		down := slices.Concat(connack(), publish(300_000))
		write(t, broker, down)
		client.expect(down)
		_ = broker.CloseWrite()
		client.expectClose(ws.StatusNormalClosure)
		if kind, size := wire.lastRecord(); version == tls.VersionTLS12 && kind != 21 || size > 64 {
			t.Errorf("%s: got a record of type %d and %d bytes as the last one, want an alert: close_notify", tls.VersionName(version), kind, size)
		}
		client.send(ws.OpClose, "\x03\xe8")
		_ = secure.Close()
		expectEOF(t, broker)
		if rec := r.record(); rec.End != EndBackend || rec.Bytes != [2]uint64{uint64(len(up)), uint64(len(down))} {
			t.Errorf("%s: got end %v after %v bytes, want the backend's after %d and %d", tls.VersionName(version), rec.End, rec.Bytes, len(up), len(down))
		}
		refused := r.over(r.dial(), r.config(version))
		write(t, refused, upgradeRequest("GET /", nil))
		if status, _, _ := refusalOf(t, refused); status != 404 {
			t.Errorf("%s: got status %d for another path, want 404", tls.VersionName(version), status)
		}
	}
}
