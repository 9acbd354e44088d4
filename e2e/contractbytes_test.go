//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net"
	"time"
)

// Properties of MQTT 5.
const (
	sessionExpiry = 0x11 // four bytes
	receiveMax    = 0x21 // two bytes
	topicAliasMax = 0x22 // two bytes
	topicAliasIs  = 0x23 // two bytes
	maxPacketSize = 0x27 // four bytes
)

// connackProperties connects with all sorts of wishes, and again to the session that is there.
func connackProperties(a *act) {
	a.t.Helper()
	wishes := []byte{
		sessionExpiry, 0, 0, 0, 60, receiveMax, 0, 7, topicAliasMax, 0, 3, maxPacketSize, 0, 0, 4, 0,
	}
	if a.kit.version != v5 {
		wishes = nil
	}
	for _, name := range []string{"ann", "ann again"} {
		c := a.connects(name, a.venue.listeners, 30, wishes)
		a.reads(c, 0x20)
		a.disconnects(name, c)
	}
}

// reads reads a packet of this type.
func (a *act) reads(c *net.TCPConn, kind byte) []byte {
	a.t.Helper()
	b, err := readPacket(c)
	if err != nil || b[0]&0xf0 != kind {
		a.t.Fatalf("got packet %x and error %v, want one of type %x", b, err, kind)
	}
	return b
}

// disconnects leaves in order.
func (a *act) disconnects(name string, c *net.TCPConn) {
	a.t.Helper()
	send(a.t, c, []byte{0xe0, 0})
	c.CloseWrite()
	a.people[name].wire.wait(a.t)
}

// subscribes asks for the topic news with QoS 1.
func (a *act) subscribes(c *net.TCPConn) {
	a.t.Helper()
	send(a.t, c, packet(0x82, append(text([]byte{0, 1, 0}, a.name+"/news"), 1)))
	a.reads(c, 0x90)
}

// publishes sends a message with QoS 1 in MQTT 5, and waits until it is acknowledged.
func (a *act) publishes(c *net.TCPConn, topic string, properties []byte, payload string) {
	a.t.Helper()
	body := append(text(nil, topic), 0, payload[0], byte(len(properties)))
	send(a.t, c, packet(0x32, append(append(body, properties...), payload...)))
	a.reads(c, 0x40)
}

// receives reads a message with one byte of payload, and notes it for the transcript. It returns its packet identifier.
func (a *act) receives(name string, c *net.TCPConn, payload byte) []byte {
	a.t.Helper()
	b := a.reads(c, 0x30)
	if got := b[len(b)-1]; got != payload {
		a.t.Fatalf("%s receives %q, want %q", name, got, payload)
	}
	_, rest, ok := bytes.Cut(b, []byte(a.name+"/news"))
	if !ok {
		a.t.Fatalf("%s receives a message without its topic: %x", name, b)
	}
	fmt.Fprintf(a.people[name].book, "received %x…%x\n", b[0], rest[2:])
	return rest[:2]
}

// acknowledges says that a message has arrived.
func (a *act) acknowledges(c *net.TCPConn, id []byte) {
	a.t.Helper()
	send(a.t, c, append([]byte{0x40, 2}, id...))
}

// receiveMaximum has a client that takes two messages at a time, and finds four when it comes back.
func receiveMaximum(a *act) {
	a.t.Helper()
	before := a.connects("ann", a.venue.listeners, 30, []byte{sessionExpiry, 0, 0, 0, 60})
	a.reads(before, 0x20)
	a.subscribes(before)
	a.disconnects("ann", before)
	bob := a.connects("bob", a.venue.speakers, 30, nil)
	a.reads(bob, 0x20)
	for _, payload := range []string{"1", "2", "3", "4"} {
		a.publishes(bob, a.name+"/news", nil, payload)
	}
	const name = "ann again"
	ann := a.connects(name, a.venue.listeners, 30, []byte{receiveMax, 0, 2})
	a.reads(ann, 0x20)
	first, second := a.receives(name, ann, '1'), a.receives(name, ann, '2')
	a.silence(ann)
	a.acknowledges(ann, first)
	a.acknowledges(ann, second)
	third, fourth := a.receives(name, ann, '3'), a.receives(name, ann, '4')
	a.acknowledges(ann, third)
	a.acknowledges(ann, fourth)
	a.disconnects(name, ann)
	a.disconnects("bob", bob)
}

// silence asserts that nothing comes for a while.
func (a *act) silence(c *net.TCPConn) {
	a.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	b, err := readPacket(c)
	if !isTimeout(err) {
		a.t.Fatalf("got %x and error %v, want silence", b, err)
	}
	_ = c.SetReadDeadline(time.Now().Add(patience))
}

// topicAlias publishes with a topic that has been named before.
func topicAlias(a *act) {
	a.t.Helper()
	ann := a.connects("ann", a.venue.listeners, 30, nil)
	a.reads(ann, 0x20)
	a.subscribes(ann)
	bob := a.connects("bob", a.venue.speakers, 30, nil)
	a.reads(bob, 0x20)
	a.publishes(bob, a.name+"/news", []byte{topicAliasIs, 0, 1}, "1")
	a.publishes(bob, "", []byte{topicAliasIs, 0, 1}, "2")
	a.acknowledges(ann, a.receives("ann", ann, '1')) // HiveMQ waits for that before it sends the second one
	a.acknowledges(ann, a.receives("ann", ann, '2'))
	a.disconnects("ann", ann)
	a.disconnects("bob", bob)
}

// keepAlive has a client that promises a word every two seconds. It keeps its promise for a while, longer than the one
// and a half times that a broker waits.
func keepAlive(a *act) {
	a.t.Helper()
	c := a.connects("ann", a.venue.listeners, 2, nil)
	a.reads(c, 0x20)
	began := time.Now()
	last := began
	for last.Sub(began) < 3500*time.Millisecond {
		time.Sleep(400 * time.Millisecond)
		last = time.Now()
		send(a.t, c, []byte{0xc0, 0})
		a.reads(c, 0xd0)
	}
	a.isCutOff("ann")
	if after := time.Since(last); after < time.Second {
		a.t.Errorf("the client was cut off %v after its last ping", after)
	}
}
