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

// The broker goes on for ever after its client's FIN: the client gets whole packets, and FIN.
func TestEvictFromABrokerThatDoesNotEnd(t *testing.T) {
	t.Parallel()
	for _, sends := range []bool{false, true} {
		times := brisk()
		r := newRig(t, rigOptions{stages: times})
		client, broker := r.join(connect5(mqttparse.ConnectOptions{}), connack5())
		r.evict(Eviction{Notify: 0x8b})
		expectEOF(t, broker)
		began := time.Now()
		var sending sync.WaitGroup
		stop := make(chan struct{})
		if sends {
			sending.Go(func() { sendForEver(broker, publish(30_000), stop) })
		}
		got := read(t, client)
		if took := time.Since(began); took < times[drainDown]-tick {
			t.Errorf("got FIN after %v, want the broker's end awaited for %v", took, times[drainDown])
		}
		_ = client.Close()
		r.evicted(MomentQuiet)
		close(stop)
		sending.Wait()
		goodbye := []byte{0xe0, 5, 0x8b, 3, 0x1f, 0, 0}
		if !bytes.HasSuffix(got, goodbye) {
			t.Fatalf("got %d bytes that do not end with DISCONNECT", len(got))
		}
		if all := got[:len(got)-len(goodbye)]; whole(all) != len(all) || sends == (len(all) == 0) {
			t.Errorf("got %d bytes, %d of them in whole packets", len(all), whole(all))
		}
	}
}

// A client that reads slowly gets all that its broker had to say.
func TestEvictSlowReader(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	r.evict(Eviction{})
	expectEOF(t, broker)
	down := slices.Concat(publish(1<<20), publish(7), publish(3<<20))
	go func() {
		_, _ = broker.Write(down)
		_ = broker.Close()
	}()
	time.Sleep(time.Second)
	if got := read(t, client); !bytes.Equal(got, down) {
		t.Errorf("got %d bytes, want all %d", len(got), len(down))
	}
	_ = client.Close()
	r.evicted(MomentQuiet)
}

// Once mqttlb has begun to end a session, nobody gets an RST because of what the other one does.
func TestResetWhileLeaving(t *testing.T) {
	t.Parallel()
	t.Run("broker", func(t *testing.T) {
		t.Parallel()
		times := usualTimes()
		times[drainDown] = 3 * patience // RST ends it at once
		r := newRig(t, rigOptions{stages: times})
		client, broker := r.session()
		r.evict(Eviction{})
		expectEOF(t, broker)
		_ = broker.SetLinger(0)
		_ = broker.Close()
		if got := read(t, client); len(got) != 0 {
			t.Errorf("got %x, want nothing but FIN", got)
		}
		_ = client.Close()
		r.evicted(MomentQuiet)
	})
	t.Run("client", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, rigOptions{})
		client, broker := r.session()
		r.evict(Eviction{})
		expectEOF(t, broker)
		_ = client.SetLinger(0)
		_ = client.Close()
		for range 20 { // the broker takes its time to end
			if _, err := broker.Write(publish(10)); err != nil {
				t.Fatalf("got %v, want the broker's end awaited", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		_ = broker.Close()
		r.evicted(MomentQuiet)
	})
}

// Nobody says goodbye: the session ends all the same.
func TestEvictThoseWhoDoNotEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.session()
	for _, c := range []net.Conn{client, broker} {
		_ = c.SetDeadline(time.Now().Add(3 * patience))
	}
	began := time.Now()
	r.evict(Eviction{})
	expectEOF(t, broker)
	expectEOF(t, client)
	r.evicted(MomentQuiet)
	if took := time.Since(began); took < closeGrace+2*time.Second-tick {
		t.Errorf("got the end after %v, want 7s", took)
	}
}

// What a broker sends is not MQTT (B10): it is relayed, but the session can only be cut.
func TestEvictFromABrokerThatSpeaksGarbage(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client, broker := r.join(connect5(mqttparse.ConnectOptions{WillTopic: "t"}), connack5())
	garbage := bytes.Repeat([]byte{0x30, 0xff, 0xff, 0xff, 0xff, 0xff}, 1000)
	write(t, broker, garbage)
	expect(t, client, garbage)
	e := Eviction{Notify: 0x98, Text: "rebalancing", Suppress: true}
	if got := r.evict(e).wait(t); got.why != KeptProtected {
		t.Errorf("got %v, want protected", got.why)
	}
	write(t, client, pingreq)
	expect(t, broker, pingreq)
	write(t, broker, garbage)
	expect(t, client, garbage)
	e.Force = true
	r.evict(e)
	if got := read(t, broker); len(got) != 0 { // although the client's direction is MQTT still
		t.Errorf("got %x at the broker, want nothing but FIN", got)
	}
	_ = broker.Close()
	if got := read(t, client); len(got) != 0 {
		t.Errorf("got %x at the client, want nothing but FIN", got)
	}
	_ = client.Close()
	r.evicted(MomentForced)
}

// Random packets in random pieces, and an eviction at any time: both sides get whole packets, unless by force.
func TestEvictAtAnyTime(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 5))
			r := newRig(t, rigOptions{stages: brisk()})
			client, broker := r.join(connect("c"), connack())
			legs := [2]*net.TCPConn{Up: client, Down: broker} // by the direction that they send
			var sent, got [2]bytes.Buffer
			var all sync.WaitGroup
			gone := make(chan struct{}) // the broker has seen the client's end
			for d := range legs {
				rng := rand.New(rand.NewPCG(seed, uint64(d)))
				all.Go(func() { sendAtRandom(legs[d], &sent[d], rng, gone) })
				all.Go(func() {
					_, _ = io.Copy(&got[d], legs[1-d])
					if d == int(Up) {
						close(gone)
					} else {
						_ = client.CloseWrite()
					}
				})
			}
			time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond))))
			kept := r.evict(Eviction{Force: rng.IntN(2) == 0})
			var rec Record
			select {
			case rec = <-r.told.ended:
				if len(kept) != 0 {
					t.Errorf("got the eviction kept (%v) and the end %v", (<-kept).why, rec.End)
				}
			case e := <-kept:
				if e.why != KeptBusy {
					t.Errorf("got %v, want busy", e.why)
				}
				_ = client.CloseWrite()
				rec = r.record()
			case <-time.After(3 * patience):
				t.Fatal("neither evicted nor kept")
			}
			all.Wait()
			for d := range got {
				b := got[d].Bytes()
				if !bytes.HasPrefix(sent[d].Bytes(), b) {
					t.Errorf("direction %d: the %d bytes are not the ones that were sent", d, len(b))
				}
				if n := whole(b); n != len(b) && rec.Moment != MomentForced && rec.End == EndEvicted {
					t.Errorf("direction %d, moment %q: got %d bytes of a packet at the end", d, rec.Moment, len(b)-n)
				}
			}
		})
	}
}

// sendAtRandom sends packets in pieces for some time, and notes them. When the other side has gone it ends after the
// packet that has begun, as brokers do.
func sendAtRandom(c *net.TCPConn, sent *bytes.Buffer, rng *rand.Rand, gone chan struct{}) {
	pause := time.Duration(1 + rng.Int64N(int64(30*time.Millisecond)))
	end := time.Now().Add(time.Duration(rng.Int64N(int64(3 * time.Second))))
	for time.Now().Before(end) {
		select {
		case <-gone:
			_ = c.CloseWrite()
			return
		default:
		}
		packet := publish(2 + rng.IntN(1<<rng.IntN(19)))
		sent.Write(packet)
		for len(packet) > 0 {
			n := min(len(packet), 1+rng.IntN(1<<17))
			if _, err := c.Write(packet[:n]); err != nil {
				return
			}
			packet = packet[n:]
			time.Sleep(time.Duration(rng.Int64N(int64(pause))))
		}
	}
	<-gone
	_ = c.CloseWrite()
}
