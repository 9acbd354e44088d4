package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

var tlsVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// What goes in comes out, both ways at once, whatever the sizes.
func TestTLSCarriesEveryByte(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			r := newTLSRig(t, rigOptions{}, nil)
			client, broker := r.tlsSession(version)
			flood(t, client, broker, 3<<20)
			_ = client.Close()
			_ = read(t, broker)
			_ = broker.Close()
			if rec := r.record(); rec.End != EndClient || rec.Bytes[Up] != 3<<20+uint64(len(connect("c"))) {
				t.Errorf("got end %v after %d bytes, want the client's after those that it sent", rec.End, rec.Bytes[Up])
			}
		})
	}
}

// crumbs writes a byte at a time.
type crumbs struct{ net.Conn }

func (c crumbs) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := c.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(b), nil
}

func TestTLSHandshakeInCrumbs(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		r := newTLSRig(t, rigOptions{}, nil)
		client := r.over(crumbs{r.dial()}, r.config(version))
		write(t, client, connect("c"))
		expect(t, r.accept(0), connect("c"))
		if h := r.shaken(); h.Refusal != "" || h.Version != version {
			t.Errorf("got %+v, want a good handshake of version %x", h, version)
		}
	}
}

// hello is what a client sends first.
func (r *tlsRig) hello() []byte {
	r.t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); _ = tls.Client(theirs, r.config(tls.VersionTLS13)).Handshake() }()
	b := make([]byte, 16<<10)
	n, err := ours.Read(b)
	_ = ours.Close()
	<-done
	if err != nil {
		r.t.Fatal(err)
	}
	return b[:n]
}

// Cut anywhere, a ClientHello is the same; the parts arrive one by one.
func TestTLSHelloCutAnywhere(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	hello := r.hello()
	var wait sync.WaitGroup
	room := make(chan struct{}, 32)
	for at := 1; at < len(hello); at++ {
		room <- struct{}{}
		wait.Go(func() {
			defer func() { <-room }()
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(patience))
			_, _ = c.Write(hello[:at])
			time.Sleep(time.Millisecond) // so that it is usually read on its own; the result must be the same anyway
			_, _ = c.Write(hello[at:])
			answer := make([]byte, 6)
			if _, err := io.ReadFull(c, answer); err != nil || answer[0] != 22 || answer[5] != 2 {
				t.Errorf("cut at %d: got %x and %v, want a ServerHello", at, answer, err)
			}
		})
	}
	wait.Wait()
}

// A handshake that waits for its client costs nobody else anything.
func TestHalfOpenHandshakesHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const stalling = 1000
	r := newTLSRig(t, rigOptions{listener: Listener{ConnectTimeout: 9 * patience, TLS: &TLSOptions{Handshakes: 2, HandshakeTimeout: 9 * patience}}}, nil)
	r.proxy.on(r.proxy.loops[0], func(*loop) { r.proxy.pendingPerLoop = 2 * stalling })
	hello := r.hello()
	for range stalling {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write(hello)
	}
	for until := time.Now().Add(6 * patience); r.waiting() < stalling; { // for their clients: all is computed
		if time.Now().After(until) {
			t.Fatalf("got %d handshakes that wait, want %d", r.waiting(), stalling)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := r.proxy.Stats().Handshakes; n != stalling {
		t.Errorf("got %d handshakes under way, want %d", n, stalling)
	}
	r.tlsSession(tls.VersionTLS13)
	r.proxy.Close() // with all of them under way
	for range stalling {
		if h := r.shaken(); h.Refusal != "" && h.Refusal != RefusedShutdown {
			t.Fatalf("got %+v, want them to end with the proxy", h)
		}
	}
}

// Where all places are taken by clients that stall, the oldest of them go.
func TestStalledHandshakesGiveWay(t *testing.T) {
	t.Parallel()
	const places = 4
	r := newTLSRig(t, rigOptions{}, nil)
	r.proxy.on(r.proxy.loops[0], func(*loop) { r.proxy.handshakesPerLoop = places })
	hello := r.hello()
	for range 2 * places {
		write(t, r.dial(), hello)
	}
	r.tlsSession(tls.VersionTLS12)
	if h := r.shaken(); h.Refusal != RefusedTLSStalled {
		t.Errorf("got %+v, want one that has stalled", h)
	}
}

func TestTLSHandshakeDeadline(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{listener: Listener{TLS: &TLSOptions{HandshakeTimeout: 200 * time.Millisecond}}}, nil)
	c := r.dial()
	write(t, c, r.hello())
	if rec := r.record(); rec.Refusal != RefusedTLSTimeout || rec.End != EndTimeout {
		t.Errorf("got %v, %q; want a timeout", rec.End, rec.Refusal)
	}
	_, _ = io.ReadAll(c) // it is closed, else this takes too long
	if h := r.shaken(); h.Refusal != RefusedTLSTimeout {
		t.Errorf("got %+v, want tls_timeout", h)
	}
}

func TestTLSSessionsAreResumed(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		r := newTLSRig(t, rigOptions{}, nil)
		config := r.config(version)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for i, want := range []bool{false, true} {
			client := r.over(r.dial(), config)
			write(t, client, connect("c"))
			broker := r.accept(0)
			write(t, broker, connack())
			expect(t, client, connack()) // and the ticket before it
			if h := r.shaken(); h.Resumed != want || h.Refusal != "" {
				t.Errorf("connection %d: got %+v, want resumed %v", i, h, want)
			}
		}
	}
}

func TestTLSRefusals(t *testing.T) {
	t.Parallel()
	demand := func(c *tls.Config, ca *authority) {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool
	}
	for _, c := range []struct {
		name    string
		version uint16
		server  func(*tls.Config, *authority)
		client  func(*tls.Config, *tlsRig)
		want    Refusal
		alert   string // as the client names it
	}{
		{"no certificate", tls.VersionTLS13, demand, nil, RefusedTLSNoCertificate, "certificate required"},
		{"no certificate", tls.VersionTLS12, demand, nil, RefusedTLSNoCertificate, "handshake failure"},
		{"expired", tls.VersionTLS13, demand, func(c *tls.Config, r *tlsRig) {
			c.Certificates = []tls.Certificate{r.ca.issue(r.t, "old", time.Now().Add(-time.Hour))}
		}, RefusedTLSExpired, "expired certificate"},
		{"unknown authority", tls.VersionTLS13, demand, func(c *tls.Config, r *tlsRig) {
			own := newAuthority(r.t).issue(r.t, "stranger", time.Now().Add(time.Hour))
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
		}, RefusedTLSUnknownCA, "unknown certificate authority"},
		{"version", tls.VersionTLS12, func(c *tls.Config, _ *authority) { c.MinVersion = tls.VersionTLS13 }, nil, RefusedTLSVersion, "protocol version not supported"},
		{"protocol", tls.VersionTLS13, func(c *tls.Config, _ *authority) { c.NextProtos = []string{"mqtt"} }, func(c *tls.Config, _ *tlsRig) { c.NextProtos = []string{"h2"} }, RefusedTLSProtocol, "no application protocol"},
		{"name", tls.VersionTLS13, func(c *tls.Config, _ *authority) {
			c.Certificates, c.GetCertificate = nil, func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
		}, nil, RefusedUnknownName, "unrecognized name"},
		{"client does not trust", tls.VersionTLS13, nil, func(c *tls.Config, _ *tlsRig) { c.RootCAs = nil }, RefusedTLSByClient, "x509"},
	} {
		t.Run(fmt.Sprintf("%s/%s", c.name, tls.VersionName(c.version)), func(t *testing.T) {
			t.Parallel()
			r := newTLSRig(t, rigOptions{}, c.server)
			config := r.config(c.version)
			if c.client != nil {
				c.client(config, r)
			}
			client := r.over(r.dial(), config)
			_, err := client.Write(connect("c")) // with TLS 1.3 the client hears of it only when it reads
			if err == nil {
				_, err = client.Read(make([]byte, 1))
			}
			if err == nil || !bytes.Contains([]byte(err.Error()), []byte(c.alert)) {
				t.Errorf("the client got %v, want %q", err, c.alert)
			}
			_ = client.NetConn().Close()
			if rec := r.record(); rec.Refusal != c.want || rec.Target.Backend != nil {
				t.Errorf("got refusal %q, want %q", rec.Refusal, c.want)
			}
			if h := r.shaken(); h.Refusal != c.want {
				t.Errorf("got handshake %+v, want %q", h, c.want)
			}
		})
	}
}

func TestTLSSecurity(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, func(c *tls.Config, ca *authority) {
		c.ClientAuth, c.ClientCAs, c.NextProtos = tls.RequireAndVerifyClientCert, ca.pool, []string{"mqtt"}
	})
	config := r.config(tls.VersionTLS13)
	config.Certificates, config.NextProtos = []tls.Certificate{r.ca.issue(t, "device-1", time.Now().Add(time.Hour))}, []string{"mqtt"}
	client := r.over(r.dial(), config)
	write(t, client, connect("c"))
	r.accept(0)
	r.proxy.on(r.proxy.loops[0], func(l *loop) {
		for i := range uint32(slabSize) {
			if s := l.sessions.at(i); s.state != stateFree {
				got := fmt.Sprintf("%+v", *s.security)
				want := fmt.Sprintf("%+v", security{tls.VersionTLS13, client.ConnectionState().CipherSuite, "localhost", "mqtt", "device-1", []string{"localhost"}, true, false})
				if got != want {
					t.Errorf("got %s, want %s", got, want)
				}
			}
		}
	})
}

// recordTap keeps what is read.
type recordTap struct {
	net.Conn
	seen []byte
}

func (c *recordTap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.seen = append(c.seen, b[:n]...)
	return n, err
}

// lastRecord is the type of the last record.
func lastRecord(b []byte) (kind byte) {
	for len(b) >= 5 {
		kind = b[0]
		b = b[min(5+int(b[3])<<8+int(b[4]), len(b)):]
	}
	return kind
}

func TestEvictionOverTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	raw := &recordTap{Conn: r.dial()}
	client := r.over(raw, r.config(tls.VersionTLS12)) // which shows alerts from outside
	opening := connect5(mqttparse.ConnectOptions{})
	write(t, client, opening)
	broker := r.accept(0)
	expect(t, broker, opening)
	write(t, broker, connack5())
	expect(t, client, connack5())
	r.evict(Eviction{Notify: 0x9c})
	expect(t, client, mqttparse.AppendDisconnect(nil, 0x9c, "", 0))
	if got := read(t, client); len(got) != 0 {
		t.Errorf("got %x behind the last words, want the end", got)
	}
	if kind := lastRecord(raw.seen); kind != 21 {
		t.Errorf("got a last record of type %d, want an alert, close_notify", kind)
	}
	_ = client.Close()
	_ = read(t, broker)
	_ = broker.Close()
	r.evicted(MomentQuiet)
}

// What is behind the packet at whose end a direction is held waits inside of TLS, where no event tells of it.
func TestBytesHeldInsideTLSGoOn(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{stages: brisk()}, nil)
	client, broker := r.tlsSession(tls.VersionTLS13)
	_ = client.SetDeadline(time.Now().Add(3 * patience))
	_ = broker.SetDeadline(time.Now().Add(3 * patience))
	packet := []byte{0x30, 8, 0, 1, 't', 'h', 'e', 'l', 'l', 'o'}
	write(t, broker, packet[:4]) // this direction never stands between two packets
	write(t, client, packet[:4])
	expect(t, client, packet[:4])
	expect(t, broker, packet[:4])
	k := r.evict(Eviction{})
	time.Sleep(brisk()[awaitQuiet] + 300*time.Millisecond) // it looks for a boundary now
	write(t, client, append(append([]byte{}, packet[4:]...), packet...))
	expect(t, broker, packet[4:])
	_ = broker.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if n, err := broker.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d bytes and %v behind the packet, want them held", n, err)
	}
	_ = broker.SetReadDeadline(time.Now().Add(3 * patience))
	if kept := k.wait(t); kept.why != KeptBusy {
		t.Errorf("got %v, want busy", kept.why)
	}
	expect(t, broker, packet)
}

func TestSlowReaderOverTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	client, broker := r.tlsSession(tls.VersionTLS13)
	data := bytes.Repeat([]byte("0123456789abcdef"), 32<<20/16)
	sent := make(chan error, 1)
	go func() { _, err := broker.Write(data); sent <- err }()
	time.Sleep(300 * time.Millisecond)
	if got := r.proxy.Stats().Memory; got > slabSize*1024+3*readSize {
		t.Errorf("got %d bytes for one client that does not read, want about what one read takes", got)
	}
	got := make([]byte, len(data))
	if n, err := readFull(client, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes and %v, want all", n, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestResetPassesThroughTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	client, broker := r.tlsSession(tls.VersionTLS13)
	_ = broker.SetLinger(0)
	_ = broker.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client got %v, want a reset", err)
	}
	r.record()
	client, broker = r.tlsSession(tls.VersionTLS13)
	_ = client.NetConn().(*net.TCPConn).SetLinger(0)
	_ = client.NetConn().Close()
	if _, err := broker.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the broker got %v, want a reset", err)
	}
}

// Many clients end without close_notify.
func TestPlainEndOverTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{}, nil)
	client, broker := r.tlsSession(tls.VersionTLS13)
	write(t, client, bye)
	_ = client.NetConn().Close()
	if got := read(t, broker); !bytes.Equal(got, bye) {
		t.Errorf("got %x, want DISCONNECT and FIN", got)
	}
}

func TestConnackRefusalOverTLS(t *testing.T) {
	t.Parallel()
	r := newTLSRig(t, rigOptions{listener: Listener{RefuseWithConnack: true}}, nil)
	r.placer.mu.Lock()
	r.placer.backends = nil
	r.placer.mu.Unlock()
	client := r.over(r.dial(), r.config(tls.VersionTLS13))
	write(t, client, connect("c"))
	if got := read(t, client); !bytes.Equal(got, []byte{0x20, 2, 0, 3}) {
		t.Errorf("got %x, want CONNACK 3", got)
	}
}

// What is no TLS, or only the half of it, ends without a trace.
func TestDescriptorsOfHandshakes(t *testing.T) {
	r := newTLSRig(t, rigOptions{listener: Listener{TLS: &TLSOptions{HandshakeTimeout: 300 * time.Millisecond}}}, nil)
	hello := r.hello()
	before := descriptors(t)
	for i := range 60 {
		c := r.dial()
		switch i % 3 {
		case 0:
			write(t, c, hello)
		case 1:
			write(t, c, hello)
			_ = c.SetLinger(0)
		case 2:
			write(t, c, append(bytes.Clone(hello), 99, 99, 99, 99, 99, 99))
		}
		if i%3 != 0 {
			time.Sleep(time.Millisecond)
			_ = c.Close()
		}
		defer c.Close()
	}
	for range 60 {
		r.record()
	}
	for until := time.Now().Add(patience); descriptors(t) > before+20; { // those of the test itself
		if time.Now().After(until) {
			t.Fatalf("got %d descriptors, want %d and 20", descriptors(t), before)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
