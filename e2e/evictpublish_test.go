//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// cutOff makes a drain cut clients off, and does so at the first attempt: before the deadline they are too young.
const cutOff = "min_age: 1h, deadline: 1s"

// What is heavy on its way to a client is more than the kernel's buffers hold, which is 10 MiB: a client that does not
// read has it half inside.
var (
	heavy     = bytes.Repeat([]byte("1 MiB of it. "), 1<<20/13)
	heavyDown = bytes.Repeat(heavy, 16)
)

// heavyPublish is a PUBLISH of it with QoS 1.
func heavyPublish(payload []byte) []byte {
	return packet(0x32, append(append(text(nil, "e2e/heavy"), 0, 7), payload...))
}

// beginDrain begins to drain n1 and waits until a client is being moved.
func (l *lb) beginDrain(t *testing.T) {
	t.Helper()
	if status, out := l.drain(t); status != 0 {
		t.Fatalf("drain n1: exit status %d:\n%s", status, out)
	}
	eventually(t, patience, "somebody is being moved", func() bool {
		var all struct {
			Clusters []struct {
				Moves struct {
					InFlight int `json:"in_flight"`
				} `json:"moves"`
			} `json:"clusters"`
		}
		l.get(t, "/api/v1/status", nil, &all)
		return all.Clusters[0].Moves.InFlight > 0
	})
}

// untouched asserts that a connection is left alone for a while.
func untouched(t *testing.T, c *net.TCPConn, during time.Duration) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(during))
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %d bytes and error %v, want to be left alone in the middle of a message", n, err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
}

// An eviction waits for the end of a message that is on its way to the broker, and for its acknowledgement.
func TestAnEvictionWaitsForTheEndOfAMessageToTheBroker(t *testing.T) {
	t.Parallel()
	mosquitto, backends := startMosquittoCluster(t, 2)
	l := startLB(t, settings{backends: backends, cluster: emptying("will: suppress")})
	received := hears(t, backends[1].address, "e2e/heavy")
	wills := hears(t, backends[1].address, "wills")
	o := opening{id: settlers(t, l, "n1", 1)[0], keep: true, will: "wills"}
	c := connect(t, l, o, "")
	sending := heavyPublish(heavy)
	send(t, c, sending[:len(sending)/2])
	l.beginDrain(t)
	untouched(t, c, time.Second)
	send(t, c, sending[len(sending)/2:])
	expect(t, c, []byte{0x40, 2, 0, 7})
	expectFIN(t, c, patience)
	c.Close()

	eventually(t, patience, "its end is logged", func() bool { return len(l.moments(o.id)) == 1 })
	if m := l.moments(o.id); m[0] != "quiet" && m[0] != "boundary" {
		t.Errorf("the client was cut at this moment: %s", m[0])
	}
	if again := dial(t, l.address, ""); !greetWith(t, again, o) {
		t.Error("its session is gone")
	}
	eventually(t, patience, "the message is there", func() bool { return len(received()) > 0 })
	time.Sleep(100 * time.Millisecond)
	if list := received(); len(list) != 1 || heard(list, heavy) != 1 || len(wills()) != 0 {
		t.Errorf("%d messages came, %d of them whole, and %d wills; want one, and no will", len(list), heard(list, heavy), len(wills()))
	}
	if bad := mosquitto.harmed(); len(bad) > 0 {
		t.Errorf("mosquitto complains: %q", bad)
	}
}

// A client that never gets to the end of its message is cut off at the deadline, and nobody says DISCONNECT into the
// middle of it: the will is published, although it is to be suppressed. The client sends its message again.
func TestADeadlineCutsAMessageToTheBroker(t *testing.T) {
	t.Parallel()
	mosquitto, backends := startMosquittoCluster(t, 2)
	l := startLB(t, settings{backends: backends, cluster: "drain: {in_flight: 10, will: suppress, " + cutOff + "}\n" + gently})
	received := hears(t, backends[1].address, "e2e/heavy")
	wills := hears(t, backends[1].address, "wills")
	o := opening{id: settlers(t, l, "n1", 1)[0], keep: true, will: "wills"}
	c := connect(t, l, o, "")
	sending := heavyPublish(heavy)
	send(t, c, sending[:len(sending)/2])
	l.beginDrain(t)
	expectClosed(t, c, patience)
	c.Close()

	eventually(t, patience, "its end is logged", func() bool { return len(l.moments(o.id)) == 1 })
	if m := l.moments(o.id); m[0] != "forced" {
		t.Errorf("the client was cut at this moment: %s", m[0])
	}
	eventually(t, patience, "the will is published", func() bool { return len(wills()) == 1 })
	again := dial(t, l.address, "")
	if !greetWith(t, again, o) {
		t.Error("its session is gone")
	}
	sending[0] |= 0x08 // DUP
	send(t, again, sending)
	expect(t, again, []byte{0x40, 2, 0, 7})
	eventually(t, patience, "the message is there", func() bool { return len(received()) > 0 })
	time.Sleep(100 * time.Millisecond)
	if list := received(); len(list) != 1 || heard(list, heavy) != 1 {
		t.Errorf("%d messages came, %d of them whole; want one", len(list), heard(list, heavy))
	}
	if bad := mosquitto.harmed(); len(bad) > 0 {
		t.Errorf("mosquitto complains: %q", bad)
	}
	if home := l.homes(t)[o.id]; home != "n2" {
		t.Errorf("the client is on %s", home)
	}
}

// sluggish connects a client that subscribes and does not read, and fills its connection with the heavy message.
func sluggish(t *testing.T, l *lb, o opening, broker string) *net.TCPConn {
	t.Helper()
	c := dial(t, l.address, "")
	if err := c.SetReadBuffer(256 << 10); err != nil {
		t.Fatal(err)
	}
	greetWith(t, c, o)
	send(t, c, packet(0x82, append(text([]byte{0, 1}, "e2e/heavy"), 1)))
	expect(t, c, []byte{0x90, 3, 0, 1, 1})
	speaker := dial(t, broker, "")
	greetWith(t, speaker, opening{id: "speaker"})
	send(t, speaker, heavyPublish(heavyDown))
	expect(t, speaker, []byte{0x40, 2, 0, 7})
	expect(t, c, []byte{0x32})
	return c
}

// An eviction waits for the end of a message that is on its way to the client.
func TestAnEvictionWaitsForTheEndOfAMessageToTheClient(t *testing.T) {
	t.Parallel()
	mosquitto, backends := startMosquittoCluster(t, 2)
	l := startLB(t, settings{backends: backends, cluster: emptying("deadline: 0s")})
	o := opening{id: settlers(t, l, "n1", 1)[0], keep: true}
	c := sluggish(t, l, o, backends[1].address)
	l.beginDrain(t)
	time.Sleep(time.Second) // in which it does not read
	rest, err := readPacket(io.MultiReader(bytes.NewReader([]byte{0x32}), c))
	if err != nil {
		t.Fatalf("the message was cut: %v", err)
	}
	if _, payload := message(rest); !bytes.Equal(payload, heavyDown) {
		t.Fatalf("%d bytes of the message came, want %d", len(payload), len(heavyDown))
	}
	// Between the message and this answer the client may be cut, but then it gets the message again.
	id, _ := message(rest)
	_, sent := c.Write(append([]byte{0x40, 2}, id...))
	expectFIN(t, c, patience)
	c.Close()

	eventually(t, patience, "its end is logged", func() bool { return len(l.moments(o.id)) == 1 })
	moment := l.moments(o.id)[0]
	if moment != "quiet" && moment != "boundary" {
		t.Errorf("the client was cut at this moment: %s", moment)
	}
	again := dial(t, l.address, "")
	if !greetWith(t, again, o) {
		t.Error("its session is gone")
	}
	if moment == "quiet" && sent == nil { // its answer has arrived
		speaker := dial(t, backends[1].address, "")
		greetWith(t, speaker, opening{id: "speaker"})
		send(t, speaker, publish("e2e/heavy", []byte("light")))
		if next, err := readPacket(again); err != nil || !bytes.HasSuffix(next, []byte("light")) {
			t.Errorf("got %.32q…, want the next message: %v", next, err)
		}
	}
	if bad := mosquitto.harmed(); len(bad) > 0 {
		t.Errorf("mosquitto complains: %q", bad)
	}
}

// A client that does not read is cut off at the deadline, and gets the whole message again when it is back.
func TestADeadlineCutsAMessageToTheClient(t *testing.T) {
	t.Parallel()
	mosquitto, backends := startMosquittoCluster(t, 2)
	l := startLB(t, settings{backends: backends, cluster: "drain: {in_flight: 10, " + cutOff + "}\n" + gently})
	o := opening{id: settlers(t, l, "n1", 1)[0], keep: true}
	c := sluggish(t, l, o, backends[1].address)
	l.beginDrain(t)
	eventually(t, 2*patience, "its end is logged", func() bool { return len(l.moments(o.id)) == 1 })
	if m := l.moments(o.id); !slices.Equal(m, []string{"forced"}) {
		t.Errorf("the client was cut at these moments: %v", m)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(c)
	if err == nil && len(rest) >= len(heavyDown) {
		t.Errorf("%d bytes came although the client has not read", len(rest))
	}
	c.Close()

	again := dial(t, l.address, "")
	if !greetWith(t, again, o) {
		t.Error("its session is gone")
	}
	whole, err := readPacket(again)
	if err != nil {
		t.Fatal(err)
	}
	if _, payload := message(whole); whole[0] != 0x3a || !bytes.Equal(payload, heavyDown) {
		t.Errorf("got %d bytes in a packet %x, want the whole message as a repetition", len(payload), whole[0])
	}
	if bad := mosquitto.harmed(); len(bad) > 0 {
		t.Errorf("mosquitto complains: %q", bad)
	}
}
