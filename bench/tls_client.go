package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// serverName is what clients ask for.
const serverName = "bench.example"

// The ways of key exchange.
const (
	groupX25519 = "x25519"
	groupMLKEM  = "x25519mlkem768"
)

// handshakePatience bounds how long one client waits for anything.
const handshakePatience = 10 * time.Second

// tlsConfig is the configuration of clients: one version, one way of key exchange, so that all proxies do the same.
func tlsConfig(version, group string) (*tls.Config, error) {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	groups := map[string]tls.CurveID{groupX25519: tls.X25519, groupMLKEM: tls.X25519MLKEM768}
	v, g := versions[version], groups[group]
	if v == 0 || g == 0 {
		return nil, fmt.Errorf("%w: -tls wants 1.2 or 1.3, -group x25519 or x25519mlkem768", errUsage)
	}
	config := &tls.Config{
		ServerName: serverName, InsecureSkipVerify: true, MinVersion: v, MaxVersion: v, CurvePreferences: []tls.CurveID{g},
		ClientSessionCache: noSessions{},
	}
	if v == tls.VersionTLS12 {
		// OpenSSL takes the list for that of the curves of certificates too; X25519 is still preferred.
		config.CurvePreferences = append(config.CurvePreferences, tls.CurveP256)
	}
	return config, nil
}

// noSessions has the clients ask for session tickets, as real ones do, and never use one.
type noSessions struct{}

func (noSessions) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (noSessions) Put(string, *tls.ClientSessionState)        {}

// A tlsDialer opens MQTT connections over TLS, for any number of goroutines.
type tlsDialer struct {
	target  netip.AddrPort
	level   byte
	config  *tls.Config
	clients atomic.Int64 // how many there were so far
}

func newTLSDialer(c loadConfig) *tlsDialer {
	return &tlsDialer{target: c.target, level: c.level, config: c.tls}
}

// A tlsSession is an MQTT connection over TLS.
type tlsSession struct {
	*tls.Conn
	socket socketFile
}

// open connects, shakes hands and waits for CONNACK.
func (d *tlsDialer) open() (*tlsSession, error) {
	client := int(d.clients.Add(1)) - 1
	fd, err := dial(d.target, client)
	if err != nil {
		return nil, err
	}
	socket := socketFile{os.NewFile(uintptr(fd), "client")}
	s := &tlsSession{Conn: tls.Client(socket, d.config), socket: socket}
	if err := s.start(d.level, client); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("client %d: %w", client, err)
	}
	return s, nil
}

func (s *tlsSession) start(level byte, client int) error {
	if err := s.socket.SetDeadline(time.Now().Add(handshakePatience)); err != nil {
		return err
	}
	if err := s.HandshakeContext(context.Background()); err != nil { // which the deadline ends
		return err
	}
	if _, err := s.Write(connectPacket(level, fmt.Sprintf("bench-%0*d", clientDigits, client), benchKeepAlive)); err != nil {
		return err
	}
	var reply [130]byte
	if _, err := io.ReadFull(s, reply[:4]); err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	if reply[0] != 0x20 || reply[1] < 2 || int(reply[1]) > len(reply)-2 || reply[3] != 0 {
		return fmt.Errorf("no CONNACK that accepts but % x", reply[:4])
	}
	if _, err := io.ReadFull(s, reply[4:2+reply[1]]); err != nil {
		return fmt.Errorf("waiting for CONNACK: %w", err)
	}
	return s.socket.SetDeadline(time.Time{})
}

// leave ends the session in good order, see worker.leave.
func (s *tlsSession) leave() {
	_, _ = s.Write(disconnectPacket)
	_ = s.Close() // with close_notify
}

// bare gives up TLS, with all memory that it takes, and returns a descriptor of the socket, which stays open.
func (s *tlsSession) bare() (fd int, err error) {
	raw, err := s.socket.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dupErr error
	err = raw.Control(func(old uintptr) { fd, dupErr = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, dupErr, s.socket.Close())
}

// A socketFile is a socket as a net.Conn.
type socketFile struct{ *os.File }

func (socketFile) LocalAddr() net.Addr  { return nil }
func (socketFile) RemoteAddr() net.Addr { return nil }
