package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TLSOptions say how a listener handles TLS.
type TLSOptions struct {
	Mode TLSMode
	// Config is called for every handshake, from the event loops, and must not block; the functions that it holds are
	// called from other goroutines. What it returns must not change afterwards, and should be one and the same as long
	// as nothing has changed, because session tickets belong to it. Only with TLSTerminate.
	Config func() *tls.Config
	// HandshakeTimeout bounds a handshake from its ClientHello on; the listener's ConnectTimeout bounds it too. 0 means
	// 10 s.
	HandshakeTimeout time.Duration
	// Handshakes is how many handshakes of the listener may compute at a time; 0 means 2 × GOMAXPROCS. Those that wait
	// for their client do not count.
	Handshakes int
}

// A TLSMode is where TLS ends.
type TLSMode uint8

// The modes.
const (
	TLSTerminate   TLSMode = iota // here
	TLSPassthrough                // at the broker: the name is read from the ClientHello, and nothing is decrypted
)

// A security is what is known of a session that came over TLS.
type security struct {
	version  uint16 // tls.VersionTLS12 …; 0 with passthrough
	cipher   uint16 // id of the cipher suite; 0 with passthrough
	sni      string // as the client sent it, in lower case; empty if it did not
	alpn     string // the protocol that was chosen; with passthrough the first that the client offers
	cn       string // of the client's certificate; empty if it sent none
	sans     []string
	verified bool // the client's certificate has been verified
	resumed  bool // the session has gone on without a full handshake, and the certificate is that of its first one
}

// securityOf collects what a handshake has shown.
func securityOf(c *tls.ConnectionState) *security {
	s := &security{
		version: c.Version, cipher: c.CipherSuite, sni: strings.ToLower(c.ServerName), alpn: c.NegotiatedProtocol,
		verified: len(c.VerifiedChains) > 0, resumed: c.DidResume,
	}
	if len(c.PeerCertificates) > 0 {
		leaf := c.PeerCertificates[0]
		s.cn = leaf.Subject.CommonName
		s.sans = append(append(s.sans, leaf.DNSNames...), leaf.EmailAddresses...)
		for _, ip := range leaf.IPAddresses {
			s.sans = append(s.sans, ip.String())
		}
		for _, uri := range leaf.URIs {
			s.sans = append(s.sans, uri.String())
		}
	}
	return s
}

// A tlsLayer is TLS on the socket of a leg. Its handshake runs in a goroutine, see handshake.go; afterwards the
// tls.Conn is parked on the loop and never blocks: where there is nothing to read, its transport answers with an error
// that is Temporary, which does not end a tls.Conn, and what it writes is taken whatever the socket says.
//
// Bytes may wait inside of the tls.Conn, decrypted or not, and the kernel knows nothing of them. So the leg stays
// readable until the tls.Conn has said that it has nothing; whether the socket has news is in the flag incoming.
type tlsLayer struct {
	conn   *tls.Conn
	socket transport
	err    error // why nothing can be read any more, if that is no end in order

	unheard int // bytes of its own, such as answers to new keys, since the peer has last taken everything
}

const (
	// recordsAtOnce bounds the records that are taken at once: a record of one byte costs as much as one of 1 KiB, and a
	// new key more than both.
	recordsAtOnce = 32
	// maxUnheard bounds in bytes what waits for a peer that asks for new keys and does not read.
	maxUnheard = 4 << 10
	// maxSilent bounds in bytes what a peer may send without that anything comes of it: a handshake, and messages of TLS
	// afterwards. It is what crypto/tls may hold of it.
	maxSilent = 96 << 10
)

// park hands the layer, whose handshake is done, to the loop.
func (t *tlsLayer) park(l *loop, g *leg) {
	t.socket = transport{loop: l, leg: g}
	g.layer = t
	g.set(readable | incoming) // what came with the end of the handshake may be inside already
}

// take implements layer.
func (t *tlsLayer) take(l *loop, s *session, g *leg, room []byte) []byte {
	n := 0
	for records := 0; n < len(room) && records < recordsAtOnce; records++ {
		k, err := t.conn.Read(room[n:])
		n += k
		if k > 0 {
			t.socket.silent = 0
		}
		if err == nil {
			continue
		}
		switch {
		case err == error(errNothing): //nolint:errorlint // a tls.Conn hands this one on as it is
			g.clear(readable)
		case n > 0: // it says so again when what came before has been taken
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			// close_notify, or FIN without one, as many clients end. That nothing is missing is for MQTT to tell.
			g.clear(readable)
			g.set(ended)
		default:
			t.err = err
			g.clear(readable)
			g.set(broken)
		}
		break
	}
	t.answer(l, s, g)
	return room[:n]
}

// answer sends what the tls.Conn says of its own accord: an alert, or the answer to a new key. A peer that has it say
// much and reads nothing of it is given up.
func (t *tlsLayer) answer(l *loop, s *session, g *leg) {
	if g.out == nil {
		t.unheard = 0
	}
	if t.unheard += len(l.records); t.unheard > maxUnheard {
		l.records = l.records[:0]
		g.clear(readable)
		g.set(broken)
		return
	}
	t.send(l, s, g)
}

// give implements layer. The records of one chunk go out together.
func (t *tlsLayer) give(l *loop, s *session, g *leg, chunk []byte) {
	if _, err := t.conn.Write(chunk); err != nil {
		l.deafen(g) // the peer has been told of an error before
		return
	}
	t.send(l, s, g)
}

// bye implements layer.
func (t *tlsLayer) bye(l *loop, s *session, g *leg) {
	_ = t.conn.CloseWrite()
	t.send(l, s, g)
}

// release implements layer.
func (t *tlsLayer) release(*loop) { t.conn = nil }

// send gives the socket the records that the tls.Conn has written.
func (t *tlsLayer) send(l *loop, s *session, g *leg) {
	if len(l.records) > 0 {
		l.sendRaw(s, g, l.records)
		l.records = l.records[:0]
	}
}

// A transport is what a tls.Conn takes for its connection: first that of a handshake, then the leg of a session.
type transport struct {
	handshake *handshake // nil once it is done
	loop      *loop
	leg       *leg
	silent    int // bytes that have been read since something has come of them
}

// errSilent ends a connection whose peer sends much that is nothing.
var errSilent = errors.New("more messages of TLS than make sense")

// Read implements net.Conn.
func (t *transport) Read(b []byte) (int, error) {
	n, err := t.read(b)
	if t.silent += n; t.silent > maxSilent {
		return 0, errSilent
	}
	return n, err
}

// read gives what the socket has. It remembers that the socket was emptied, so that it is not asked again in vain.
func (t *transport) read(b []byte) (int, error) {
	if t.handshake != nil {
		return t.handshake.read(b)
	}
	g := t.leg
	if !g.has(incoming) {
		return 0, errNothing
	}
	n, errno := recv(g.fd, b, 0)
	switch {
	case n > 0:
		if n < len(b) && !g.has(erred|deaf|hungUp) {
			g.clear(incoming)
		}
		return n, nil
	case errno == unix.EAGAIN:
		g.clear(incoming)
		return 0, errNothing
	case errno == 0 && !g.has(deaf):
		return 0, io.EOF
	case errno == 0:
		return 0, fault(unix.ECONNRESET) // whose error a failed write has consumed
	}
	return 0, fault(errno)
}

// Write takes everything: the tls.Conn's owner sends it when the call that wrote it has returned.
func (t *transport) Write(b []byte) (int, error) {
	if t.handshake != nil {
		return t.handshake.write(b)
	}
	t.loop.records = append(t.loop.records, b...)
	return len(b), nil
}

// Close does nothing: descriptors are the loop's. The deadlines do nothing because nothing blocks.
func (t *transport) Close() error                     { return nil }
func (t *transport) LocalAddr() net.Addr              { return nil }
func (t *transport) RemoteAddr() net.Addr             { return nil }
func (t *transport) SetDeadline(time.Time) error      { return nil }
func (t *transport) SetReadDeadline(time.Time) error  { return nil }
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

// errNothing says that there is nothing to read now. It is a net.Error that is Temporary, the only kind of error after
// which a tls.Conn can be read again.
var errNothing net.Error = nothing{}

type nothing struct{}

func (nothing) Error() string   { return "nothing to read now" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }

// A fault is an error of the socket. Unlike a syscall.Errno it is never Temporary: the connection is dead.
type fault syscall.Errno

func (f fault) Error() string { return syscall.Errno(f).Error() }
func (f fault) Unwrap() error { return syscall.Errno(f) }
