package testbroker

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A term is the life of a broker between a start and a stop. Every term has a server of its own: mochi's
// cannot be started twice.
type term struct {
	broker   *Broker
	server   *mqtt.Server
	inline   *mqtt.Client // publishes what does not come from a client of this server
	listener net.Listener
	running  sync.WaitGroup // the accept loop and the connections

	mu      sync.Mutex
	stopped bool
	conns   map[net.Conn]string // open ones, with the client id from CONNECT on
}

const (
	// sysInterval is how often mochi publishes $SYS topics, for which it stops the world each time.
	sysInterval = 24 * 60 * 60 // seconds
	// acceptPause is how long the accept loop waits when the process has no descriptor left.
	acceptPause = 20 * time.Millisecond
)

func newTerm(b *Broker, address string) (*term, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	// An acknowledgement with the publisher's own properties is not in the standard.
	capabilities.Compatibilities.NoInheritedPropertiesOnAck = true
	t := &term{broker: b, listener: listener, conns: make(map[net.Conn]string)}
	t.server = mqtt.New(&mqtt.Options{Capabilities: capabilities, Logger: b.log, SysTopicResendInterval: sysInterval})
	t.inline = t.server.NewClient(nil, mqtt.LocalListener, mqtt.InlineClientId, true)
	t.inline.Properties.ProtocolVersion = 5 // so that it carries properties
	err = errors.Join(t.server.AddHook(&hook{term: t}, nil), t.server.Serve())
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	return t, nil
}

// serve accepts connections until stop.
func (t *term) serve() {
	t.running.Go(func() {
		for {
			conn, err := t.listener.Accept()
			switch {
			case err == nil:
				t.running.Go(func() { t.attend(conn) })
			case errors.Is(err, net.ErrClosed):
				return
			default:
				time.Sleep(acceptPause)
			}
		}
	})
}

// attend serves one connection to its end.
func (t *term) attend(conn net.Conn) {
	defer conn.Close()
	t.mu.Lock()
	if t.stopped {
		t.mu.Unlock()
		return
	}
	t.conns[conn] = ""
	t.mu.Unlock()

	err := t.server.EstablishConnection(t.broker.options.Name, conn)
	t.broker.log.Debug("connection ended", slog.String("remote", conn.RemoteAddr().String()), slog.Any("error", err))

	t.mu.Lock()
	id := t.conns[conn]
	delete(t.conns, conn)
	t.mu.Unlock()
	if f := t.broker.options.Disconnected; f != nil && id != "" {
		f(t.broker, id)
	}
}

// greet notes that the client behind a connection has been let in.
func (t *term) greet(conn net.Conn, id string) {
	t.mu.Lock()
	t.conns[conn] = id
	t.mu.Unlock()
	t.broker.connects.Add(1)
	if f := t.broker.options.Connected; f != nil {
		f(t.broker, id)
	}
}

func (t *term) clients() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make([]string, 0, len(t.conns))
	for _, id := range t.conns {
		ids = append(ids, id)
	}
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" })
}

// deliver hands a message to the subscribers on this server.
func (t *term) deliver(pk packets.Packet) error {
	pk = pk.Copy(false) // without packet id and topic alias, which belong to the publisher's connection
	if pk.FixedHeader.Qos > 0 {
		pk.PacketID = 1 // mochi wants one, and uses it for nothing
	}
	return t.server.InjectPacket(t.inline, pk)
}

// stop ends the term and waits until its connections have ended.
func (t *term) stop() {
	_ = t.listener.Close()
	t.mu.Lock()
	t.stopped = true
	for conn := range t.conns {
		_ = conn.Close()
	}
	t.mu.Unlock()
	t.running.Wait()
	_ = t.server.Close()
}
