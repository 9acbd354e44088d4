package testbroker

import (
	"bytes"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A hook is how a term hears what happens in its mochi server. Its methods run on the goroutines of the
// clients. What a mesh has forwarded comes from an inline client, and is passed over: it has been counted
// where it was published, and must not go around.
type hook struct {
	mqtt.HookBase
	term *term
}

// ID implements mqtt.Hook.
func (*hook) ID() string { return "testbroker" }

// Provides implements mqtt.Hook.
func (*hook) Provides(b byte) bool {
	return bytes.IndexByte([]byte{
		mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish,
		mqtt.OnPublish, mqtt.OnPublished, mqtt.OnWillSent, mqtt.OnPacketSent,
	}, b) >= 0
}

// OnConnectAuthenticate lets everybody in.
func (*hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// OnACLCheck allows everything.
func (*hook) OnACLCheck(*mqtt.Client, string, bool) bool { return true }

// OnSessionEstablish is called before CONNACK is sent.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	h.term.greet(cl.Net.Conn, cl.ID)
}

// OnPublish is called before a message is acknowledged.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if !cl.Net.Inline {
		h.term.broker.remember(Message{
			ClientID: cl.ID, Topic: pk.TopicName, Payload: string(pk.Payload),
			QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain,
		})
	}
	return pk, nil
}

// OnPublished is called when a message has gone to the subscribers of this server.
func (h *hook) OnPublished(cl *mqtt.Client, pk packets.Packet) {
	if !cl.Net.Inline {
		h.term.broker.forward(pk)
	}
}

// OnWillSent is called when a will has gone to the subscribers of this server.
func (h *hook) OnWillSent(_ *mqtt.Client, pk packets.Packet) { h.term.broker.forward(pk) }

// OnPacketSent is called for every packet to a client.
func (h *hook) OnPacketSent(_ *mqtt.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type == packets.Publish {
		h.term.broker.sent.Add(1)
	}
}
