// Package certs keeps what TLS needs from files: certificates and their keys, the authorities of clients and of
// brokers, and the keys of session tickets. It builds the tls.Config of a listener and of a cluster from them, and
// takes over files that change while connections are open, which notice nothing of it.
//
//	server, err := certs.NewServer(certs.ServerOptions{Pairs: […], ClientAuth: certs.Require, ClientCA: "ca.pem"})
//	conn := tls.Server(raw, server.Config())
//	changed, err := server.Reload()   // new handshakes see the new files; with an error nothing has changed
//
// All that follows from one reading of the files is one immutable state behind an atomic pointer, so a handshake sees
// either the old files or the new ones and never a mixture.
//
// Tickets. The tls.Config that a Server hands out is always the same one; what may change is behind its
// GetConfigForClient. This is because crypto/tls keeps the keys of session tickets, which it makes and rotates by
// itself, in the Config that the connection was begun with: a new Config for each reload would make every ticket
// worthless and bring all devices back with full handshakes. There is one exception: a client that resumes a session
// does not show its certificate again, so a change of who is trusted must end all tickets. Then there is a new Config,
// and keys that come from a file are mixed with the authorities before use, so that neither a changed bundle nor a
// listener with other authorities accepts the tickets (protocol.md, 8).
//
// Revocation (CRL, OCSP) is not looked at.
package certs
