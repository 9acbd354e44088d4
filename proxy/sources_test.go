package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// host is a host whose addresses have so many ports left; -1 stands for an address that it does not have.
type host map[string]int

func (h host) connect(from netip.Addr) (int32, syscall.Errno) {
	if !from.IsValid() {
		return 0, unix.EINPROGRESS
	}
	switch left, has := h[from.String()]; {
	case !has:
		return -1, unix.ECONNREFUSED // wrong in another way
	case left <= 0:
		return -1, unix.EADDRNOTAVAIL
	}
	h[from.String()]--
	return 0, unix.EINPROGRESS
}

func sourcesOf(list ...string) *Sources {
	addresses := make([]netip.Addr, len(list))
	for i, text := range list {
		addresses[i] = netip.MustParseAddr(text)
	}
	return NewSources(addresses)
}

func TestSourcesTakeTurns(t *testing.T) {
	t.Parallel()
	h := host{"10.0.0.1": 1000, "10.0.0.2": 1000, "10.0.0.3": 1000}
	s := sourcesOf("10.0.0.1", "10.0.0.2", "10.0.0.3")
	for range 300 {
		if _, errno := s.dial(1, false, h.connect); errno != unix.EINPROGRESS {
			t.Fatal(errno)
		}
	}
	for address, left := range h {
		if left != 900 {
			t.Errorf("%s has served %d of 300, want 100", address, 1000-left)
		}
	}
}

func TestSourcesWithoutPorts(t *testing.T) {
	t.Parallel()
	h := host{"10.0.0.1": 2, "10.0.0.2": -1, "10.0.0.3": 3}
	s := sourcesOf("10.0.0.1", "10.0.0.2", "10.0.0.3")
	now := int64(1)
	for i := range 5 {
		if _, errno := s.dial(now, false, h.connect); errno != unix.EINPROGRESS {
			t.Fatalf("dial %d: %v although there are ports", i, errno)
		}
	}
	if n := s.Exhausted()[netip.MustParseAddr("10.0.0.2")]; n != 1 {
		t.Errorf("an address that rests was tried %d times, want once", n)
	}
	if _, errno := s.dial(now, false, h.connect); errno != unix.EADDRNOTAVAIL {
		t.Errorf("got %v without a port, want EADDRNOTAVAIL", errno)
	}
	// While all rest one of them is tried all the same: a port may have come free.
	h["10.0.0.1"], h["10.0.0.2"], h["10.0.0.3"] = 5, 5, 5
	if _, errno := s.dial(now+1, false, h.connect); errno != unix.EINPROGRESS {
		t.Errorf("got %v, want one that rests to be tried", errno)
	}
	now += sourceRest + 1
	for range 6 {
		if _, errno := s.dial(now, false, h.connect); errno != unix.EINPROGRESS {
			t.Fatal(errno)
		}
	}
	if h["10.0.0.1"] == 5 || h["10.0.0.2"] == 5 || h["10.0.0.3"] == 5 {
		t.Errorf("one still rests after its time: %v", h)
	}
}

func TestSourcesOfTheOtherFamily(t *testing.T) {
	t.Parallel()
	s := sourcesOf("2001:db8::1", "10.0.0.1")
	var from []netip.Addr
	note := func(a netip.Addr) (int32, syscall.Errno) {
		from = append(from, a)
		return 0, unix.EINPROGRESS
	}
	for range 4 {
		_, _ = s.dial(1, false, note)
		_, _ = s.dial(1, true, note)
		_, _ = sourcesOf("10.0.0.1").dial(1, true, note)
	}
	for i, want := range []string{"10.0.0.1", "2001:db8::1", ""} {
		for k := i; k < len(from); k += 3 {
			if got := from[k]; want == "" && got.IsValid() || want != "" && got.String() != want {
				t.Errorf("dial %d: from %v, want %q", k, got, want)
			}
		}
	}
}

// Another error is the backend's, and ends the search.
func TestSourcesAndOtherErrors(t *testing.T) {
	t.Parallel()
	s := sourcesOf("10.0.0.1", "10.0.0.2")
	calls := 0
	_, errno := s.dial(1, false, func(netip.Addr) (int32, syscall.Errno) {
		calls++
		return -1, unix.ECONNREFUSED
	})
	if errno != unix.ECONNREFUSED || calls != 1 || s.Exhausted()[netip.MustParseAddr("10.0.0.1")] != 0 {
		t.Errorf("got %v after %d calls, want ECONNREFUSED after one", errno, calls)
	}
}

func TestSourcesSame(t *testing.T) {
	t.Parallel()
	a := sourcesOf("10.0.0.1", "10.0.0.2")
	if NewSources(nil) != nil || !NewSources(nil).Same(nil) || a.Same(nil) || (*Sources)(nil).Same(a) {
		t.Error("no addresses are not no Sources")
	}
	if !a.Same(sourcesOf("10.0.0.1", "10.0.0.2")) || a.Same(sourcesOf("10.0.0.2", "10.0.0.1")) || a.Same(sourcesOf("10.0.0.1")) {
		t.Error("Same compares something else")
	}
}

// TestBackendsAreDialledFromSources lets real sockets say where they come from. The second address is none of this
// host's, which the kernel reports like an address without a port.
func TestBackendsAreDialledFromSources(t *testing.T) {
	t.Parallel()
	s := sourcesOf("127.0.0.71", "192.0.2.1", "127.0.0.72")
	r := newRig(t, rigOptions{backend: Backend{Sources: s}})
	var from []string
	for range 6 {
		_, broker := r.session()
		from = append(from, broker.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr().String())
	}
	if !slices.Contains(from, "127.0.0.71") || !slices.Contains(from, "127.0.0.72") {
		t.Errorf("the broker saw %v", from)
	}
	if n := s.Exhausted()[netip.MustParseAddr("192.0.2.1")]; n == 0 {
		t.Error("an address that this host does not have was never tried, or not counted")
	}
}

// TestSourcesOutOfPorts has every address serve four ports only, and more clients than that.
func TestSourcesOutOfPorts(t *testing.T) {
	t.Parallel()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	first := fourPorts(t)
	last := first + 3
	err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, last<<16|first)
	_ = unix.Close(fd)
	if err != nil {
		t.Skipf("this kernel has no port range for a socket (Linux 6.3 has): %v", err)
	}
	s := sourcesOf("127.0.0.73", "127.0.0.74")
	s.ports = last<<16 | first
	r := newRig(t, rigOptions{backend: Backend{Sources: s}})
	for range 8 { // which is all that there are
		r.session()
	}
	c := r.dial()
	write(t, c, connect("c"))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Fatal("a client was served without a port")
	}
	if o := r.placer.told(); len(o) != 1 || o[0] != NoPort {
		t.Errorf("got the outcomes %v, want %v", o, NoPort)
	}
	if rec := r.record(); rec.Refusal != RefusedDialFailed {
		t.Errorf("got the refusal %q, want %q", rec.Refusal, RefusedDialFailed)
	}
}

// fourPorts finds ports in a row, in the kernel's range for clients, on which nobody listens: what somebody has on all
// addresses cannot be had on any.
func fourPorts(t *testing.T) int {
	t.Helper()
search:
	for first := 33000; first < 60000; first += 4 {
		for port := first; port < first+4; port++ {
			l, err := net.Listen("tcp4", fmt.Sprint(":", port))
			if err != nil {
				continue search
			}
			_ = l.Close()
		}
		return first
	}
	t.Skip("no four ports in a row are free")
	return 0
}
