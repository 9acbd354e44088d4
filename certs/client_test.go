package certs

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// What a broker shows is checked against the authorities and the name, and the broker is shown what is configured.
func TestClient(t *testing.T) {
	t.Parallel()
	ca, strangers, f := testcert.NewAuthority(t, "ca"), testcert.NewAuthority(t, "strangers"), newFolder(t)
	bundle, other := f.write("ca.pem", ca.PEM), f.write("other.pem", strangers.PEM)
	own := f.pair("own", ca.Sign(t, testcert.Want{CN: "mqttlb"}))
	broker := newServer(t, ServerOptions{
		Pairs:      []Pair{f.pair("broker", ca.Sign(t, testcert.Want{Names: []string{"broker.test", "10.0.0.1"}}))},
		ClientAuth: Request, ClientCA: bundle,
	})
	for _, test := range []struct {
		name, host string
		o          ClientOptions
		want       string // error
		shown      string // to the broker
	}{
		{"good", "broker.test", ClientOptions{CA: bundle}, "", ""},
		{"address", "10.0.0.1", ClientOptions{CA: bundle}, "", ""},
		{"other address", "10.0.0.2", ClientOptions{CA: bundle}, "10.0.0.2", ""},
		{"other host", "x.test", ClientOptions{CA: bundle}, "x.test", ""},
		{"server name", "10.0.0.2", ClientOptions{CA: bundle, ServerName: "broker.test"}, "", ""},
		{"other authority", "broker.test", ClientOptions{CA: other}, "unknown authority", ""},
		{"authorities of the host", "broker.test", ClientOptions{}, "unknown authority", ""},
		{"not verified", "x.test", ClientOptions{Insecure: true}, "", ""},
		{"with a certificate", "broker.test", ClientOptions{CA: bundle, Pair: own}, "", "mqttlb"},
	} {
		c, err := NewClient(test.o)
		if err != nil {
			t.Fatal(err)
		}
		m := meet(t, broker.Config(), c.Config(test.host))
		if test.want != "" {
			if m.clientErr == nil || !strings.Contains(m.clientErr.Error(), test.want) {
				t.Errorf("%s: got error %v, want %q", test.name, m.clientErr, test.want)
			}
			continue
		}
		if m.err() != nil {
			t.Errorf("%s: %v", test.name, m.err())
			continue
		}
		shown := ""
		if len(m.server.PeerCertificates) > 0 {
			shown = m.server.PeerCertificates[0].Subject.CommonName
		}
		if shown != test.shown {
			t.Errorf("%s: the broker was shown %q, want %q", test.name, shown, test.shown)
		}
		if again := mustMeet(t, broker.Config(), c.Config(test.host)); !again.client.DidResume {
			t.Errorf("%s: the second connection has not resumed", test.name)
		}
	}
}

// A certificate towards the brokers that has been renewed is shown to who is connected next, sessions of before do not
// go on, and a bad file changes nothing.
func TestClientReload(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	bundle := f.write("ca.pem", ca.PEM)
	c, err := NewClient(ClientOptions{CA: bundle, Pair: f.pair("own", ca.Sign(t, testcert.Want{CN: "one"}))})
	if err != nil {
		t.Fatal(err)
	}
	broker := newServer(t, ServerOptions{
		Pairs: []Pair{f.pair("broker", ca.Sign(t, testcert.Want{Names: []string{"b.test"}}))}, ClientAuth: Require, ClientCA: bundle,
	})
	show := func() (string, bool) {
		m := mustMeet(t, broker.Config(), c.Config("b.test"))
		return m.server.PeerCertificates[0].Subject.CommonName, m.server.DidResume
	}
	if name, _ := show(); name != "one" {
		t.Errorf("got %s, want one", name)
	}
	if changed, err := c.Reload(); changed || err != nil {
		t.Errorf("nothing changed: got %v, %v", changed, err)
	}
	next := ca.Sign(t, testcert.Want{CN: "two"})
	f.write("own.crt", next.Cert)
	if changed, err := c.Reload(); changed || err == nil {
		t.Errorf("half of it: got changed %v, error %v", changed, err)
	}
	if name, resumed := show(); name != "one" || !resumed {
		t.Errorf("after half of it: got %s, resumed %v", name, resumed)
	}
	f.write("own.key", next.Key)
	if changed, err := c.Reload(); !changed || err != nil {
		t.Errorf("got changed %v, error %v", changed, err)
	}
	if name, resumed := show(); name != "two" || resumed {
		t.Errorf("got %s, resumed %v, want two, and not resumed", name, resumed)
	}
	if got := c.Certificates()[0]; got.Name != "two" || got.Field != "cert" {
		t.Errorf("got %+v", got)
	}
}

func TestClientOptions(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	p, bundle := f.pair("own", ca.Sign(t, testcert.Want{})), f.write("ca.pem", ca.PEM)
	for _, test := range []struct {
		o    ClientOptions
		want string
	}{
		{ClientOptions{Pair: Pair{Cert: p.Cert}}, "key is missing"},
		{ClientOptions{Pair: Pair{Key: p.Key}}, "cert is missing"},
		{ClientOptions{Insecure: true, CA: bundle}, "ca has no effect"},
		{ClientOptions{CA: "/nowhere"}, "ca cannot be read"},
		{ClientOptions{CA: p.Key}, "ca is " + p.Key + ", in which there is no certificate"},
		{ClientOptions{Pair: Pair{p.Key, p.Cert}}, "cert is " + p.Key},
	} {
		if _, err := NewClient(test.o); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got error %v, want %q", err, test.want)
		}
	}
}

// The configurations for hosts are kept, as sessions are resumed by them, and are bounded.
func TestClientHosts(t *testing.T) {
	t.Parallel()
	c, err := NewClient(ClientOptions{Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[*tls.Config]bool)
	for range 2 {
		for i := range 2 {
			seen[c.Config(strings.Repeat("x", i+1))] = true
		}
	}
	if len(seen) != 2 {
		t.Errorf("got %d configurations for two hosts", len(seen))
	}
	for i := range 2 * maxHosts {
		c.Config(string(rune('a' + i)))
	}
	if n := len(c.now.Load().hosts); n > maxHosts {
		t.Errorf("%d configurations are kept", n)
	}
}
