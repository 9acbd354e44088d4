package proxy

import (
	"io"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

func passing() Listener {
	return Listener{TLS: &TLSOptions{Mode: TLSPassthrough}, PacketSize: 128, KeepAlive: true}
}

// greeting is a ClientHello for this name with the bytes of an early start behind it.
func greeting(name string) []byte {
	return append(records((&hello{}).sni(name).message(), 40), "ciphertext"...)
}

func TestPassthroughRoutesByName(t *testing.T) {
	t.Parallel()
	r, other := tenants(t, passing(), Route{SNI: "*.a.example"}, Route{SNI: "b.example"})
	for _, tt := range []struct {
		name string
		at   *rig
	}{{"x.a.example", r}, {"B.example", other}} {
		client := r.dial()
		_ = client.SetNoDelay(true)
		sent := greeting(tt.name)
		for i := range sent { // any segmentation
			write(t, client, sent[i:i+1])
		}
		broker := tt.at.accept(0)
		expect(t, broker, sent)
		write(t, broker, []byte("\x16\x03\x03 and so on"))
		expect(t, client, []byte("\x16\x03\x03 and so on"))
		write(t, client, make([]byte, 100_000)) // whatever it is, it is no packet that is too large
		expect(t, broker, make([]byte, 100_000))
	}
	infos := r.proxy.Sessions(func(i *SessionInfo) bool { return i.SNI == "b.example" }, 0)
	if len(infos) != 1 || infos[0].ClientID != "" || infos[0].Version != 0 || infos[0].Route != "b" {
		t.Errorf("got %+v, want the one session of b.example", infos)
	}
}

func TestPassthroughRefuses(t *testing.T) {
	t.Parallel()
	r, _ := tenants(t, passing(), Route{SNI: "a.example"}, Route{SNI: "b.example"})
	tests := []struct {
		name  string
		sends []byte
		gets  []byte
		want  Refusal
	}{
		{"an unknown name", greeting("c.example"), unrecognizedName(), RefusedUnknownName},
		{"no name", records((&hello{}).message(), 1000), unrecognizedName(), RefusedUnknownName},
		{"MQTT", connect("c"), nil, RefusedNotTLS},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), nil, RefusedNotTLS},
		{"an alert", []byte{21, 3, 1, 0, 2, 2, 40}, nil, RefusedNotTLS},
		{"a broken message", []byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, nil, RefusedHello},
	}
	for _, tt := range tests {
		client := r.dial()
		write(t, client, tt.sends)
		expect(t, client, tt.gets)
		_, _ = client.Read(make([]byte, 1))
		_ = client.Close()
		if rec := r.record(); rec.Refusal != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, rec.Refusal, tt.want)
		}
	}
}

// A session whose bytes nobody understands ends with FIN in both directions when it is told to, and nothing is put into it.
func TestPassthroughEvicts(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: passing()})
	client := r.dial()
	sent := greeting("a.example")
	write(t, client, sent)
	broker := r.accept(0)
	expect(t, broker, sent)
	if got := r.proxy.Sittings(func(*Sitting) bool { return true }); len(got) != 0 {
		t.Errorf("got %v before the broker has said anything, want none", got)
	}
	write(t, broker, []byte("hello"))
	expect(t, client, []byte("hello"))
	sittings := r.proxy.Sittings(func(*Sitting) bool { return true })
	if len(sittings) != 1 || sittings[0].Will != balancer.PromptWill {
		t.Fatalf("got %+v, want one that may have a will", sittings)
	}
	kept := make(chan Kept, 1)
	r.proxy.Evict([]Eviction{{Session: sittings[0].Handle, Suppress: true, Notify: 0x9c}}, func(_ Eviction, why Kept) { kept <- why })
	if rest, err := io.ReadAll(broker); err != nil || len(rest) > 0 {
		t.Errorf("the broker got %q and %v, want FIN", rest, err)
	}
	_ = broker.Close()
	if rest, err := io.ReadAll(client); err != nil || len(rest) > 0 {
		t.Errorf("the client got %q and %v, want FIN", rest, err)
	}
	_ = client.Close()
	if rec := r.record(); rec.End != EndEvicted || !rec.Answered || rec.SNI != "a.example" {
		t.Errorf("got %+v, want it evicted", rec)
	}
	select {
	case why := <-kept:
		t.Errorf("it was kept: %v", why)
	default:
	}
}

// A backend that cannot be reached is passed over; one that is silent is not, as the client's bytes may have arrived.
func TestPassthroughFailsOverOnlyToConnect(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{listener: passing(), brokers: 2, backend: Backend{FirstByteTimeout: 300 * time.Millisecond}})
	_ = r.brokers[0].Close()
	client := r.dial()
	write(t, client, greeting("a.example"))
	broker := r.accept(1)
	expect(t, broker, greeting("a.example"))
	if rec := r.record(); rec.Refusal != RefusedFirstByte || rec.Attempts != 2 {
		t.Errorf("got %q after %d attempts, want first_byte_timeout after 2", rec.Refusal, rec.Attempts)
	}
}
