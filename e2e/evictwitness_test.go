//go:build linux

package e2e

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A stay is one connection of a client to a mosquitto.
type stay struct {
	port string // of the listener
	over bool
}

// stays are the connections of each client, by what the mosquitto itself has logged, in order.
func (b *broker) stays() map[string][]stay {
	text, _ := b.log.from(0)
	ports := make(map[string]string) // by the client's address
	stays := make(map[string][]stay)
	for line := range strings.Lines(text) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), ": ") // behind the time
		var from, port, id, rest string
		switch {
		case scan(line, "New connection from ", &from, " on port ", &port, "."):
			ports[from] = port
		case scan(line, "New client connected from ", &from, " as ", &id, " ("):
			stays[id] = append(stays[id], stay{port: ports[from]})
		case scan(line, "Client ", &id, " ", &rest):
			if list := stays[id]; len(list) > 0 {
				list[len(list)-1].over = true
			}
		}
	}
	return stays
}

// scan takes a line apart: the strings must follow each other in it, and each pointer gets what is between two of
// them, the last one, if nothing follows, the rest.
func scan(line string, parts ...any) bool {
	var into *string
	for _, part := range parts {
		switch p := part.(type) {
		case string:
			i := strings.Index(line, p)
			if i < 0 || into == nil && i > 0 {
				return false
			}
			if into != nil {
				*into = line[:i]
			}
			line, into = line[i+len(p):], nil
		case *string:
			into = p
		}
	}
	if into != nil {
		*into = line
	}
	return true
}

// harmed are the lines of a mosquitto's log that tell of packets that were none.
func (b *broker) harmed() []string {
	text, _ := b.log.from(0)
	var bad []string
	for line := range strings.Lines(text) {
		for _, word := range []string{"protocol error", "malformed", "Malformed", "Invalid", "Error"} {
			if strings.Contains(line, word) {
				bad = append(bad, strings.TrimSpace(line))
				break
			}
		}
	}
	return bad
}

// A wanderer is a client that comes back at once whenever its connection ends.
type wanderer struct {
	opening
	mu     sync.Mutex
	visits []presence
}

// A presence is one connection of a wanderer that a broker has accepted.
type presence struct {
	resumed bool      // the broker had a session of it
	ended   time.Time // zero while it lasts
	how     error     // io.EOF if the connection ended behind a packet, and in order
	told    []byte    // the DISCONNECT before that
}

// wander connects a wanderer and waits until it is here. It leaves at the end of the test.
func wander(t *testing.T, l *lb, o opening) *wanderer {
	t.Helper()
	w := &wanderer{opening: o}
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		for ctx.Err() == nil {
			w.call(ctx, l.address)
		}
	}()
	t.Cleanup(func() { cancel(); <-gone })
	eventually(t, patience, "client "+o.id+" is here", func() bool { return len(w.history()) > 0 })
	return w
}

func (w *wanderer) call(ctx context.Context, address string) {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if _, err := c.Write(w.bytes()); err != nil {
		return
	}
	answer, err := readPacket(c)
	if err != nil || answer[0] != 0x20 || answer[3] != 0 {
		return
	}
	w.mu.Lock()
	w.visits = append(w.visits, presence{resumed: answer[2]&1 == 1})
	now := &w.visits[len(w.visits)-1] // it is not appended to before this one is over
	w.mu.Unlock()
	for {
		b, err := readPacket(c)
		w.mu.Lock()
		switch {
		case err != nil:
			now.ended, now.how = time.Now(), err
		case b[0] == 0xe0:
			now.told = b
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// history is a copy of its visits.
func (w *wanderer) history() []presence {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.visits)
}

// hears subscribes to a topic at a broker itself, with QoS 1. What is returned lists the payloads that have come, in
// order; packets that are marked as repetitions are among them.
func hears(t *testing.T, address, topic string) func() [][]byte {
	t.Helper()
	c := dial(t, address, "")
	send(t, c, opening{id: "listener-to-" + topic}.bytes())
	expect(t, c, connack(v311, 0))
	send(t, c, packet(0x82, append(text([]byte{0, 1}, topic), 1)))
	expect(t, c, []byte{0x90, 3, 0, 1, 1})
	_ = c.SetDeadline(time.Time{})
	var mu sync.Mutex
	var list [][]byte
	go func() {
		for {
			b, err := readPacket(c)
			if err != nil {
				return // the test is over
			}
			if b[0]&0xf0 != 0x30 {
				continue
			}
			id, payload := message(b)
			if id != nil {
				_, _ = c.Write(append([]byte{0x40, 2}, id...))
			}
			mu.Lock()
			list = append(list, payload)
			mu.Unlock()
		}
	}()
	return func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(list)
	}
}

// message takes a PUBLISH of MQTT 3.1.1 apart; id is nil with QoS 0.
func message(b []byte) (id, payload []byte) {
	body := b[1:]
	for body[0]&0x80 != 0 {
		body = body[1:]
	}
	body = body[1:]
	topic := int(body[0])<<8 | int(body[1])
	body = body[2+topic:]
	if b[0]&0x06 == 0 {
		return nil, body
	}
	return body[:2], body[2:]
}

// heard tells how often a payload has come.
func heard(list [][]byte, payload []byte) int {
	n := 0
	for _, b := range list {
		if bytes.Equal(b, payload) {
			n++
		}
	}
	return n
}
