package certs

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"testing"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// ticketFile has these keys, each made of one byte.
func ticketFile(bs ...byte) []byte {
	var text []byte
	for _, b := range bs {
		text = append(text, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{b}, 48))+"\n"...)
	}
	return text
}

// A ticketRig is what the tests of tickets begin with.
type ticketRig struct {
	t       *testing.T
	ca      *testcert.Authority
	f       folder
	options ServerOptions
	client  *tls.Config
}

func newTicketRig(t *testing.T, version uint16) *ticketRig {
	t.Helper()
	r := &ticketRig{t: t, ca: testcert.NewAuthority(t, "ca"), f: newFolder(t)}
	r.options = ServerOptions{Pairs: []Pair{r.f.pair("a", r.ca.Sign(t, testcert.Want{Names: []string{"a.test"}}))}, Protocols: []string{"mqtt"}}
	r.client = trusting(r.ca, "a.test")
	r.client.MaxVersion, r.client.ClientSessionCache = version, tls.NewLRUClientSessionCache(8)
	r.client.Certificates = []tls.Certificate{r.ca.Sign(t, testcert.Want{CN: "device"}).Pair(t)}
	return r
}

// resumes wants the client to resume its session, or not.
func (r *ticketRig) resumes(s *Server, want bool, when string) {
	r.t.Helper()
	m := mustMeet(r.t, s.Config(), r.client)
	if m.server.DidResume != want || m.client.DidResume != want {
		r.t.Errorf("%s: got resumed %v, want %v", when, m.server.DidResume, want)
	}
}

// bothVersions runs a test for each version of TLS: their tickets have little in common.
func bothVersions(t *testing.T, test func(*ticketRig)) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			test(newTicketRig(t, version))
		})
	}
}

// Tickets outlive a change of certificates and of options, with keys of crypto/tls as well as with a file, also for
// clients with certificates and those that offer no protocol we know.
func TestTicketsOutliveReload(t *testing.T) {
	t.Parallel()
	bothVersions(t, func(r *ticketRig) {
		bundle, keys := r.f.write("ca.pem", r.ca.PEM), r.f.write("keys", ticketFile(1))
		for _, file := range []string{"", keys} {
			for _, auth := range []ClientAuth{NoClientAuth, Require} {
				for _, protocols := range [][]string{nil, {"mqtt"}, {"other"}} {
					o := r.options
					if o.TicketKeys = file; auth != NoClientAuth {
						o.ClientAuth, o.ClientCA = auth, bundle
					}
					r.client.ClientSessionCache, r.client.NextProtos = tls.NewLRUClientSessionCache(8), protocols
					s := newServer(r.t, o)
					r.resumes(s, false, "first")
					r.resumes(s, true, "second")
					r.f.pair("a", r.ca.Sign(r.t, testcert.Want{Names: []string{"a.test", "b.test"}}))
					s.wantReload(r.t, true)
					r.resumes(s, true, "after a reload")
					o.Pairs = append(o.Pairs, r.f.pair("b", r.ca.Sign(r.t, testcert.Want{Names: []string{"c.test"}})))
					c, err := s.Prepare(o)
					if err != nil || !c.Apply() {
						r.t.Fatal(err)
					}
					r.resumes(s, true, "after other options")
				}
			}
		}
	})
}

// Several instances with one file take each other's tickets; without it, they do not.
func TestTicketsOfOtherInstances(t *testing.T) {
	t.Parallel()
	bothVersions(t, func(r *ticketRig) {
		r.options.ClientAuth, r.options.ClientCA = Require, r.f.write("ca.pem", r.ca.PEM)
		a, b := newServer(r.t, r.options), newServer(r.t, r.options)
		r.resumes(a, false, "first")
		r.resumes(b, false, "at another without a file")
		r.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		r.options.TicketKeys = r.f.write("keys", ticketFile(1))
		a, b = newServer(r.t, r.options), newServer(r.t, r.options)
		r.resumes(a, false, "first with a file")
		r.resumes(b, true, "at another with the file")
		r.f.write("keys", ticketFile(2, 1))
		b.wantReload(r.t, true)
		r.resumes(b, true, "a ticket of the second key") // which is answered with one of the first
		r.f.write("keys", ticketFile(3, 2))
		a.wantReload(r.t, true)
		r.resumes(a, true, "a ticket of the key in the middle")
		r.f.write("keys", ticketFile(5, 4))
		a.wantReload(r.t, true)
		r.resumes(a, false, "a ticket whose key is gone")
	})
}

// Who is not trusted any more cannot resume: not after a change of the bundle, nor where another bundle counts, nor
// where a certificate has become required.
func TestTicketsEndWithTrust(t *testing.T) {
	t.Parallel()
	for _, file := range []bool{false, true} {
		bothVersions(t, func(r *ticketRig) {
			if file {
				r.options.TicketKeys = r.f.write("keys", ticketFile(1))
			}
			r.options.ClientAuth, r.options.ClientCA = Require, r.f.write("ca.pem", r.ca.PEM)
			// The client is let in under each bundle, to see that it is the ticket that does not count.
			other := testcert.NewAuthority(r.t, "other")
			s := newServer(r.t, r.options)
			r.resumes(s, false, "first")
			r.resumes(s, true, "second")
			old, early := s.Config(), r.client.Clone()
			early.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			mustMeet(r.t, old, early) // has a ticket of before now
			r.f.write("ca.pem", append(bytes.Clone(other.PEM), r.ca.PEM...))
			s.wantReload(r.t, true)
			r.resumes(s, false, "after a change of the bundle")
			r.resumes(s, true, "second after it")
			if m := mustMeet(r.t, old, early); m.server.DidResume {
				r.t.Error("who began before the change and goes on after it has resumed")
			}
			r.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			r.resumes(s, false, "without a ticket")
			r.f.write("ca.pem", append(bytes.Clone(r.ca.PEM), other.PEM...))
			s.wantReload(r.t, true)
			r.resumes(s, true, "after a change of the order alone")
			o := r.options
			o.ClientAuth = Request
			r.resumes(newServer(r.t, o), false, "where certificates are only asked for")
			r.client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
			o.ClientAuth, o.ClientCA = NoClientAuth, ""
			r.resumes(newServer(r.t, o), false, "first without authorities")
			r.resumes(s, false, "from a listener without authorities")
		})
	}
}

// The second key of a file decrypts: what nginx and HAProxy write, with any length, is understood.
func TestParseTicketKeys(t *testing.T) {
	t.Parallel()
	line := func(n int) string { return base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{byte(n)}, n)) }
	keys, err := parseTicketKeys([]byte("# first\n" + line(32) + "\r\n\n  " + line(48) + "\n" + line(80)))
	if err != nil || len(keys) != 3 || len(keys[0]) != 32 || len(keys[1]) != 48 || len(keys[2]) != 80 {
		t.Errorf("got %d keys, error %v", len(keys), err)
	}
	if _, err := parseTicketKeys(ticketFile(1, 2, 3, 4, 5, 6, 7, 8)); err != nil {
		t.Error(err)
	}
	if _, err := parseTicketKeys(ticketFile(1, 2, 3, 4, 5, 6, 7, 8, 9)); err == nil {
		t.Error("nine keys are accepted")
	}
}

func FuzzParseTicketKeys(f *testing.F) {
	f.Add(ticketFile(1, 2))
	f.Add([]byte("#\n\n===="))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseTicketKeys(text)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxTicketKeys {
			t.Fatalf("got %d keys, error %v", len(keys), err)
		}
		var again []byte
		for _, k := range keys {
			if len(k) < minTicketKey || len(k) > maxTicketKey {
				t.Fatalf("a key has %d bytes", len(k))
			}
			again = append(again, base64.StdEncoding.EncodeToString(k)+"\n"...)
		}
		if err != nil {
			return
		}
		if same, err := parseTicketKeys(again); err != nil || len(same) != len(keys) {
			t.Fatalf("written again: got %d keys, error %v", len(same), err)
		}
	})
}
