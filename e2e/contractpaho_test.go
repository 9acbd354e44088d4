//go:build linux

package e2e

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// pahoV3Player is paho.mqtt.golang.
type pahoV3Player struct{}

func (pahoV3Player) connect(t *testing.T, o *mqtt.ClientOptions) mqtt.Client {
	t.Helper()
	client := mqtt.NewClient(o.SetProtocolVersion(v311).SetAutoReconnect(false).SetConnectRetry(false))
	pahoDone(t, "connect", client.Connect())
	return client
}

func pahoDone(t *testing.T, what string, token mqtt.Token) {
	t.Helper()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("%s: %v", what, token.Error())
	}
}

func (p pahoV3Player) listen(t *testing.T, address, id string, h hearing, book *logBook) func(*testing.T) {
	t.Helper()
	receive := func(_ mqtt.Client, m mqtt.Message) { fmt.Fprintln(book, report(m.Payload(), m.Qos(), m.Retained())) }
	o := mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID(id).SetCleanSession(!h.keep).SetDefaultPublishHandler(receive)
	if h.will != "" {
		o.SetWill(h.will, "will", 1, false)
	}
	client := p.connect(t, o)
	pahoDone(t, "subscribe", client.Subscribe(h.filter(), h.qos, nil))
	return func(*testing.T) { client.Disconnect(100) }
}

func (p pahoV3Player) speak(t *testing.T, address, id string, s saying) {
	t.Helper()
	client := p.connect(t, mqtt.NewClientOptions().AddBroker("tcp://"+address).SetClientID(id))
	pahoDone(t, "publish", client.Publish(s.topic, s.qos, s.retain, s.payload()))
	client.Disconnect(100)
}

// autopahoPlayer is autopaho, which connects paho.golang.
type autopahoPlayer struct{}

func (autopahoPlayer) connect(t *testing.T, address, id string, h hearing, book *logBook) *autopaho.ConnectionManager {
	t.Helper()
	at, err := url.Parse("mqtt://" + address)
	if err != nil {
		t.Fatal(err)
	}
	c := autopaho.ClientConfig{
		ServerUrls: []*url.URL{at}, KeepAlive: 30, CleanStartOnInitialConnection: !h.keep, SessionExpiryInterval: h.expiry(),
		ClientConfig: paho.ClientConfig{
			ClientID: id,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				fmt.Fprintln(book, report(p.Packet.Payload, p.Packet.QoS, p.Packet.Retain))
				return true, nil
			}},
		},
	}
	if h.will != "" {
		c.WillMessage = &paho.WillMessage{Topic: h.will, Payload: []byte("will"), QoS: 1}
		c.WillProperties = &paho.WillProperties{WillDelayInterval: &h.delay}
	}
	client, err := autopaho.NewConnection(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.AwaitConnection(briefly(t)); err != nil {
		t.Fatalf("connect: %v", err)
	}
	return client
}

func (a autopahoPlayer) listen(t *testing.T, address, id string, h hearing, book *logBook) func(*testing.T) {
	t.Helper()
	client := a.connect(t, address, id, h, book)
	subscription := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: h.filter(), QoS: h.qos}}}
	if _, err := client.Subscribe(briefly(t), subscription); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	return func(t *testing.T) {
		t.Helper()
		if err := client.Disconnect(briefly(t)); err != nil {
			t.Fatalf("disconnect: %v", err)
		}
	}
}

func (a autopahoPlayer) speak(t *testing.T, address, id string, s saying) {
	t.Helper()
	client := a.connect(t, address, id, hearing{}, newLogBook())
	if _, err := client.Publish(briefly(t), &paho.Publish{Topic: s.topic, QoS: s.qos, Retain: s.retain, Payload: s.payload()}); err != nil {
		t.Fatalf("publish: %v", err)
	}
	if err := client.Disconnect(briefly(t)); err != nil {
		t.Fatalf("disconnect: %v", err)
	}
}

// briefly is a context for what should not take long.
func briefly(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
