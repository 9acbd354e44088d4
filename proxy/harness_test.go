package proxy

import (
	"bytes"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(Procs(4)) // tests run proxies side by side
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of these tests. It is long because the machine may be busy; nothing waits
// that long unless it fails.
const patience = 10 * time.Second

// conversation bounds all that a test says over one connection.
const conversation = 6 * patience

// A rig is a proxy in front of one or more brokers that the test plays itself.
type rig struct {
	t       *testing.T
	proxy   *Proxy
	addr    string
	placer  *fakePlacer
	told    *teller
	brokers []net.Listener
}

type rigOptions struct {
	listener Listener
	backend  Backend // the timeouts and the header; address and name are filled in
	brokers  int     // 0 means 1
	loops    int
	stages   stageTimes // of evictions; the zero value leaves the usual ones

	userTimeout time.Duration // of backends; 0 leaves the usual one
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, told: newTeller(), placer: &fakePlacer{}}
	for range max(o.brokers, 1) {
		r.addBroker(o.backend)
	}
	o.listener.Name, o.listener.Address, o.listener.Placer = "test", "127.0.0.1:0", r.placer
	p, err := New(Options{Listeners: []Listener{o.listener}, Loops: o.loops, Observer: r.told, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	at, _ := p.Addr("test")
	r.proxy, r.addr = p, at.String()
	if o.stages != (stageTimes{}) {
		p.stageTimes = o.stages
	}
	if o.userTimeout != 0 {
		p.userTimeout = o.userTimeout
	}
	p.Start()
	t.Cleanup(func() {
		p.Close()
		for _, b := range r.brokers {
			_ = b.Close()
		}
		if odd := r.placer.unmatched(); len(odd) != 0 {
			t.Errorf("got more or fewer releases than places of these clients: %v, want one for each", odd)
		}
		for _, l := range p.loops {
			if l.pool.lent != 0 {
				t.Errorf("got %d bytes of buffers that were never returned, want 0", l.pool.lent)
			}
		}
	})
	return r
}

func (r *rig) addBroker(b Backend) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.brokers = append(r.brokers, l)
	b.Name = string(rune('a' + len(r.brokers) - 1))
	b.Cluster = "cluster"
	b.Address = netip.MustParseAddrPort(l.Addr().String())
	if b.DialTimeout == 0 {
		b.DialTimeout = patience
	}
	r.placer.backends = append(r.placer.backends, &b)
}

// dial connects a client.
func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(conversation))
	return c.(*net.TCPConn)
}

// accept waits for the proxy's connection at a broker.
func (r *rig) accept(broker int) *net.TCPConn {
	r.t.Helper()
	l := r.brokers[broker].(*net.TCPListener)
	_ = l.SetDeadline(time.Now().Add(patience))
	c, err := l.AcceptTCP()
	if err != nil {
		r.t.Fatalf("the broker waits for a connection: %v", err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(conversation))
	return c
}

// session connects a client that has sent its CONNECT to broker 0 and has its CONNACK.
func (r *rig) session() (client, broker *net.TCPConn) {
	r.t.Helper()
	client = r.dial()
	return client, r.greet(client)
}

// greet lets a client connect to broker 0.
func (r *rig) greet(client net.Conn) (broker *net.TCPConn) {
	r.t.Helper()
	write(r.t, client, connect("c"))
	broker = r.accept(0)
	expect(r.t, broker, connect("c"))
	write(r.t, broker, connack())
	expect(r.t, client, connack())
	return broker
}

// record waits for the next session to end.
func (r *rig) record() Record {
	r.t.Helper()
	select {
	case rec := <-r.told.ended:
		return rec
	case <-time.After(patience):
		r.t.Fatal("no session has ended")
		return Record{}
	}
}

// fakePlacer sends clients to its backends in order, skipping those they have tried.
type fakePlacer struct {
	mu       sync.Mutex
	backends []*Backend
	group    string         // of all clients
	rate     float32        // that is remembered of all clients
	live     map[string]int // places by client id
	outcomes []Outcome
	redirect bool // it says that the client is to go there by itself
	named    []string
	lying    bool // see lie
}

func (f *fakePlacer) Place(r Request) (Target, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(r.Tried) >= len(f.backends) || f.lying && len(r.Tried) > 0 {
		return Target{}, ErrNoBackend
	}
	f.count(r.ClientID, 1)
	return Target{
		Backend: f.backends[len(r.Tried)], Reason: balancer.Reason{Strategy: "fake", Group: f.group, Cause: balancer.Home},
		Rate: f.rate, Noted: f.rate > 0, Another: len(r.Tried)+1 < len(f.backends), Redirect: f.redirect,
	}, nil
}

// lie makes it promise another backend that it does not have.
func (f *fakePlacer) lie() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lying = true
}

func (f *fakePlacer) Release(clientID string, _ Target, o Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count(clientID, -1)
	f.outcomes = append(f.outcomes, o)
}

func (f *fakePlacer) count(clientID string, by int) {
	if f.live == nil {
		f.live = make(map[string]int)
	}
	if f.live[clientID] += by; f.live[clientID] == 0 {
		delete(f.live, clientID)
	}
}

// prepend puts a backend at another address first.
func (f *fakePlacer) prepend(at netip.AddrPort) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := *f.backends[0]
	b.Name, b.Address = "first", at
	f.backends = append([]*Backend{&b}, f.backends...)
}

// gather makes all clients from now on members of this group.
func (f *fakePlacer) gather(group string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.group = group
}

// remember makes this what is remembered of the traffic of all clients from now on.
func (f *fakePlacer) remember(rate float32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rate = rate
}

// told returns how the places that were given back have been used.
func (f *fakePlacer) told() []Outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.outcomes)
}

// held is the number of places that have not been released.
func (f *fakePlacer) held() int {
	n := 0
	for _, places := range f.unmatched() {
		n += places
	}
	return n
}

// unmatched is by how much places and releases differ, by client id.
func (f *fakePlacer) unmatched() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.live)
}

// teller hands what the proxy tells to the test.
type teller struct {
	ended    chan Record
	answered chan Answer
	shed     chan Refusal
	contests chan Contest
	shaken   chan Handshake
}

func newTeller() *teller {
	return &teller{ended: make(chan Record, 4096), answered: make(chan Answer, 4096), shed: make(chan Refusal, 4096), contests: make(chan Contest, 4096), shaken: make(chan Handshake, 4096)}
}

func (t *teller) Answered(a Answer)          { t.answered <- a }
func (t *teller) Ended(r Record)             { t.ended <- r }
func (t *teller) Shed(_ string, why Refusal) { t.shed <- why }
func (t *teller) Contested(c Contest)        { t.contests <- c }
func (t *teller) Handshook(h Handshake)      { t.shaken <- h }

// connect is a CONNECT of MQTT 3.1.1, written by hand from the standard.
func connect(id string) []byte {
	b := []byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}
	return append(b, id...)
}

func connack() []byte { return []byte{0x20, 2, 0, 0} }

func write(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatalf("write: %v", err)
	}
}

// expect reads exactly these bytes.
func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := readFull(c, got); err != nil {
		t.Fatalf("got %q and %v, want %q", got[:n], err, want)
	}
	if string(got) != string(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func readFull(c net.Conn, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = c.Read(b[n:])
		n += k
	}
	if n == len(b) {
		return n, nil
	}
	return n, err
}

// flood sends random bytes in random pieces from one end to the other, in both directions at once.
func flood(t *testing.T, a, b net.Conn, size int) {
	t.Helper()
	var wait sync.WaitGroup
	for i, way := range [][2]net.Conn{{a, b}, {b, a}} {
		data := make([]byte, size)
		rng := rand.New(rand.NewPCG(uint64(size), uint64(i)))
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		wait.Go(func() {
			for rest := data; len(rest) > 0; {
				n := min(rng.IntN(1<<rng.IntN(18)+1)+1, len(rest))
				if _, err := way[0].Write(rest[:n]); err != nil {
					t.Errorf("write: %v", err)
					return
				}
				rest = rest[n:]
			}
		})
		wait.Go(func() {
			got := make([]byte, len(data))
			if n, err := readFull(way[1], got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("got %d bytes and %v, want all %d as they were sent", n, err, len(data))
			}
		})
	}
	wait.Wait()
}

// listenBacklog0 opens a listening socket whose queue holds a single connection.
func listenBacklog0() (int32, error) {
	fd, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), false)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 0)
	return fd, unix.Listen(int(fd), 0)
}
