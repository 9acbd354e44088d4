package proxy

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// What goes in comes out, both ways at once, whatever the sizes; and the end of the client is the end of the broker's
// stream, in order.
func TestUpstreamCarriesEveryByte(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			u := newUpstreamRig(t, rigOptions{}, func(u *upstreamRig) { u.server[0].MaxVersion = version })
			client, broker := u.sessionTLS()
			flood(t, client, broker, 3<<20)
			_ = client.CloseWrite()
			if n, err := broker.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("got %d bytes and %v, want close_notify", n, err)
			}
			write(t, broker, []byte("last words"))
			expect(t, client, []byte("last words"))
			_ = broker.Close()
			if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("got %d bytes and %v, want FIN", n, err)
			}
			if rec := u.record(); rec.End != EndClient || rec.Bytes[Up] != 3<<20+uint64(len(connect("c"))) {
				t.Errorf("got end %v after %d bytes, want the client's after those that it sent", rec.End, rec.Bytes[Up])
			}
			if h := u.shaken(); h.Refusal != "" || h.Version != version || h.Cluster != "cluster" || h.Backend != "a" {
				t.Errorf("got %+v, want a good handshake with backend a", h)
			}
		})
	}
}

// TLS on both legs, with different versions.
func TestUpstreamUnderTLS(t *testing.T) {
	t.Parallel()
	for i, version := range tlsVersions {
		front := newAuthority(t)
		server := &tls.Config{Certificates: []tls.Certificate{front.issue(t, "mqttlb", time.Now().Add(time.Hour))}}
		u := newUpstreamRig(t, rigOptions{
			listener: Listener{TLS: &TLSOptions{Config: func() *tls.Config { return server }}},
		}, func(u *upstreamRig) { u.server[0].MaxVersion = tlsVersions[1-i] })
		client := tls.Client(u.dial(), &tls.Config{RootCAs: front.pool, ServerName: "localhost", MaxVersion: version})
		write(t, client, connect("c"))
		broker := u.acceptTLS(0)
		expect(t, broker, connect("c"))
		write(t, broker, connack())
		expect(t, client, connack())
		flood(t, client, broker, 1<<20)
		_ = broker.Close()
		if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes and %v, want close_notify", n, err)
		}
		_ = client.Close()
		if rec := u.record(); rec.End != EndBackend {
			t.Errorf("got end %v, want the backend's", rec.End)
		}
	}
}

// A reset goes through as a reset, in both directions.
func TestUpstreamReset(t *testing.T) {
	t.Parallel()
	for _, byClient := range []bool{true, false} {
		u := newUpstreamRig(t, rigOptions{}, nil)
		client, broker := u.sessionTLS()
		from, to, end := broker.NetConn(), net.Conn(client), EndBackend
		if byClient {
			from, to, end = client, broker.NetConn(), EndClient
		}
		_ = from.(*net.TCPConn).SetLinger(0)
		_ = from.Close()
		got, err := io.ReadAll(to)
		if err == nil || !strings.Contains(err.Error(), "reset") || len(got) > 0 {
			t.Errorf("by the client %t: got %x and %v, want nothing and a reset", byClient, got, err)
		}
		if rec := u.record(); rec.End != end {
			t.Errorf("got end %v, want %v", rec.End, end)
		}
	}
}

// A broker with which there is no TLS is passed over, and the next gets the same CONNECT, with what is behind it.
func TestUpstreamFailsOver(t *testing.T) {
	t.Parallel()
	expired := func(u *upstreamRig) { // of broker 0
		u.server[0].Certificates = []tls.Certificate{u.ca.issue(u.t, "broker", time.Now().Add(-time.Hour))}
	}
	for name, test := range map[string]struct {
		change func(*upstreamRig)
		why    Refusal
		text   string
	}{
		"unknown authority": {func(u *upstreamRig) {
			u.server[0].Certificates = []tls.Certificate{newAuthority(t).issue(t, "broker", time.Now().Add(time.Hour))}
		}, RefusedTLSUnknownCA, "unknown authority"},
		"expired": {expired, RefusedTLSExpired, "expired"},
		"wrong name": {func(u *upstreamRig) {
			u.server[0].Certificates = []tls.Certificate{u.ca.sign(t, &x509.Certificate{
				SerialNumber: u.ca.cert.SerialNumber, DNSNames: []string{"elsewhere"}, NotAfter: time.Now().Add(time.Hour),
			}, u.ca)}
		}, RefusedTLSWrongName, "elsewhere"},
		"no certificate, 1.2": {func(u *upstreamRig) {
			u.server[0].MaxVersion, u.server[0].ClientAuth = tls.VersionTLS12, tls.RequireAnyClientCert
		}, RefusedTLSByBackend, "handshake failure"},
		"no certificate, 1.3": {func(u *upstreamRig) {
			u.server[0].ClientAuth = tls.RequireAnyClientCert
		}, RefusedTLSByBackend, "certificate required"},
		"old version": {func(u *upstreamRig) {
			u.server[0].MaxVersion, u.client.MinVersion = tls.VersionTLS12, tls.VersionTLS13
		}, RefusedTLSByBackend, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUpstreamRig(t, rigOptions{brokers: 2}, func(u *upstreamRig) { u.rig = &rig{t: t}; test.change(u) })
			opening := slices.Concat(connect("c"), bytes.Repeat([]byte{0xc0, 0}, 7000))
			client := u.dial()
			write(t, client, opening)
			u.refuseTLS(0)
			broker := u.acceptTLS(1)
			expect(t, broker, opening)
			write(t, broker, connack())
			expect(t, client, connack())
			h := u.shaken()
			if h.Version != 0 { // of TLS 1.3, which was done on this side
				h = u.shaken()
			}
			if h.Refusal != test.why || h.Backend != "a" || h.Err == nil || !strings.Contains(h.Err.Error(), test.text) {
				t.Errorf("got %+v, want %s and an error about %q", h, test.why, test.text)
			}
			_ = broker.Close()
			_ = client.Close()
			if rec := u.record(); rec.Attempts != 2 || rec.Connack != 0 || rec.Target.Backend.Name != "b" {
				t.Errorf("got %+v, want the second attempt accepted by b", rec)
			}
			if got := u.placer.told(); !slices.Equal(got, []Outcome{TLSFailed, Served}) {
				t.Errorf("got outcomes %v, want tls_failed, served", got)
			}
		})
	}
}

// Without a further candidate the client is refused, whenever the broker says that it does not want mqttlb.
func TestUpstreamFailsForGood(t *testing.T) {
	t.Parallel()
	for _, version := range tlsVersions {
		u := newUpstreamRig(t, rigOptions{}, func(u *upstreamRig) {
			u.server[0].MaxVersion, u.server[0].ClientAuth = version, tls.RequireAnyClientCert
		})
		client := u.dial()
		write(t, client, connect("c"))
		u.refuseTLS(0)
		if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Errorf("got %d bytes and %v, want FIN", n, err)
		}
		if rec := u.record(); rec.Refusal != RefusedDialFailed || rec.End != EndDial {
			t.Errorf("got %v and %q, want dial and %q", rec.End, rec.Refusal, RefusedDialFailed)
		}
		if got := u.placer.told(); !slices.Equal(got, []Outcome{TLSFailed}) {
			t.Errorf("got outcomes %v, want tls_failed", got)
		}
	}
}

// A broker that does not go on with the handshake has the time for connecting; one that does not speak TLS, or closes,
// has failed at once.
func TestUpstreamThatIsNone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		broker func(*net.TCPConn)
		why    Refusal
		as     Outcome
	}{
		"silent": {func(c *net.TCPConn) { _, _ = io.Copy(io.Discard, c) }, RefusedTLSTimeout, TimedOut},
		"plain":  {func(c *net.TCPConn) { _, _ = c.Write(connackOf(5, 0)); _, _ = io.Copy(io.Discard, c) }, RefusedNotTLS, TLSFailed},
		"closes": {func(c *net.TCPConn) { _, _ = c.Read(make([]byte, 9000)); _ = c.Close() }, RefusedTLSLost, TLSFailed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := rigOptions{brokers: 2}
			if test.as == TimedOut {
				o.backend.DialTimeout = 2 * time.Second // of which the first has half
			}
			u := newUpstreamRig(t, o, nil)
			client := u.dial()
			write(t, client, connect("c"))
			bad := u.accept(0)
			done := make(chan struct{})
			go func() { defer close(done); test.broker(bad) }()
			broker := u.acceptTLS(1)
			expect(t, broker, connect("c"))
			write(t, broker, connack())
			expect(t, client, connack())
			<-done
			if h := u.shaken(); h.Refusal != test.why || h.Err == nil {
				t.Errorf("got %+v, want %s", h, test.why)
			}
			_ = client.Close()
			_ = broker.Close()
			u.record()
			if got := u.placer.told(); !slices.Equal(got, []Outcome{test.as, Served}) {
				t.Errorf("got outcomes %v, want %v, served", got, test.as)
			}
		})
	}
}

// Whoever leaves while his backend is still in the handshake blames nobody, and the broker gets no byte of CONNECT.
func TestUpstreamClientLeaves(t *testing.T) {
	t.Parallel()
	u := newUpstreamRig(t, rigOptions{}, nil)
	client := u.dial()
	write(t, client, connect("c"))
	broker := u.accept(0)
	if n, err := broker.Read(make([]byte, 1)); n != 1 { // of ClientHello
		t.Fatal(err)
	}
	_ = client.SetLinger(0)
	_ = client.Close()
	rest, _ := io.ReadAll(broker)
	if bytes.Contains(rest, []byte("MQTT")) {
		t.Error("the broker got CONNECT")
	}
	if h := u.shaken(); h.Err != nil || h.Refusal != RefusedIncomplete {
		t.Errorf("got %+v, want a handshake that was called off", h)
	}
	u.record()
	if got := u.placer.told(); !slices.Equal(got, []Outcome{ClientLeft}) {
		t.Errorf("got outcomes %v, want client_left", got)
	}
}

// A broker that declines the client over TLS is passed over as any other, with an opening of any size.
func TestUpstreamBusy(t *testing.T) {
	t.Parallel()
	for _, pings := range []int{0, 1, 8000} {
		u := newUpstreamRig(t, rigOptions{brokers: 3}, nil)
		opening := append(connectOf(5, "c"), bytes.Repeat([]byte{0xc0, 0}, pings)...)
		client := u.dial()
		write(t, client, opening)
		for i := range 2 {
			busy := u.acceptTLS(i)
			if i == 0 {
				expect(t, busy, opening)
			}
			for _, b := range connackOf(5, 0x88) { // also before it has read everything
				write(t, busy, []byte{b})
			}
			if i == 0 {
				if n, err := busy.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("got %d bytes and %v, want close_notify", n, err)
				}
			}
		}
		broker := u.acceptTLS(2)
		expect(t, broker, opening)
		answer := append(connackOf(5, 0), 0xd0, 0)
		write(t, broker, answer)
		expect(t, client, answer)
		flood(t, client, broker, 300_000)
		_ = broker.Close()
		_ = client.Close()
		u.record()
		if got := u.placer.told(); !slices.Equal(got, []Outcome{Busy, Busy, Served}) {
			t.Errorf("got outcomes %v, want busy, busy, served", got)
		}
	}
}

// The PROXY header comes first, in clear.
func TestUpstreamBehindHeader(t *testing.T) {
	t.Parallel()
	header, err := NewHeader(HeaderOptions{UniqueID: true})
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstreamRig(t, rigOptions{brokers: 2, backend: Backend{Header: header}}, nil)
	client := u.dial()
	write(t, client, connect("c"))
	for i, code := range []byte{3, 0} {
		raw := proxyproto.NewConn(u.accept(i))
		broker := tls.Server(raw, u.server[i])
		expect(t, broker, connect("c"))
		if got, want := raw.RemoteAddr().String(), client.LocalAddr().String(); got != want {
			t.Errorf("got %s in the header, want %s", got, want)
		}
		write(t, broker, connackOf(4, code))
	}
	expect(t, client, connack())
}

// Who does not read holds the other side up, and nothing is lost.
func TestUpstreamBackpressure(t *testing.T) {
	t.Parallel()
	u := newUpstreamRig(t, rigOptions{}, nil)
	client, broker := u.sessionTLS()
	for _, way := range [][2]net.Conn{{client, broker}, {broker, client}} {
		data := bytes.Repeat([]byte{0xc0, 0}, 8<<20)
		sent := make(chan error, 1)
		go func() {
			_, err := way[0].Write(data)
			sent <- err
		}()
		select {
		case err := <-sent:
			t.Fatalf("16 MiB went nowhere, error %v", err)
		case <-time.After(200 * time.Millisecond):
		}
		got := make([]byte, len(data))
		if n, err := readFull(way[1], got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("got %d bytes and %v, want all %d", n, err, len(data))
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	}
}

// An eviction says goodbye through TLS.
func TestUpstreamEviction(t *testing.T) {
	t.Parallel()
	u := newUpstreamRig(t, rigOptions{}, nil)
	client, broker := u.sessionTLS()
	sittings := u.proxy.Sittings(func(*Sitting) bool { return true })
	if len(sittings) != 1 {
		t.Fatalf("got %d sittings, want one", len(sittings))
	}
	u.proxy.Evict([]Eviction{{Session: sittings[0].Handle, ClientID: "c"}}, func(_ Eviction, k Kept) { t.Errorf("kept: %v", k) })
	if n, err := broker.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the broker got %d bytes and %v, want close_notify", n, err)
	}
	_ = broker.Close()
	if n, err := client.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the client got %d bytes and %v, want FIN", n, err)
	}
	_ = client.Close()
	if rec := u.record(); rec.End != EndEvicted || rec.Moment != MomentQuiet {
		t.Errorf("got %v at %v, want evicted at a quiet moment", rec.End, rec.Moment)
	}
}

// Brokers that stall take the places for handshakes, and give way when others want them.
func TestUpstreamStalledGiveWay(t *testing.T) {
	t.Parallel()
	u := newUpstreamRig(t, rigOptions{brokers: 2}, nil)
	u.proxy.everywhere(func(l *loop) { l.proxy.handshakesPerLoop = 2 })
	var clients []net.Conn
	for _, id := range []string{"a", "b", "c", "d"} {
		client := u.dial()
		write(t, client, connect(id))
		clients = append(clients, client)
		u.accept(0) // and says nothing
	}
	began := time.Now()
	for range 2 { // the others have no one who waits behind them
		broker := u.acceptTLS(1) // of either client
		id := make([]byte, len(connect("?")))
		if _, err := readFull(broker, id); err != nil {
			t.Fatal(err)
		}
		write(t, broker, connack())
	}
	for _, client := range clients[:2] {
		expect(t, client, connack())
	}
	if took := time.Since(began); took > patience/2*9/10 {
		t.Errorf("got them in after %v, want it before half of the time for connecting is over", took)
	}
}
