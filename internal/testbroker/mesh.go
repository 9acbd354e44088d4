package testbroker

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"
)

// A Mesh is a cluster of brokers that share their messages.
type Mesh struct {
	brokers []*Broker
}

// StartMesh starts n brokers with the same options.
func StartMesh(n int, o Options) (*Mesh, error) {
	m := new(Mesh)
	name := cmp.Or(o.Name, defaultName)
	for i := range n {
		o.Name = fmt.Sprintf("%s-%d", name, i+1)
		m.brokers = append(m.brokers, newBroker(o))
	}
	for i, b := range m.brokers {
		b.peers = append(b.peers, m.brokers[:i]...)
		b.peers = append(b.peers, m.brokers[i+1:]...)
	}
	for _, b := range m.brokers {
		if err := b.start(); err != nil {
			m.Stop()
			return nil, err
		}
	}
	return m, nil
}

// Brokers are the brokers in the order of their numbers, running or not.
func (m *Mesh) Brokers() []*Broker { return m.brokers }

// Stop stops all brokers.
func (m *Mesh) Stop() {
	for _, b := range m.brokers {
		b.Stop()
	}
}

// forward hands a message on to the subscribers of all other brokers. It runs on the goroutine of the
// publisher, so that messages of one publisher arrive in their order everywhere.
func (b *Broker) forward(pk packets.Packet) {
	for _, peer := range b.peers {
		t := peer.current.Load()
		if t == nil {
			continue
		}
		if err := t.deliver(pk); err != nil {
			b.log.Warn("forwarding failed", slog.String("to", peer.Name()), slog.Any("error", err))
		}
	}
}

// catchUp copies the retained messages of another broker.
func (b *Broker) catchUp(t *term) {
	for _, peer := range b.peers {
		from := peer.current.Load()
		if from == nil {
			continue
		}
		for topic, pk := range from.server.Topics.Retained.GetAll() {
			_, newer := t.server.Topics.Retained.Get(topic)
			if !newer && !strings.HasPrefix(topic, "$") {
				t.server.Topics.RetainMessage(pk)
			}
		}
		return
	}
}
