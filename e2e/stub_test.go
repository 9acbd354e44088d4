//go:build linux

package e2e

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// A stub is a broker's socket that the test holds in its hand: it accepts, and does nothing else.
type stub struct {
	name    string
	address string
	ln      *net.TCPListener
	conns   chan *net.TCPConn
}

// newStub listens on a free port, and accepts until the test ends.
func newStub(t *testing.T, name string) *stub {
	t.Helper()
	return stubOn(t, name, loopback(t))
}

func stubOn(t *testing.T, name, address string) *stub {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenTCP("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	s := &stub{name: name, address: address, ln: ln, conns: make(chan *net.TCPConn, 4096)}
	go func() {
		for {
			c, err := ln.AcceptTCP()
			if err != nil {
				return
			}
			s.conns <- c
		}
	}()
	return s
}

func (s *stub) backend() backend { return backend{s.name, s.address} }

// accept returns the next connection.
func (s *stub) accept(t *testing.T) *net.TCPConn {
	t.Helper()
	select {
	case c := <-s.conns:
		return adopt(t, c)
	case <-time.After(patience):
		t.Fatalf("no connection to broker %s within %v", s.name, patience)
		return nil
	}
}

// quiet asserts that no connection comes for a while.
func (s *stub) quiet(t *testing.T, during time.Duration) {
	t.Helper()
	select {
	case c := <-s.conns:
		c.Close()
		t.Fatalf("broker %s got a connection", s.name)
	case <-time.After(during):
	}
}

// A session is both ends of a connection through mqttlb.
type session struct{ client, broker *net.TCPConn }

// open connects a client through mqttlb to the stub, and answers for the broker.
func open(t *testing.T, l *lb, s *stub, o opening) session {
	t.Helper()
	c := dial(t, l.address, "")
	send(t, c, o.bytes())
	b := s.accept(t)
	expect(t, b, o.bytes())
	send(t, b, connack(o.version, 0))
	expect(t, c, connack(o.version, 0))
	return session{c, b}
}

// A greeter is a broker that accepts every client and then listens in silence. It remembers who came.
type greeter struct {
	*stub
	mu      sync.Mutex
	clients map[string]int // visits by client id
	open    int
	probes  int
	delay   time.Duration  // of CONNACK
	codes   map[byte]byte  // of CONNACK, by version of MQTT; 0 for those that are missing
	welcome map[string]int // clients that were accepted
}

func newGreeter(t *testing.T, name string) *greeter {
	t.Helper()
	return greeterOn(t, name, loopback(t))
}

func greeterOn(t *testing.T, name, address string) *greeter {
	t.Helper()
	g := &greeter{stub: stubOn(t, name, address), clients: make(map[string]int), welcome: make(map[string]int)}
	ended := make(chan struct{})
	t.Cleanup(func() { close(ended) })
	go func() {
		for {
			select {
			case c := <-g.conns:
				go g.serve(c)
			case <-ended:
				return
			}
		}
	}()
	return g
}

func (g *greeter) serve(c *net.TCPConn) {
	defer c.Close()
	b, err := readPacket(c)
	if err != nil {
		return
	}
	o, err := parseOpening(b)
	if err != nil {
		return
	}
	probe := strings.HasPrefix(o.id, "mqttlb-health-")
	if !probe { // which is no client
		g.count(o.id, 1)
		defer g.count("", -1)
	}
	time.Sleep(g.received(probe))
	code := g.verdict(o, probe)
	if _, err := c.Write(connack(o.version, code)); err == nil && code == 0 {
		_, _ = io.Copy(io.Discard, c)
	}
}

// verdict is the code of the answer to CONNECT.
func (g *greeter) verdict(o opening, probe bool) byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	code := g.codes[o.version]
	if code == 0 && !probe {
		g.welcome[o.id]++
	}
	return code
}

// received notes a CONNECT and returns how long the answer to it takes.
func (g *greeter) received(probe bool) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if probe {
		g.probes++
	}
	return g.delay
}

// slow makes every answer to CONNECT take so long from now on.
func (g *greeter) slow(delay time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.delay = delay
}

// probed is how many probes of mqttlb have come.
func (g *greeter) probed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.probes
}

func (g *greeter) count(id string, by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open += by
	if id != "" {
		g.clients[id]++
	}
}

// visits is how often a client came.
func (g *greeter) visits(id string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clients[id]
}

// seen is the number of clients with ids that begin like this that have come.
func (g *greeter) seen(prefix string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for id := range g.clients {
		if strings.HasPrefix(id, prefix) {
			n++
		}
	}
	return n
}

// present is the number of open connections.
func (g *greeter) present() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

// greeters starts n of them, named a, b, c and so on.
func greeters(t *testing.T, n int) []*greeter {
	t.Helper()
	list := make([]*greeter, n)
	for i := range list {
		list[i] = newGreeter(t, string(rune('a'+i)))
	}
	return list
}

// behind makes them the backends of a configuration.
func behind(list []*greeter) []backend {
	var b []backend
	for _, g := range list {
		b = append(b, g.backend())
	}
	return b
}
