package admin

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// minToken is the least number of characters of a token (protocol.md §8).
const minToken = 32

// A token is kept as its hash, so that comparing takes the same time whatever is offered, of
// whatever length, and so that the secret is not lying around.
type token [sha256.Size]byte

// newToken takes the content of a token file; white space around the token does not count.
func newToken(content []byte) (*token, error) {
	secret := bytes.TrimSpace(content)
	if len(secret) < minToken {
		return nil, fmt.Errorf("admin: the token has %d characters, it needs at least %d; make one with: openssl rand -hex 32", len(secret), minToken)
	}
	for _, c := range secret {
		if c <= ' ' || c > '~' {
			return nil, fmt.Errorf("admin: the token contains the character %q; it must be printable ASCII without spaces", c)
		}
	}
	t := token(sha256.Sum256(secret))
	return &t, nil
}

func (t *token) is(offered string) bool {
	sum := sha256.Sum256([]byte(offered))
	return subtle.ConstantTimeCompare(t[:], sum[:]) == 1
}

// A peer is who is at the other end of a connection.
type peer struct {
	local       bool        // came over the unix socket
	credentials *unix.Ucred // of a local peer; nil when the kernel does not say
}

type peerKey struct{}

// withPeer notes who a new connection comes from.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	var p peer
	if u, ok := c.(*net.UnixConn); ok {
		p = peer{local: true, credentials: credentials(u)}
	}
	return context.WithValue(ctx, peerKey{}, p)
}

// credentials asks the kernel who has opened the connection.
func credentials(c *net.UnixConn) *unix.Ucred {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	var who *unix.Ucred
	_ = raw.Control(func(fd uintptr) {
		who, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return who
}

func peerOf(r *http.Request) peer {
	p, _ := r.Context().Value(peerKey{}).(peer) // none: the peer that may do least
	return p
}

// mayWrite tells whether this request may change anything.
func (s *Server) mayWrite(r *http.Request) error {
	if peerOf(r).local {
		return nil
	}
	if s.token == nil {
		return failf(http.StatusForbidden, "this address is read-only; use the unix socket, or set admin.token_file")
	}
	scheme, offered, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer"):
		return failf(http.StatusUnauthorized, "this needs the header \"Authorization: Bearer TOKEN\" with the token from admin.token_file")
	case !s.token.is(strings.TrimSpace(offered)):
		return failf(http.StatusUnauthorized, "the token is wrong")
	}
	return nil
}

// refusalPause is the least time between two lines about refused writes: an attacker must not fill
// the disk.
const refusalPause = time.Second

// logWrite says who has changed something, or has tried to.
func (s *Server) logWrite(r *http.Request, status int) {
	level := slog.LevelInfo
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		level = slog.LevelWarn
		last, now := s.refusals.Load(), time.Now().UnixNano()
		if now-last < int64(refusalPause) || !s.refusals.CompareAndSwap(last, now) {
			return
		}
	}
	attrs := []slog.Attr{slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", status)}
	switch p := peerOf(r); {
	case !p.local:
		attrs = append(attrs, slog.String("remote", r.RemoteAddr))
	case p.credentials != nil:
		attrs = append(attrs, slog.Int("uid", int(p.credentials.Uid)), slog.Int("pid", int(p.credentials.Pid)))
	}
	s.log.LogAttrs(r.Context(), level, "operator's request", attrs...)
}
