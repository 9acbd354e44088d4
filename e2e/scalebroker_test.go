//go:build linux

package e2e

import (
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A hall is a greeter for thousands of clients: one goroutine serves them all.
type hall struct {
	t       *testing.T
	name    string
	address string
	poll    int
	door    int    // the listening socket
	parting []byte // the last words to a client, when its connection is ended from the other side
	ended   chan struct{}

	mu       sync.Mutex
	guests   map[int]*guest // by descriptor
	inside   map[string]int // connections by client id, without probes
	arrivals []arrival
	ending   bool
	buffer   []byte
}

// A guest is one connection of a hall.
type guest struct {
	id    string // empty for probes, and before CONNECT
	in    bool   // CONNECT has come
	heard []byte
}

// An arrival is a CONNECT of a client.
type arrival struct {
	at time.Time
	id string
}

// openHall listens until the test ends.
func openHall(t *testing.T, name, address string) *hall {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	h := &hall{
		t: t, name: name, address: address, ended: make(chan struct{}),
		guests: make(map[int]*guest), inside: make(map[string]int), buffer: make([]byte, 4096),
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("open a hall on %s: %v", address, err)
		}
	}
	h.door, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	check(err)
	check(unix.SetsockoptInt(h.door, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	check(unix.Bind(h.door, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}))
	check(unix.Listen(h.door, 4096))
	h.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	check(err)
	check(h.watch(h.door))
	go h.run()
	t.Cleanup(func() {
		h.mu.Lock()
		h.ending = true
		h.mu.Unlock()
		<-h.ended
	})
	return h
}

// halls opens n of them, named a, b, c and so on.
func halls(t *testing.T, n int) []*hall {
	t.Helper()
	list := make([]*hall, n)
	for i := range list {
		list[i] = openHall(t, string(rune('a'+i)), loopback(t))
	}
	return list
}

func (h *hall) backend() backend { return backend{h.name, h.address} }

func (h *hall) watch(fd int) error {
	return unix.EpollCtl(h.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

func (h *hall) run() {
	defer close(h.ended)
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(h.poll, events, 50) // until it is looked whether all is over
		if err != nil && !errors.Is(err, unix.EINTR) {
			h.t.Errorf("wait for the clients of broker %s: %v", h.name, err)
			return
		}
		if !h.turn(events[:max(n, 0)]) {
			return
		}
	}
}

func (h *hall) turn(events []unix.EpollEvent) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending {
		for fd := range h.guests {
			unix.Close(fd)
		}
		unix.Close(h.door)
		unix.Close(h.poll)
		return false
	}
	for i := range events {
		if fd := int(events[i].Fd); fd == h.door {
			h.open()
		} else {
			h.listen(fd, h.guests[fd])
		}
	}
	return true
}

func (h *hall) open() {
	for {
		fd, _, err := unix.Accept4(h.door, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // nobody waits, or who waited has left; without a descriptor the test fails by itself
		}
		if err := h.watch(fd); err != nil {
			h.t.Errorf("watch a client of broker %s: %v", h.name, err)
		}
		h.guests[fd] = &guest{}
	}
}

func (h *hall) listen(fd int, g *guest) {
	for {
		n, err := unix.Read(fd, h.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || n == 0:
			if err == nil && g.id != "" && len(h.parting) > 0 {
				_, _ = unix.Write(fd, h.parting) // whoever has left does not hear it
			}
			h.leave(fd, g)
			return
		case !g.in:
			g.heard = append(g.heard, h.buffer[:n]...)
			if whole(g.heard) > 0 {
				h.greet(fd, g)
			}
		}
	}
}

func (h *hall) greet(fd int, g *guest) {
	o, err := parseOpening(g.heard)
	if err != nil {
		h.t.Errorf("broker %s: %v", h.name, err)
	}
	g.in, g.heard = true, nil
	if !strings.HasPrefix(o.id, "mqttlb-health-") {
		g.id = o.id
		h.inside[g.id]++
		h.arrivals = append(h.arrivals, arrival{time.Now(), g.id})
	}
	_, _ = unix.Write(fd, connack(o.version, 0)) // whoever has left does not hear it
}

func (h *hall) leave(fd int, g *guest) {
	hangUp(h.poll, fd)
	delete(h.guests, fd)
	if h.inside[g.id]--; h.inside[g.id] <= 0 {
		delete(h.inside, g.id)
	}
}

// hangUp closes a connection. That alone does not take it out of epoll: a process that the test is about to start may
// hold a copy of it for a moment, and its events would be taken for those of the next with this number.
func hangUp(poll, fd int) {
	_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, fd, nil) // it may not be in there yet
	unix.Close(fd)
}

// clients are the ids of those who are connected.
func (h *hall) clients() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id := range h.inside {
		ids = append(ids, id)
	}
	return ids
}

// present is how many clients are connected.
func (h *hall) present() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.inside)
}

// came are the moments at which clients have come since then.
func (h *hall) came(since time.Time) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	var at []time.Time
	for _, a := range h.arrivals {
		if a.at.After(since) {
			at = append(at, a.at)
		}
	}
	return at
}

// rush is the greatest number of these moments within any span of that length.
func rush(at []time.Time, span time.Duration) int {
	at = slices.SortedFunc(slices.Values(at), time.Time.Compare)
	most, first := 0, 0
	for last := range at {
		for at[last].Sub(at[first]) >= span {
			first++
		}
		most = max(most, last-first+1)
	}
	return most
}
