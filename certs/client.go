package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// ClientOptions are the TLS towards the backends of one cluster.
type ClientOptions struct {
	// CA is the file with the authorities of the backends; empty for those that this host trusts.
	CA string
	// Cert and Key are what the backends are shown; both or none.
	Pair Pair
	// ServerName is the name that all backends' certificates must have; empty for the host of each.
	ServerName string
	// Insecure accepts any certificate.
	Insecure bool
	// Clock tells the time; nil for time.Now.
	Clock func() time.Time
}

func (o *ClientOptions) clock() func() time.Time {
	if o.Clock != nil {
		return o.Clock
	}
	return time.Now
}

// check finds what contradicts itself.
func (o *ClientOptions) check() error {
	switch {
	case o.Pair.Cert != "" && o.Pair.Key == "":
		return wrong("key", "is missing: the private key of cert")
	case o.Pair.Cert == "" && o.Pair.Key != "":
		return wrong("cert", "is missing: the certificate of key")
	case o.Insecure && o.CA != "":
		return wrong("ca", "has no effect with verify: false")
	}
	return nil
}

const (
	// maxSessions bounds the sessions that are kept to be resumed, which is one for each name of a backend; a session
	// has a few kilobytes.
	maxSessions = 1024
	// maxHosts bounds the configurations that are kept, one for each name of a backend; as many as a cluster may have.
	maxHosts = 4096
)

// A Client is the TLS towards the backends of one cluster. All methods may be called from any goroutine.
type Client struct {
	now     atomic.Pointer[clientState]
	changes sync.Mutex
}

// A clientState is what follows from one reading of the files.
type clientState struct {
	options ClientOptions
	base    *tls.Config
	cert    *tls.Certificate // nil if there is none
	sum     [sha256.Size]byte
	files   []string

	mu    sync.Mutex
	hosts map[string]*tls.Config // made of base
}

// NewClient reads the files. An error is, or joins, FieldErrors.
func NewClient(o ClientOptions) (*Client, error) {
	c := new(Client)
	p, err := c.Prepare(o)
	if err != nil {
		return nil, err
	}
	p.Apply()
	return c, nil
}

// Config is for one connection to a backend whose host is this name or IP address. It must not be changed.
func (c *Client) Config(host string) *tls.Config {
	st := c.now.Load()
	name := st.options.ServerName
	if name == "" {
		name = host
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	config := st.hosts[name]
	if config == nil {
		if len(st.hosts) >= maxHosts {
			clear(st.hosts) // backends come and go; those that are there come again
		}
		config = st.base.Clone()
		config.ServerName = name
		st.hosts[name] = config
	}
	return config
}

// Reload reads the files again. It tells whether there was something new in them. After an error all is as before.
func (c *Client) Reload() (changed bool, err error) {
	p, err := c.Prepare(c.now.Load().options)
	if err != nil {
		return false, err
	}
	return p.Apply(), nil
}

// A ClientChange is a state that is ready to be taken over.
type ClientChange struct {
	client *Client
	next   *clientState
}

// Prepare reads the files of these options. Nothing changes before Apply.
func (c *Client) Prepare(o ClientOptions) (*ClientChange, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	in := newInputs()
	next := &clientState{options: o, hosts: make(map[string]*tls.Config)}
	next.base = &tls.Config{
		Time:                        o.clock(),
		MinVersion:                  tls.VersionTLS12,
		InsecureSkipVerify:          o.Insecure,
		DynamicRecordSizingDisabled: true,
		ClientSessionCache:          tls.NewLRUClientSessionCache(maxSessions),
	}
	var errs []error
	if o.CA != "" {
		var err error
		next.base.RootCAs, _, err = in.loadAuthorities(o.CA, "ca")
		errs = append(errs, err)
	} else if !o.Insecure {
		if _, err := x509.SystemCertPool(); err != nil {
			errs = append(errs, wrong("ca", "is missing, and the authorities of this host cannot be read: %w", err))
		}
	}
	if o.Pair.Cert != "" {
		cert, err := in.loadPair(o.Pair, "cert", "key")
		errs = append(errs, err)
		if err == nil {
			next.cert = cert
			// Not in Certificates: of those none is sent if the broker names other authorities, and the broker would
			// only say that it wants one. What is configured is sent, and the broker says what it has against it.
			next.base.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	next.sum, next.files = in.digest(), in.files
	return &ClientChange{c, next}, nil
}

// Apply takes the change over for all connections from now on. It tells whether anything is different. The sessions
// that could be resumed are forgotten with the old state, as another authority may count now.
func (p *ClientChange) Apply() (changed bool) {
	p.client.changes.Lock()
	defer p.client.changes.Unlock()
	old := p.client.now.Load()
	if old != nil && old.sum == p.next.sum && old.options.same(&p.next.options) {
		return false
	}
	p.client.now.Store(p.next)
	return true
}

// Certificates is the certificate that the backends are shown, if there is one.
func (c *Client) Certificates() []Info {
	st := c.now.Load()
	if st.cert == nil {
		return nil
	}
	return []Info{infoOf(st.cert, "cert", st.options.Pair.Cert, st.options.clock()())}
}

// Files are all files that the state was made of.
func (c *Client) Files() []string { return c.now.Load().files }

// same tells whether the options differ in what matters beside the content of the files.
func (o *ClientOptions) same(p *ClientOptions) bool {
	return o.CA == p.CA && o.Pair == p.Pair && o.ServerName == p.ServerName && o.Insecure == p.Insecure
}
