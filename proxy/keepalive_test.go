package proxy

import (
	"testing"
	"time"
)

// connectKeeping is a CONNECT with a keep alive in seconds.
func connectKeeping(version, seconds byte) []byte {
	b := connect("k")
	if version == 5 {
		b = hello5("k")
	}
	b[11] = seconds
	return b
}

// TestSilentClientIsDisconnected after one and a half times its keep alive, and no other is.
func TestSilentClientIsDisconnected(t *testing.T) {
	t.Parallel()
	const slack = 100 * time.Millisecond
	for _, c := range []struct {
		name             string
		version, seconds byte
		connack          []byte
		off              bool
		ends             bool
	}{
		{name: "3.1.1", version: 4, seconds: 1, connack: connack(), ends: true},
		{name: "5", version: 5, seconds: 1, connack: []byte{0x20, 3, 0, 0, 0}, ends: true},
		{name: "the broker wants none", version: 5, seconds: 1, connack: []byte{0x20, 6, 0, 0, 3, 0x13, 0, 0}},
		{name: "the broker wants more", version: 5, seconds: 1, connack: []byte{0x20, 6, 0, 0, 3, 0x13, 0xff, 0}},
		{name: "a CONNACK that cannot be read", version: 5, seconds: 1, connack: []byte{0x20, 4, 0, 0, 9, 9}},
		{name: "none", version: 4, seconds: 0, connack: connack()},
		{name: "switched off", version: 4, seconds: 1, connack: connack(), off: true},
		{name: "refused by the broker", version: 4, seconds: 1, connack: []byte{0x20, 2, 0, 5}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{listener: Listener{KeepAlive: !c.off}})
			r.proxy.on(r.proxy.loops[0], func(l *loop) { l.proxy.silenceSlack = slack })
			client := r.dial()
			write(t, client, connectKeeping(c.version, c.seconds))
			broker := r.accept(0)
			expect(t, broker, connectKeeping(c.version, c.seconds))
			write(t, broker, c.connack)
			expect(t, client, c.connack)
			began := time.Now()
			for range 4 { // signs of life
				time.Sleep(400 * time.Millisecond)
				write(t, client, []byte{0xc0, 0})
				expect(t, broker, []byte{0xc0, 0})
			}
			spoken := time.Now()
			if !c.ends {
				_ = client.SetReadDeadline(time.Now().Add(3 * time.Second))
				if _, err := client.Read(make([]byte, 1)); !isTimeout(err) {
					t.Errorf("got %v after %v, want the connection to live", err, time.Since(spoken))
				}
				return
			}
			expectEnd(t, client)
			expectEnd(t, broker)
			if silent := time.Since(spoken); silent < 1500*time.Millisecond || silent > 5*time.Second {
				t.Errorf("ended %v after its last word, want 1.5 s and a little", silent)
			}
			if rec := r.record(); rec.Refusal != RefusedKeepAlive || rec.End != EndTimeout || rec.Lasted < time.Since(began)/2 {
				t.Errorf("got %q, %v, want %q, timeout", rec.Refusal, rec.End, RefusedKeepAlive)
			}
		})
	}
}

// TestClientOfABrokerThatDoesNotReadIsNotSilent: its packets are there, nobody takes them.
func TestClientOfABrokerThatDoesNotReadIsNotSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: Listener{KeepAlive: true}})
	r.proxy.on(r.proxy.loops[0], func(l *loop) { l.proxy.silenceSlack = 0 })
	client := r.dial()
	write(t, client, connectKeeping(4, 1))
	broker := r.accept(0)
	expect(t, broker, connectKeeping(4, 1))
	write(t, broker, connack())
	expect(t, client, connack())
	flood := make([]byte, 1<<20)
	_ = client.SetWriteDeadline(time.Now().Add(5 * time.Second))
	for {
		if _, err := client.Write(flood); err != nil {
			if !isTimeout(err) {
				t.Fatalf("got %v, want the client to be held back", err)
			}
			break
		}
	}
	select {
	case rec := <-r.told.ended:
		t.Errorf("the session has ended: %v, %q", rec.End, rec.Refusal)
	default:
	}
}
