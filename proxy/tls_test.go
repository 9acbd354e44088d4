package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
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
