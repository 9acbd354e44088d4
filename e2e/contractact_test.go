//go:build linux

package e2e

import (
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// An act is one performance of a scenario.
type act struct {
	t      *testing.T
	venue  *venue
	kit    kit
	direct bool
	name   string // of its topics and client ids
	people map[string]*person
	mingle bool // who has heard what is a matter of luck
	// together says that those who speak are where those are who listen.
	together bool
}

// connects opens a connection for packets that are written by hand, and sends CONNECT. What the broker sends is for the
// scenario to read.
func (a *act) connects(name, door string, keepAlive byte, properties []byte) *net.TCPConn {
	a.t.Helper()
	p, id := a.appears(name, door)
	c := dial(a.t, p.wire.address, "")
	flags := byte(0) // a persistent session, which MQTT 5 ends with the connection unless the properties say more
	if a.kit.version == v5 {
		properties = append([]byte{byte(len(properties))}, properties...)
	}
	body := append(text(nil, "MQTT"), a.kit.version, flags, 0, keepAlive)
	send(a.t, c, packet(0x10, text(append(body, properties...), id)))
	return c
}

// A person is one connection of a client. Of two with the same client id the name of the second ends in "again".
type person struct {
	book  *logBook // what it says that has happened to it
	wire  *wire
	leave func(t *testing.T)
}

// A hearing is a subscription, and what is said of it with CONNECT.
type hearing struct {
	topic, group string
	qos          byte
	keep         bool   // the session, for a minute
	will         string // topic
	delay        uint32 // of the will, in seconds
}

// A saying is a message: its text, or so many bytes.
type saying struct {
	topic, text string
	size        int
	qos         byte
	retain      bool
}

func (s saying) payload() []byte {
	if s.size == 0 {
		return []byte(s.text)
	}
	b := make([]byte, s.size)
	for i := range b {
		b[i] = byte('a' + i%23)
	}
	return b
}

// report is what a client tells of a message.
func report(payload []byte, qos byte, retain bool) string {
	text := string(payload)
	if len(payload) > 100 {
		text = fmt.Sprintf("%d bytes %x", len(payload), sha256.Sum256(payload))[:len(fmt.Sprint(len(payload)))+len(" bytes ")+16]
	}
	bit := 0
	if retain {
		bit = 1
	}
	return fmt.Sprintf("received %s qos=%d retain=%d", text, qos, bit)
}

// large is what is heard of a message of this size.
func large(size int) string {
	text, _, _ := strings.Cut(strings.TrimPrefix(report(saying{size: size}.payload(), 0, false), "received "), " qos=")
	return text
}

var performances atomic.Int64

// perform plays a scenario and returns its transcript.
func perform(t *testing.T, v *venue, kit kit, s scenario, direct bool) []string {
	t.Helper()
	a := &act{t: t, venue: v, kit: kit, direct: direct, together: s.together, people: make(map[string]*person)}
	a.name = fmt.Sprintf("act%05d", performances.Add(1))
	defer a.tell()
	s.play(a)
	var names []string
	for name := range a.people {
		names = append(names, name)
	}
	slices.Sort(names)
	var transcript, mingled []string
	for _, name := range names {
		p := a.people[name]
		if p.leave != nil {
			a.leaves(name)
		}
		p.wire.cut()
		p.wire.wait(t)
		text, _ := p.wire.book.from(0)
		for line := range strings.Lines(text) {
			transcript = append(transcript, name+" "+strings.TrimSpace(line))
		}
		text, _ = p.book.from(0)
		for line := range strings.Lines(text) {
			switch line = strings.TrimSpace(line); {
			case !strings.HasPrefix(line, "received "):
			case a.mingle:
				mingled = append(mingled, line)
			default:
				transcript = append(transcript, name+" "+line)
			}
		}
	}
	slices.Sort(mingled)
	return append(transcript, mingled...)
}

// tell logs what has happened to everybody, if the test has failed.
func (a *act) tell() {
	if !a.t.Failed() {
		return
	}
	for name, p := range a.people {
		a.t.Logf("%s directly=%t:\n%s%s", name, a.direct, p.wire.book, p.book)
	}
}

// appears adds a person to the cast, who comes by the door of this name.
func (a *act) appears(name, door string) (*person, string) {
	a.t.Helper()
	id, _, _ := strings.Cut(name, " ")
	id = a.name + "-" + id
	if a.people[name] != nil {
		a.t.Fatalf("%s appears twice", name)
	}
	p := &person{book: newLogBook()}
	if a.direct {
		p.wire = lay(a.t, a.venue.doors[door], a.venue.preamble, newLogBook())
	} else {
		p.wire = lay(a.t, a.venue.lb.address, nil, newLogBook())
		id = a.venue.belongs(a.t, id, door)
	}
	a.people[name] = p
	return p, id
}

// listens connects a client and subscribes.
func (a *act) listens(name string, h hearing) {
	a.t.Helper()
	p, id := a.appears(name, a.venue.listeners)
	h.topic = a.name + "/" + h.topic
	if h.group != "" {
		h.group = a.name + h.group
	}
	if h.will != "" {
		h.will = a.name + "/" + h.will
	}
	p.leave = a.kit.player.listen(a.t, p.wire.address, id, h, p.book)
}

// says connects a client that publishes one message and leaves.
func (a *act) says(name string, s saying) {
	a.t.Helper()
	door := a.venue.speakers
	if a.together {
		door = a.venue.listeners
	}
	p, id := a.appears(name, door)
	s.topic = a.name + "/" + s.topic
	a.kit.player.speak(a.t, p.wire.address, id, s)
	p.wire.wait(a.t)
}

// hears waits until somebody has heard these messages. There must be no others, and no other order.
func (a *act) hears(name string, texts ...string) {
	a.t.Helper()
	eventually(a.t, patience, fmt.Sprintf("%s hears %q", name, texts), func() bool { return len(a.people[name].texts()) >= len(texts) })
	if got := a.people[name].texts(); !slices.Equal(got, texts) {
		a.t.Fatalf("%s hears %q, want %q", name, got, texts)
	}
}

// hearTogether waits until each of these messages was heard by one of these people.
func (a *act) hearTogether(names []string, texts ...string) {
	a.t.Helper()
	a.mingle = true
	var got []string
	eventually(a.t, patience, fmt.Sprintf("%q hear %q", names, texts), func() bool {
		got = nil
		for _, name := range names {
			got = append(got, a.people[name].texts()...)
		}
		return len(got) >= len(texts)
	})
	slices.Sort(got)
	if !slices.Equal(got, texts) {
		a.t.Fatalf("%q hear %q, want each of %q once", names, got, texts)
	}
}

// texts are the messages that a person has heard.
func (p *person) texts() []string {
	var list []string
	text, _ := p.book.from(0)
	for line := range strings.Lines(text) {
		if line, ok := strings.CutPrefix(line, "received "); ok {
			line, _, _ = strings.Cut(line, " qos=")
			list = append(list, line)
		}
	}
	return list
}

// leaves disconnects a client in order.
func (a *act) leaves(name string) {
	a.t.Helper()
	p := a.people[name]
	p.leave(a.t)
	p.leave = nil
	p.wire.wait(a.t)
}

// cut ends a connection without a word.
func (a *act) cut(name string) {
	a.people[name].leave = nil
	a.people[name].wire.cut()
}

// isCutOff waits until the broker has ended somebody's connection.
func (a *act) isCutOff(name string) {
	a.t.Helper()
	p := a.people[name]
	p.wire.book.wait(a.t, 0, patience, name+" is cut off", func(line string) bool { return strings.TrimSpace(line) == "is cut off" })
	p.leave = nil
}
