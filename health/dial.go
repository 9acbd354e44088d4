package health

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"time"

	proxyproto "github.com/pires/go-proxyproto"

	"github.com/mqttlb/mqttlb/balancer"
)

// Dialing is how a probe gets a connection. The zero value opens plain TCP connections.
type Dialing struct {
	// Dial opens the connection; nil uses a net.Dialer. It is where a source address can be set.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Preface returns what is to be sent first, before any TLS: ProxyHeader, ProxyLine or LocalHeader for backends
	// that expect a PROXY header, nil for all others. It is sent together with what follows, in one write
	// (protocol.md, D8).
	Preface func(net.Conn) []byte
	// TLS gives what a connection to a backend with this host begins TLS with: its Host, or its IP address if it has
	// none. nil is for backends that do not speak TLS.
	TLS func(host string) *tls.Config
}

// ProxyHeader returns a PROXY protocol v2 header with the connection's own addresses: the client whom the
// broker sees is mqttlb. The specification has LOCAL for the proxy's own connections (section 2.2), but
// mosquitto closes those without a word (protocol.md, 1.2), and a check that is refused for its header
// checks nothing.
func ProxyHeader(c net.Conn) []byte {
	if b := addressHeader(c, 2); b != nil {
		return b
	}
	return LocalHeader(c)
}

// ProxyLine is ProxyHeader with version 1 of the protocol.
func ProxyLine(c net.Conn) []byte {
	if b := addressHeader(c, 1); b != nil {
		return b
	}
	return []byte("PROXY UNKNOWN\r\n")
}

// addressHeader returns a header with the connection's own addresses, or nil if it is none of TCP.
func addressHeader(c net.Conn, version byte) []byte {
	h := proxyproto.HeaderProxyFromAddrs(version, c.LocalAddr(), c.RemoteAddr())
	if h.Command != proxyproto.PROXY {
		return nil
	}
	b, err := h.Format()
	if err != nil {
		return nil
	}
	return b
}

// LocalHeader returns a PROXY protocol v2 header with the command LOCAL, for brokers that take it: the
// broker uses the connection's real addresses, and may keep it out of its logs.
func LocalHeader(net.Conn) []byte {
	return []byte("\r\n\r\n\x00\r\nQUIT\n" + // signature
		"\x20\x00\x00\x00") // version 2, LOCAL; UNSPEC; no addresses, no TLVs
}

// A link is a connection that ends with its context.
type link struct {
	net.Conn
	release func() bool
}

// Close closes the connection and forgets the context.
func (l *link) Close() error {
	l.release()
	return l.Conn.Close()
}

// open connects to an address of a backend, and sends what is to be said first. Everything that is done
// with the connection fails when ctx is done.
func (d *Dialing) open(ctx context.Context, address, serverName string, first []byte) (*link, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	l := &link{Conn: conn}
	l.release = context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err := d.begin(ctx, l, serverName, first); err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

func (d *Dialing) begin(ctx context.Context, l *link, serverName string, first []byte) error {
	var preface []byte
	if d.Preface != nil {
		preface = d.Preface(l.Conn)
	}
	if d.TLS == nil {
		return send(l.Conn, append(slices.Clip(preface), first...))
	}
	if err := send(l.Conn, preface); err != nil {
		return err
	}
	secured := tls.Client(l.Conn, d.TLS(serverName))
	if err := secured.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	l.Conn = secured
	return send(l.Conn, first)
}

func send(c net.Conn, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := c.Write(b); err != nil {
		return lost(err, errHungUp)
	}
	return nil
}

// nameOf is the name that a backend's certificate should have.
func nameOf(b *balancer.Backend) string {
	host, _, err := net.SplitHostPort(b.Address)
	if err != nil {
		host = b.Address
	}
	return cmp.Or(b.Host, host)
}
