package certs

import (
	"crypto/rsa"
	"crypto/tls"
	"slices"
	"strings"
)

// A choice finds the certificate for a client. It does not change once it is made.
type choice struct {
	// exact has the names, wildcard what follows the * of those that begin with one. Each has the certificates for
	// that name, the best first.
	exact, wildcard map[string][]*tls.Certificate
	rest            []*tls.Certificate // for who asks for no name, or an unknown one
}

// newChoice makes a choice of certificates in the order of the configuration. There is at least one.
func newChoice(all []*tls.Certificate) *choice {
	c := &choice{exact: make(map[string][]*tls.Certificate), wildcard: make(map[string][]*tls.Certificate)}
	for _, cert := range all {
		for _, name := range namesOf(cert.Leaf) {
			if suffix, ok := strings.CutPrefix(name, "*"); ok {
				c.wildcard[suffix] = append(c.wildcard[suffix], cert)
			} else {
				c.exact[name] = append(c.exact[name], cert)
			}
		}
	}
	for _, lists := range []map[string][]*tls.Certificate{c.exact, c.wildcard} {
		for _, list := range lists {
			slices.SortStableFunc(list, func(a, b *tls.Certificate) int { return cost(a) - cost(b) })
		}
	}
	// The default is the first certificate and, if there is one for the same name with another kind of key, that too.
	c.rest = all[:1]
	if names := namesOf(all[0].Leaf); len(names) > 0 {
		if suffix, ok := strings.CutPrefix(names[0], "*"); ok {
			c.rest = c.wildcard[suffix]
		} else {
			c.rest = c.exact[names[0]]
		}
	}
	return c
}

// cost orders certificates for the same name. An RSA signature takes many times the CPU of an ECDSA one
// (performance.md, 2), so RSA is for clients that can do nothing else.
func cost(c *tls.Certificate) int {
	if _, ok := c.Leaf.PublicKey.(*rsa.PublicKey); ok {
		return 1
	}
	return 0
}

// get is a tls.Config.GetCertificate.
func (c *choice) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	list := c.find(hello.ServerName)
	if len(list) == 1 {
		return list[0], nil
	}
	// The name is no criterion any more: the default is right although its name is another one.
	nameless := *hello
	nameless.ServerName = ""
	for _, cert := range list {
		if nameless.SupportsCertificate(cert) == nil {
			return cert, nil
		}
	}
	return list[0], nil // the handshake will say what is the matter
}

// find returns the certificates for a name, the best first; never none.
func (c *choice) find(name string) []*tls.Certificate {
	name = normal(name)
	if list := c.exact[name]; list != nil {
		return list
	}
	// A * stands for exactly one label (RFC 6125, 6.4.3).
	if i := strings.IndexByte(name, '.'); i > 0 {
		if list := c.wildcard[name[i:]]; list != nil {
			return list
		}
	}
	return c.rest
}

// normal is the form in which names are compared.
func normal(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
