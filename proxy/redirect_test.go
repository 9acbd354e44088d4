package proxy

import (
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/mqttparse"
)

// A client that is sent away gets one CONNACK and the end of the connection; its backend hears nothing of it.
func TestRedirect(t *testing.T) {
	t.Parallel()
	const reference = "n1.example:1883"
	answer := append([]byte{0x20, 0x15, 0, 0x9C, 0x12, 0x1C, 0, 15}, reference...)
	pipelined := connect5(mqttparse.ConnectOptions{})
	pipelined = append(pipelined, 0xC0, 0)
	for _, c := range []struct {
		name      string
		opening   []byte
		advertise string
		redirect  bool
	}{
		{"MQTT 5", connect5(mqttparse.ConnectOptions{}), reference, true},
		{"more behind CONNECT", pipelined, reference, true},
		{"it just fits", connect5(mqttparse.ConnectOptions{MaxPacketSize: uint32(len(answer))}), reference, true},
		{"before authentication", connect5(mqttparse.ConnectOptions{AuthMethod: "SCRAM"}), reference, true},
		{"it does not fit", connect5(mqttparse.ConnectOptions{MaxPacketSize: uint32(len(answer) - 1)}), reference, false},
		{"MQTT 3.1.1", connect("c"), reference, false},
		{"nowhere", connect5(mqttparse.ConnectOptions{}), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{backend: Backend{Advertised: c.advertise}})
			r.placer.mu.Lock()
			r.placer.redirect = true
			r.placer.mu.Unlock()
			client := r.dial()
			write(t, client, c.opening)
			if !c.redirect {
				expect(t, r.accept(0), c.opening)
				return
			}
			expect(t, client, answer)
			expectEnd(t, client)
			rec := r.record()
			if rec.End != EndRedirected || rec.Connack != 0x9C || rec.Refusal != "" || rec.Attempts != 0 || rec.Target.Backend.Name != "a" {
				t.Errorf("got end %v, code %#x, refusal %q, %d attempts at %s; want redirected, 0x9c, none, 0 at a",
					rec.End, rec.Connack, rec.Refusal, rec.Attempts, rec.Target.Backend.Name)
			}
			if got := r.placer.told(); !slices.Equal(got, []Outcome{Redirected}) {
				t.Errorf("got outcomes %v, want redirected", got)
			}
		})
	}
}
