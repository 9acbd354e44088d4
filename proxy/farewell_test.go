package proxy

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// What the broker gets when its client is evicted, for all kinds of wills and versions (protocol.md, 4.5 to 4.7): a
// DISCONNECT that is not the client's only if asked, and where a will would be published at once.
func TestWillPolicies(t *testing.T) {
	t.Parallel()
	will := mqttparse.ConnectOptions{ClientID: "c", WillTopic: "t", WillPayload: []byte("gone"), CleanStart: true}
	with := func(version byte, change func(*mqttparse.ConnectOptions)) mqttparse.ConnectOptions {
		o := will
		o.Version = version
		change(&o)
		return o
	}
	none := func(o *mqttparse.ConnectOptions) { o.WillTopic, o.WillPayload = "", nil }
	for _, c := range []struct {
		name       string
		connect    mqttparse.ConnectOptions
		suppressed bool // if asked to
	}{
		{"3.1, no will", with(3, none), false},
		{"3.1, will", with(3, func(*mqttparse.ConnectOptions) {}), true},
		{"3.1.1, no will", with(4, none), false},
		{"3.1.1, will", with(4, func(*mqttparse.ConnectOptions) {}), true},
		{"3.1.1, will, persistent", with(4, func(o *mqttparse.ConnectOptions) { o.CleanStart = false }), true},
		{"5, no will", with(5, none), false},
		{"5, will", with(5, func(*mqttparse.ConnectOptions) {}), true},
		{"5, will, persistent", with(5, func(o *mqttparse.ConnectOptions) { o.SessionExpiry = 60 }), true},
		{"5, delayed will, persistent", with(5, func(o *mqttparse.ConnectOptions) { o.SessionExpiry, o.WillDelay = 60, 5 }), false},
		{"5, delayed will, not persistent", with(5, func(o *mqttparse.ConnectOptions) { o.WillDelay = 5 }), true},
	} {
		for _, suppress := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/suppress=%t", c.name, suppress), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, rigOptions{})
				answer := connack()
				if c.connect.Version == 5 {
					answer = connack5()
				}
				client, broker := r.join(mqttparse.AppendConnect(nil, &c.connect), answer)
				r.evict(Eviction{Suppress: suppress})
				var want []byte
				if suppress && c.suppressed {
					want = bye
				}
				if got := read(t, broker); !bytes.Equal(got, want) {
					t.Errorf("got %x at the broker, want %x", got, want)
				}
				_ = broker.Close()
				if got := read(t, client); len(got) != 0 {
					t.Errorf("got %x at the client, want nothing but FIN", got)
				}
				_ = client.Close()
				r.evicted(MomentQuiet)
			})
		}
	}
}

// What the client gets when it is evicted: DISCONNECT only if asked, if it speaks MQTT 5, and as much as it takes.
func TestNotifiedClients(t *testing.T) {
	t.Parallel()
	const text = "rebalancing"
	full := append([]byte{0xe0, 16, 0x98, 14, 0x1f, 0, 11}, text...)
	short := []byte{0xe0, 5, 0x98, 3, 0x1f, 0, 0}
	for _, c := range []struct {
		version   byte
		maxPacket uint32
		notify    byte
		last      []byte // the client's
		want      []byte
	}{
		{version: 3, notify: 0x98},
		{version: 4, notify: 0x98},
		{version: 5},
		{version: 5, notify: 0x98, want: full},
		{version: 5, notify: 0x98, maxPacket: 18, want: full},
		{version: 5, notify: 0x98, maxPacket: 17, want: short},
		{version: 5, notify: 0x98, maxPacket: 16, want: short},
		{version: 5, notify: 0x98, maxPacket: 7, want: short},
		{version: 5, notify: 0x98, maxPacket: 6},
		{version: 5, notify: 0x98, maxPacket: 4},
		{version: 5, notify: 0x98, last: bye},
	} {
		t.Run(fmt.Sprintf("version=%d/max=%d/notify=%x/last=%x", c.version, c.maxPacket, c.notify, c.last), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			answer := connack()
			if c.version == 5 {
				answer = connack5()
			}
			o := mqttparse.ConnectOptions{Version: c.version, ClientID: "c", MaxPacketSize: c.maxPacket, WillTopic: "t"}
			client, broker := r.join(mqttparse.AppendConnect(nil, &o), answer)
			if c.last != nil {
				write(t, client, c.last)
				expect(t, broker, c.last)
			}
			r.evict(Eviction{Notify: c.notify, Text: text, Suppress: c.last != nil})
			if got := read(t, broker); len(got) != 0 {
				t.Errorf("got %x at the broker, want nothing but FIN", got)
			}
			write(t, broker, publish(9)) // what the broker says last comes before
			_ = broker.Close()
			if got, want := read(t, client), slices.Concat(publish(9), c.want); !bytes.Equal(got, want) {
				t.Errorf("got %x at the client, want %x", got, want)
			}
			_ = client.Close()
			r.evicted(MomentQuiet)
		})
	}
}

// An exchange that is open is waited for, but not for ever.
func TestEvictDuringAnExchange(t *testing.T) {
	t.Parallel()
	question := func(qos byte) []byte { return []byte{0x30 | qos<<1, 5, 0, 1, 't', 0, 1} }
	for _, c := range []struct {
		name        string
		from        Direction
		ask, answer []byte
	}{
		{"PING", Up, pingreq, pingresp},
		{"QoS 1 up", Up, question(1), []byte{0x40, 2, 0, 1}},
		{"QoS 1 down", Down, question(1), []byte{0x40, 2, 0, 1}},
		{"QoS 2 down", Down, question(2), []byte{0x70, 2, 0, 1}}, // PUBCOMP; what comes in between matters to nobody here
	} {
		for _, answered := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/answered=%t", c.name, answered), func(t *testing.T) {
				t.Parallel()
				times := brisk()
				r := newRig(t, rigOptions{stages: times})
				client, broker := r.session()
				asks, answers := client, broker
				if c.from == Down {
					asks, answers = answers, asks
				}
				write(t, asks, c.ask)
				expect(t, answers, c.ask)
				began := time.Now()
				r.evict(Eviction{})
				want := MomentBoundary
				if answered {
					time.Sleep(2 * silence)
					write(t, answers, c.answer)
					expect(t, asks, c.answer)
					want = MomentQuiet
				}
				expectEOF(t, broker)
				took := time.Since(began)
				closeWithPeer(client, broker)
				r.evicted(want)
				if least := map[bool]time.Duration{true: 3 * silence, false: times[awaitQuiet]}[answered]; took < least {
					t.Errorf("got the end after %v, want at least %v", took, least)
				}
			})
		}
	}
}

// A packet of 1 MiB is under way in a direction. It arrives as a whole if the rest comes in time; the session is kept
// if it does not; only force cuts it.
func TestEvictInTheMiddleOfAPacket(t *testing.T) {
	t.Parallel()
	stream := publish(1 << 20)
	const part = 700_000
	for _, d := range []Direction{Up, Down} {
		for _, c := range []struct {
			name  string
			force bool
			rest  time.Duration // after which it comes; -1 is when the session has not become quiet, 0 too late
			want  Moment
		}{
			{"quiet", false, 300 * time.Millisecond, MomentQuiet},
			{"boundary", false, -1, MomentBoundary},
			{"boundary, force", true, -1, MomentBoundary},
			{"never", false, 0, MomentNone},
			{"never, force", true, 0, MomentForced},
		} {
			t.Run(fmt.Sprintf("direction=%d/%s", d, c.name), func(t *testing.T) {
				t.Parallel()
				times := brisk()
				r := newRig(t, rigOptions{stages: times})
				opening := connect5(mqttparse.ConnectOptions{WillTopic: "t"})
				client, broker := r.join(opening, connack5())
				src, dst := client, broker
				if d == Down {
					src, dst = dst, src
				}
				var got bytes.Buffer
				var reading sync.WaitGroup
				reading.Go(func() { _, _ = io.Copy(&got, dst); _ = dst.CloseWrite() })
				write(t, src, stream[:part])
				kept := r.evict(Eviction{Suppress: true, Notify: 0x98, Text: "rebalancing", Force: c.force})
				began := time.Now()
				switch {
				case c.rest > 0:
					time.Sleep(c.rest)
					write(t, src, stream[part:])
				case c.rest < 0:
					r.waitForStage(awaitBoundary)
					write(t, src, stream[part:])
				}
				if c.want == MomentNone {
					if e := kept.wait(t); e.why != KeptBusy || time.Since(began) < times[awaitQuiet]+times[awaitBoundary] {
						t.Errorf("got %v after %v, want busy when all the time has passed", e.why, time.Since(began))
					}
					write(t, src, stream[part:])
					_ = src.CloseWrite()
					reading.Wait()
					if !bytes.Equal(got.Bytes(), stream) {
						t.Errorf("got %d bytes, want all %d", got.Len(), len(stream))
					}
					return
				}
				rest := read(t, src) // what mqttlb says last
				if c.want == MomentForced && time.Since(began) < times[awaitQuiet]+times[awaitBoundary] {
					t.Errorf("got cut after %v, want it when all the time has passed", time.Since(began))
				}
				_ = src.Close()
				reading.Wait()
				r.evicted(c.want)
				last := [...][]byte{Up: bye, Down: append([]byte{0xe0, 16, 0x98, 14, 0x1f, 0, 11}, "rebalancing"...)}
				if want := last[1-d]; !bytes.Equal(rest, want) {
					t.Errorf("got %x at the sender, want %x", rest, want)
				}
				want := append(slices.Clone(stream), last[d]...)
				if c.want == MomentForced {
					want = stream[:part] // and nothing in the middle of the packet
				}
				if !bytes.Equal(got.Bytes(), want) {
					t.Errorf("got %d bytes, want %d", got.Len(), len(want))
				}
			})
		}
	}
}

// A direction that has come to the end of a packet waits there for the other one, and not a byte more passes until the
// session is ended or kept.
func TestDirectionIsHeld(t *testing.T) {
	t.Parallel()
	packet, extra := publish(1000), publish(50)
	for _, d := range []Direction{Up, Down} {
		for _, begun := range []int{0, 1, 400} { // of a packet, when the eviction begins
			for _, ends := range []bool{true, false} {
				t.Run(fmt.Sprintf("direction=%d/begun=%d/ends=%t", d, begun, ends), func(t *testing.T) {
					t.Parallel()
					r := newRig(t, rigOptions{stages: brisk()})
					client, broker := r.session()
					near, far := client, broker
					if d == Down {
						near, far = far, near
					}
					write(t, far, packet[:500]) // is what it waits for
					expect(t, near, packet[:500])
					if begun > 0 {
						write(t, near, packet[:begun])
						expect(t, far, packet[:begun])
					}
					kept := r.evict(Eviction{})
					r.waitForStage(awaitBoundary)
					if begun > 0 {
						write(t, near, slices.Concat(packet[begun:], extra))
						expect(t, far, packet[begun:])
					} else {
						write(t, near, extra)
					}
					_ = far.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
					if n, _ := far.Read(make([]byte, 1)); n != 0 {
						t.Error("got a byte behind the packet")
					}
					_ = far.SetReadDeadline(time.Now().Add(patience))
					if !ends {
						if got := kept.wait(t); got.why != KeptBusy {
							t.Errorf("got %v, want busy", got.why)
						}
						expect(t, far, extra)
						return
					}
					write(t, far, packet[500:])
					expect(t, near, packet[500:])
					if d == Up {
						expectEOF(t, broker)
						_ = broker.Close()
					} else { // the broker has still to say what was held
						expectEOF(t, broker)
						_ = broker.CloseWrite()
						expect(t, client, extra)
					}
					expectEOF(t, client)
					_ = client.Close()
					r.evicted(MomentBoundary)
				})
			}
		}
	}
}

// Both sides never stop sending. The session is ended between two packets all the same, in both directions.
func TestEvictWhileBothSendForEver(t *testing.T) {
	t.Parallel()
	for _, size := range []int{3, 300, 1 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{stages: brisk()})
			client, broker := r.join(connect("c"), connack())
			stop := make(chan struct{})
			var all sync.WaitGroup
			var got [2]checker // by Direction
			packet := publish(size)
			for d := range got {
				got[d].packet = packet
			}
			all.Go(func() { sendForEver(client, packet, stop) })
			all.Go(func() { sendForEver(broker, packet, stop); _ = broker.CloseWrite() })
			all.Go(func() { _, _ = io.Copy(&got[Up], broker); close(stop) })
			all.Go(func() { _, _ = io.Copy(&got[Down], client); _ = client.CloseWrite() })
			r.waitForTraffic()
			kept := r.evict(Eviction{})
			all.Wait()
			r.evicted(MomentBoundary)
			if len(kept) != 0 {
				t.Error("got the eviction kept and done")
			}
			for d := range got {
				got[d].check(t, Direction(d))
			}
		})
	}
}

// waitForTraffic waits until bytes go both ways.
func (r *rig) waitForTraffic() {
	r.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if s := r.proxy.Stats(); min(s.Bytes[Up], s.Bytes[Down]) > 100 {
			return
		}
	}
	r.t.Fatal("no bytes go both ways")
}

// A checker takes a stream that should be one and the same packet again and again.
type checker struct {
	packet []byte
	at     int // in the packet
	total  int
	wrong  bool
}

func (c *checker) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		n := min(len(rest), len(c.packet)-c.at)
		c.wrong = c.wrong || !bytes.Equal(rest[:n], c.packet[c.at:c.at+n])
		c.at = (c.at + n) % len(c.packet)
		rest = rest[n:]
	}
	c.total += len(b)
	return len(b), nil
}

// check checks that the packets are the right ones, and the last one whole.
func (c *checker) check(t *testing.T, d Direction) {
	t.Helper()
	if c.at != 0 || c.wrong || c.total == 0 {
		t.Errorf("direction %d: got %d bytes, %d of them in the last packet, wrong: %t; want whole packets", d, c.total, c.at, c.wrong)
	}
}

// sendForEver sends whole packets, a few at a time, until stop is closed or nobody takes them.
func sendForEver(c net.Conn, packet []byte, stop chan struct{}) {
	some := bytes.Repeat(packet, 1+4096/len(packet))
	for {
		select {
		case <-stop:
			return
		default:
			if _, err := c.Write(some); err != nil {
				return
			}
		}
		time.Sleep(time.Millisecond) // leave the machine to others
	}
}

// A read that is held never takes a byte behind the packet that has begun.
func TestRestOfPacket(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(9, 9))
	var stream []byte
	var ends []int
	for len(stream) < 300_000 {
		stream = append(stream, publish(2+rng.IntN(1<<rng.IntN(17)))...)
		ends = append(ends, len(stream))
	}
	for range 2000 {
		from := rng.IntN(len(stream))
		to := min(len(stream), from+1+rng.IntN(1<<rng.IntN(18)))
		var at mqttparse.Tracker
		at.Feed(stream[:from], nil)
		if at.AtBoundary() {
			continue
		}
		i, _ := slices.BinarySearch(ends, from)
		if got, want := restOfPacket(at, stream[from:to]), min(ends[i], to)-from; got != want {
			t.Fatalf("got %d of the bytes %d to %d, want %d", got, from, to, want)
		}
	}
}
