package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// Named and Parted make fakePlacer a Namer.
func (f *fakePlacer) Named(clientID string, t Target, lives time.Duration) {
	f.note("%s on %s for %v", clientID, t.Backend.Name, lives)
}

func (f *fakePlacer) Parted(clientID string, t Target, o Outcome) {
	f.note("%s off %s, %v", clientID, t.Backend.Name, o)
}

func (f *fakePlacer) note(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named = append(f.named, fmt.Sprintf(format, args...))
}

// namings is what the placer was told.
func (f *fakePlacer) namings() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.named)
}

// assigning is a CONNACK of MQTT 5 that assigns an id.
func assigning(id string, more ...byte) []byte {
	properties := append([]byte{0x12, byte(len(id) >> 8), byte(len(id))}, id...)
	properties = append(properties, more...)
	length := varintBytes(len(properties))
	body := append(append([]byte{0, 0}, length...), properties...)
	return append(append([]byte{0x20}, varintBytes(len(body))...), body...)
}

func varintBytes(n int) []byte {
	var b []byte
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// anonymous5 is a CONNECT of MQTT 5 without a client id.
func anonymous5(o mqttparse.ConnectOptions) []byte {
	o.Version, o.CleanStart = 5, true
	return mqttparse.AppendConnect(nil, &o)
}

func TestAssignedIDs(t *testing.T) {
	t.Parallel()
	auth := []byte{0xF0, 6, 0x18, 4, 0x15, 0, 1, 'm'}
	keeps := anonymous5(mqttparse.ConnectOptions{SessionExpiry: 60})
	long := strings.Repeat("x", 3000)
	for _, c := range []struct {
		name    string
		opening []byte
		down    [][]byte // of the broker, each with what it sends in one piece
		id      string
		named   string // what the placer hears, but for the backend
	}{
		{"whole", keeps, [][]byte{assigning("auto-1")}, "auto-1", "1m0s"},
		{"with a packet behind it", keeps, [][]byte{append(assigning("auto-1"), 0xD0, 0)}, "auto-1", "1m0s"},
		{"byte by byte", keeps, bytewise(assigning("auto-1", 0x21, 0, 10)), "auto-1", "1m0s"},
		{"the broker says how long", keeps, [][]byte{assigning("auto-1", 0x11, 0, 0, 0, 5)}, "auto-1", "5s"},
		{"for ever", keeps, [][]byte{assigning("auto-1", 0x11, 255, 255, 255, 255)}, "auto-1", time.Duration(1<<63 - 1).String()},
		{"no session", anonymous5(mqttparse.ConnectOptions{}), [][]byte{assigning("auto-1")}, "auto-1", ""},
		{"the broker keeps no session", keeps, [][]byte{assigning("auto-1", 0x11, 0, 0, 0, 0)}, "auto-1", ""},
		{"long, in two", keeps, [][]byte{assigning(long)[:1000], assigning(long)[1000:]}, long, "1m0s"},
		{"too long, in two", keeps, [][]byte{assigning(long + long)[:5000], assigning(long + long)[5000:]}, "", ""},
		{"none", keeps, [][]byte{{0x20, 3, 0, 0, 0}}, "", ""},
		{"refused", keeps, [][]byte{{0x20, 3, 0, 0x87, 0}}, "", ""},
		{
			"after AUTH", anonymous5(mqttparse.ConnectOptions{SessionExpiry: 60, AuthMethod: "m"}),
			append(bytewise(auth), bytewise(assigning("auto-1"))...), "auto-1", "1m0s",
		},
		{"a client with an id", connect5(mqttparse.ConnectOptions{SessionExpiry: 60}), [][]byte{assigning("auto-1")}, "c", ""},
		{"before MQTT 5", connect(""), [][]byte{{0x20, 2, 0, 0}}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			client := r.dial()
			write(t, client, c.opening)
			broker := r.accept(0)
			expect(t, broker, c.opening)
			for _, piece := range c.down {
				write(t, broker, piece)
				expect(t, client, piece)
			}
			infos := r.proxy.Sessions(func(*SessionInfo) bool { return true }, 0)
			assigned := c.id != "" && c.id != "c"
			if len(infos) != 1 || infos[0].ClientID != c.id || infos[0].Assigned != assigned {
				t.Errorf("got sessions %+v, want one of client %.20q, assigned %v", infos, c.id, assigned)
			}
			client.Close()
			broker.Close()
			rec := r.record()
			if rec.ClientID != c.id || rec.Assigned != assigned {
				t.Errorf("got record of %.20q, assigned %v, want %.20q, %v", rec.ClientID, rec.Assigned, c.id, assigned)
			}
			var want []string
			if c.named != "" {
				want = []string{c.id + " on a for " + c.named, c.id + " off a, served"}
			}
			if got := r.placer.namings(); !slices.Equal(got, want) {
				t.Errorf("the placer heard %.100q, want %.100q", got, want)
			}
			for _, l := range r.proxy.loops {
				r.proxy.on(l, func(l *loop) {
					if len(l.naming) != 0 {
						t.Errorf("got %d CONNACKs that are kept, want 0", len(l.naming))
					}
				})
			}
		})
	}
}

// To an eviction the client is still one without an id: where it was placed, and what is counted for it, hangs on that.
func TestAssignedIDIsNotTheOneThatWasPlaced(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	client := r.dial()
	opening := anonymous5(mqttparse.ConnectOptions{SessionExpiry: 60})
	write(t, client, opening)
	broker := r.accept(0)
	expect(t, broker, opening)
	write(t, broker, assigning("auto-1"))
	expect(t, client, assigning("auto-1"))
	list := r.proxy.Sittings(func(*Sitting) bool { return true })
	if len(list) != 1 || list[0].ClientID != "" {
		t.Fatalf("got sittings %+v, want one without a client id", list)
	}
	r.proxy.Evict([]Eviction{{Session: list[0].Handle}}, func(_ Eviction, why Kept) { t.Errorf("got it kept: %v", why) })
	expectEnd(t, client)
	if rec := r.record(); rec.End != EndEvicted {
		t.Errorf("got end %v, want evicted", rec.End)
	}
	if got, want := r.placer.namings(), []string{"auto-1 on a for 1m0s", "auto-1 off a, moved"}; !slices.Equal(got, want) {
		t.Errorf("the placer heard %q, want %q", got, want)
	}
}
