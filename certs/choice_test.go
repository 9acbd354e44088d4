package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/internal/testcert"
)

// The name that a client asks for, and what it can verify, choose the certificate.
func TestChoice(t *testing.T) {
	t.Parallel()
	ca, f := testcert.NewAuthority(t, "ca"), newFolder(t)
	leaves := map[string]testcert.Leaf{
		"rsa":      ca.Sign(t, testcert.Want{Names: []string{"a.test", "both.test"}, RSA: true}),
		"ec":       ca.Sign(t, testcert.Want{Names: []string{"both.test"}}),
		"wild":     ca.Sign(t, testcert.Want{Names: []string{"*.wild.test"}}),
		"wild-rsa": ca.Sign(t, testcert.Want{Names: []string{"*.wild.test"}, RSA: true}),
		"exact":    ca.Sign(t, testcert.Want{Names: []string{"x.wild.test"}}),
		"cn":       ca.Sign(t, testcert.Want{CN: "old.test"}),
		"upper":    ca.Sign(t, testcert.Want{Names: []string{"UPPER.test"}}),
	}
	pairs := make(map[string]Pair)
	bySerial := make(map[string]string)
	for name, l := range leaves {
		pairs[name] = f.pair(name, l)
		bySerial[l.Serial(t)] = name
	}
	list := func(names string) (p []Pair) {
		for name := range strings.FieldsSeq(names) {
			p = append(p, pairs[name])
		}
		return p
	}
	rsaOnly := func(c *tls.Config) {
		c.MaxVersion = tls.VersionTLS12
		c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	}
	all := "rsa ec wild wild-rsa exact cn upper"
	for _, test := range []struct {
		certs, sni string
		client     func(*tls.Config)
		want       string
	}{
		{all, "a.test", nil, "rsa"},
		{all, "both.test", nil, "ec"},
		{all, "both.test", rsaOnly, "rsa"},
		{all, "BOTH.test", nil, "ec"},
		{all, "y.wild.test", nil, "wild"},
		{all, "y.wild.test", rsaOnly, "wild-rsa"},
		{all, "x.wild.test", nil, "exact"},
		{all, "a.b.wild.test", nil, "rsa"}, // a * is one label
		{all, "wild.test", nil, "rsa"},
		{all, "old.test", nil, "cn"},
		{all, "upper.test", nil, "upper"},
		{all, "unknown.test", nil, "rsa"},
		{all, "", nil, "rsa"},
		{"ec rsa", "", rsaOnly, "rsa"}, // the default has two kinds of keys
		{"ec rsa", "unknown.test", rsaOnly, "rsa"},
		{"ec rsa", "", nil, "ec"},
		{"wild-rsa wild", "", nil, "wild"},
		{"cn", "x", nil, "cn"},
	} {
		t.Run(fmt.Sprint(test.certs, " for ", test.sni, test.client != nil), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, ServerOptions{Pairs: list(test.certs)})
			client := &tls.Config{ServerName: test.sni, InsecureSkipVerify: true} // who is shown is what this is about
			if test.client != nil {
				test.client(client)
			}
			if got := bySerial[mustMeet(t, s.Config(), client).serverSerial()]; got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// find agrees with a search through all certificates, one by one, for any names.
func TestChoiceAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "*"}
	name := func() string {
		labels := []string{words[random.IntN(3)]}
		for range random.IntN(3) {
			labels = append(labels, words[random.IntN(2)])
		}
		return strings.Join(labels, ".")
	}
	for range 3000 {
		var all []*tls.Certificate
		for range 1 + random.IntN(4) {
			c := &tls.Certificate{Leaf: &x509.Certificate{}}
			for range 1 + random.IntN(3) {
				c.Leaf.DNSNames = append(c.Leaf.DNSNames, name())
			}
			all = append(all, c)
		}
		asked := strings.ReplaceAll(name(), "*", "c")
		if got, want := newChoice(all).find(asked)[0], modelChoice(all, asked); got != want {
			t.Fatalf("for %q got %v, want %v", asked, got.Leaf.DNSNames, want.Leaf.DNSNames)
		}
	}
}

// modelChoice is the documentation, word by word, for keys of one kind.
func modelChoice(all []*tls.Certificate, asked string) *tls.Certificate {
	has := func(name string) *tls.Certificate {
		for _, c := range all {
			if slices.Contains(c.Leaf.DNSNames, name) {
				return c
			}
		}
		return nil
	}
	if c := has(asked); c != nil {
		return c
	}
	if _, behind, found := strings.Cut(asked, "."); found {
		if c := has("*." + behind); c != nil {
			return c
		}
	}
	return all[0]
}
