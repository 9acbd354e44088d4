//go:build linux

package e2e

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"
)

// hiveMQLimit is the number of connections that the brokers of TestHiveMQ bear.
const hiveMQLimit = 30

// What operators of HiveMQ are told in docs/hivemq.md, with three brokers of the Community Edition. The parts follow
// each other on the same brokers.
func TestHiveMQ(t *testing.T) {
	t.Parallel()
	h := startHiveMQs(t, 3, fmt.Sprintf("<restrictions><max-connections>%d</max-connections></restrictions>", hiveMQLimit))
	t.Run("clients_are_moved_with_their_wills", func(t *testing.T) { drainHiveMQ(t, h, "publish") })
	t.Run("clients_are_moved_without_their_wills", func(t *testing.T) { drainHiveMQ(t, h, "suppress") })
	t.Run("a_full_broker_is_passed_by", func(t *testing.T) { fillHiveMQ(t, h) })
	t.Run("the_PROXY_header_is_refused", func(t *testing.T) { proxyToHiveMQ(t, h) })
	t.Run("clients_of_a_stopped_broker_come_back", func(t *testing.T) { stopHiveMQ(t, h) })
}

// wanderersAt are clients of both versions, with wills, that belong to n1.
func wanderersAt(t *testing.T, l *lb, will string) []*wanderer {
	t.Helper()
	var list []*wanderer
	for i, o := range []opening{{version: v311}, {version: v311, keep: true}, {version: v5}, {version: v5, keep: true, expiry: 60}} {
		o.id, o.will = l.belonging(t, fmt.Sprintf("%s-%d", will, i), "n1"), will
		list = append(list, wander(t, l, o))
	}
	return list
}

// drainHiveMQ drains n1 with this policy for wills.
func drainHiveMQ(t *testing.T, h *hiveMQs, policy string) {
	t.Helper()
	l := startLB(t, settings{backends: h.brokers, cluster: "health: {interval: 1s}\n" + emptying("will: "+policy)})
	l.reach(t, patience, "ready", "n1", "n2", "n3") // the probes are clients, too
	topic := "wills-" + policy
	wills := hears(t, h.brokers[0].address, topic)
	wanderers := wanderersAt(t, l, topic)
	l.mustDrain(t)
	eventually(t, patience, "everybody is back", func() bool { return len(l.homes(t)) == len(wanderers) })
	homes := l.homes(t)
	var want []string
	for _, w := range wanderers {
		visits := w.history()
		if len(visits) != 2 || !errors.Is(visits[0].how, io.EOF) || visits[1].resumed || homes[w.id] == "n1" {
			t.Errorf("client %s is on %s after these visits, want two, the second one on another broker: %v", w.id, homes[w.id], visits)
		}
		if policy == "publish" {
			want = append(want, w.id)
		}
	}
	published := func() []string {
		var got []string
		for _, id := range wills() {
			got = append(got, string(id))
		}
		slices.Sort(got)
		return got
	}
	eventually(t, patience, "the wills are published", func() bool { return len(published()) >= len(want) })
	marker := dial(t, h.brokers[0].address, "")
	greetWith(t, marker, opening{id: "marker"})
	send(t, marker, publish(topic, []byte("~")))
	want = append(want, "~")
	eventually(t, patience, "the marker is published", func() bool { return slices.Contains(published(), "~") })
	if got := published(); !slices.Equal(got, want) {
		t.Errorf("these wills were published: %q, want %q", got, want)
	}
}

// fillHiveMQ lets n1 have as many clients as it bears. It tells MQTT 5 so, and MQTT 3.1.1 that it is not authorized.
func fillHiveMQ(t *testing.T, h *hiveMQs) {
	t.Helper()
	l := startLB(t, settings{backends: h.brokers, cluster: gently})
	knock := func(to string, o opening) byte {
		t.Helper()
		c := dial(t, to, "")
		send(t, c, o.bytes())
		answer, err := readPacket(c)
		if err != nil || answer[0] != 0x20 {
			t.Fatalf("got %x and error %v, want CONNACK", answer, err)
		}
		return answer[3]
	}
	n1 := h.brokers[0].address
	const notAuthorized, quotaExceeded = 5, 0x97
	code := byte(0)
	n := 0
	for ; code == 0 && n <= hiveMQLimit; n++ {
		code = knock(n1, opening{id: fmt.Sprint("crowd-", n)})
	}
	if code != notAuthorized {
		t.Errorf("n1 answers the %d. client with code %d, want %d", n, code, notAuthorized)
	}
	if code := knock(n1, opening{id: "direct", version: v5}); code != quotaExceeded {
		t.Errorf("n1 answers MQTT 5 with code %#x, want %#x", code, quotaExceeded)
	}
	late := l.belonging(t, "late", "n1")
	if code := knock(l.address, opening{id: late, version: v5}); code != 0 || l.homes(t)[late] == "n1" {
		t.Errorf("a client of MQTT 5 is on %q with code %#x, want another broker", l.homes(t)[late], code)
	}
	if code := knock(l.address, opening{id: l.belonging(t, "old", "n1")}); code != notAuthorized {
		t.Errorf("a client of MQTT 3.1.1 gets code %d, want %d", code, notAuthorized)
	}
}

// proxyToHiveMQ speaks PROXY to brokers that cannot.
func proxyToHiveMQ(t *testing.T, h *hiveMQs) {
	t.Helper()
	l := startLB(t, settings{backends: h.brokers, cluster: gently + proxyOn})
	c := dial(t, l.address, "")
	send(t, c, opening{id: "proxied"}.bytes())
	expectClosed(t, c, patience)
	c = dial(t, h.brokers[1].address, "")
	send(t, c, append([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"), opening{id: "proxied"}.bytes()...))
	expectClosed(t, c, patience)
}

// stopHiveMQ stops n1 as an operator does: it publishes the wills of all its clients, and tells them nothing.
func stopHiveMQ(t *testing.T, h *hiveMQs) {
	t.Helper()
	l := startLB(t, settings{backends: h.brokers, cluster: quick + "placement: {bounded_load: 0}\nrebalance: {auto: false}\n"})
	l.reach(t, patience, "ready", "n1", "n2", "n3")
	wanderers := wanderersAt(t, l, "stop")
	began := time.Now()
	h.stop(t, 0, len(wanderers))
	t.Logf("it has taken %v to stop", time.Since(began))
	l.reach(t, patience, "down", "n1")
	for _, w := range wanderers {
		eventually(t, patience, "client "+w.id+" is back", func() bool { return len(w.history()) > 1 })
		if visits := w.history(); visits[0].told != nil {
			t.Errorf("client %s was told %x, want no word", w.id, visits[0].told)
		}
	}
}
