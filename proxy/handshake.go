package proxy

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A TLS handshake computes for longer than an event loop may be held up, and crypto/tls cannot be interrupted in one.
// So each runs in a goroutine of its own: with a client from its complete ClientHello on, with a backend from the
// moment at which it is connected. Only there a socket is read and written by somebody else than its loop. The loop
// still watches the socket and tells of events, it alone closes the socket, and it can call the handshake off at any
// time.
//
//	loop:       ClientHello complete ─▶ start          events ─▶ tell         ended ─▶ park, or refuse
//	goroutine:                           token ▶ compute ▶ wait (no token) ▶ token ▶ compute ─▶ loop.do
//
// How many compute at a time is bounded by tokens, for which they stand in line. While a handshake waits for its peer
// it has none, so that peers which stall keep nobody from getting in.

// A handshake is one that is under way. The loop owns it but for what run and what it calls use.
type handshake struct {
	loop   *loop
	fd     int32
	name   pendingName // of the session
	leg    kind        // of its two: with whom
	layer  *tlsLayer
	tokens chan struct{} // of the listener, or of all backends: full when as many compute as may

	news      chan struct{} // there has been an event; holds one
	cancelled chan struct{} // closed by the loop when nobody waits for the handshake any more

	began int64        // on the loop's clock
	waits atomic.Int64 // since when it has waited for its peer, on the proxy's clock; 0 while it does not

	// Of run:
	collected []byte // what the loop has read already; given to crypto/tls first
	pending   []byte // what the socket has not taken
	computes  bool   // it has a token
	armed     bool   // the poller reports writability too
}

// errCancelled ends a handshake that nobody waits for any more.
var errCancelled = errors.New("the handshake was called off")

// run shakes hands and hands the result to the loop. The descriptor is closed here only if that loop has ended.
func (h *handshake) run() {
	err := h.acquire()
	if err == nil {
		err = h.layer.conn.HandshakeContext(context.Background()) // which is called off by errCancelled
	}
	for err == nil && len(h.pending) > 0 {
		err = h.wait()
		h.push()
	}
	h.yield()
	if !h.loop.do(func(l *loop) { l.endHandshake(h, err) }) {
		closeSocket(h.fd)
	}
}

// acquire waits for a token.
func (h *handshake) acquire() error {
	select {
	case h.tokens <- struct{}{}:
		h.computes = true
		return nil
	case <-h.cancelled:
		return errCancelled
	}
}

// yield gives the token back.
func (h *handshake) yield() {
	if h.computes {
		h.computes = false
		<-h.tokens
	}
}

// read is transport.Read during the handshake.
func (h *handshake) read(b []byte) (int, error) {
	if len(h.collected) > 0 {
		n := copy(b, h.collected[:nextRead(h.collected)])
		h.collected = h.collected[n:]
		return n, nil
	}
	for {
		h.push()
		n, errno := recv(h.fd, b, 0)
		switch {
		case n > 0:
			return n, nil
		case errno == 0:
			return 0, io.EOF
		case errno != unix.EAGAIN:
			return 0, fault(errno)
		}
		if err := h.wait(); err != nil {
			return 0, err
		}
	}
}

// wait waits for news of the peer, without a token.
func (h *handshake) wait() error {
	h.yield()
	h.waits.Store(max(h.loop.proxy.clock(), 1))
	select {
	case <-h.news:
	case <-h.cancelled:
		return errCancelled
	}
	h.waits.Store(0)
	return h.acquire()
}

// write is transport.Write during the handshake. What the socket does not take goes on its way while the peer is
// waited for, or after the handshake.
func (h *handshake) write(b []byte) (int, error) {
	h.pending = append(h.pending, b...)
	h.push()
	return len(b), nil
}

// push sends what is pending, as far as the socket takes it. Its errors show when it is read.
func (h *handshake) push() {
	if len(h.pending) == 0 {
		return
	}
	n, errno := send(h.fd, h.pending)
	h.pending = h.pending[n:]
	if errno != 0 && errno != unix.EAGAIN {
		h.pending = nil
	}
	if len(h.pending) > 0 && !h.armed {
		h.armed = true
		h.loop.do(func(l *loop) {
			if s := l.handshaking(h); s != nil {
				l.watchWrites(s, s.legOf(h.leg))
			}
		})
	}
}

// tell says that there has been an event.
func (h *handshake) tell() {
	select {
	case h.news <- struct{}{}:
	default:
	}
}
