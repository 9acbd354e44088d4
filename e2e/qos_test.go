//go:build linux

package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// Nothing that a broker has acknowledged to its publisher is lost while 200 clients are moved. All of the 200 subscribe
// with QoS 1 and have persistent sessions, each to a topic of its own, and each must get what was published there; the
// publisher, at 500 messages per second and never quiet, is one of the moved clients too.
//
// The backends are three doors of one mosquitto: what makes the promise possible is that a client finds its session
// wherever it comes, as in any cluster of brokers. With mosquittos that know nothing of each other a moved client
// would have a new session on each, and bridges between them would not change that.
func TestQoS1LosesNothingWhileClientsAreMoved(t *testing.T) {
	t.Parallel()
	const clients, pace = 200, 500
	mosquitto, backends := startMosquittoCluster(t, 3)
	l := startLB(t, settings{backends: backends, cluster: emptying("rate: 1000/s")})
	ids := settlers(t, l, "n1", clients+1)
	received := newLedger()
	var subscribers []mqtt.Client
	for i, id := range ids[:clients] {
		subscribers = append(subscribers, persistent(t, l, id, received))
		token := subscribers[i].Subscribe(fmt.Sprint("qos/", i), 1, nil)
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("client %s cannot subscribe: %v", id, token.Error())
		}
	}

	publisher := persistent(t, l, ids[clients], newLedger())
	acknowledged := newLedger()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("acknowledged, but not received: %v", acknowledged.without(received))
		}
	})
	var published sync.WaitGroup
	stop := make(chan struct{})
	sent := 0
	published.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for began := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for due := int(time.Since(began).Seconds() * pace); sent < due; sent++ {
				topic, payload := fmt.Sprint("qos/", sent%clients), fmt.Sprint(sent)
				token := publisher.Publish(topic, 1, false, payload)
				published.Go(func() {
					if token.WaitTimeout(patience) && token.Error() == nil {
						acknowledged.note(topic, payload)
					}
				})
			}
		}
	})
	eventually(t, patience, "messages flow", func() bool { return received.len() > pace/2 })
	before := received.len()
	l.mustDrain(t, "--rate", "80/s")
	during := received.len() - before
	eventually(t, patience, "everybody is back", func() bool { return counts(l.homes(t), "")["n1"] == 0 && len(l.homes(t)) == clients+1 })
	after := received.len()
	eventually(t, patience, "messages flow again", func() bool { return received.len() > after+pace/2 })
	close(stop)
	published.Wait()

	if n := acknowledged.len(); n < sent*99/100 {
		t.Errorf("%d of %d messages were acknowledged", n, sent)
	}
	eventually(t, patience, "all that was acknowledged is there", func() bool { return len(acknowledged.without(received)) == 0 })
	for _, id := range ids {
		if n := len(l.moments(id)); n != 1 {
			t.Errorf("client %s was moved %d times", id, n)
		}
	}
	if bad := mosquitto.harmed(); len(bad) > 0 {
		t.Errorf("mosquitto complains: %q", bad)
	}
	t.Logf("%d messages sent, %d acknowledged, %d received, %d of these during the drain, %d twice; the publisher was cut at %v",
		sent, acknowledged.len(), received.len(), during, received.twice(), l.moments(ids[clients]))
}

// persistent connects a client whose session outlives its connections, and that comes back at once.
func persistent(t *testing.T, l *lb, id string, received *ledger) mqtt.Client {
	t.Helper()
	o := mqtt.NewClientOptions().AddBroker("tcp://" + l.address).SetClientID(id).SetProtocolVersion(v311).
		SetCleanSession(false).SetAutoReconnect(true).SetMaxReconnectInterval(time.Second).SetOrderMatters(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { received.note(m.Topic(), string(m.Payload())) })
	client := mqtt.NewClient(o)
	token := client.Connect()
	if !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("client %s cannot connect: %v", id, token.Error())
	}
	t.Cleanup(func() { client.Disconnect(0) })
	return client
}

// A ledger counts messages by topic and payload.
type ledger struct {
	mu    sync.Mutex
	times map[[2]string]int
}

func newLedger() *ledger { return &ledger{times: make(map[[2]string]int)} }

func (b *ledger) note(topic, payload string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.times[[2]string{topic, payload}]++
}

// len is how many different messages there are.
func (b *ledger) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.times)
}

// twice is how many messages are there more than once.
func (b *ledger) twice() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, times := range b.times {
		if times > 1 {
			n++
		}
	}
	return n
}

// without lists the messages that are not in the other ledger.
func (b *ledger) without(other *ledger) [][2]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	other.mu.Lock()
	defer other.mu.Unlock()
	var list [][2]string
	for m := range b.times {
		if other.times[m] == 0 {
			list = append(list, m)
		}
	}
	return list
}
