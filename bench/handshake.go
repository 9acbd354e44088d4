package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// establishTimeout bounds how long all connections of a load may take to be there.
	establishTimeout = 60 * time.Second

	// establishAtOnce is how many handshakes are under way together; it stays below every listen backlog.
	establishAtOnce = 128

	// benchKeepAlive is the clients' keep alive in seconds: longer than any load, so that no session needs a PINGREQ.
	benchKeepAlive = 600

	// clientDigits is the width of the number that ends each client identifier, so that it can be replaced in place.
	clientDigits = 10
)

var errTooSlow = errors.New("the time for it is over")

// A dialer opens MQTT connections, each with its own client identifier, on one poller.
type dialer struct {
	poller  *poller
	target  netip.AddrPort
	connect []byte // CONNECT; its last bytes are the client's number
	clients int    // how many there were so far

	patience time.Duration // how long establish may take
}

func newDialer(p *poller, target netip.AddrPort, level byte) *dialer {
	id := fmt.Sprintf("bench-%0*d", clientDigits, 0)
	return &dialer{poller: p, target: target, connect: connectPacket(level, id, benchKeepAlive), patience: establishTimeout}
}

// A handshake is one connection on its way to CONNACK.
type handshake struct {
	fd    int
	sent  bool
	reply [130]byte // CONNACK, as long as its length is one byte
	have  int
}

// begin opens the next client's connection. Its events will carry key.
func (d *dialer) begin(h *handshake, key int32) error {
	fd, err := dial(d.target, d.clients)
	if err != nil {
		return err
	}
	h.fd, h.have = fd, 0
	d.number(d.clients)
	d.clients++
	// On the loopback a connection is there before connect returns, although that says EINPROGRESS.
	n, errno := send(fd, d.connect)
	h.sent = errno == 0 && n == len(d.connect)
	events := uint32(unix.EPOLLIN)
	if !h.sent {
		events = unix.EPOLLOUT
	}
	return d.poller.add(fd, events, key)
}

// number writes a client's number into the CONNECT.
func (d *dialer) number(n int) {
	for i := len(d.connect) - 1; i >= len(d.connect)-clientDigits; i-- {
		d.connect[i] = byte('0' + n%10)
		n /= 10
	}
}

// advance handles one event of the client with the given number; done means that CONNACK has arrived and accepted it.
func (d *dialer) advance(h *handshake, key int32, client int) (done bool, err error) {
	if !h.sent {
		d.number(client)
		if n, errno := send(h.fd, d.connect); errno != 0 || n < len(d.connect) {
			return false, fmt.Errorf("connect to %s: %w", d.target, connectError(h.fd))
		}
		h.sent = true
		return false, d.poller.change(h.fd, unix.EPOLLIN, key)
	}
	n, errno := recv(h.fd, h.reply[h.have:])
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return false, nil
	case errno != 0:
		return false, fmt.Errorf("waiting for CONNACK: %w", errno)
	case n == 0:
		return false, errors.New("closed before CONNACK")
	}
	h.have += n
	if h.have < 2 || h.have < 2+int(h.reply[1]) {
		return false, nil
	}
	if h.reply[0] != 0x20 || h.have < 4 || h.have > 2+int(h.reply[1]) {
		return false, fmt.Errorf("no CONNACK but % x", h.reply[:h.have])
	}
	if code := h.reply[3]; code != 0 {
		return false, fmt.Errorf("refused with code %d", code)
	}
	return true, nil
}

// establish opens count connections and appends their descriptors to fds. A connection's index in fds is the key of its
// events; it stays watched for EPOLLIN.
func (d *dialer) establish(fds []int, count int) ([]int, error) {
	first, end := len(fds), len(fds)+count
	shakes := make([]handshake, count)
	deadline := time.Now().Add(d.patience)
	fail := func(err error) ([]int, error) {
		closeAll(fds)
		return nil, fmt.Errorf("connection %d of %d: %w", len(fds), end, err)
	}
	for done := 0; done < count; {
		for len(fds) < end && len(fds)-first-done < establishAtOnce {
			h := &shakes[len(fds)-first]
			if err := d.begin(h, int32(len(fds))); err != nil {
				return fail(err)
			}
			fds = append(fds, h.fd)
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fail(errTooSlow)
		}
		events, err := d.poller.wait(left)
		if err != nil {
			return fail(err)
		}
		for i := range events {
			key := events[i].Fd
			if int(key) < first {
				return fail(fmt.Errorf("connection %d, which was established, has an event", key))
			}
			ready, err := d.advance(&shakes[int(key)-first], key, int(key))
			if err != nil {
				return fail(err)
			}
			if ready {
				done++
			}
		}
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
