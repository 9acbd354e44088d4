package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/mqttlb/mqttlb/certs"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/proxy"
)

// A terminator is the TLS of one listener at work.
type terminator struct {
	server *certs.Server // nil with passthrough
	// proxy is how the proxy knows it. It compares by address: it is the same for as long as it says the same.
	proxy *proxy.TLSOptions
	was   config.ListenerTLS // that proxy was made of
}

// A tlsChange is what a configuration makes of the TLS of its listeners and clusters. Until it is applied, nothing is
// different for connections.
type tlsChange struct {
	listeners map[string]*terminator
	clients   map[string]*originator // of the clusters
	apply     []func() bool
}

// options are the TLS of a listener, nil for none.
func (c *tlsChange) options(listener string) *proxy.TLSOptions {
	if t := c.listeners[listener]; t != nil {
		return t.proxy
	}
	return nil
}

// An originator is the TLS of one cluster at work.
type originator struct {
	*certs.Client
	proxy *proxy.BackendTLS // one and the same as long as the client
}

// backends are the TLS towards the backends of a cluster, nil for none.
func (c *tlsChange) backends(cluster string) *proxy.BackendTLS {
	if o := c.clients[cluster]; o != nil {
		return o.proxy
	}
	return nil
}

// prepareTLS reads the files that a configuration names. Whoever has the same name as now goes on with what there is,
// so that tickets stay good.
func (a *app) prepareTLS(next *config.Config) (*tlsChange, error) {
	change := &tlsChange{listeners: make(map[string]*terminator), clients: make(map[string]*originator)}
	for i := range next.Listeners {
		l := &next.Listeners[i]
		if l.TLS.Mode == "" {
			continue
		}
		t, err := change.terminator(a.tls.listeners[l.Name], l)
		if err != nil {
			return nil, fmt.Errorf("listener %s: tls: %w", l.Name, err)
		}
		change.listeners[l.Name] = t
	}
	for i := range next.Clusters {
		c := &next.Clusters[i]
		if !c.TLS.Enabled {
			continue
		}
		client, err := change.client(a.tls.clients[c.Name], &c.TLS)
		if err != nil {
			return nil, fmt.Errorf("cluster %s: tls: %w", c.Name, err)
		}
		change.clients[c.Name] = client
	}
	return change, nil
}

// terminator prepares one listener. was is what it has been so far, nil if it was nothing.
func (c *tlsChange) terminator(was *terminator, l *config.Listener) (*terminator, error) {
	if l.TLS.Mode == config.TLSPassthrough {
		if was != nil && was.server == nil && sameForProxy(&was.was, &l.TLS) {
			return was, nil
		}
		return &terminator{proxy: proxyTLS(&l.TLS, nil), was: l.TLS}, nil
	}
	if was == nil || was.server == nil {
		server, err := certs.NewServer(serverOptions(l))
		return &terminator{server: server, proxy: proxyTLS(&l.TLS, server), was: l.TLS}, err
	}
	p, err := was.server.Prepare(serverOptions(l))
	if err != nil {
		return nil, err
	}
	c.apply = append(c.apply, p.Apply)
	if sameForProxy(&was.was, &l.TLS) {
		return was, nil
	}
	return &terminator{server: was.server, proxy: proxyTLS(&l.TLS, was.server), was: l.TLS}, nil
}

// client prepares one cluster. was is what it has been so far, nil if it was nothing.
func (c *tlsChange) client(was *originator, t *config.ClusterTLS) (*originator, error) {
	if was == nil {
		client, err := certs.NewClient(clientOptions(t))
		if err != nil {
			return nil, err
		}
		return &originator{Client: client, proxy: &proxy.BackendTLS{Config: client.Config}}, nil
	}
	p, err := was.Prepare(clientOptions(t))
	if err != nil {
		return nil, err
	}
	c.apply = append(c.apply, p.Apply)
	return was, nil
}

// sameForProxy tells whether the proxy needs to hear nothing of the difference.
func sameForProxy(a, b *config.ListenerTLS) bool {
	return a.Mode == b.Mode && a.HandshakeTimeout == b.HandshakeTimeout && a.Handshakes == b.Handshakes
}

func proxyTLS(t *config.ListenerTLS, server *certs.Server) *proxy.TLSOptions {
	o := &proxy.TLSOptions{HandshakeTimeout: t.HandshakeTimeout, Handshakes: t.Handshakes}
	if t.Mode == config.TLSPassthrough {
		o.Mode = proxy.TLSPassthrough
		return o
	}
	o.Mode, o.Config = proxy.TLSTerminate, server.Config
	return o
}

// serverOptions are the settings of a listener for certs.
func serverOptions(l *config.Listener) certs.ServerOptions {
	o := certs.ServerOptions{
		MinVersion: tls.VersionTLS12, ClientCA: l.TLS.ClientCA, TicketKeys: l.TLS.TicketKeys, Protocols: []string{"mqtt"},
	}
	if l.Transport == "websocket" {
		o.Protocols = []string{"http/1.1"}
	}
	if l.TLS.MinVersion == "1.3" {
		o.MinVersion = tls.VersionTLS13
	}
	switch l.TLS.ClientAuth {
	case "request":
		o.ClientAuth = certs.Request
	case "require":
		o.ClientAuth = certs.Require
	}
	for _, c := range l.TLS.Certificates {
		o.Pairs = append(o.Pairs, certs.Pair{Cert: c.Cert, Key: c.Key})
	}
	return o
}

// clientOptions are the settings of a cluster for certs.
func clientOptions(t *config.ClusterTLS) certs.ClientOptions {
	return certs.ClientOptions{CA: t.CA, Pair: certs.Pair{Cert: t.Cert, Key: t.Key}, ServerName: t.ServerName, Insecure: !t.Verify}
}

// newCertificates is before the first configuration.
func newCertificates(changed func(), log *slog.Logger) certificates {
	return certificates{
		tlsChange: new(tlsChange), watcher: certs.NewWatcher(changed, log),
		failed: make(map[string]string), warned: make(map[string]time.Time),
	}
}

// takeTLS applies a change, and follows the files from now on.
func (a *app) takeTLS(c *tlsChange) {
	for _, apply := range c.apply {
		apply()
	}
	for name := range a.tls.listeners {
		a.metrics.CertificatesExpire(name, nil) // it may have none any more
	}
	a.tls.tlsChange = c
	clear(a.tls.failed)
	a.followCertificates()
}

// reloadCertificates reads the files again after one of them has changed. What cannot be used changes nothing for its
// listener or cluster, whose files are then told until they can be used.
func (a *app) reloadCertificates() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	for name, t := range a.tls.listeners {
		if t.server != nil {
			changed, err := t.server.Reload()
			a.reloadedCertificates(slog.String("listener", name), changed, err)
		}
	}
	for name, c := range a.tls.clients {
		changed, err := c.Reload()
		a.reloadedCertificates(slog.String("cluster", name), changed, err)
	}
	a.followCertificates()
}

// reloadedCertificates tells of one reading, once.
func (a *app) reloadedCertificates(who slog.Attr, changed bool, err error) {
	key := who.String()
	switch {
	case err != nil && a.tls.failed[key] == err.Error():
		return // said before
	case err != nil:
		a.metrics.CertificatesReloaded(false)
		a.log.Error("changed files of TLS cannot be used; what was read before stays in use", who, slog.Any("error", err))
		a.tls.failed[key] = err.Error()
		return
	case changed:
		a.metrics.CertificatesReloaded(true)
		a.log.Info("changed files of TLS are in use", who)
	case a.tls.failed[key] != "":
		a.log.Info("the files of TLS are as they were, and can be used again", who)
	}
	delete(a.tls.failed, key)
}

// certificates are the TLS of the app at work; guarded by app.reloading but for the watcher.
type certificates struct {
	*tlsChange
	watcher *certs.Watcher
	failed  map[string]string    // the last error of a listener or cluster, while it lasts
	warned  map[string]time.Time // when there was a warning of a certificate, by fingerprint
}

// followCertificates has the watcher look at the files that are in use, and shows the certificates to monitoring.
func (a *app) followCertificates() {
	var files []string
	for name, t := range a.tls.listeners {
		if t.server == nil {
			continue
		}
		files = append(files, t.server.Files()...)
		expiries := make(map[string]time.Time)
		for _, c := range t.server.Certificates() {
			if at, ok := expiries[c.Name]; !ok || c.NotAfter.Before(at) {
				expiries[c.Name] = c.NotAfter
			}
		}
		a.metrics.CertificatesExpire(name, expiries)
	}
	for _, c := range a.tls.clients {
		files = append(files, c.Files()...)
	}
	a.tls.watcher.Set(files)
	a.warnOfCertificates()
}

const (
	// Looks for certificates that expire soon, and the time between two warnings of one.
	expiryLook = time.Hour
	expiryWarn = 24 * time.Hour
)

// watchCertificates follows files and the calendar until ctx is done.
func (a *app) watchCertificates(ctx context.Context) {
	a.running.Go(func() { a.tls.watcher.Run(ctx) })
	every(ctx, expiryLook, func() {
		a.reloading.Lock()
		defer a.reloading.Unlock()
		a.warnOfCertificates()
	})
}

// warnOfCertificates tells of certificates that have expired or soon will, once a day.
func (a *app) warnOfCertificates() {
	now := time.Now()
	warn := func(who slog.Attr, list []certs.Info) {
		for _, c := range list {
			if c.Concern == "" || now.Sub(a.tls.warned[c.Fingerprint]) < expiryWarn {
				continue
			}
			a.tls.warned[c.Fingerprint] = now
			a.log.Warn("a certificate needs to be replaced", who, slog.String("path", c.Path), slog.String("name", c.Name),
				slog.String("serial", c.Serial), slog.String("concern", c.Concern))
		}
	}
	for _, name := range sortedKeys(a.tls.listeners) {
		if t := a.tls.listeners[name]; t.server != nil {
			warn(slog.String("listener", name), t.server.Certificates())
		}
	}
	for _, name := range sortedKeys(a.tls.clients) {
		warn(slog.String("cluster", name), a.tls.clients[name].Certificates())
	}
	for fingerprint, at := range a.tls.warned {
		if now.Sub(at) > 2*expiryWarn { // it is gone, or would have been told again
			delete(a.tls.warned, fingerprint)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// vetTLS has the files of TLS read by who will use them.
func vetTLS(cfg *config.Config, wrong func(path, msg string)) {
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.TLS.Mode == config.TLSTerminate {
			_, err := certs.NewServer(serverOptions(l))
			vetFields(fmt.Sprintf("listeners[%d].tls", i), err, wrong)
		}
	}
	for i := range cfg.Clusters {
		if c := &cfg.Clusters[i]; c.TLS.Enabled {
			_, err := certs.NewClient(clientOptions(&c.TLS))
			vetFields(fmt.Sprintf("clusters[%d].tls", i), err, wrong)
		}
	}
}

func vetFields(path string, err error, wrong func(path, msg string)) {
	for _, err := range unjoin(err) {
		if field, ok := errors.AsType[*certs.FieldError](err); ok {
			wrong(path+"."+field.Field, field.Err.Error())
		} else {
			wrong(path, "cannot be used: "+err.Error())
		}
	}
}

// warnOfSettings tells of what is valid in a configuration and should not stay as it is.
func (a *app) warnOfSettings(cfg *config.Config) {
	concerns(cfg, func(path, msg string) {
		a.log.Warn("a setting should not stay as it is", slog.String("setting", path), slog.String("concern", msg))
	})
}

// concerns are what is valid in a configuration and should not stay as it is.
func concerns(cfg *config.Config, warn func(path, msg string)) {
	concernsOfListeners(cfg, warn)
	for i := range cfg.Clusters {
		t, path := &cfg.Clusters[i].TLS, fmt.Sprintf("clusters[%d].tls", i)
		switch source := addressOnly(&cfg.Clusters[i].Discovery); {
		case !t.Enabled:
		case !t.Verify:
			warn(path+".verify", "is false: anybody between mqttlb and the brokers can read and change everything; write verify: true, and name the ca")
		case t.ServerName == "" && source != "":
			warn(path+".server_name", "is missing: discovery by "+source+" gives IP addresses, so the certificate of each broker must have its address; if they have a name in common, write server_name: NAME")
		}
	}
}

// allConcerns are also those of the files.
func allConcerns(cfg *config.Config, warn func(path, msg string)) {
	concerns(cfg, warn)
	look := func(path string, list []certs.Info, exposed []certs.Concern) {
		for _, c := range list {
			if c.Concern != "" {
				warn(path+c.Field, fmt.Sprintf("is %s, whose certificate %s", c.Path, c.Concern))
			}
		}
		for _, c := range exposed {
			warn(path+c.Field, c.Msg)
		}
	}
	for i := range cfg.Listeners {
		if l := &cfg.Listeners[i]; l.TLS.Mode == config.TLSTerminate {
			if s, err := certs.NewServer(serverOptions(l)); err == nil {
				look(fmt.Sprintf("listeners[%d].tls.", i), s.Certificates(), s.Exposed())
				concernsOfRoutes(i, l, s, warn)
			}
		}
	}
	for i := range cfg.Clusters {
		if t := &cfg.Clusters[i].TLS; t.Enabled {
			if c, err := certs.NewClient(clientOptions(t)); err == nil {
				look(fmt.Sprintf("clusters[%d].tls.", i), c.Certificates(), c.Exposed())
			}
		}
	}
}

// addressOnly names the source of backends if it knows no host names but only IP addresses.
func addressOnly(d *config.Discovery) string {
	switch {
	case d.DNS != nil && d.DNS.Type != "SRV":
		return "dns with type " + d.DNS.Type
	case d.S3 != nil:
		return "s3"
	}
	return ""
}
