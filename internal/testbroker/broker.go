package testbroker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Options configure a Broker. The zero value is a usable one.
type Options struct {
	// Name is how the broker is called in errors and in the log; empty means "broker". The brokers of a
	// mesh are called Name-1, Name-2, …
	Name string
	// Address is where to listen; empty means a free port of 127.0.0.1, as every mesh needs.
	Address string
	// Record is how many messages Messages keeps; the oldest go first.
	Record int
	// Log gets what mochi has to say; nil discards it.
	Log *slog.Logger
	// Connected and Disconnected, unless nil, hear of the sessions: Connected before the client gets its
	// CONNACK, Disconnected when the connection has ended. They must not block and not stop the broker.
	Connected, Disconnected func(b *Broker, clientID string)
}

// ErrStopped is the error of a Broker that would have to run for what was asked.
var ErrStopped = errors.New("the broker is stopped")

// A Broker is an MQTT broker with an address of its own, which it keeps while it is stopped.
type Broker struct {
	options Options
	log     *slog.Logger
	peers   []*Broker // the others of its mesh
	address string    // fixed by the first start

	mu      sync.Mutex           // one start or stop at a time
	current atomic.Pointer[term] // nil while stopped

	connects, received, sent atomic.Uint64

	recording sync.Mutex
	record    []Message
}

// A Message is what a client has published.
type Message struct {
	ClientID string
	Topic    string
	Payload  string
	QoS      byte
	Retain   bool
}

// Stats count since the first start.
type Stats struct {
	Connects uint64 // sessions
	Received uint64 // messages from the broker's own clients
	Sent     uint64 // messages to the broker's own clients
}

// Start starts a broker.
func Start(o Options) (*Broker, error) {
	b := newBroker(o)
	if err := b.start(); err != nil {
		return nil, err
	}
	return b, nil
}

const (
	defaultName    = "broker"
	defaultAddress = "127.0.0.1:0"
)

func newBroker(o Options) *Broker {
	o.Name, o.Address = cmp.Or(o.Name, defaultName), cmp.Or(o.Address, defaultAddress)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Broker{options: o, log: o.Log.With(slog.String("broker", o.Name)), address: o.Address}
}

// Name is the name from the options.
func (b *Broker) Name() string { return b.options.Name }

// Addr is host:port, the same before and after a restart.
func (b *Broker) Addr() string { return b.address }

// Running tells that the broker is neither stopped nor about to be.
func (b *Broker) Running() bool { return b.current.Load() != nil }

// Restart starts a stopped broker again, on the same address. Sessions are gone; retained messages come
// from the other brokers of the mesh, if there are any.
func (b *Broker) Restart() error { return b.start() }

func (b *Broker) start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.Running() {
		return fmt.Errorf("start %s: it runs already", b.options.Name)
	}
	t, err := newTerm(b, b.address)
	if err != nil {
		return fmt.Errorf("start %s: %w", b.options.Name, err)
	}
	if address := t.listener.Addr().String(); b.address != address {
		b.address = address
	}
	// First in reach of the peers, then caught up with what they retain: the other way round, a message
	// that is retained in between would be missing here.
	b.current.Store(t)
	b.catchUp(t)
	t.serve()
	return nil
}

// Stop closes the port and all connections, without a DISCONNECT to anybody. Stopping a stopped broker
// does nothing.
func (b *Broker) Stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.current.Swap(nil); t != nil {
		t.stop()
	}
}

// Clients are the ids of the connected clients, sorted.
func (b *Broker) Clients() []string {
	t := b.current.Load()
	if t == nil {
		return nil
	}
	ids := t.clients()
	slices.Sort(ids)
	return ids
}

// Count is the number of connected clients.
func (b *Broker) Count() int { return len(b.Clients()) }

// Stats are the counters.
func (b *Broker) Stats() Stats {
	return Stats{Connects: b.connects.Load(), Received: b.received.Load(), Sent: b.sent.Load()}
}

// Messages are the last messages from the broker's own clients, in the order of arrival.
func (b *Broker) Messages() []Message {
	b.recording.Lock()
	defer b.recording.Unlock()
	return slices.Clone(b.record)
}

func (b *Broker) remember(m Message) {
	b.received.Add(1)
	if b.options.Record <= 0 {
		return
	}
	b.recording.Lock()
	defer b.recording.Unlock()
	if len(b.record) >= b.options.Record {
		b.record = slices.Delete(b.record, 0, 1)
	}
	b.record = append(b.record, m)
}

// Publish publishes to the subscribers of this broker and of its mesh, as if a client had done it.
func (b *Broker) Publish(topic, payload string, qos byte, retain bool) error {
	t := b.current.Load()
	if t == nil {
		return fmt.Errorf("publish on %s: %w", b.options.Name, ErrStopped)
	}
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain},
		TopicName:   topic,
		Payload:     []byte(payload),
	}
	if err := t.deliver(pk); err != nil {
		return fmt.Errorf("publish on %s: %w", b.options.Name, err)
	}
	b.forward(pk)
	return nil
}
