package proxy

import (
	"crypto/tls"
	"net"
	"testing"
	"time"
)

// An upstreamRig is a rig whose brokers speak TLS. Each has a certificate of its own; all must be for localhost, unless
// a test wants it otherwise.
type upstreamRig struct {
	*rig
	ca     *authority
	client *tls.Config // of mqttlb
	server []*tls.Config
}

// newUpstreamRig makes one with so many brokers. change may alter the configurations of mqttlb and of the brokers.
func newUpstreamRig(t *testing.T, o rigOptions, change func(*upstreamRig)) *upstreamRig {
	t.Helper()
	u := &upstreamRig{ca: newAuthority(t)}
	u.client = &tls.Config{RootCAs: u.ca.pool, DynamicRecordSizingDisabled: true}
	for range max(o.brokers, 1) {
		u.server = append(u.server, &tls.Config{Certificates: []tls.Certificate{u.ca.issue(t, "broker", time.Now().Add(time.Hour))}})
	}
	if change != nil {
		change(u)
	}
	o.backend.Host = "localhost"
	o.backend.TLS = &BackendTLS{Config: func(host string) *tls.Config {
		config := u.client.Clone()
		config.ServerName = host
		return config
	}}
	u.rig = newRig(t, o)
	return u
}

// acceptTLS waits for the proxy's connection at a broker, and for the handshake on it.
func (u *upstreamRig) acceptTLS(broker int) *tls.Conn {
	u.t.Helper()
	c := tls.Server(u.accept(broker), u.server[broker])
	if err := c.Handshake(); err != nil {
		u.t.Fatalf("the broker shakes hands: %v", err)
	}
	return c
}

// refuseTLS lets a handshake at a broker fail.
func (u *upstreamRig) refuseTLS(broker int) {
	u.t.Helper()
	raw := u.accept(broker)
	c := tls.Server(raw, u.server[broker])
	err := c.Handshake()
	if err == nil {
		_, err = c.Read(make([]byte, 1))
	}
	if err == nil {
		u.t.Error("got a good handshake, or a byte of CONNECT, want neither")
	}
	_ = raw.Close()
}

// sessionTLS is rig.session with TLS between the proxy and the broker.
func (u *upstreamRig) sessionTLS() (client *net.TCPConn, broker *tls.Conn) {
	u.t.Helper()
	client = u.dial()
	write(u.t, client, connect("c"))
	broker = u.acceptTLS(0)
	expect(u.t, broker, connect("c"))
	write(u.t, broker, connack())
	expect(u.t, client, connack())
	return client, broker
}

func (u *upstreamRig) shaken() Handshake {
	u.t.Helper()
	select {
	case h := <-u.told.shaken:
		return h
	case <-time.After(patience):
		u.t.Fatal("no handshake has ended")
		return Handshake{}
	}
}
