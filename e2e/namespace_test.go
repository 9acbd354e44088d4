//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A namespace is a network of its own, with its own addresses and ports. Sockets that are made in it, and programs that
// are started in it, stay there.
type namespace struct {
	t     *testing.T
	tasks chan func()
	tid   int
}

// needRoot ends the test without root, for which nothing can be installed.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		cannotRun(t, "a network namespace needs root")
	}
}

// newNamespace makes a namespace for as long as the test runs.
func newNamespace(t *testing.T) *namespace {
	t.Helper()
	needRoot(t)
	n := &namespace{t: t, tasks: make(chan func())}
	ready, left := make(chan error), make(chan struct{})
	go func() {
		defer close(left)
		n.serve(ready)
	}()
	if err := <-ready; err != nil {
		cannotRun(t, fmt.Sprintf("there are no network namespaces here: %v", err))
	}
	t.Cleanup(func() {
		close(n.tasks)
		<-left
	})
	return n
}

// serve enters a new namespace, tells ready of it, does the tasks and comes back. The thread must outlive them: the
// kernel ends a child together with the thread that has started it (PR_SET_PDEATHSIG), and which children this thread
// has started for other tests, nobody knows.
func (n *namespace) serve(ready chan<- error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net") // self would be the main thread, which may be away
	if err != nil {
		runtime.UnlockOSThread()
		ready <- err
		return
	}
	defer home.Close()
	defer func() { // also if a task has ended the test
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Errorf("leave the namespace: %v", err)
			return // nobody else may get this thread
		}
		runtime.UnlockOSThread()
	}()
	n.tid = unix.Gettid()
	err = enterNamespace()
	ready <- err
	if err != nil {
		return
	}
	for task := range n.tasks {
		task()
	}
}

// enterNamespace gives this thread a network of its own, with a loopback interface.
func enterNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// in calls f inside the namespace. What f opens belongs there, unless it opens it in another goroutine.
func (n *namespace) in(f func()) {
	n.t.Helper()
	done := make(chan struct{})
	n.tasks <- func() {
		defer close(done) // also if the test fails within f
		f()
	}
	<-done
	if n.t.Failed() {
		n.t.FailNow()
	}
}

// Children of a thread that has been in a namespace live on.
func TestNamespaceKeepsChildren(t *testing.T) {
	t.Parallel()
	needRoot(t)
	var children [2]*process
	var both sync.WaitGroup
	both.Add(len(children))
	var gone sync.WaitGroup
	for i := range children {
		gone.Go(func() {
			runtime.LockOSThread() // what follows happens on one thread; of two at once, one is not the main thread
			defer runtime.UnlockOSThread()
			both.Done()
			both.Wait()
			children[i] = start(t, io.Discard, exec.Command("sleep", "60"))
			n := &namespace{t: t, tasks: make(chan func())}
			close(n.tasks)
			ready := make(chan error, 1)
			n.serve(ready)
			if err := <-ready; err != nil {
				t.Error(err)
			}
		})
	}
	gone.Wait()
	time.Sleep(100 * time.Millisecond) // the kernel needs a moment to end a thread and what it takes along
	for _, child := range children {
		if !child.running() {
			t.Error("a child has ended that another test may need")
		}
	}
}

// ip runs the program of that name inside the namespace.
func (n *namespace) ip(args ...string) {
	n.t.Helper()
	var out []byte
	var err error
	n.in(func() { out, err = exec.Command("ip", args...).CombinedOutput() })
	if err != nil {
		n.t.Fatalf("ip %v: %v\n%s", args, err, out)
	}
}

// dialLate connects from an address whose port is chosen by connect(). A port that bind() has chosen serves nobody else
// in the whole namespace.
func dialLate(t *testing.T, to, from string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1) })
	}
	c, err := d.Dial("tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	return adopt(t, c)
}

// Fault R2: the local ports are used up. The other addresses serve, then the other brokers; nobody takes a broker for
// broken, and mqttlb says what is missing.
func TestFaultR2LocalPortsAreUsedUp(t *testing.T) {
	t.Parallel()
	n := newNamespace(t)
	const ports, sources, brokers = 40, 2, 2
	var list []*greeter
	var l *lb
	n.in(func() {
		const file = "/proc/sys/net/ipv4/ip_local_port_range"
		if err := os.WriteFile(file, fmt.Appendf(nil, "%d %d", 40_000, 40_000+ports-1), 0o644); err != nil {
			t.Fatal(err)
		}
		list = greeters(t, brokers)
		l = startLB(t, settings{
			backends: behind(list),
			cluster:  passive + "source_addresses: [127.0.0.81, 127.0.0.82]\n",
		})
	})
	series := func(name string) (value float64) {
		for _, v := range l.series(t, name) {
			value += v
		}
		return value
	}
	served := 0
	for i := range 2 * ports * sources * brokers {
		ok := false
		n.in(func() {
			c := dialLate(t, l.address, fmt.Sprintf("127.0.1.%d", i/(ports/2)+1)) // clients need ports as well
			if _, err := c.Write(opening{id: fmt.Sprint("port-", i)}.bytes()); err != nil {
				return
			}
			answer, err := readPacket(c)
			ok = err == nil && len(answer) == 4 && answer[3] == 0
		})
		if !ok {
			break
		}
		served++
	}
	t.Logf("%d clients were served from %d addresses with %d ports", served, sources, ports)
	// All of them would be more than the kernel finds. Fewer than this were served if brokers shared their ports.
	if most := ports * sources * brokers; served > most || served < most*3/4 {
		t.Errorf("%d clients were served, want nearly %d: as many as there are ports, times addresses, times brokers", served, most)
	}
	if v := series("mqttlb_source_exhausted_total{"); v == 0 {
		t.Error("mqttlb_source_exhausted_total says that no address was ever out of ports")
	}
	if v := series(`mqttlb_backend_connect_failures_total{`); v == 0 {
		t.Error("mqttlb_backend_connect_failures_total does not count what has failed")
	}
	if v := series("mqttlb_backend_up{"); v != brokers {
		t.Errorf("%v of %d brokers are up", v, brokers)
	}
	for _, b := range list {
		if got := b.present(); got == 0 || got > ports*sources {
			t.Errorf("broker %s has %d clients, want at most %d", b.name, got, ports*sources)
		}
	}
}

// Fault B7: a cable is cut, without a word to anybody. What is in flight then is missed after the user timeout of 30 s,
// and who is silent is asked by keepalive from then on.
func TestFaultB7ACutCable(t *testing.T) {
	t.Parallel()
	need(t, "ip")
	here, there := newNamespace(t), newNamespace(t)
	here.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", fmt.Sprint(there.tid))
	here.ip("addr", "add", "10.99.0.1/24", "dev", "cable")
	here.ip("link", "set", "cable", "up")
	there.ip("addr", "add", "10.99.0.2/24", "dev", "cable")
	there.ip("link", "set", "cable", "up")
	var far *stub
	var l *lb
	var busy, idle session
	there.in(func() { far = stubOn(t, "far", "10.99.0.2:1883") })
	here.in(func() {
		l = startLB(t, settings{backends: []backend{far.backend()}})
		busy, idle = open(t, l, far, opening{id: "busy"}), open(t, l, far, opening{id: "idle"})
	})
	for _, c := range []*net.TCPConn{busy.client, idle.client} {
		_ = c.SetDeadline(time.Now().Add(3 * time.Minute))
	}
	// Frames to an address that nobody has are lost like those into a cut cable: no error, no answer.
	here.ip("neigh", "replace", "10.99.0.2", "lladdr", "02:00:00:00:00:99", "dev", "cable", "nud", "permanent")
	began := time.Now()
	send(t, busy.client, publish("into/the/void", make([]byte, 100)))
	expectClosed(t, busy.client, time.Minute)
	inFlight := time.Since(began)
	expectClosed(t, idle.client, time.Minute)
	silent := time.Since(began)
	t.Logf("missed after %v with data in flight, and after %v without", inFlight.Round(time.Second), silent.Round(time.Second))
	between(t, inFlight, 24*time.Second, 45*time.Second)
	between(t, silent, 30*time.Second, 60*time.Second)
	for _, id := range []string{"busy", "idle"} {
		if r, _ := l.ended(t, id, 0); r["end"] != "backend" {
			t.Errorf("logged %v, want the backend to have ended it", r)
		}
	}
}
