package main

import (
	"context"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	legacy "github.com/eclipse/paho.mqtt.golang"
)

// The demo's clients are those of the Eclipse Paho project, one library for MQTT 5 and one for 3.1.1, and
// they use them the way applications do: the library keeps the connection up, and the application
// subscribes each time it is up.

// A demoLink is a library's connection for one client.
type demoLink interface {
	// publish sends a message and waits until the broker has acknowledged it.
	publish(ctx context.Context, topic, payload string) error
	// close says goodbye. The context of the link must have ended.
	close()
}

// demoLinkEvents is what a link tells its client. None of the functions blocks but dial.
type demoLinkEvents struct {
	dial    func(context.Context) (net.Conn, error)
	up      func()
	down    func()
	message func(topic string)
}

const (
	demoKeepAlive    = 30 * time.Second
	demoRetryPause   = 100 * time.Millisecond // after an attempt that failed
	demoAnswerTime   = 5 * time.Second        // for an acknowledgement
	demoGoodbyeTime  = 2 * time.Second
	demoMaxUnhandled = 16 // messages; the library reserves room for that many, by default for 65,535
)

// linkV5 connects with MQTT 5.
func linkV5(ctx context.Context, id, subscribe, address string, on demoLinkEvents) (demoLink, error) {
	inFlight := uint16(demoMaxUnhandled)
	manager, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{{Scheme: "mqtt", Host: address}},
		KeepAlive:                     uint16(demoKeepAlive.Seconds()),
		CleanStartOnInitialConnection: true,
		ReconnectBackoff: func(attempt int) time.Duration {
			if attempt == 0 {
				return 0 // dial waits
			}
			return demoRetryPause
		},
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			return on.dial(ctx)
		},
		ConnectPacketBuilder: func(cp *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			cp.Properties = &paho.ConnectProperties{ReceiveMaximum: &inFlight}
			return cp, nil
		},
		OnConnectionUp: func(m *autopaho.ConnectionManager, _ *paho.Connack) {
			go func() {
				s := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: subscribe, QoS: 1}}}
				if _, err := m.Subscribe(ctx, s); err == nil {
					on.up()
				}
			}()
		},
		OnConnectionDown: func() bool { on.down(); return true },
		ClientConfig: paho.ClientConfig{
			ClientID:      id,
			PacketTimeout: demoAnswerTime,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
				on.message(r.Packet.Topic)
				return true, nil
			}},
		},
	})
	if err != nil {
		return nil, err
	}
	return v5{manager}, nil
}

type v5 struct{ manager *autopaho.ConnectionManager }

func (l v5) publish(ctx context.Context, topic, payload string) error {
	_, err := l.manager.Publish(ctx, &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: 1})
	return err
}

func (l v5) close() {
	select {
	case <-l.manager.Done():
	case <-time.After(demoGoodbyeTime):
	}
}

// linkV3 connects with MQTT 3.1.1.
func linkV3(ctx context.Context, id, subscribe, address string, on demoLinkEvents) (demoLink, error) {
	client := legacy.NewClient(legacy.NewClientOptions().
		AddBroker("tcp://" + address).
		SetClientID(id).
		SetProtocolVersion(4).
		SetKeepAlive(demoKeepAlive).
		SetAutoReconnect(true).
		SetMaxReconnectInterval(demoRetryPause).
		SetConnectRetry(true).
		SetConnectRetryInterval(demoRetryPause).
		SetConnectTimeout(demoAnswerTime).
		SetCustomOpenConnectionFn(func(*url.URL, legacy.ClientOptions) (net.Conn, error) { return on.dial(ctx) }).
		SetConnectionLostHandler(func(legacy.Client, error) { on.down() }).
		SetOnConnectHandler(func(c legacy.Client) {
			t := c.Subscribe(subscribe, 1, func(_ legacy.Client, m legacy.Message) { on.message(m.Topic()) })
			if t.WaitTimeout(demoAnswerTime) && t.Error() == nil {
				on.up()
			}
		}))
	client.Connect() // it goes on trying, and reports by the handlers
	return v3{client}, nil
}

type v3 struct{ client legacy.Client }

func (l v3) publish(ctx context.Context, topic, payload string) error {
	ctx, cancel := context.WithTimeout(ctx, demoAnswerTime)
	defer cancel()
	t := l.client.Publish(topic, 1, false, payload)
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l v3) close() { l.client.Disconnect(uint(demoGoodbyeTime.Milliseconds())) }
