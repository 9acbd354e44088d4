//go:build linux

package e2e

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A venue is a broker, and mqttlb in front of it.
type venue struct {
	lb                  *lb
	doors               map[string]string // addresses of the nodes, by name
	listeners, speakers string            // whose door is whose
	preamble            []byte            // what the nodes expect before CONNECT
	mu                  sync.Mutex
	guests              map[string]string // doors by client id, of those who came through mqttlb
}

func newVenue(t *testing.T, backends []backend, listeners, speakers, cluster string) *venue {
	t.Helper()
	v := &venue{doors: make(map[string]string), listeners: listeners, speakers: speakers, guests: make(map[string]string)}
	for _, b := range backends {
		v.doors[b.name] = b.address
	}
	v.lb = startLB(t, settings{backends: backends, cluster: gently + cluster})
	return v
}

// atHiveMQ has three brokers that know nothing of each other: all meet at the same one.
func atHiveMQ(t *testing.T) *venue {
	t.Helper()
	h := startHiveMQs(t, 3, "")
	t.Cleanup(func() {
		if rss := h.rss(t); rss > 1<<30 {
			t.Errorf("HiveMQ has %d MB", rss>>20)
		}
	})
	return newVenue(t, h.brokers, "n2", "n2", "")
}

// atMosquitto has two doors of one broker.
func atMosquitto(t *testing.T) *venue {
	t.Helper()
	_, backends := startMosquittoCluster(t, 2)
	return newVenue(t, backends, "n1", "n2", "")
}

// atRabbitMQ has a cluster of two nodes, which insist on the PROXY header.
func atRabbitMQ(t *testing.T) *venue {
	t.Helper()
	nodes := startRabbits(t, "127.0.3.1", "127.0.3.2")
	v := newVenue(t, []backend{{"n1", nodes[0].address}, {"n2", nodes[1].address}}, "n1", "n2", proxyOn)
	v.preamble = []byte("PROXY TCP4 127.0.0.1 127.0.0.1 20000 1883\r\n")
	return v
}

// belongs finds a client id that begins like this and belongs to a node.
func (v *venue) belongs(t *testing.T, id, door string) string {
	t.Helper()
	id = v.lb.belonging(t, id, door)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.guests[id] = door
	return id
}

// belonging finds a client id that begins like this and, as explain says, belongs to a backend.
func (l *lb) belonging(t *testing.T, id, backend string) string {
	t.Helper()
	for i := range 200 {
		var explained struct {
			Backend string `json:"backend"`
		}
		candidate := fmt.Sprintf("%s-%d", id, i)
		l.get(t, "/api/v1/explain", url.Values{"client_id": {candidate}}, &explained)
		if explained.Backend == backend {
			return candidate
		}
	}
	t.Fatalf("no client belongs to %s", backend)
	return ""
}

// checkHomes asserts that everybody went where explain had said.
func (v *venue) checkHomes(t *testing.T) {
	t.Helper()
	missing := func() int {
		seen := make(map[string]bool)
		text, _ := v.lb.log.from(0)
		for line := range strings.Lines(text) {
			r := parseRecord(line)
			if r["msg"] != "connection ended" {
				continue
			}
			seen[r["client"]] = true
			if want := v.guests[r["client"]]; want != r["backend"] {
				t.Fatalf("client %s went to %s, explained as %s", r["client"], r["backend"], want)
			}
		}
		return len(v.guests) - len(seen)
	}
	eventually(t, patience, "all connections are logged", func() bool {
		time.Sleep(100 * time.Millisecond) // parsing the log is work
		return missing() == 0
	})
}
