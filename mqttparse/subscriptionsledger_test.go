package mqttparse_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	v5packets "github.com/eclipse/paho.golang/packets"
	v3packets "github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A ledger is a client, its broker, and what their libraries say about the groups.
type ledger struct {
	version byte
	id      uint16
	open    []question
	filters []string // subscribed to, in order
}

// A question is a request that the broker has not answered.
type question struct {
	id      uint16
	filters []string
	end     bool
}

// talk makes the next packet, of either side.
func (k *ledger) talk(t *testing.T, r *rand.Rand) said {
	t.Helper()
	if len(k.open) > 0 && (r.IntN(2) == 0 || len(k.open) > 8) {
		q := k.open[0]
		k.open = k.open[1:]
		return said{1, k.reply(t, r, q)}
	}
	k.id++
	if r.IntN(5) == 0 {
		return said{0, append(appendHeader(nil, 0x30, 200), make([]byte, 200)...)}
	}
	q := question{id: k.id, end: r.IntN(3) == 0}
	pool := []string{"$share/a/1", "$share/a/2", "$share/b/1", "$share/cc/x/y", "a/1", "$share/a", "$queue/a", "$share/" + strings.Repeat("n", 130) + "/x"}
	for range 1 + r.IntN(4) {
		f := pool[r.IntN(len(pool))]
		if !slices.Contains(q.filters, f) { // paho.golang keeps them in order, but brokers differ about twice the same
			q.filters = append(q.filters, f)
		}
	}
	var b bytes.Buffer
	if k.version >= 5 {
		p := v5packets.NewControlPacket(v5packets.SUBSCRIBE)
		if q.end {
			p = v5packets.NewControlPacket(v5packets.UNSUBSCRIBE)
			p.Content = &v5packets.Unsubscribe{PacketID: q.id, Topics: q.filters, Properties: properties(r)}
		} else {
			s := &v5packets.Subscribe{PacketID: q.id, Properties: properties(r)}
			for _, f := range q.filters {
				s.Subscriptions = append(s.Subscriptions, v5packets.SubOptions{Topic: f, QoS: 1})
			}
			p.Content = s
		}
		if _, err := p.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
	} else if q.end {
		p := v3packets.NewControlPacket(v3packets.Unsubscribe).(*v3packets.UnsubscribePacket)
		p.MessageID, p.Topics = q.id, q.filters
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
	} else {
		p := v3packets.NewControlPacket(v3packets.Subscribe).(*v3packets.SubscribePacket)
		p.MessageID, p.Topics, p.Qoss = q.id, q.filters, make([]byte, len(q.filters))
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
	}
	k.open = append(k.open, k.decode(t, b.Bytes()))
	return said{0, b.Bytes()}
}

func properties(r *rand.Rand) *v5packets.Properties {
	p := &v5packets.Properties{}
	for range r.IntN(3) {
		p.User = append(p.User, v5packets.User{Key: "k", Value: strings.Repeat("v", r.IntN(100))})
	}
	return p
}

// decode lets the library read a request.
func (k *ledger) decode(t *testing.T, b []byte) (q question) {
	t.Helper()
	if k.version >= 5 {
		p, err := v5packets.ReadPacket(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		switch x := p.Content.(type) {
		case *v5packets.Subscribe:
			q.id = x.PacketID
			for _, s := range x.Subscriptions {
				q.filters = append(q.filters, s.Topic)
			}
		case *v5packets.Unsubscribe:
			q.id, q.filters, q.end = x.PacketID, x.Topics, true
		}
		return q
	}
	p, err := v3packets.ReadPacket(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	switch x := p.(type) {
	case *v3packets.SubscribePacket:
		q.id, q.filters = x.MessageID, x.Topics
	case *v3packets.UnsubscribePacket:
		q.id, q.filters, q.end = x.MessageID, x.Topics, true
	}
	return q
}

// reply answers a request and keeps the ledger.
func (k *ledger) reply(t *testing.T, r *rand.Rand, q question) []byte {
	t.Helper()
	codes := make([]byte, len(q.filters))
	for i, f := range q.filters {
		if r.IntN(4) == 0 && (!q.end || k.version >= 5) {
			codes[i] = 0x80 + byte(r.IntN(0x30))
		} else if q.end {
			k.filters = slices.DeleteFunc(k.filters, func(have string) bool { return have == f })
		} else if !slices.Contains(k.filters, f) {
			k.filters = append(k.filters, f)
		}
	}
	var b bytes.Buffer
	var err error
	switch {
	case k.version >= 5 && q.end:
		p := v5packets.NewControlPacket(v5packets.UNSUBACK)
		p.Content = &v5packets.Unsuback{PacketID: q.id, Reasons: codes, Properties: &v5packets.Properties{}}
		_, err = p.WriteTo(&b)
	case k.version >= 5:
		p := v5packets.NewControlPacket(v5packets.SUBACK)
		p.Content = &v5packets.Suback{PacketID: q.id, Reasons: codes, Properties: &v5packets.Properties{ReasonString: strings.Repeat("r", r.IntN(200))}}
		_, err = p.WriteTo(&b)
	case q.end:
		p := v3packets.NewControlPacket(v3packets.Unsuback).(*v3packets.UnsubackPacket)
		p.MessageID = q.id
		err = p.Write(&b)
	default:
		p := v3packets.NewControlPacket(v3packets.Suback).(*v3packets.SubackPacket)
		p.MessageID, p.ReturnCodes = q.id, codes
		err = p.Write(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// groups are the groups of the filters, in order.
func (k *ledger) groups() (groups []string) {
	for _, f := range k.filters {
		part := strings.SplitN(f, "/", 3)
		if len(part) == 3 && part[0] == "$share" && len(part[1]) <= mqttparse.MaxShareName && !slices.Contains(groups, part[1]) {
			groups = append(groups, part[1])
		}
	}
	return groups
}
