package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// An Info is what there is to say about a certificate in use.
type Info struct {
	// Name is the first name that it is for, or its subject, of at most 128 bytes.
	Name string
	// Path is its file.
	Path string
	// Fingerprint is the SHA-256 of the certificate in hexadecimal digits.
	Fingerprint string
	// Serial is the serial number in hexadecimal digits.
	Serial   string
	NotAfter time.Time
	// Field is the option that names it, as in FieldError.
	Field string
	// Concern is empty, or why somebody should look after it, such as "expires at 2026-03-01 12:00 UTC".
	Concern string
}

// maxInfoName bounds what becomes a label of a metric.
const maxInfoName = 128

func infoOf(c *tls.Certificate, field, path string, now time.Time) Info {
	sum := sha256.Sum256(c.Leaf.Raw)
	name := c.Leaf.Subject.CommonName
	if names := namesOf(c.Leaf); len(names) > 0 {
		name = names[0]
	} else if len(c.Leaf.IPAddresses) > 0 {
		name = c.Leaf.IPAddresses[0].String()
	}
	clean := fmt.Sprintf("%.*q", maxInfoName, name)
	return Info{
		Name: clean[1 : len(clean)-1], Path: path, Fingerprint: hex.EncodeToString(sum[:]), Serial: c.Leaf.SerialNumber.Text(16),
		NotAfter: c.Leaf.NotAfter, Field: field, Concern: validity(c.Leaf, now),
	}
}

// Certificates are the certificates of the listener, in the order of the configuration.
func (s *Server) Certificates() []Info {
	st := s.now.Load()
	list := make([]Info, len(st.certs))
	for i, c := range st.certs {
		list[i] = infoOf(c, fmt.Sprintf("certificates[%d].cert", i), st.options.Pairs[i].Cert, st.options.clock()())
	}
	return list
}

// Knows tells whether a certificate is for this name, or for one of those that a pattern such as *.example.com means.
func (s *Server) Knows(name string) bool {
	parent := func(name string) string {
		_, rest, _ := strings.Cut(name, ".")
		return rest
	}
	for _, c := range s.now.Load().certs {
		for _, n := range namesOf(c.Leaf) {
			wild := strings.HasPrefix(n, "*.") || strings.HasPrefix(name, "*.")
			if n == name || wild && parent(n) == parent(name) {
				return true
			}
		}
	}
	return false
}

// Files are all files that the state was made of.
func (s *Server) Files() []string { return s.now.Load().files }

// A Concern is something about an option that is valid and should not stay as it is.
type Concern struct {
	Field string // as in FieldError
	Msg   string // continues it
}

// Exposed are the files with secrets that everybody on this host can read.
func (s *Server) Exposed() []Concern {
	o := &s.now.Load().options
	var list []Concern
	for i, p := range o.Pairs {
		list = exposed(list, fmt.Sprintf("certificates[%d].key", i), p.Key)
	}
	return exposed(list, "ticket_keys", o.TicketKeys)
}

// Exposed is the key of the certificate for the backends, if everybody on this host can read it.
func (c *Client) Exposed() []Concern { return exposed(nil, "key", c.now.Load().options.Pair.Key) }

func exposed(list []Concern, field, path string) []Concern {
	if path == "" || !openToAll(path) {
		return list
	}
	return append(list, Concern{field, fmt.Sprintf("is %s, a secret that everybody on this host can read; write: chmod o-r %s", path, path)})
}
