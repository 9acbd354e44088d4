package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// A folder has files of a test.
type folder struct {
	t    *testing.T
	path string
}

func newFolder(t *testing.T) folder {
	t.Helper()
	return folder{t, t.TempDir()}
}

func (f folder) at(name string) string { return filepath.Join(f.path, name) }

// write replaces a file at once.
func (f folder) write(name string, data []byte) string {
	return testcert.Write(f.t, f.path, name, data)
}

// pair writes a leaf as NAME.crt and NAME.key.
func (f folder) pair(name string, l testcert.Leaf) Pair {
	cert, key := l.Write(f.t, f.path, name)
	return Pair{Cert: cert, Key: key}
}

func newServer(t *testing.T, o ServerOptions) *Server {
	t.Helper()
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// reload wants a reload to work, and to find something new or not.
func (s *Server) wantReload(t *testing.T, want bool) {
	t.Helper()
	if changed, err := s.Reload(); err != nil || changed != want {
		t.Fatalf("got changed %v, error %v, want changed %v", changed, err, want)
	}
}

// patience bounds a handshake.
const patience = 30 * time.Second

// A meeting is what came of a handshake.
type meeting struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
	serverConn           *tls.Conn
	clientConn           *tls.Conn
}

// err is the first error of both sides.
func (m *meeting) err() error { return errors.Join(m.serverErr, m.clientErr) }

// meet has a client and a server shake hands over a socket, and the client receive what comes after the handshake, such
// as tickets. Both connections stay open until the end of the test.
func meet(t *testing.T, server, client *tls.Config) *meeting {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	m := new(meeting)
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			m.serverErr = err
			return
		}
		t.Cleanup(func() { _ = raw.Close() })
		_ = raw.SetDeadline(time.Now().Add(patience))
		m.serverConn = tls.Server(raw, server)
		if m.serverErr = m.serverConn.Handshake(); m.serverErr != nil {
			_ = raw.Close()
			return
		}
		m.server = m.serverConn.ConnectionState()
		_, m.serverErr = m.serverConn.Write([]byte("x"))
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	_ = raw.SetDeadline(time.Now().Add(patience))
	m.clientConn = tls.Client(raw, client)
	if m.clientErr = m.clientConn.Handshake(); m.clientErr == nil {
		m.client = m.clientConn.ConnectionState()
		_, m.clientErr = m.clientConn.Read(make([]byte, 1))
	} else {
		_ = raw.Close()
	}
	<-done
	return m
}

// mustMeet is meet for those who get on.
func mustMeet(t *testing.T, server, client *tls.Config) *meeting {
	t.Helper()
	m := meet(t, server, client)
	if err := m.err(); err != nil {
		t.Fatal(err)
	}
	return m
}

// serverSerial is the certificate that the client saw.
func (m *meeting) serverSerial() string { return m.client.PeerCertificates[0].SerialNumber.Text(16) }

func trusting(a *testcert.Authority, name string) *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.PEM)
	return &tls.Config{RootCAs: pool, ServerName: name}
}
