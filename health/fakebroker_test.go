package health_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/mqttparse"
)

// patience bounds probes that should end by themselves; brief is for those that should not.
const (
	patience = 20 * time.Second
	brief    = 100 * time.Millisecond
)

// A fake is a broker that plays a script with every connection.
type fake struct {
	t        *testing.T
	listener net.Listener
	script   func(*fake, net.Conn)

	mu       sync.Mutex
	connects []mqttparse.Connect // what readConnect has seen, in order
	after    [][]byte            // what came behind, up to the end of the connection
	conns    int
}

// serve starts a fake on a free port.
func serve(t *testing.T, script func(*fake, net.Conn)) *fake {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, script)
}

func serveOn(t *testing.T, listener net.Listener, script func(*fake, net.Conn)) *fake {
	t.Helper()
	f := &fake{t: t, listener: listener, script: script}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(patience))
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
			running.Go(func() {
				defer conn.Close()
				script(f, conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait() // scripts end when the probe has closed its side
	})
	return f
}

// backend is the fake as a backend.
func (f *fake) backend() balancer.Backend {
	return balancer.Backend{Name: "n1", Address: f.listener.Addr().String()}
}

func (f *fake) accepted() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.conns
}

// readConnect reads a CONNECT and nothing behind it, and remembers it.
func (f *fake) readConnect(c io.Reader) (mqttparse.Connect, bool) {
	var b []byte
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, one); err != nil {
			return mqttparse.Connect{}, false
		}
		b = append(b, one...)
		connect, err := mqttparse.ParseConnect(b)
		if errors.Is(err, mqttparse.ErrNeedMore) {
			continue
		}
		if err != nil {
			f.t.Errorf("the probe has sent %x: %v", b, err)
			return mqttparse.Connect{}, false
		}
		f.mu.Lock()
		f.connects = append(f.connects, connect)
		f.mu.Unlock()
		return connect, true
	}
}

// readToEnd remembers what comes until the connection ends.
func (f *fake) readToEnd(c io.Reader) {
	b, err := io.ReadAll(c)
	if err != nil {
		f.t.Errorf("the probe's connection ended with %v, want a clean end", err)
	}
	f.mu.Lock()
	f.after = append(f.after, b)
	f.mu.Unlock()
}

// levels are the protocol levels of the CONNECTs.
func (f *fake) levels() (levels []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.connects {
		levels = append(levels, c.Version)
	}
	return levels
}

func (f *fake) endings() [][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.after)
}

// answer is a script that answers every CONNECT with the same bytes and reads on.
func answer(packet ...byte) func(*fake, net.Conn) {
	return func(f *fake, c net.Conn) {
		if _, ok := f.readConnect(c); ok {
			c.Write(packet)
			f.readToEnd(c)
		}
	}
}

// only311 is a script that speaks MQTT 3.1.1, and does something else with the rest.
func only311(other func(net.Conn)) func(*fake, net.Conn) {
	return func(f *fake, c net.Conn) {
		connect, ok := f.readConnect(c)
		switch {
		case !ok:
		case connect.Version == 4:
			c.Write([]byte{0x20, 2, 0, 0})
			f.readToEnd(c)
		default:
			other(c)
		}
	}
}

// reset ends a connection with RST.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}

func mqtt(t *testing.T, o health.MQTTOptions) *health.MQTT {
	t.Helper()
	p, err := health.NewMQTT(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func probe(t *testing.T, p health.Prober, b balancer.Backend, version byte, limit time.Duration) health.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.Probe(ctx, health.Target{Backend: b, Version: version})
}

// certificate makes a certificate for a name, and a pool that trusts it.
func certificate(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// canned is a probe that always finds the same.
type canned health.Result

func (c canned) Probe(context.Context, health.Target) health.Result { return health.Result(c) }
