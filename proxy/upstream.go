package proxy

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// TLS towards a backend. Its handshake is the last step of connecting: it comes behind the PROXY header, which goes in
// clear, and before CONNECT, it is bounded by the time for connecting, and if it fails, no byte of CONNECT has left and
// the next candidate is tried.
//
// A broker that speaks TLS 1.3 judges the certificate of mqttlb only when mqttlb is done with the handshake and has sent
// CONNECT. If the first that it says then is an alert about that, it has not looked at CONNECT either, and is passed over
// all the same.

// BackendTLS is the TLS towards the backends of a cluster. It is compared by address.
type BackendTLS struct {
	// Config is for a connection to a backend with this host. It is called from the event loops, and must not block. What
	// it returns must not change, and should be one and the same as long as nothing has changed, because sessions that
	// can be resumed belong to it.
	Config func(host string) *tls.Config
}

// encrypts tells whether there is TLS between mqttlb and the backend of the session.
func (s *session) encrypts() bool {
	return s.target.Backend.TLS != nil && !s.opaque
}

// secure begins TLS with a backend that is connected.
func (l *loop) secure(s *session) {
	s.backend.set(shaking)
	l.queueHandshake(s, kindBackend)
}

// startUpstream starts the handshake of a session whose turn it is. The PROXY header leaves in one piece with the first
// message of TLS.
func (l *loop) startUpstream(s *session) {
	h := l.newHandshake(s, kindBackend, l.proxy.upstreamTokens)
	h.pending = slices.Clone(s.backend.out.data[:s.headerSize])
	t := &tlsLayer{socket: transport{handshake: h}}
	t.conn = tls.Client(&t.socket, s.target.Backend.TLS.Config(s.target.Backend.Host))
	l.runHandshake(s, h, t)
}

// followUpstream tells the handshake with the backend of news, if there are any.
func (s *session) followUpstream() {
	t, under := s.backend.layer.(*tlsLayer)
	if under && s.backend.has(incoming|writable) {
		s.backend.clear(incoming | writable)
		t.socket.handshake.tell()
	}
}

// errLate is what a handshake lacks that was called off for the next candidate.
var errLate = errors.New("the broker did not go on with the TLS handshake in time")

// abandonUpstream calls off the handshake with the backend of the session, if one is under way. err is nil if that is not
// the backend's fault. endHandshake closes the descriptor.
func (l *loop) abandonUpstream(s *session, err error) {
	if s.backend.has(shaking) && s.backend.layer != nil {
		l.tellUpstream(s, l.callOff(&s.backend), cmp.Or(err, errCancelled))
	}
}

// endUpstream takes over from a handshake with the backend: CONNECT goes out, or the next candidate is tried.
func (l *loop) endUpstream(s *session, h *handshake, err error) {
	l.tellUpstream(s, h, err)
	if err != nil {
		s.backend.layer = nil
		s.backend.clear(shaking)
		l.redial(s, TLSFailed)
		return
	}
	s.backend.clear(shaking)
	s.backend.set(writable)
	h.layer.park(l, &s.backend)
	l.sendEncrypted(s)
	l.advance(s)
}

// sendEncrypted sends CONNECT, with what is pipelined behind it, through the TLS of the backend. Where another backend
// may be asked, it stays in memory beside what the socket has not taken of it, which is something else.
func (l *loop) sendEncrypted(s *session) {
	opening := s.backend.out
	s.backend.out = nil
	l.opened(s)
	for chunk := range slices.Chunk(opening.data[s.headerSize:], layeredSize) {
		l.write(s, &s.backend, chunk)
	}
	if !s.asks {
		l.pool.put(opening)
		return
	}
	if s.passed == nil {
		s.passed = new(passedOver)
	}
	s.passed.opening = opening
}

// recallOpening makes what is kept for another backend what waits in backend.out, as it is where nothing is encrypted.
func (l *loop) recallOpening(s *session) {
	if s.passed != nil && s.passed.opening != nil {
		l.pool.put(s.backend.out)
		s.backend.out, s.passed.opening = s.passed.opening, nil
	}
}

// forgetOpening gives back what is kept for another backend: none will be asked.
func (l *loop) forgetOpening(s *session) {
	if s.passed != nil {
		l.pool.put(s.passed.opening)
		s.passed.opening = nil
	}
}

// barred tells that the backend has ended a TLS 1.3 handshake with an alert after mqttlb was done with it, and says so.
func (l *loop) barred(s *session) bool {
	t, secured := s.backend.layer.(*tlsLayer)
	if !secured || s.backend.bytes > 0 || !alerted(t.err) || !aboutIdentity(t.err) {
		return false
	}
	l.observer.Handshook(Handshake{
		Listener: s.listener.Name, Cluster: s.target.Backend.Cluster, Backend: s.target.Backend.Name,
		Refusal: RefusedTLSByBackend, Err: t.err,
		Took: time.Duration(l.now-s.accepted) - time.Duration(s.connected)*time.Microsecond,
	})
	return true
}

// alerted tells that the peer has ended TLS with an alert, as crypto/tls says it.
func alerted(err error) bool {
	remote, ok := errors.AsType[*net.OpError](err)
	return ok && remote.Op == "remote error"
}

// aboutIdentity tells that an alert is one with which a handshake ends. Others may come later, when the broker may have
// acted on CONNECT. crypto/tls has no types for them.
func aboutIdentity(alert error) bool {
	text := alert.Error()
	return strings.Contains(text, "certificate") || strings.Contains(text, "access denied") || strings.Contains(text, "handshake failure")
}

func (l *loop) tellUpstream(s *session, h *handshake, err error) {
	told := Handshake{
		Listener: s.listener.Name, Cluster: s.target.Backend.Cluster, Backend: s.target.Backend.Name,
		Took: time.Duration(l.now - h.began),
	}
	switch {
	case err == errCancelled: //nolint:errorlint // it is never wrapped
		told.Refusal = RefusedIncomplete
	case err != nil:
		told.Refusal, told.Err = upstreamFailure(err), err
	default:
		c := h.layer.conn.ConnectionState()
		told.Version, told.Resumed = c.Version, c.DidResume
	}
	l.observer.Handshook(told)
}

// Why handshakes with backends fail, beside the reasons that clients' have.
const (
	RefusedTLSByBackend Refusal = "tls_backend_alert" // the broker has refused, usually the certificate that it was shown
	RefusedTLSWrongName Refusal = "tls_wrong_name"    // its certificate is for somebody else
	RefusedTLSLost      Refusal = "tls_lost"          // it has closed the connection
)

// upstreamFailure says why a handshake with a backend has failed.
func upstreamFailure(err error) Refusal {
	if errors.Is(err, errLate) {
		return RefusedTLSTimeout
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ETIMEDOUT) {
		return RefusedTLSLost
	}
	if alerted(err) {
		return RefusedTLSByBackend
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return RefusedNotTLS
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return RefusedTLSWrongName
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificateFailure(err)
	}
	return RefusedTLSHandshake
}
