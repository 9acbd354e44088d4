package proxy

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// Enhanced authentication goes both ways before CONNACK, and again later, byte by byte. The broker's first byte is that
// of its AUTH packet; what the client then takes to answer is no silence of the broker. Whatever the broker decides, the
// client hears it, and nobody else is asked.
func TestEnhancedAuthentication(t *testing.T) {
	t.Parallel()
	const firstByte = 500 * time.Millisecond
	opening := connect5(mqttparse.ConnectOptions{AuthMethod: "m"})
	challenge := append([]byte{0xF0, 13, 0x18, 11, 0x15, 0, 1, 'm', 0x16, 0, 4}, "data"...)
	again := append([]byte{0xF0, 13, 0x19, 11, 0x15, 0, 1, 'm', 0x16, 0, 4}, "more"...)
	for _, c := range []struct {
		name    string
		connack []byte
	}{
		{"accepted", append([]byte{0x20, 14, 0, 0, 11, 0x15, 0, 1, 'm', 0x16, 0, 4}, "done"...)},
		{"refused", []byte{0x20, 3, 0, 0x87, 0}},
		{"the broker is busy", []byte{0x20, 3, 0, 0x89, 0}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{brokers: 2, backend: Backend{FirstByteTimeout: firstByte}})
			client := r.dial()
			write(t, client, opening)
			broker := r.accept(0)
			expect(t, broker, opening)
			for range 2 {
				for _, b := range bytewise(challenge) {
					write(t, broker, b)
					expect(t, client, b)
				}
				time.Sleep(firstByte) // it would strike now
				for _, b := range bytewise(challenge) {
					write(t, client, b)
					expect(t, broker, b)
				}
			}
			write(t, broker, c.connack)
			expect(t, client, c.connack)
			if c.connack[3] == 0 {
				write(t, client, again) // re-authentication
				expect(t, broker, again)
				write(t, broker, again)
				expect(t, client, again)
			}
			broker.Close()
			expectEnd(t, client)
			rec := r.record()
			if rec.Attempts != 1 || rec.Connack != int(c.connack[3]) || rec.End != EndBackend || rec.Refusal != "" {
				t.Errorf("got %d attempts, code %#x, end %v, refusal %q; want 1, %#x, backend, none",
					rec.Attempts, rec.Connack, rec.End, rec.Refusal, c.connack[3])
			}
		})
	}
}

// A client without keep alive is watched by TCP, any other is not.
func TestKeepAliveZero(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[byte][3]int{0: {1, clientKeepIdle, clientKeepInterval}, 60: {}} {
		r := newRig(t, rigOptions{listener: Listener{KeepAlive: true}})
		client := r.dial()
		write(t, client, connectKeeping(4, seconds))
		expect(t, r.accept(0), connectKeeping(4, seconds))
		var got [3]int
		r.proxy.everywhere(func(l *loop) {
			for i := range uint32(len(l.sessions.chunks) * slabSize) {
				s := l.sessions.at(i)
				if s.state == stateFree {
					continue
				}
				for k, o := range [...][2]int{{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}} {
					got[k], _ = unix.GetsockoptInt(int(s.client.fd), o[0], o[1])
				}
			}
		})
		if want[0] == 0 {
			got[1], got[2] = 0, 0 // what the kernel would do
		}
		if got != want {
			t.Errorf("keep alive %d: got keepalive, idle and interval %v, want %v", seconds, got, want)
		}
	}
}

// A bridge of mosquitto's kind marks itself in the level byte. The broker must see that, and the client is placed by the
// same id as ever; what mqttlb itself answers is in the language of the version without the mark.
func TestBridges(t *testing.T) {
	t.Parallel()
	name := map[byte]string{0x83: "MQIsdp", 0x84: "MQTT", 0x85: "MQTT"}
	for level, answer := range map[byte][]byte{0x83: {0x20, 2, 0, 3}, 0x84: {0x20, 2, 0, 3}, 0x85: {0x20, 3, 0, 0x88, 0}} {
		opening := append([]byte{0x10, 0, 0, byte(len(name[level]))}, name[level]...)
		opening = append(opening, level, 2, 0, 60)
		if level == 0x85 {
			opening = append(opening, 0)
		}
		opening = append(opening, 0, 6, 'b', 'r', 'i', 'd', 'g', 'e')
		opening[1] = byte(len(opening) - 2)

		r := newRig(t, rigOptions{listener: Listener{RefuseWithConnack: true}})
		client := r.dial()
		write(t, client, opening)
		broker := r.accept(0)
		expect(t, broker, opening)
		accepted := connackOf(level&^0x80, 0)
		write(t, broker, accepted)
		expect(t, client, accepted)
		client.Close()
		broker.Close()
		if rec := r.record(); rec.ClientID != "bridge" || rec.Version != level&^0x80 {
			t.Errorf("level %#x: got client %q, version %d, want bridge, %d", level, rec.ClientID, rec.Version, level&^0x80)
		}

		r.placer.mu.Lock()
		r.placer.backends = nil
		r.placer.mu.Unlock()
		client = r.dial()
		write(t, client, opening)
		expect(t, client, answer)
		expectEnd(t, client)
		r.record()
	}
}
