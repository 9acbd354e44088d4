//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// A broker that accepts and never answers costs each client that gets there the first-byte timeout and no
// more, and after a few of them nobody: whether the checks find it out, or only the clients do.
func TestABrokerThatNeverAnswersIsOutSoon(t *testing.T) {
	t.Parallel()
	for name, health := range map[string]string{
		"by_checks":  "health: {interval: 1s, timeout: 500ms, fall: 2}\n",
		"by_clients": "health: {interval: 5s, tcp: {}}\n", // TCP says that all is well
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent, b, c := newStub(t, "a"), newGreeter(t, "b"), newGreeter(t, "c")
			l := startLB(t, settings{
				backends: []backend{silent.backend(), b.backend(), c.backend()},
				cluster:  health + "limits: {first_byte_timeout: 1s}",
			})
			victims := 0
			for i := range 40 { // those of the silent broker are held up
				began := time.Now()
				conn := dial(t, l.address, "")
				err := greet(conn, opening{id: fmt.Sprint("early-", i)})
				took := time.Since(began)
				if err != nil {
					victims++
					between(t, took, 900*time.Millisecond, 1600*time.Millisecond)
				} else if took > 500*time.Millisecond {
					t.Errorf("client %d was served after %v", i, took)
				}
				if l.phases(t)["a"] == "down" {
					break
				}
			}
			l.reach(t, 5*time.Second, "down", "a")
			t.Logf("%d clients were held up", victims)
			if victims > 8 {
				t.Errorf("%d clients were held up before the broker was out", victims)
			}
			began := time.Now()
			gather(t, l, "late", 90) // all 90, or the test fails
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v to connect 90 clients", took)
			}
		})
	}
}

func TestClientsOfAKilledBrokerAreBackWithinSeconds(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	brokers := make(map[string]*broker)
	var list []backend
	for _, name := range names {
		brokers[name] = startMosquitto(t)
		list = append(list, backend{name, brokers[name].address})
	}
	l := startLB(t, settings{backends: list, cluster: "health: {interval: 1s}\n"})
	all := gather(t, l, "device", 900)
	homes := l.homes(t)
	orphans := all.of(homes, "a")
	if len(orphans) < 250 {
		t.Fatalf("the broker has %d of 900 clients", len(orphans))
	}

	began := time.Now()
	brokers["a"].kill(t)
	for id, c := range orphans { // each comes back as soon as its connection has ended
		_ = c.SetReadDeadline(began.Add(2 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("client %s was not disconnected from the killed broker", id)
		}
		c.Close()
	}
	all.join(t, l, orphans.ids())
	took := time.Since(began)
	t.Logf("%d clients were back after %v", len(orphans), took)
	if took > 5*time.Second {
		t.Errorf("it took %v until %d clients were back", took, len(orphans))
	}
	all.ping(t) // and nobody else was cut: a herd keeps the connections
	after := l.homes(t)
	for id, home := range homes {
		if home != "a" && after[id] != home {
			t.Errorf("client %s moved from broker %s to %s", id, home, after[id])
		}
	}
	if n := counts(after, "device"); n["a"] > 0 || n["b"] < 350 || n["c"] < 350 {
		t.Errorf("the clients are on %v", n)
	}
	l.reach(t, 10*time.Second, "down", "a")
}

func TestProbesSayGoodbye(t *testing.T) {
	t.Parallel()
	b := startMosquitto(t)
	l := startLB(t, settings{backends: []backend{{"a", b.address}}, cluster: "health: {interval: 200ms}\n", instance: "edge-7"})
	seen := 0
	for range 3 {
		const want = "Client mqttlb-health-edge-7-a disconnected."
		_, seen = b.log.wait(t, seen, patience, want, func(line string) bool { return strings.Contains(line, want) })
	}
	l.reach(t, 0, "ready", "a")
	for line := range strings.Lines(b.log.String()) {
		if strings.Contains(line, "lient mqttlb-health") && !strings.Contains(line, "disconnected.") {
			t.Errorf("mosquitto complains about a probe: %s", line)
		}
	}
}
