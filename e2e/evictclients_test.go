//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// soon is how long a client may be away after it was moved; under load that is not much.
const soon = 15 * time.Second

// A resident is a client of the kind that the world uses. It subscribes to e2e/<its id>, and reconnects by itself as
// its library does by default. It tells its book what happens: "received PAYLOAD", and "told CODE REASON" for
// a DISCONNECT.
type resident struct {
	kind  string
	start func(t *testing.T, l *lb, id string, book *logBook)
	// told says that the client learns of a DISCONNECT, and comes back nevertheless.
	told bool
}

func residents() []resident {
	return []resident{
		{"mosquitto_sub 3.1.1", stayMosquitto("mqttv311"), false},
		{"MQTT.js 3.1.1", stayMQTTJS("4"), false},
		{"MQTT.js 5", stayMQTTJS("5"), true},
		{"paho.mqtt.golang", stayPaho, false},
		{"autopaho", stayAutopaho, true},
	}
}

func stayMosquitto(version string) func(*testing.T, *lb, string, *logBook) {
	return func(t *testing.T, l *lb, id string, book *logBook) {
		t.Helper()
		need(t, "mosquitto_sub")
		host, port, _ := net.SplitHostPort(l.address)
		start(t, book, exec.Command("stdbuf", "-oL", "mosquitto_sub", "-V", version, "-h", host, "-p", port,
			"-i", id, "-t", "e2e/"+id, "-q", "1", "-F", "received %p"))
	}
}

func stayMQTTJS(level string) func(*testing.T, *lb, string, *logBook) {
	return func(t *testing.T, l *lb, id string, book *logBook) {
		t.Helper()
		host, port, _ := net.SplitHostPort(l.address)
		start(t, book, nodeScript(t, "testdata/mqttjs-stay.js", host, port, level, id))
	}
}

func stayPaho(t *testing.T, l *lb, id string, book *logBook) {
	t.Helper()
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + l.address).SetClientID(id).SetProtocolVersion(v311).
		SetOnConnectHandler(func(c mqtt.Client) {
			c.Subscribe("e2e/"+id, 1, func(_ mqtt.Client, m mqtt.Message) { fmt.Fprintf(book, "received %s\n", m.Payload()) })
		}))
	if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatalf("connect: %v", token.Error())
	}
	t.Cleanup(func() { client.Disconnect(0) })
}

func stayAutopaho(t *testing.T, l *lb, id string, book *logBook) {
	t.Helper()
	at, err := url.Parse("mqtt://" + l.address)
	if err != nil {
		t.Fatal(err)
	}
	subscription := &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "e2e/" + id, QoS: 1}}}
	_, err = autopaho.NewConnection(t.Context(), autopaho.ClientConfig{
		ServerUrls: []*url.URL{at}, KeepAlive: 30, CleanStartOnInitialConnection: true,
		OnConnectionUp: func(c *autopaho.ConnectionManager, _ *paho.Connack) { _, _ = c.Subscribe(t.Context(), subscription) },
		ClientConfig: paho.ClientConfig{
			ClientID: id,
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				fmt.Fprintf(book, "received %s\n", p.Packet.Payload)
				return true, nil
			}},
			OnServerDisconnect: func(d *paho.Disconnect) { fmt.Fprintf(book, "told 0x%x %s\n", d.ReasonCode, d.Properties.ReasonString) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// forgives tells whether this mosquitto_sub comes back after a DISCONNECT of MQTT 5: before 2.0.15 it never does
// (protocol.md, D2).
func forgives(t *testing.T) bool {
	t.Helper()
	need(t, "mosquitto_sub")
	out, _ := exec.Command("mosquitto_sub", "--help").CombinedOutput() // its exit status is 1
	var major, minor, patch int
	_, after, ok := strings.Cut(string(out), "mosquitto_sub version ")
	if _, err := fmt.Sscanf(after, "%d.%d.%d", &major, &minor, &patch); !ok || err != nil {
		t.Fatalf("mosquitto_sub does not tell its version:\n%s", out)
	}
	return slices.Compare([]int{major, minor, patch}, []int{2, 0, 15}) >= 0
}

// Fault E4: after an eviction the clients that the world uses come back by themselves, once, to where the plan wants
// them to be, and go on working.
func TestFaultE4RealClientsComeBack(t *testing.T) {
	t.Parallel()
	mosquittoV5 := resident{"mosquitto_sub 5", stayMosquitto("mqttv5"), false}
	t.Run("without_a_word", func(t *testing.T) {
		t.Parallel()
		moveResidents(t, "notify: none", append(residents(), mosquittoV5))
	})
	t.Run("with_DISCONNECT", func(t *testing.T) {
		t.Parallel()
		list := residents()
		if forgives(t) {
			list = append(list, mosquittoV5)
		}
		moveResidents(t, "notify: disconnect5", list)
	})
}

func moveResidents(t *testing.T, drain string, list []resident) {
	t.Helper()
	brokers, backends := startMosquittos(t, 3)
	l := startLB(t, settings{backends: backends, cluster: emptying(drain)})
	events := l.evictions(t)
	ids := settlers(t, l, "n1", len(list))
	books := make([]*logBook, len(list))
	for i, r := range list {
		books[i] = newLogBook()
		r.start(t, l, ids[i], books[i])
	}
	n1 := say(t, brokers[0])
	for i, r := range list {
		n1(t, r.kind, ids[i], "before", books[i])
	}

	l.mustDrain(t)
	drained := time.Now()

	for i, r := range list {
		var at stay
		home := -1
		eventually(t, soon, r.kind+" is back", func() bool {
			for b := range brokers {
				if s := brokers[b].stays()[ids[i]]; b > 0 && len(s) > 0 {
					at, home = s[len(s)-1], b
				}
			}
			return home > 0 && !at.over
		})
		t.Logf("%s is back %v after the drain", r.kind, time.Since(drained).Round(10*time.Millisecond))
		say(t, brokers[home])(t, r.kind, ids[i], "after", books[i])
	}
	eventually(t, patience, "all evictions are told", func() bool { return len(events()) == len(list) })
	homes, reasons, told := l.homes(t), l.reasons(t), events()
	l.agreeOn(t, brokers, backends, homes, ids)
	for i, r := range list {
		if e := told[ids[i]]; len(e) != 1 || e[0].To != homes[ids[i]] || e[0].To == "n1" {
			t.Errorf("%s is on %s; mqttlb has told %v", r.kind, homes[ids[i]], e)
		}
		if why := reasons[ids[i]]; why != "moved here by plan" {
			t.Errorf("%s is where it is for this reason: %s", r.kind, why)
		}
		connections := 0
		for _, b := range brokers {
			for range b.stays()[ids[i]] {
				connections++
			}
		}
		if connections != 3 { // the settler, who found out where it belongs; and before and after the move
			t.Errorf("%s has connected %d times, want once before and once after the move", r.kind, connections-1)
		}
		want := ""
		if r.told && strings.Contains(drain, "disconnect5") {
			want = "told 0x8b draining"
		}
		var got []string
		text, _ := books[i].from(0)
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "told") || strings.HasPrefix(line, "error") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s was told %q, want %q", r.kind, got, want)
		}
	}
}

// reasons are why all connected clients are where they are, by client id.
func (l *lb) reasons(t *testing.T) map[string]string {
	t.Helper()
	var list struct {
		Clients []struct {
			ClientID string `json:"client_id"`
			Reason   string `json:"reason"`
		} `json:"clients"`
	}
	l.get(t, "/api/v1/clients", nil, &list)
	reasons := make(map[string]string)
	for _, c := range list.Clients {
		reasons[c.ClientID] = c.Reason
	}
	return reasons
}

// say connects to a broker itself. What is returned publishes to a resident until it has received that.
func say(t *testing.T, b *broker) func(t *testing.T, kind, id, payload string, book *logBook) {
	t.Helper()
	c := dial(t, b.address, "")
	greetWith(t, c, opening{id: fmt.Sprintf("speaker-%p", c)})
	return func(t *testing.T, kind, id, payload string, book *logBook) {
		t.Helper()
		_ = c.SetDeadline(time.Now().Add(patience))
		next := time.Time{}
		eventually(t, patience, kind+" receives messages "+payload, func() bool {
			if now := time.Now(); now.After(next) {
				send(t, c, publish("e2e/"+id, []byte(payload)))
				next = now.Add(100 * time.Millisecond)
			}
			text, _ := book.from(0)
			return strings.Contains(text, "received "+payload+"\n")
		})
	}
}
