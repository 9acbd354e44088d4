package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// listeners is the rig's own listener, and others.
func (r *rig) listeners(more ...Listener) []Listener {
	return append([]Listener{{Name: "test", Address: "127.0.0.1:0", Placer: r.placer}}, more...)
}

// reconfigure must work.
func (r *rig) reconfigure(list ...Listener) {
	r.t.Helper()
	if err := r.proxy.Reconfigure(list); err != nil {
		r.t.Fatal(err)
	}
}

// at is where a listener listens.
func (r *rig) at(listener string) string {
	r.t.Helper()
	at, ok := r.proxy.Addr(listener)
	if !ok {
		r.t.Fatalf("got no listener %s", listener)
	}
	return at.String()
}

// enter connects a client that has its CONNACK from broker 0.
func (r *rig) enter(address, id string) (client, broker *net.TCPConn) {
	r.t.Helper()
	client = r.dialTo(address)
	write(r.t, client, connect(id))
	broker = r.accept(0)
	expect(r.t, broker, connect(id))
	write(r.t, broker, connack())
	expect(r.t, client, connack())
	return client, broker
}

func (r *rig) dialTo(address string) *net.TCPConn {
	r.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// wantPong checks that a session still carries bytes both ways.
func wantPong(t *testing.T, client, broker net.Conn) {
	t.Helper()
	write(t, client, []byte{0xc0, 0})
	expect(t, broker, []byte{0xc0, 0})
	write(t, broker, []byte{0xd0, 0})
	expect(t, client, []byte{0xd0, 0})
}

var lastPort atomic.Int64

// quietAddress is an address on which nobody listens. Its port lies below those that the kernel gives to connections
// and to listeners that leave the choice to it: it stays free, on all addresses, until somebody wants this very one.
func quietAddress(t *testing.T) string {
	t.Helper()
	const first, last = 10_000, 12_500
	for range last - first {
		port := first + (int64(os.Getpid())*97+lastPort.Add(1))%(last-first)
		l, err := net.Listen("tcp", fmt.Sprint(":", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		return fmt.Sprint("127.0.0.1:", port)
	}
	t.Fatal("no free port")
	return ""
}

func wantRefused(t *testing.T, address string) {
	t.Helper()
	if c, err := net.Dial("tcp", address); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got connection %v and error %v at %s, want it refused", c, err, address)
	}
}

func wantConnections(t *testing.T, p *Proxy, want map[string]int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := p.Connections(); !maps.Equal(got, want); got = p.Connections() {
		if time.Now().After(deadline) {
			t.Fatalf("got connections %v, want %v", got, want)
		}
		time.Sleep(time.Millisecond)
	}
}

// A listener that is added serves at once. One that is removed stops to listen, and its sessions live on with its name.
func TestReconfigureAddsAndRemoves(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	stays, staysBroker := r.session()
	r.reconfigure(r.listeners(Listener{Name: "second", Address: "127.0.0.1:0", Placer: r.placer})...)
	second := r.at("second")
	if r.at("test") != r.addr {
		t.Errorf("got the unchanged listener at %s, want it at %s as before", r.at("test"), r.addr)
	}
	client, broker := r.enter(second, "on-second")
	wantConnections(t, r.proxy, map[string]int{"test": 1, "second": 1})

	r.reconfigure(r.listeners()...)
	wantRefused(t, second)
	if at, ok := r.proxy.Addr("second"); ok {
		t.Errorf("got the removed listener at %v", at)
	}
	wantPong(t, client, broker)
	wantPong(t, stays, staysBroker)
	wantConnections(t, r.proxy, map[string]int{"test": 1, "second": 1})
	if sessions := r.proxy.Sessions(func(i *SessionInfo) bool { return i.Listener == "second" }, 0); len(sessions) != 1 {
		t.Errorf("got sessions %+v of the removed listener, want one", sessions)
	}
	_ = client.Close()
	expectEOF(t, broker)
	_ = broker.Close()
	if rec := r.record(); rec.Listener != "second" || rec.ClientID != "on-second" || rec.End != EndClient {
		t.Errorf("got %+v, want the end of on-second", rec)
	}
	wantConnections(t, r.proxy, map[string]int{"test": 1})
	wantPong(t, stays, staysBroker)

	r.reconfigure() // nobody
	wantRefused(t, r.addr)
	wantPong(t, stays, staysBroker)
	r.reconfigure(Listener{Name: "test", Address: r.addr, Placer: r.placer}) // and back
	r.enter(r.addr, "again")
	wantConnections(t, r.proxy, map[string]int{"test": 2})
}

// Connections that wait in the queue of a listener that goes are served.
func TestReconfigureServesTheQueue(t *testing.T) {
	t.Parallel()
	const waiting = 20
	r := newRig(t, rigOptions{loops: 2})
	release := r.hold()
	defer release()
	for i := range waiting {
		write(t, r.dial(), connect(fmt.Sprint("waiting-", i)))
	}
	done := make(chan error, 1)
	go func() { done <- r.proxy.Reconfigure(nil) }()
	release()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for range waiting {
		write(t, r.accept(0), connack())
	}
	for range waiting {
		select {
		case <-r.told.answered:
		case <-time.After(patience):
			t.Fatal("a client that waited in the queue was not served")
		}
	}
}

// New limits count for those who come from now on; a connection count survives, and sockets do.
func TestReconfigureLimits(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	with := func(change func(*Listener)) {
		t.Helper()
		list := r.listeners()
		change(&list[0])
		r.reconfigure(list...)
	}
	first, firstBroker := r.session()
	half := r.dial()
	write(t, half, connect("half")[:5])
	wantConnections(t, r.proxy, map[string]int{"test": 2})

	with(func(l *Listener) { l.MaxConnections = 2 })
	expectEOF(t, r.dial())
	if why := <-r.told.shed; why != RefusedConnections {
		t.Errorf("got refusal %q, want connections: two are here already", why)
	}
	with(func(l *Listener) { l.MaxConnections = 3; l.ConnectSize = 20; l.RefuseWithConnack = true })
	long := strings.Repeat("x", 40)
	c := r.dial()
	write(t, c, connect(long))
	expectEOF(t, c)
	if rec := r.record(); rec.Refusal != RefusedConnectSize {
		t.Errorf("got refusal %q, want connect_size", rec.Refusal)
	}
	write(t, half, connect("half")[5:]) // who came before is judged by what was in force then
	broker := r.accept(0)
	expect(t, broker, connect("half"))
	write(t, broker, connack())
	expect(t, half, connack())

	with(func(l *Listener) { l.ConnectTimeout = 200 * time.Millisecond })
	begin := time.Now()
	c = r.dial()
	write(t, c, []byte{0x10})
	expectEOF(t, c)
	if rec := r.record(); rec.Refusal != RefusedConnectTimeout || time.Since(begin) > patience/2 {
		t.Errorf("got refusal %q after %v, want connect_timeout after 200ms", rec.Refusal, time.Since(begin))
	}
	wantPong(t, first, firstBroker)
	wantPong(t, half, broker)
	wantConnections(t, r.proxy, map[string]int{"test": 2})
	if r.at("test") != r.addr {
		t.Errorf("got another address, %s, want %s", r.at("test"), r.addr)
	}
}

// A new Placer places those who come from now on. Who came before is placed and released by the old one, also when
// its CONNECT is completed only later.
func TestReconfigurePlacer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2, brokers: 2})
	other := &fakePlacer{backends: r.placer.backends[1:]}
	client, broker := r.session()
	half := r.dial()
	write(t, half, connect("half")[:5])
	wantConnections(t, r.proxy, map[string]int{"test": 2})

	list := r.listeners()
	list[0].Placer = other
	r.reconfigure(list...)
	if !r.proxy.Uses(r.placer) || !r.proxy.Uses(other) {
		t.Errorf("got uses %t and %t, want both: the one has connections, the other a listener", r.proxy.Uses(r.placer), r.proxy.Uses(other))
	}
	later := r.dial()
	write(t, later, connect("later"))
	laterBroker := r.accept(1)
	expect(t, laterBroker, connect("later"))
	write(t, half, connect("half")[5:])
	halfBroker := r.accept(0)
	expect(t, halfBroker, connect("half"))
	if r.placer.held() != 2 || other.held() != 1 {
		t.Errorf("got %d places with the old placer and %d with the new, want 2 and 1", r.placer.held(), other.held())
	}
	for _, c := range []net.Conn{client, half, later, broker, halfBroker, laterBroker} {
		_ = c.Close()
	}
	for range 3 {
		r.record()
	}
	if r.placer.held() != 0 || other.held() != 0 {
		t.Errorf("got %d and %d places in the end, want none", r.placer.held(), other.held())
	}
	wantConnections(t, r.proxy, map[string]int{"test": 0})
	if r.proxy.Uses(r.placer) {
		t.Error("got the old placer in use, want it free: its last connection has ended")
	}
}

// A new name goes with the sockets. Who came in under the old one keeps it.
func TestReconfigureRenames(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	r.reconfigure(Listener{Name: "renamed", Address: r.addr, Placer: r.placer})
	if r.at("renamed") != r.addr {
		t.Errorf("got the renamed listener at %s, want it at %s", r.at("renamed"), r.addr)
	}
	_, _ = r.enter(r.addr, "new")
	wantConnections(t, r.proxy, map[string]int{"test": 1, "renamed": 1})
	// The old name goes to another address, and finds its connection there.
	r.reconfigure(Listener{Name: "renamed", Address: r.addr, Placer: r.placer},
		Listener{Name: "test", Address: "127.0.0.1:0", Placer: r.placer, MaxConnections: 1})
	wantConnections(t, r.proxy, map[string]int{"test": 1, "renamed": 1})
	expectEOF(t, r.dialTo(r.at("test")))
	wantPong(t, client, broker)
	_ = client.Close()
	_ = broker.Close()
	if rec := r.record(); rec.Listener != "test" {
		t.Errorf("got listener %q, want test", rec.Listener)
	}
	wantConnections(t, r.proxy, map[string]int{"test": 0, "renamed": 1})
	r.enter(r.at("test"), "now there is room")
	wantConnections(t, r.proxy, map[string]int{"test": 1, "renamed": 1})
}

// A listener moves from one of these addresses to the next, overlapping or not; a session goes on through all of them.
func TestReconfigureAddress(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	quiet := quietAddress(t)
	port := quiet[strings.LastIndex(quiet, ":"):]
	addresses := []string{"127.0.0.1:0", port, "127.0.0.1" + port, "0.0.0.0" + port, "127.0.0.2" + port, "localhost" + port, "127.0.0.1:0", port}
	for i, address := range addresses {
		r.reconfigure(Listener{Name: "test", Address: address, Placer: r.placer})
		at := r.at("test")
		_, own, _ := net.SplitHostPort(at)
		to := at
		if strings.HasPrefix(at, "[::]") || strings.HasPrefix(at, "0.0.0.0") {
			to = "127.0.0.1:" + own
		}
		r.enter(to, fmt.Sprint("c", i))
		wantPong(t, client, broker)
	}
	wantConnections(t, r.proxy, map[string]int{"test": len(addresses) + 1})
}

// If one listener cannot be opened, nothing has changed: neither the others of the list, nor the limits.
func TestReconfigureAllOrNothing(t *testing.T) {
	t.Parallel()
	stranger, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	twin := newRig(t, rigOptions{loops: 2})
	r := newRig(t, rigOptions{loops: 2})
	client, broker := r.session()
	fresh := Listener{Name: "fresh", Address: quietAddress(t), Placer: r.placer}
	const use = ": address already in use"
	for _, c := range []struct {
		name, address, want string
		is                  error
	}{
		{"a stranger's", stranger.Addr().String(), "listener bad: cannot listen on " + stranger.Addr().String() + use, syscall.EADDRINUSE},
		{"another proxy's", twin.addr, "listener bad: cannot listen on " + twin.addr + use, syscall.EADDRINUSE},
		{"another's of the list", fresh.Address, "listener bad: cannot listen on " + fresh.Address + use + " (by listener fresh)", syscall.EADDRINUSE},
		{"our own", r.addr[strings.LastIndex(r.addr, ":"):], "listener bad: cannot listen on " + r.addr[strings.LastIndex(r.addr, ":"):] + use + " (by listener test)", syscall.EADDRINUSE},
		{"of another host", "192.0.2.1:0", "listener bad: cannot listen on 192.0.2.1:0: cannot assign requested address", syscall.EADDRNOTAVAIL},
		{"no address", "1883", "listener bad: cannot listen on 1883: address 1883: missing port", nil},
	} {
		list := r.listeners(fresh, Listener{Name: "bad", Address: c.address, Placer: r.placer})
		list[0].MaxConnections = 1
		err := r.proxy.Reconfigure(list)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
		if e, ok := errors.AsType[*ListenError](err); !ok || e.Listener != "bad" || e.Address != c.address {
			t.Errorf("%s: got %#v, want a ListenError about bad", c.name, err)
		}
		wantRefused(t, fresh.Address)
		_, _ = r.enter(r.addr, "c") // no limit
	}
	wantPong(t, client, broker)
	twin.session()
	r.reconfigure(r.listeners(fresh)...)
	r.enter(r.at("fresh"), "c")
}

// What is prepared serves nobody before it is applied, and leaves no trace when it is abandoned.
func TestPrepare(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	address := quietAddress(t)
	list := r.listeners(Listener{Name: "new", Address: address, Placer: r.placer})
	list[0].MaxConnections = 1
	c, err := r.proxy.Prepare(list)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, address)
	r.session()
	r.session() // no limit yet
	c.Abandon()
	free, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("got %v, want the address free again", err)
	}
	_ = free.Close()

	if c, err = r.proxy.Prepare(list); err != nil {
		t.Fatal(err)
	}
	quick, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v, want an error: another has taken the address meanwhile", err)
	}
	_ = quick.Close()
	r.session() // still no limit

	if c, err = r.proxy.Prepare(list); err != nil {
		t.Fatal(err)
	}
	again := make(chan error, 1)
	go func() { again <- r.proxy.Reconfigure(r.listeners()) }()
	select {
	case err := <-again:
		t.Errorf("got the next change (%v) before the first was applied, want it to wait", err)
	case <-time.After(20 * time.Millisecond):
	}
	if err := c.Apply(); err != nil {
		t.Errorf("got %v, want none", err)
	}
	if err := <-again; err != nil {
		t.Errorf("got %v, want none", err)
	}
	wantConnections(t, r.proxy, map[string]int{"test": 3})

	if c, err = r.proxy.Prepare(list); err != nil {
		t.Fatal(err)
	}
	r.proxy.StopAccepting()
	if err := c.Apply(); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
}

func TestOverlap(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:1883", "127.0.0.1:1883", true},
		{"127.0.0.1:1883", "127.0.0.1:1884", false},
		{"127.0.0.1:1883", "127.0.0.2:1883", false},
		{"127.0.0.1:1883", "0.0.0.0:1883", true},
		{"127.0.0.1:1883", "[::]:1883", true},
		{"[::1]:1883", "[::]:1883", true},
		{"[::1]:1883", "0.0.0.0:1883", false},
		{"0.0.0.0:1883", "[::]:1883", true},
		{"127.0.0.1:0", "127.0.0.1:0", false},
	} {
		a, b := netip.MustParseAddrPort(c.a), netip.MustParseAddrPort(c.b)
		if overlap(a, b) != c.want || overlap(b, a) != c.want {
			t.Errorf("%s and %s: got %t and %t, want %t", c.a, c.b, overlap(a, b), overlap(b, a), c.want)
		}
	}
}
