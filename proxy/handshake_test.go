package proxy

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

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
