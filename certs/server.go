package certs

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ClientAuth says what is wanted of the certificates of clients.
type ClientAuth uint8

// What may be wanted.
const (
	NoClientAuth ClientAuth = iota
	Request                 // who shows none is let in, one that is not good is refused
	Require
)

// ServerOptions are the TLS of one listener.
type ServerOptions struct {
	// Pairs are the certificates, at least one; the first is the default.
	Pairs []Pair
	// MinVersion is tls.VersionTLS12, also if it is 0, or tls.VersionTLS13.
	MinVersion uint16
	// ClientCA is the file with the authorities of clients. There is one if ClientAuth wants certificates, and else none.
	ClientCA   string
	ClientAuth ClientAuth
	// TicketKeys is a file; empty for keys of this Server alone.
	TicketKeys string
	// Protocols are offered with ALPN. A client that knows none of them is served all the same.
	Protocols []string
	// Clock tells the time; nil for time.Now.
	Clock func() time.Time
}

func (o *ServerOptions) clock() func() time.Time {
	if o.Clock != nil {
		return o.Clock
	}
	return time.Now
}

// check finds what contradicts itself.
func (o *ServerOptions) check() error {
	switch {
	case len(o.Pairs) == 0:
		return wrong("certificates", "is missing; write certificates: [{cert: FILE, key: FILE}]")
	case o.ClientAuth != NoClientAuth && o.ClientCA == "":
		return wrong("client_ca", "is missing: the file with the authorities that sign the certificates of clients")
	case o.ClientAuth == NoClientAuth && o.ClientCA != "":
		return wrong("client_ca", "has no effect without client_auth: request or require")
	}
	return nil
}

// A Server is the TLS of one listener. All methods may be called from any goroutine.
type Server struct {
	now     atomic.Pointer[serverState]
	changes sync.Mutex // one change at a time
}

// A serverState is what follows from one reading of the files. It does not change.
type serverState struct {
	options ServerOptions
	root    *tls.Config // what connections begin with
	inner   *tls.Config // what they go on with
	silent  *tls.Config // the same for those who share no protocol with us
	certs   []*tls.Certificate
	trust   [sha256.Size]byte // who is let in
	sum     [sha256.Size]byte // of all files
	files   []string
}

// NewServer reads the files. An error is, or joins, FieldErrors.
func NewServer(o ServerOptions) (*Server, error) {
	s := new(Server)
	c, err := s.Prepare(o)
	if err != nil {
		return nil, err
	}
	c.Apply()
	return s, nil
}

// Config is for one connection. It must not be changed, and not be cloned either: the keys of session tickets would
// be lost.
func (s *Server) Config() *tls.Config { return s.now.Load().root }

// Reload reads the files again. It tells whether there was something new in them. After an error all is as before.
func (s *Server) Reload() (changed bool, err error) {
	c, err := s.Prepare(s.now.Load().options)
	if err != nil {
		return false, err
	}
	return c.Apply(), nil
}

// A Change is a state that is ready to be taken over.
type Change struct {
	server *Server
	next   *serverState
	keys   [][]byte // from the file; nil without
}

// Prepare reads the files of these options. Nothing changes before Apply.
func (s *Server) Prepare(o ServerOptions) (*Change, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Pairs, o.Protocols = slices.Clone(o.Pairs), slices.Clone(o.Protocols)
	in := newInputs()
	next := &serverState{options: o}
	var errs []error
	for i, p := range o.Pairs {
		at := fmt.Sprintf("certificates[%d]", i)
		c, err := in.loadPair(p, at+".cert", at+".key")
		errs = append(errs, err)
		next.certs = append(next.certs, c)
	}
	var pool *x509.CertPool
	var authorities []*x509.Certificate
	if o.ClientCA != "" {
		var err error
		pool, authorities, err = in.loadAuthorities(o.ClientCA, "client_ca")
		errs = append(errs, err)
	}
	c := &Change{server: s, next: next}
	if o.TicketKeys != "" {
		text, err := in.read("ticket_keys", o.TicketKeys)
		if err == nil {
			if c.keys, err = parseTicketKeys(text); err != nil {
				err = wrong("ticket_keys", "is %s, %w", o.TicketKeys, err)
			}
		}
		errs = append(errs, err)
	}
	next.sum, next.files, next.trust = in.digest(), in.files, trustOf(o.ClientAuth, authorities)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	next.build(pool)
	return c, nil
}

// build makes the configurations for connections.
func (st *serverState) build(authorities *x509.CertPool) {
	o := &st.options
	st.inner = &tls.Config{
		Time:                        o.clock(),
		MinVersion:                  cmp.Or(o.MinVersion, tls.VersionTLS12),
		GetCertificate:              newChoice(st.certs).get,
		ClientCAs:                   authorities,
		NextProtos:                  o.Protocols,
		DynamicRecordSizingDisabled: true, // MQTT packets are small; full records from the start spare headers and CPU
	}
	switch o.ClientAuth {
	case Request:
		st.inner.ClientAuth = tls.VerifyClientCertIfGiven
	case Require:
		st.inner.ClientAuth = tls.RequireAndVerifyClientCert
	case NoClientAuth:
	}
	st.silent = st.inner.Clone()
	st.silent.NextProtos = nil
}

// Apply takes the change over for all handshakes from now on. It tells whether anything is different.
func (c *Change) Apply() (changed bool) {
	s, next := c.server, c.next
	s.changes.Lock()
	defer s.changes.Unlock()
	old := s.now.Load()
	if old != nil && old.sum == next.sum && old.options.same(&next.options) {
		return false
	}
	if old != nil && old.trust == next.trust && (old.options.TicketKeys != "") == (c.keys != nil) {
		next.root = old.root
	} else {
		next.root = s.newRoot(next)
	}
	if c.keys != nil {
		keys, err := ticketKeys(c.keys, next.trust)
		if err == nil { // it cannot fail with these lengths, and without keys crypto/tls makes its own
			next.root.SetSessionTicketKeys(keys)
		}
	}
	s.now.Store(next)
	return true
}

// newRoot is a configuration with new keys for tickets, which are good for as long as the same clients are let in. Who
// has begun with it before a change of that and goes on after it gets no tickets, and cannot use any.
func (s *Server) newRoot(first *serverState) *tls.Config {
	return &tls.Config{
		Time:                        first.options.clock(),
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			st := s.now.Load()
			config := st.forClient(hello)
			if st.trust != first.trust {
				config = config.Clone()
				config.SessionTicketsDisabled = true
			}
			return config, nil
		},
	}
}

// forClient is how a connection goes on. crypto/tls refuses clients who offer protocols of which we know none, but MQTT
// needs no ALPN, and many clients offer what their library does by default (protocol.md, 8).
func (st *serverState) forClient(hello *tls.ClientHelloInfo) *tls.Config {
	for _, p := range hello.SupportedProtos {
		if slices.Contains(st.options.Protocols, p) {
			return st.inner
		}
	}
	return st.silent
}

// same tells whether the options differ in what matters beside the content of the files.
func (o *ServerOptions) same(p *ServerOptions) bool {
	return slices.Equal(o.Pairs, p.Pairs) && o.MinVersion == p.MinVersion && o.ClientCA == p.ClientCA &&
		o.ClientAuth == p.ClientAuth && o.TicketKeys == p.TicketKeys && slices.Equal(o.Protocols, p.Protocols)
}
