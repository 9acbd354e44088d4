package health_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
)

func TestTCP(t *testing.T) {
	var p health.TCP
	done := make(chan []byte, 1)
	f := serve(t, func(_ *fake, c net.Conn) {
		b, _ := io.ReadAll(c)
		done <- b
	})
	if r := probe(t, &p, f.backend(), 0, patience); r.Err != nil {
		t.Errorf("got %v, want no error", r.Err)
	}
	if got := <-done; len(got) != 0 {
		t.Errorf("the broker got %x, want nothing", got)
	}
	f.listener.Close()
	if r := probe(t, &p, f.backend(), 0, patience); r.Err == nil || !strings.Contains(r.Err.Error(), "connection refused") {
		t.Errorf("got %v, want an error about a refused connection", r.Err)
	}
	if r := probe(t, &p, balancer.Backend{Address: "nonsense"}, 0, patience); r.Err == nil {
		t.Error("got no error for an address that is none")
	}
}

// headerOf tells what a PROXY header says, with the help of a codec that is not ours alone.
func headerOf(t *testing.T, b []byte) *proxyproto.Header {
	t.Helper()
	r := bufio.NewReader(bytes.NewReader(b))
	h, err := proxyproto.Read(r)
	if err != nil {
		t.Fatalf("PROXY header %x: %v", b, err)
	}
	if rest, _ := io.ReadAll(r); len(rest) != 0 {
		t.Fatalf("PROXY header %x: %d bytes behind it", b, len(rest))
	}
	return h
}

// addressed is a connection with addresses.
type addressed struct {
	net.Conn
	local, remote net.Addr
}

func (a addressed) LocalAddr() net.Addr  { return a.local }
func (a addressed) RemoteAddr() net.Addr { return a.remote }

func TestPrefaces(t *testing.T) {
	v4 := addressed{
		local:  &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 0x1234},
		remote: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 1883},
	}
	// Written by hand from the specification (section 2.2): a codec must not be its own witness.
	golden := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x07, 0x5B)
	if got := health.ProxyHeader(v4); !bytes.Equal(got, golden) {
		t.Errorf("got %x, want %x", got, golden)
	}
	v6 := addressed{local: &net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 1}, remote: &net.TCPAddr{IP: net.ParseIP("2001:db8::2"), Port: 2}}
	if h := headerOf(t, health.ProxyHeader(v6)); !h.Command.IsProxy() || h.SourceAddr.String() != "[2001:db8::1]:1" || h.DestinationAddr.String() != "[2001:db8::2]:2" {
		t.Errorf("IPv6: got %+v", h)
	}
	if got, want := string(health.ProxyLine(v4)), "PROXY TCP4 10.0.0.1 10.0.0.2 4660 1883\r\n"; got != want {
		t.Errorf("version 1: got %q, want %q", got, want)
	}
	if got, want := string(health.ProxyLine(v6)), "PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n"; got != want {
		t.Errorf("version 1, IPv6: got %q, want %q", got, want)
	}
	unix := addressed{local: &net.UnixAddr{Name: "@"}, remote: &net.UnixAddr{Name: "/x"}}
	if got, want := string(health.ProxyLine(unix)), "PROXY UNKNOWN\r\n"; got != want {
		t.Errorf("version 1 without addresses: got %q, want %q", got, want)
	}
	for name, b := range map[string][]byte{"LOCAL": health.LocalHeader(v4), "PROXY for a connection without addresses": health.ProxyHeader(unix)} {
		if h := headerOf(t, b); !h.Command.IsLocal() {
			t.Errorf("%s: got %+v, want the command LOCAL", name, h)
		}
	}
}

// The header is the first that the broker gets, together with CONNECT, as some brokers want it in one
// segment; with TLS it comes before the handshake.
func TestPrefaceComesFirst(t *testing.T) {
	p := mqtt(t, health.MQTTOptions{Dialing: health.Dialing{Preface: health.ProxyHeader}})
	f := serve(t, func(f *fake, c net.Conn) {
		b := make([]byte, 4096)
		n, err := c.Read(b) // one write, one read: the packet is small
		if err != nil || n <= 28 {
			f.t.Errorf("got %d bytes, %v; want header and CONNECT at once", n, err)
			return
		}
		if h := headerOf(f.t, b[:28]); !h.Command.IsProxy() || h.SourceAddr.String() != c.RemoteAddr().String() {
			f.t.Errorf("got header %+v, want the probe's own address as the client", h)
		}
		if _, ok := f.readConnect(bytes.NewReader(b[28:n])); ok {
			c.Write(connackV5(0))
			f.readToEnd(c)
		}
	})
	wanted{version: 5}.check(t, probe(t, p, f.backend(), 0, patience))
}

func TestMQTTOverTLS(t *testing.T) {
	config, pool := certificate(t, "broker.example")
	overTLS := func(script func(*fake, net.Conn)) func(*fake, net.Conn) {
		return func(f *fake, c net.Conn) {
			header := make([]byte, 16)
			if _, err := io.ReadFull(c, header); err != nil || !headerOf(f.t, header).Command.IsLocal() {
				f.t.Errorf("got %x, want a PROXY header before TLS", header)
			}
			secured := tls.Server(c, config)
			defer secured.Close()
			script(f, secured)
		}
	}
	name := ""
	secure := func(host string) *tls.Config { return &tls.Config{RootCAs: pool, ServerName: cmp.Or(name, host)} }
	dialing := health.Dialing{Preface: health.LocalHeader, TLS: secure}
	p := mqtt(t, health.MQTTOptions{Dialing: dialing})

	f := serve(t, overTLS(answer(connackV5(0)...)))
	b := f.backend()
	b.Host = "broker.example"
	wanted{version: 5}.check(t, probe(t, p, b, 0, patience))
	if r := probe(t, &health.TCP{Dialing: dialing}, b, 0, patience); r.Err != nil {
		t.Errorf("TCP: got %v, want no error", r.Err)
	}
	b.Host = ""
	wanted{err: "TLS handshake"}.check(t, probe(t, p, b, 0, patience)) // the certificate is not for the address
	name = "broker.example"
	wanted{version: 5}.check(t, probe(t, mqtt(t, health.MQTTOptions{Dialing: dialing}), b, 0, patience))

	old := serve(t, overTLS(only311(func(net.Conn) {})))
	wanted{version: 4}.check(t, probe(t, mqtt(t, health.MQTTOptions{Dialing: dialing}), old.backend(), 0, patience))

	silent := serve(t, func(_ *fake, c net.Conn) { io.Copy(io.Discard, c) })
	wanted{err: "TLS handshake"}.check(t, probe(t, p, silent.backend(), 0, brief))
	plain := serve(t, func(_ *fake, c net.Conn) { c.Write(connackV5(0)); io.Copy(io.Discard, c) })
	wanted{err: "TLS handshake"}.check(t, probe(t, p, plain.backend(), 0, patience))
}

func TestAll(t *testing.T) {
	result := func(r health.Result) health.Prober { return canned(r) }
	a, b := errors.New("a"), errors.New("b")
	for name, test := range map[string]struct {
		probes health.All
		want   health.Result
	}{
		"none":   {nil, health.Result{}},
		"passed": {health.All{result(health.Result{Version: 5}), result(health.Result{Note: "x"})}, health.Result{Version: 5, Note: "x"}},
		"drain counts, whether the other passes or not": {
			health.All{result(health.Result{Err: a}), result(health.Result{Drain: true, Note: "x"})}, health.Result{Err: a, Drain: true, Note: "x"},
		},
		"everything": {
			health.All{result(health.Result{Err: a, Note: "x"}), result(health.Result{Err: b, Unsettled: true, Note: "y"})},
			health.Result{Err: errors.New("a; b"), Unsettled: true, Note: "x; y"},
		},
	} {
		got := probe(t, test.probes, balancer.Backend{}, 0, patience)
		if (got.Err == nil) != (test.want.Err == nil) || got.Err != nil && got.Err.Error() != test.want.Err.Error() {
			t.Errorf("%s: got error %v, want %v", name, got.Err, test.want.Err)
		}
		if got.Drain != test.want.Drain || got.Unsettled != test.want.Unsettled || got.Note != test.want.Note || got.Version != test.want.Version {
			t.Errorf("%s: got %+v, want %+v", name, got, test.want)
		}
	}
	if got := probe(t, health.All{result(health.Result{Err: a}), result(health.Result{Err: b})}, balancer.Backend{}, 0, patience); !errors.Is(got.Err, a) || !errors.Is(got.Err, b) {
		t.Errorf("got %v, want an error that is both", got.Err)
	}
}
