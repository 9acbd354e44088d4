//go:build linux

package e2e

import (
	"fmt"
	"slices"
	"testing"
)

// The contract: what clients of a broker see is the same behind mqttlb. Every scenario is played with every client, once
// at the broker itself and once through mqttlb, and the transcripts must be equal: every packet of the broker byte for
// byte, and what the client makes of the messages. The scenarios say what must be heard besides, so that nothing is
// equal because nothing happens.
//
// Whoever listens is at one node of the broker and whoever speaks at another, if the broker is a cluster.
var contract = []scenario{
	{name: "QoS 0", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 0})
		a.says("bob", saying{topic: "news", text: "hello", qos: 0})
		a.hears("ann", "hello")
	}},
	{name: "QoS 1", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 1})
		a.says("bob", saying{topic: "news", text: "hello", qos: 1})
		a.hears("ann", "hello")
	}},
	{name: "QoS 2", needs: qos2, play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 2})
		a.says("bob", saying{topic: "news", text: "hello", qos: 2})
		a.hears("ann", "hello")
	}},
	{name: "retained", needs: retaining, play: retained},
	{name: "retained at one node", together: true, play: retained},
	{name: "5 MiB", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 1})
		a.says("bob", saying{topic: "news", size: 5 << 20, qos: 1})
		a.hears("ann", large(5<<20))
	}},
	{name: "persistent session", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 1, keep: true})
		a.leaves("ann")
		for i := range 3 {
			a.says(fmt.Sprint("bob", i), saying{topic: "news", text: fmt.Sprint(i), qos: 1})
		}
		a.listens("ann again", hearing{topic: "news", qos: 1, keep: true})
		a.hears("ann again", "0", "1", "2")
	}},
	{name: "session of a client that was cut", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 1, keep: true})
		a.cut("ann")
		a.says("bob", saying{topic: "news", text: "meanwhile", qos: 1})
		a.listens("ann again", hearing{topic: "news", qos: 1, keep: true})
		a.hears("ann again", "meanwhile")
	}},
	{name: "takeover", play: func(a *act) {
		a.listens("ann", hearing{topic: "news", qos: 1})
		a.listens("ann again", hearing{topic: "news", qos: 1})
		a.isCutOff("ann")
		a.says("bob", saying{topic: "news", text: "whose", qos: 1})
		a.hears("ann again", "whose")
		a.hears("ann")
	}},
	{name: "no will after DISCONNECT", needs: goodbyes, play: func(a *act) {
		a.listens("ann", hearing{topic: "wills", qos: 1})
		a.listens("will", hearing{topic: "news", will: "wills"})
		a.leaves("will")
		a.says("bob", saying{topic: "wills", text: "nothing", qos: 1})
		a.hears("ann", "nothing")
	}},
	{name: "will of a client that was cut", play: func(a *act) {
		a.listens("ann", hearing{topic: "wills", qos: 1})
		a.listens("will", hearing{topic: "news", will: "wills"})
		a.cut("will")
		a.hears("ann", "will")
	}},
	{name: "will of a client that was taken over", needs: takenOver, play: func(a *act) {
		a.listens("ann", hearing{topic: "wills", qos: 1})
		a.listens("will", hearing{topic: "news", will: "wills"})
		a.listens("will again", hearing{topic: "news"})
		a.isCutOff("will")
		a.hears("ann", "will")
	}},
	{name: "will with a delay", version: v5, needs: patient, play: func(a *act) {
		a.listens("ann", hearing{topic: "wills", qos: 1})
		a.listens("will", hearing{topic: "news", will: "wills", delay: 1, keep: true})
		a.cut("will")
		a.hears("ann", "will")
	}},
	{name: "no will within its delay", version: v5, play: func(a *act) {
		a.listens("ann", hearing{topic: "wills", qos: 1})
		a.listens("will", hearing{topic: "news", will: "wills", delay: 60, keep: true})
		a.cut("will")
		a.listens("will again", hearing{topic: "news", keep: true})
		a.says("bob", saying{topic: "wills", text: "nothing", qos: 1})
		a.hears("ann", "nothing")
	}},
	{name: "shared subscription", needs: sharing, play: func(a *act) {
		a.listens("ann", hearing{topic: "news", group: "desk", qos: 1})
		a.listens("abe", hearing{topic: "news", group: "desk", qos: 1})
		for i := range 6 {
			a.says(fmt.Sprint("bob", i), saying{topic: "news", text: fmt.Sprint(i), qos: 1})
		}
		a.hearTogether([]string{"ann", "abe"}, "0", "1", "2", "3", "4", "5")
	}},
	{name: "CONNACK", raw: true, play: connackProperties},
	{name: "receive maximum", raw: true, version: v5, play: receiveMaximum},
	{name: "topic alias", raw: true, version: v5, play: topicAlias},
	{name: "keep alive", raw: true, play: keepAlive},
}

// A scenario is played by clients of every kind, or, if it is raw, with packets written by hand.
type scenario struct {
	name    string
	version byte // 0 means every one
	needs   ability
	raw     bool
	// together says that all are at the same node.
	together bool
	play     func(a *act)
}

// retained has a message that is there before its reader, and then another one in its place.
func retained(a *act) {
	a.t.Helper()
	a.says("bob", saying{topic: "news", text: "kept", qos: 1, retain: true})
	a.listens("ann", hearing{topic: "news", qos: 1})
	a.hears("ann", "kept")
	a.leaves("ann")
	a.says("carl", saying{topic: "news", text: "instead", qos: 1, retain: true})
	a.listens("dora", hearing{topic: "news", qos: 1})
	a.hears("dora", "instead")
}

// An ability is what not every broker, or not every client, has.
type ability string

const (
	mqtt5     ability = "MQTT 5"
	qos2      ability = "QoS 2"
	sharing   ability = "shared subscriptions"
	retaining ability = "messages that are retained on all nodes"
	takenOver ability = "wills of clients that are taken over"
	goodbyes  ability = "leaving without the will"
	patient   ability = "staying away after a cut"
)

// contractors are the brokers, and what they cannot do.
var contractors = []struct {
	name   string
	cannot []ability
	open   func(t *testing.T) *venue
}{
	{"HiveMQ", nil, atHiveMQ},
	{"mosquitto", nil, atMosquitto},
	{"RabbitMQ", []ability{mqtt5, qos2, sharing, retaining, takenOver}, atRabbitMQ}, // 3.10, whose nodes retain for themselves
}

func TestContract(t *testing.T) {
	t.Parallel()
	all := kits(t)
	for _, broker := range contractors {
		t.Run(broker.name, func(t *testing.T) {
			t.Parallel()
			v := broker.open(t)
			t.Run("clients", func(t *testing.T) {
				for _, kit := range all {
					if kit.version == v5 && slices.Contains(broker.cannot, mqtt5) {
						continue
					}
					t.Run(kit.String(), func(t *testing.T) {
						t.Parallel()
						for _, s := range contract {
							plays := s.raw == (kit.player == nil) && (s.version == 0 || s.version == kit.version)
							if !plays || slices.Contains(broker.cannot, s.needs) || slices.Contains(kit.cannot, s.needs) {
								continue
							}
							t.Run(s.name, func(t *testing.T) { compare(t, v, kit, s) })
						}
					})
				}
			})
			v.checkHomes(t)
		})
	}
}

// compare plays a scenario at the broker itself and through mqttlb.
func compare(t *testing.T, v *venue, kit kit, s scenario) {
	t.Helper()
	var transcripts [2][]string
	t.Run("played", func(t *testing.T) {
		for i, route := range []string{"directly", "through_mqttlb"} {
			t.Run(route, func(t *testing.T) {
				t.Parallel()
				transcripts[i] = perform(t, v, kit, s, route == "directly")
			})
		}
	})
	if direct, through := transcripts[0], transcripts[1]; !t.Failed() && !slices.Equal(direct, through) {
		t.Errorf("through mqttlb it is different:\n%q\ninstead of\n%q", through, direct)
	}
}
