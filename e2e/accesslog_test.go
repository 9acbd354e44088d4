//go:build linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestTheAccessLogTellsTheStoryOfAConnection(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, instance: "edge-7"})
	o := opening{id: "storied", version: v5}
	s := open(t, l, broker, o)
	up, down := publish("e2e", make([]byte, 1000)), publish("e2e", make([]byte, 300))
	for range 3 {
		send(t, s.client, up)
		expect(t, s.broker, up)
	}
	send(t, s.broker, down)
	expect(t, s.client, down)
	s.client.Close()
	expectFIN(t, s.broker, patience)
	s.broker.Close()

	r, _ := l.ended(t, o.id, 0)
	for key, want := range map[string]string{
		"instance": "edge-7", "listener": "mqtt", "cluster": "brokers", "version": "5", "remote": s.client.LocalAddr().String(),
		"backend": "a", "strategy": "client-hash", "reason": "home by hash", "attempts": "1", "connack": "0", "end": "client",
		"bytes_up": fmt.Sprint(len(o.bytes()) + 3*len(up)), "bytes_down": fmt.Sprint(len(connack(v5, 0)) + len(down)),
		"packets_up": "4", "packets_down": "2",
	} {
		if r[key] != want {
			t.Errorf("%s=%s, want %s", key, r[key], want)
		}
	}
	if took, err := time.ParseDuration(r["seconds"] + "s"); err != nil || took <= 0 || took > patience {
		t.Errorf("seconds=%s", r["seconds"])
	}
}

// A client id is whatever a stranger likes it to be.
func TestAClientIDCannotForgeTheLog(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			l := startLB(t, settings{backends: []backend{broker.backend()}, log: "{format: " + format + "}"})
			for _, id := range []string{"a\nlevel=ERROR msg=forged", "\x1b[31mred", "\x00", "\xff\xfe", strings.Repeat("long", 1000)} {
				connect(t, l, opening{id: id}, "").Close()
			}
			eventually(t, patience, "five lines about five connections", func() bool {
				return strings.Count(l.log.String(), "connection ended") >= 5
			})
			for line := range strings.Lines(l.log.String()) {
				if len(line) > 1000 || strings.HasPrefix(line, "level=ERROR") || strings.ContainsAny(line, "\x1b\x00") || !utf8.ValidString(line) {
					t.Errorf("logged %.200q", line)
				}
			}
		})
	}
}

func TestClientIDsCanBeKeptOutOfTheLog(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	for _, mode := range []string{"hash", "off"} {
		t.Run(mode, func(t *testing.T) {
			l := startLB(t, settings{backends: []backend{broker.backend()}, log: "{client_id: " + mode + "}"})
			connect(t, l, opening{id: "patient-4711"}, "").Close()
			l.logged(t, 0, "connection ended")
			if strings.Contains(l.log.String(), "patient-4711") {
				t.Errorf("logged %s", l.log)
			}
		})
	}
}
