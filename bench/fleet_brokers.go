package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// fleetPrefix begins the identifiers of a fleet's clients, by which brokers tell them from health checks.
const fleetPrefix = "fleet-"

// A fleetConnect is one CONNECT that a broker has got from a client of the fleet.
type fleetConnect struct {
	at     time.Time
	client string
	broker int
}

// fleetBrokers are a cluster of brokers in this process: they accept every CONNECT, let a client have one connection in
// the whole cluster, and can be cut off, stopped and started. Other than the stub they know who is where, and they are
// not fast: what is measured with them is what proxies do and not what that costs.
type fleetBrokers struct {
	serving sync.WaitGroup

	mu       sync.Mutex
	brokers  []*fleetBroker
	seats    map[string]*brokerConn // of the clients of the fleet
	connects []fleetConnect
}

type fleetBroker struct {
	address  netip.AddrPort
	listener net.Listener // nil while it is stopped
	conns    map[*brokerConn]struct{}
}

type brokerConn struct {
	net.Conn
	broker int
}

// newFleetBrokers starts count brokers.
func newFleetBrokers(count int) (*fleetBrokers, error) {
	b := &fleetBrokers{seats: make(map[string]*brokerConn)}
	for i := range count {
		b.brokers = append(b.brokers, &fleetBroker{
			address: netip.MustParseAddrPort("127.0.0.1:0"), conns: make(map[*brokerConn]struct{}),
		})
		if err := b.start(i); err != nil {
			b.close()
			return nil, err
		}
	}
	return b, nil
}

func (b *fleetBrokers) addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for _, one := range b.brokers {
		all = append(all, one.address)
	}
	return all
}

// all are the numbers of the brokers.
func (b *fleetBrokers) all() []int {
	all := make([]int, len(b.brokers))
	for i := range all {
		all[i] = i
	}
	return all
}

// start has broker i listen, at the address that it had before if it had one.
func (b *fleetBrokers) start(i int) error {
	one := b.brokers[i]
	l, err := net.Listen("tcp4", one.address.String()) //nolint:noctx // it returns at once
	if err != nil {
		return fmt.Errorf("broker %d: %w", i, err)
	}
	b.mu.Lock()
	one.listener, one.address = l, l.Addr().(*net.TCPAddr).AddrPort()
	b.mu.Unlock()
	b.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				b.serving.Go(func() { b.serve(&brokerConn{Conn: conn, broker: i}, l) })
			}
		}
	})
	return nil
}

// stop ends broker i and all its connections, as the end of its process would.
func (b *fleetBrokers) stop(i int) {
	b.mu.Lock()
	l := b.brokers[i].listener
	b.brokers[i].listener = nil
	b.mu.Unlock()
	if l != nil {
		_ = l.Close()
	}
	b.cut(i)
}

// cut ends all connections that the given brokers have at this moment. Those who come back meanwhile stay.
func (b *fleetBrokers) cut(brokers ...int) {
	b.mu.Lock()
	var conns []*brokerConn
	for _, i := range brokers {
		conns = slices.AppendSeq(conns, maps.Keys(b.brokers[i].conns))
	}
	b.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
	}
}

func (b *fleetBrokers) close() {
	for i := range b.brokers {
		b.stop(i)
	}
	b.serving.Wait()
}

// serve is one connection that the listener l has accepted, from its first byte to its last.
func (b *fleetBrokers) serve(c *brokerConn, l net.Listener) {
	defer c.Close()
	if !b.welcome(c, l) {
		return
	}
	defer b.forget(c)
	r := bufio.NewReaderSize(c, 256)
	kind, body, err := readPacket(r)
	if err != nil || kind>>4 != packetConnect {
		return
	}
	level, client, err := parseFleetConnect(body)
	if err != nil {
		return
	}
	if strings.HasPrefix(client, fleetPrefix) {
		defer b.leave(client, c)
		b.seat(client, c)
	}
	if _, err := c.Write(appendConnack(nil, level)); err != nil {
		return
	}
	for {
		kind, _, err := readPacket(r)
		if err != nil || kind>>4 == packetDisconnect {
			return
		}
		if kind>>4 == packetPingreq {
			if _, err := c.Write([]byte{0xd0, 0}); err != nil {
				return
			}
		}
	}
}

// welcome registers a connection, unless its broker has been stopped since.
func (b *fleetBrokers) welcome(c *brokerConn, l net.Listener) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	one := b.brokers[c.broker]
	if one.listener != l {
		return false
	}
	one.conns[c] = struct{}{}
	return true
}

func (b *fleetBrokers) forget(c *brokerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.brokers[c.broker].conns, c)
}

// seat notes where a client is now and ends the connection that it had elsewhere.
func (b *fleetBrokers) seat(client string, c *brokerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if old := b.seats[client]; old != nil {
		_ = old.Close()
	}
	b.seats[client] = c
	b.connects = append(b.connects, fleetConnect{at: time.Now(), client: client, broker: c.broker})
}

func (b *fleetBrokers) leave(client string, c *brokerConn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seats[client] == c {
		delete(b.seats, client)
	}
}

// counts are the clients on each broker at this moment.
func (b *fleetBrokers) counts() []int {
	b.mu.Lock()
	defer b.mu.Unlock()
	counts := make([]int, len(b.brokers))
	for _, c := range b.seats {
		counts[c.broker]++
	}
	return counts
}

// where is the broker of each client at this moment.
func (b *fleetBrokers) where() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	where := make(map[string]int, len(b.seats))
	for client, c := range b.seats {
		where[client] = c.broker
	}
	return where
}

// history is every CONNECT so far, in order.
func (b *fleetBrokers) history() []fleetConnect {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clip(b.connects)
}

// maxFleetPacket bounds what brokers and clients of a fleet read; they send each other no more than a CONNECT.
const maxFleetPacket = 1024

// readPacket reads one packet: its first byte, and what follows its length.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	var length []byte
	for n, size := 0, 0; size == 0; {
		c, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		length = append(length, c)
		if n, size, err = decodeLength(length); err != nil {
			return 0, nil, err
		}
		if n > maxFleetPacket {
			return 0, nil, fmt.Errorf("packet of %d bytes", n)
		}
		if size > 0 {
			body = make([]byte, n)
		}
	}
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// parseFleetConnect takes the protocol level and the client identifier from the body of a CONNECT.
func parseFleetConnect(body []byte) (level byte, client string, err error) {
	_, rest, found := cutString(body)
	const fixed = 4 // level, flags, keep alive
	if !found || len(rest) < fixed {
		return 0, "", errNotMQTTName
	}
	level, rest = rest[0], rest[fixed:]
	if level >= levelMQTT5 {
		length, size, err := decodeLength(rest)
		if err != nil || size == 0 || len(rest) < size+length {
			return 0, "", errMalformedLength
		}
		rest = rest[size+length:]
	}
	if client, _, found = cutString(rest); !found {
		return 0, "", errors.New("CONNECT without a client identifier")
	}
	return level, client, nil
}

// cutString takes a string with two bytes of length from the start of b.
func cutString(b []byte) (s string, rest []byte, found bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	end := 2 + int(b[0])<<8 + int(b[1])
	if end > len(b) {
		return "", nil, false
	}
	return string(b[2:end]), b[end:], true
}
