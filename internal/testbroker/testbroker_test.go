package testbroker_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	legacy "github.com/eclipse/paho.mqtt.golang"
	"go.uber.org/goleak"

	"github.com/mqttlb/mqttlb/internal/testbroker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should be there at once.
const patience = 20 * time.Second

func TestMessagesReachSubscribersOfEveryBrokerOnce(t *testing.T) {
	m := mesh(t, testbroker.Options{Record: 10})
	var subscribers []*client
	for i, b := range m.Brokers() {
		c := connect(t, b, fmt.Sprint("subscriber-", i))
		c.subscribe("news/#")
		subscribers = append(subscribers, c)
	}
	publisher := connect(t, m.Brokers()[0], "publisher")
	for qos := range byte(3) {
		publisher.publish("news/today", fmt.Sprint("message ", qos), qos, false)
	}
	publisher.publish("news/today", "the end", 1, false)
	for i, c := range subscribers {
		for qos := range byte(3) {
			got := c.receive()
			if got.Topic != "news/today" || string(got.Payload) != fmt.Sprint("message ", qos) || got.QoS != qos {
				t.Errorf("subscriber %d got %q on %s with QoS %d, want message %d in its place and with its QoS", i, got.Payload, got.Topic, got.QoS, qos)
			}
		}
		if got := c.receive(); string(got.Payload) != "the end" {
			t.Errorf("subscriber %d got %q, want each message once", i, got.Payload)
		}
	}
	first, second := m.Brokers()[0], m.Brokers()[1]
	if got := first.Messages(); len(got) != 4 || got[2] != (testbroker.Message{ClientID: "publisher", Topic: "news/today", Payload: "message 2", QoS: 2}) {
		t.Errorf("the publisher's broker has recorded %v, want the four messages in order", got)
	}
	if got := second.Messages(); len(got) != 0 {
		t.Errorf("another broker has recorded %v, want nothing: its clients have published nothing", got)
	}
	if s := first.Stats(); s.Received != 4 || s.Connects != 2 {
		t.Errorf("the publisher's broker counts %+v, want 4 messages and 2 connects", s)
	}
}

func TestRetainedMessagesAreEverywhereAndOutliveARestart(t *testing.T) {
	m := mesh(t, testbroker.Options{})
	first, second := m.Brokers()[0], m.Brokers()[1]
	connect(t, first, "publisher").publish("state", "on", 1, true)

	late := connect(t, second, "late")
	late.subscribe("state")
	if got := late.receive(); string(got.Payload) != "on" || !got.Retain {
		t.Errorf("on the other broker: got %q, retain %v, want the retained message", got.Payload, got.Retain)
	}
	second.Stop()
	if err := second.Restart(); err != nil {
		t.Fatal(err)
	}
	later := connect(t, second, "later")
	later.subscribe("state")
	if got := later.receive(); string(got.Payload) != "on" {
		t.Errorf("after a restart: got %q, want the retained message", got.Payload)
	}
}

func TestWillsReachTheOtherBrokers(t *testing.T) {
	m := mesh(t, testbroker.Options{})
	watcher := connect(t, m.Brokers()[0], "watcher")
	watcher.subscribe("gone")
	connect(t, m.Brokers()[1], "mortal", func(cp *paho.Connect) {
		cp.WillMessage = &paho.WillMessage{Topic: "gone", Payload: []byte("farewell"), QoS: 1}
	})
	m.Brokers()[1].Stop()
	if got := watcher.receive(); string(got.Payload) != "farewell" {
		t.Errorf("got %q, want the will of a client whose broker has stopped", got.Payload)
	}
}

func TestStopAndRestart(t *testing.T) {
	ended := make(chan string, 10)
	b, err := testbroker.Start(testbroker.Options{Disconnected: func(b *testbroker.Broker, id string) { ended <- b.Name() + " " + id }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	address := b.Addr()
	c := connect(t, b, "one")
	connect(t, b, "two")
	silent, err := net.Dial("tcp", address) // says nothing, and must not keep the broker from stopping
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if got := b.Clients(); !slices.Equal(got, []string{"one", "two"}) || b.Count() != 2 {
		t.Errorf("clients are %v (%d), want one and two", got, b.Count())
	}

	b.Stop()
	b.Stop()
	if b.Running() || b.Count() != 0 {
		t.Errorf("after Stop: running %v with %d clients, want neither", b.Running(), b.Count())
	}
	if got := []string{<-ended, <-ended}; !slices.Contains(got, "broker one") || !slices.Contains(got, "broker two") {
		t.Errorf("Disconnected heard %v, want both clients", got)
	}
	select {
	case <-c.Done():
	case <-time.After(patience):
		t.Error("the client's connection is still open after Stop")
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the port still accepts connections after Stop")
	}
	if err := b.Publish("topic", "payload", 0, false); err == nil {
		t.Error("Publish on a stopped broker: no error")
	}

	if err := b.Restart(); err != nil {
		t.Fatal(err)
	}
	if b.Addr() != address || !b.Running() {
		t.Errorf("after Restart: address %s, running %v, want %s", b.Addr(), b.Running(), address)
	}
	if err := b.Restart(); err == nil {
		t.Error("a second Restart: no error")
	}
	connect(t, b, "one")
	if got := b.Clients(); !slices.Equal(got, []string{"one"}) {
		t.Errorf("after Restart: clients are %v, want one", got)
	}
}

func TestOldClients(t *testing.T) {
	m := mesh(t, testbroker.Options{})
	got := make(chan string, 1)
	o := legacy.NewClientOptions().AddBroker("tcp://" + m.Brokers()[0].Addr()).SetClientID("old").SetProtocolVersion(4).SetAutoReconnect(false)
	c := legacy.NewClient(o)
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("connect with MQTT 3.1.1:", token.Error())
	}
	defer c.Disconnect(100)
	token := c.Subscribe("topic", 1, func(_ legacy.Client, m legacy.Message) { got <- string(m.Payload()) })
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal("subscribe with MQTT 3.1.1:", token.Error())
	}
	if err := m.Brokers()[1].Publish("topic", "payload", 1, false); err != nil {
		t.Fatal(err)
	}
	select {
	case payload := <-got:
		if payload != "payload" {
			t.Errorf("got %q, want what was published on another broker", payload)
		}
	case <-time.After(patience):
		t.Error("got no message")
	}
}

func TestRecordIsBounded(t *testing.T) {
	b, err := testbroker.Start(testbroker.Options{Record: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Stop)
	c := connect(t, b, "publisher")
	for i := range 5 {
		c.publish("topic", fmt.Sprint(i), 1, false)
	}
	if got := b.Messages(); len(got) != 2 || got[0].Payload != "3" || got[1].Payload != "4" {
		t.Errorf("recorded %v, want the last two messages", got)
	}
}

func mesh(t *testing.T, o testbroker.Options) *testbroker.Mesh {
	t.Helper()
	m, err := testbroker.StartMesh(3, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	return m
}

// A client is an MQTT 5 client that keeps what it gets.
type client struct {
	*paho.Client
	t   *testing.T
	got chan *paho.Publish
}

func connect(t *testing.T, b *testbroker.Broker, id string, change ...func(*paho.Connect)) *client {
	t.Helper()
	conn, err := net.Dial("tcp", b.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, got: make(chan *paho.Publish, 100)}
	c.Client = paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(r paho.PublishReceived) (bool, error) { c.got <- r.Packet; return true, nil },
	}})
	cp := &paho.Connect{ClientID: id, CleanStart: true, KeepAlive: 60}
	for _, f := range change {
		f(cp)
	}
	if _, err := c.Connect(c.patience(), cp); err != nil {
		t.Fatalf("connect %s: %v", id, err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}) })
	return c
}

func (c *client) patience() context.Context {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	c.t.Cleanup(cancel)
	return ctx
}

func (c *client) subscribe(filter string) {
	c.t.Helper()
	s := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 2, RetainAsPublished: true}}}
	if _, err := c.Subscribe(c.patience(), s); err != nil {
		c.t.Fatal("subscribe:", err)
	}
}

func (c *client) publish(topic, payload string, qos byte, retain bool) {
	c.t.Helper()
	if _, err := c.Publish(c.patience(), &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos, Retain: retain}); err != nil {
		c.t.Fatal("publish:", err)
	}
}

func (c *client) receive() *paho.Publish {
	c.t.Helper()
	select {
	case m := <-c.got:
		return m
	case <-time.After(patience):
		c.t.Fatal("no message has arrived")
	}
	return nil
}
