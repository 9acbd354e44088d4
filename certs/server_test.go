package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// Whatever protocols a client offers, it is served; mqtt is agreed on if it is among them.
func TestProtocols(t *testing.T) {
	t.Parallel()
	ca := testcert.NewAuthority(t, "ca")
	s := newServer(t, ServerOptions{Pairs: []Pair{newFolder(t).pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}}))}, Protocols: []string{"mqtt"}})
	for _, test := range []struct {
		offered []string
		want    string
	}{
		{nil, ""},
		{[]string{"mqtt"}, "mqtt"},
		{[]string{"http/1.1", "mqtt"}, "mqtt"},
		{[]string{"http/1.1"}, ""},
		{[]string{"x-amzn-mqtt-ca"}, ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			client := trusting(ca, "a.test")
			client.NextProtos, client.MaxVersion = test.offered, version
			m := mustMeet(t, s.Config(), client)
			if got := m.server.NegotiatedProtocol; got != test.want || m.server.Version != version {
				t.Errorf("offered %v in %s: got %q in %s, want %q", test.offered, tls.VersionName(version), got, tls.VersionName(m.server.Version), test.want)
			}
		}
	}
}

func TestMinVersion(t *testing.T) {
	t.Parallel()
	ca := testcert.NewAuthority(t, "ca")
	p := newFolder(t).pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}, RSA: true}))
	for _, test := range []struct {
		least, client uint16
		good          bool
	}{
		{0, tls.VersionTLS10, false},
		{0, tls.VersionTLS11, false},
		{0, tls.VersionTLS12, true},
		{tls.VersionTLS12, tls.VersionTLS13, true},
		{tls.VersionTLS13, tls.VersionTLS12, false},
		{tls.VersionTLS13, tls.VersionTLS13, true},
	} {
		s := newServer(t, ServerOptions{Pairs: []Pair{p}, MinVersion: test.least})
		client := trusting(ca, "a.test")
		client.MinVersion, client.MaxVersion = test.client, test.client
		m := meet(t, s.Config(), client)
		if (m.err() == nil) != test.good {
			t.Errorf("from %s, a client with %s: got error %v", tls.VersionName(test.least), tls.VersionName(test.client), m.err())
		}
		if !test.good && !strings.Contains(m.err().Error(), "protocol version not supported") {
			t.Errorf("from %s, a client with %s: got error %v", tls.VersionName(test.least), tls.VersionName(test.client), m.err())
		}
	}
}

// Each kind of client gets in, or hears the alert that says why not.
func TestClientAuth(t *testing.T) {
	t.Parallel()
	ca, clients, strangers := testcert.NewAuthority(t, "ca"), testcert.NewAuthority(t, "clients"), testcert.NewAuthority(t, "strangers")
	f := newFolder(t)
	p, bundle := f.pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}})), f.write("ca.pem", clients.PEM)
	now := time.Now()
	certs := map[string]tls.Certificate{
		"good":    clients.Sign(t, testcert.Want{CN: "device"}).Pair(t),
		"rsa":     clients.Sign(t, testcert.Want{CN: "device", RSA: true}).Pair(t),
		"expired": clients.Sign(t, testcert.Want{From: now.Add(-9 * time.Hour), Until: now.Add(-8 * time.Hour)}).Pair(t),
		"unknown": strangers.Sign(t, testcert.Want{CN: "device"}).Pair(t),
	}
	for _, test := range []struct {
		auth              ClientAuth
		cert, want, old13 string // the alert, and that of TLS 1.2 if it is another one
	}{
		{Require, "good", "", ""},
		{Require, "rsa", "", ""},
		{Require, "expired", "expired certificate", ""},
		{Require, "unknown", "unknown certificate authority", ""},
		{Require, "", "certificate required", "handshake failure"},
		{Request, "", "", ""},
		{Request, "good", "", ""},
		{Request, "expired", "expired certificate", ""},
		{Request, "unknown", "unknown certificate authority", ""},
		{NoClientAuth, "unknown", "", ""},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			o := ServerOptions{Pairs: []Pair{p}, ClientAuth: test.auth}
			if test.auth != NoClientAuth {
				o.ClientCA = bundle
			}
			client := trusting(ca, "a.test")
			client.MaxVersion = version
			if c, ok := certs[test.cert]; ok {
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
			}
			want := test.want
			if version == tls.VersionTLS12 && test.old13 != "" {
				want = test.old13
			}
			m := meet(t, newServer(t, o).Config(), client)
			if want == "" {
				if m.err() != nil {
					t.Errorf("%d, %q, %s: %v", test.auth, test.cert, tls.VersionName(version), m.err())
				}
				continue
			}
			if m.clientErr == nil || m.serverErr == nil || !strings.Contains(m.clientErr.Error(), "remote error: tls: "+want) {
				t.Errorf("%d, %q, %s: got errors %v and %v, want the alert %q", test.auth, test.cert, tls.VersionName(version), m.clientErr, m.serverErr, want)
			}
		}
	}
}

// The clock is the one of the options, for the certificates of clients too.
func TestClock(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	later := time.Now().Add(500 * time.Hour)
	o := ServerOptions{
		Pairs:    []Pair{f.pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}, From: later.Add(-time.Hour), Until: later.Add(soon - time.Hour)}))},
		ClientCA: f.write("ca.pem", ca.PEM), ClientAuth: Require, Clock: func() time.Time { return later },
	}
	s := newServer(t, o)
	client := trusting(ca, "a.test")
	client.Time = o.Clock
	client.Certificates = []tls.Certificate{ca.Sign(t, testcert.Want{From: later.Add(-time.Hour), Until: later.Add(time.Hour)}).Pair(t)}
	mustMeet(t, s.Config(), client)
	if got := s.Certificates()[0]; !strings.HasPrefix(got.Concern, "expires at ") || got.Name != "a.test" || got.Path != o.Pairs[0].Cert {
		t.Errorf("got %+v", got)
	}
}

func TestValidity(t *testing.T) {
	t.Parallel()
	ca := testcert.NewAuthority(t, "ca")
	day := 24 * time.Hour
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := ca.Sign(t, testcert.Want{Names: []string{"a"}, From: from, Until: from.Add(100 * day)}).Pair(t)
	for _, test := range []struct {
		at   time.Duration
		want string
	}{
		{-time.Second, "is not valid before 2026-01-01 00:00 UTC"},
		{0, ""},
		{86 * day, ""},
		{86*day + time.Second, "expires at 2026-04-11 00:00 UTC"},
		{100 * day, "expires at 2026-04-11 00:00 UTC"},
		{100*day + time.Second, "has expired at 2026-04-11 00:00 UTC"},
	} {
		if got := validity(c.Leaf, from.Add(test.at)); got != test.want {
			t.Errorf("after %s: got %q, want %q", test.at, got, test.want)
		}
	}
}

// A certificate that is replaced is seen by who comes next; who is there stays, and a bad file changes nothing.
func TestReload(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	first, second := ca.Sign(t, testcert.Want{Names: []string{"a.test"}}), ca.Sign(t, testcert.Want{Names: []string{"a.test"}, RSA: true})
	s := newServer(t, ServerOptions{Pairs: []Pair{f.pair("a", first)}})
	early := mustMeet(t, s.Config(), trusting(ca, "a.test"))
	s.wantReload(t, false)
	f.write("a.crt", second.Cert)
	if changed, err := s.Reload(); changed || err == nil || !strings.Contains(err.Error(), f.at("a.key")) {
		t.Errorf("half of it replaced: got changed %v, error %v", changed, err)
	}
	if got := mustMeet(t, s.Config(), trusting(ca, "a.test")).serverSerial(); got != first.Serial(t) {
		t.Errorf("half of it replaced: got serial %s, want the first", got)
	}
	f.write("a.key", second.Key)
	s.wantReload(t, true)
	if got := mustMeet(t, s.Config(), trusting(ca, "a.test")).serverSerial(); got != second.Serial(t) {
		t.Errorf("got serial %s, want the second", got)
	}
	if got := s.Certificates()[0].Serial; got != second.Serial(t) {
		t.Errorf("shown: got serial %s, want the second", got)
	}
	for range 3 { // both ways
		if _, err := early.serverConn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := early.clientConn.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

// What is wrong with files is said with the option and what to do.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	l, other := ca.Sign(t, testcert.Want{Names: []string{"a.test"}}), ca.Sign(t, testcert.Want{Names: []string{"a.test"}})
	good := f.pair("good", l)
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 48))
	with := func(cert, key []byte) ServerOptions {
		return ServerOptions{Pairs: []Pair{good, {f.write("x.crt", cert), f.write("x.key", key)}}}
	}
	tickets := func(text string) ServerOptions {
		return ServerOptions{Pairs: []Pair{good}, TicketKeys: f.write("tickets", []byte(text))}
	}
	clients := func(text []byte) ServerOptions {
		return ServerOptions{Pairs: []Pair{good}, ClientAuth: Require, ClientCA: f.write("ca.pem", text)}
	}
	locked := bytes.ReplaceAll(l.Key, []byte("PRIVATE KEY"), []byte("ENCRYPTED PRIVATE KEY"))
	for _, test := range []struct {
		name  string
		o     func() ServerOptions
		field string
		want  string
	}{
		{"no certificates", func() ServerOptions { return ServerOptions{} }, "certificates", "is missing"},
		{"no file", func() ServerOptions { return ServerOptions{Pairs: []Pair{{"/nowhere", good.Key}}} }, "certificates[0].cert", "no such file"},
		{"no key file", func() ServerOptions { return ServerOptions{Pairs: []Pair{{good.Cert, "/nowhere"}}} }, "certificates[0].key", "no such file"},
		{"folder", func() ServerOptions { return ServerOptions{Pairs: []Pair{{f.path, good.Key}}} }, "certificates[0].cert", "which is no file"},
		{"empty", func() ServerOptions { return with([]byte("\n"), l.Key) }, "certificates[1].cert", "which is empty"},
		{"not PEM", func() ServerOptions { return with([]byte("abc"), l.Key) }, "certificates[1].cert", "nothing in PEM"},
		{"interchanged", func() ServerOptions { return with(l.Key, l.Cert) }, "certificates[1].cert", "interchanged"},
		{"half a certificate", func() ServerOptions { return with(l.Cert[:len(l.Cert)/2], l.Key) }, "certificates[1].cert", "not whole"},
		{"half a key", func() ServerOptions { return with(l.Cert, l.Key[:len(l.Key)/2]) }, "certificates[1].key", "not whole"},
		{"key not PEM", func() ServerOptions { return with(l.Cert, []byte("abc")) }, "certificates[1].key", "openssl pkey -inform der"},
		{"no key", func() ServerOptions { return with(l.Cert, l.Cert) }, "certificates[1].key", "no private key"},
		{"passphrase", func() ServerOptions { return with(l.Cert, locked) }, "certificates[1].key", "openssl pkey"},
		{"other key", func() ServerOptions { return with(l.Cert, other.Key) }, "certificates[1].key", "cannot be used with the certificate"},
		{"no authorities", func() ServerOptions { return ServerOptions{Pairs: []Pair{good}, ClientAuth: Request} }, "client_ca", "is missing"},
		{"idle authorities", func() ServerOptions { return ServerOptions{Pairs: []Pair{good}, ClientCA: good.Cert} }, "client_ca", "has no effect"},
		{"half authorities", func() ServerOptions { return clients(append(bytes.Clone(ca.PEM), ca.PEM[:len(ca.PEM)/2]...)) }, "client_ca", "not whole"},
		{"key as authority", func() ServerOptions { return clients(l.Key) }, "client_ca", "no certificate"},
		{"ticket key short", func() ServerOptions { return tickets(base64.StdEncoding.EncodeToString(make([]byte, 31))) }, "ticket_keys", "line 1 is not 32 to 80 bytes"},
		{"ticket key half", func() ServerOptions { return tickets(key + "\n" + key[:40]) }, "ticket_keys", "line 2 is not"},
		{"ticket key twice", func() ServerOptions { return tickets(key + "\n# x\n" + key) }, "ticket_keys", "line 3 repeats"},
		{"no ticket key", func() ServerOptions { return tickets("# none\n") }, "ticket_keys", "there is no key"},
	} {
		s, err := NewServer(test.o())
		if s != nil || err == nil || !strings.HasPrefix(err.Error(), test.field+" ") || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got error %v, want %s and %q", test.name, err, test.field, test.want)
		}
	}
}

// Keys that everybody can read are told.
func TestExposed(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	p := f.pair("a", ca.Sign(t, testcert.Want{Names: []string{"a.test"}}))
	s := newServer(t, ServerOptions{Pairs: []Pair{p}})
	if got := s.Exposed(); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	for _, path := range []string{p.Cert, p.Key} {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := s.Exposed(); len(got) != 1 || got[0].Field != "certificates[0].key" {
		t.Errorf("got %v, want the key alone", got)
	}
}
