//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// gently makes clients be where the hash puts them, and stay there until somebody orders them to be moved.
const gently = "placement: {bounded_load: 0}\nrebalance: {auto: false}\nsettle: 1s\nramp: 1s\n"

// emptying moves as many clients at once as there are, however young they are; with these settings of the section
// drain besides.
func emptying(more string) string {
	return fmt.Sprintf("%sdrain: {in_flight: 1000, min_age: 0s, %s}\n", gently, more)
}

// startMosquittos runs as many mosquittos, named n1, n2 and so on. They know nothing of each other.
func startMosquittos(t *testing.T, n int) ([]*broker, []backend) {
	t.Helper()
	var brokers []*broker
	var backends []backend
	for i := range n {
		brokers = append(brokers, startMosquitto(t))
		backends = append(backends, backend{fmt.Sprint("n", i+1), brokers[i].address})
	}
	return brokers, backends
}

// startMosquittoCluster runs one mosquitto that listens n times: at n1, n2 and so on. To its clients that is a cluster:
// whichever backend they come to, there are the same sessions, wills and messages.
func startMosquittoCluster(t *testing.T, n int) (*broker, []backend) {
	t.Helper()
	var addresses []string
	var backends []backend
	for i := range n {
		addresses = append(addresses, loopback(t))
		backends = append(backends, backend{fmt.Sprint("n", i+1), addresses[i]})
	}
	return startMosquittoOn(t, addresses...), backends
}

// An evictionEvent is what mqttlb tells of a client that it sends away.
type evictionEvent struct {
	Client string `json:"client_id"`
	From   string `json:"from"`
	To     string `json:"to"`
}

// evictions listens to the events from now on. What is returned lists the evictions so far, by client.
func (l *lb) evictions(t *testing.T) func() map[string][]evictionEvent {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.admin+"/api/v1/events?kind=eviction", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := http.Client{Transport: transport}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: status %d", request.URL, response.StatusCode)
	}
	book := newLogBook()
	go func() { _, _ = io.Copy(book, response.Body) }() // until the test or mqttlb ends
	book.wait(t, 0, patience, "the events begin", func(line string) bool { return strings.HasPrefix(line, ":") })
	return func() map[string][]evictionEvent {
		text, _ := book.from(0)
		events := make(map[string][]evictionEvent)
		for line := range strings.Lines(text) {
			data, ok := strings.CutPrefix(line, "data: ")
			if !ok {
				continue
			}
			var e evictionEvent
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Errorf("an event is not JSON: %v in %s", err, line)
			}
			events[e.Client] = append(events[e.Client], e)
		}
		return events
	}
}

// drain runs the command against the backend n1 and waits for its end.
func (l *lb) drain(t *testing.T, args ...string) (status int, out string) {
	t.Helper()
	return command(t, append([]string{"drain", "n1", "--admin", l.socket}, args...)...)
}

// unhindered is how long a drain may take on a machine with better things to do: half a minute after a backend has
// seemed to be slow, nobody is sent there.
const unhindered = 90 * time.Second

// mustDrain drains n1 until it is empty.
func (l *lb) mustDrain(t *testing.T, args ...string) {
	t.Helper()
	book := newLogBook()
	args = append([]string{"drain", "n1", "--admin", l.socket, "--wait", "--timeout", unhindered.String()}, args...)
	if status := start(t, book, exec.Command(mqttlb, args...)).exit(t, unhindered+patience); status != 0 {
		t.Fatalf("drain n1: exit status %d:\n%s", status, book)
	}
}

// moments are at which moments a client's connections were ended to move it, by the access log.
func (l *lb) moments(client string) []string {
	text, _ := l.log.from(0)
	var list []string
	for line := range strings.Lines(text) {
		r := parseRecord(line)
		if r["msg"] == "connection ended" && r["client"] == client && r["end"] == "evicted" {
			list = append(list, r["moment"])
		}
	}
	return list
}

func TestADrainMovesEveryClientOnceAtItsRate(t *testing.T) {
	t.Parallel()
	const clients, rate = 120, 20
	brokers, backends := startMosquittos(t, 3)
	l := startLB(t, settings{backends: backends, cluster: emptying("rate: 1000/s")})
	events := l.evictions(t)
	var wanderers []*wanderer
	for i := range clients {
		o := opening{id: fmt.Sprint("wanderer-", i), version: byte(v311 + i%2), keep: i%4 < 2}
		if o.keep && o.version == v5 {
			o.expiry = 60
		}
		wanderers = append(wanderers, wander(t, l, o))
	}
	before := l.homes(t)
	n := counts(before, "")["n1"]
	if n < clients/6 {
		t.Fatalf("%d of %d clients are on n1: %v", n, clients, counts(before, ""))
	}

	began := time.Now()
	l.mustDrain(t, "--rate", fmt.Sprint(rate, "/s"))
	took := time.Since(began)

	if phase := l.phases(t)["n1"]; phase != "draining" {
		t.Errorf("n1 is %s, want draining", phase)
	}
	if open := l.metric(t, `mqttlb_backend_connections{backend="n1",cluster="brokers"}`); open != 0 {
		t.Errorf("n1 has %v connections", open)
	}
	eventually(t, patience, "everybody is back", func() bool { return len(l.homes(t)) == clients })
	eventually(t, patience, "all evictions are told", func() bool { return len(events()) == n })
	after, told := l.homes(t), events()
	moved := 0
	var ends []time.Time
	for _, w := range wanderers {
		visits := w.history()
		last := visits[len(visits)-1]
		if !last.ended.IsZero() || after[w.id] == "n1" {
			t.Errorf("client %s is on %s: %v", w.id, after[w.id], visits)
		}
		if before[w.id] != "n1" {
			if len(visits) != 1 || after[w.id] != before[w.id] {
				t.Errorf("client %s went from %s to %s with %d connections", w.id, before[w.id], after[w.id], len(visits))
			}
			continue
		}
		moved++
		ends = append(ends, visits[0].ended)
		if len(visits) != 2 || !errors.Is(visits[0].how, io.EOF) || visits[0].told != nil {
			t.Errorf("client %s has these visits, want two, and only FIN between them: %v", w.id, visits)
		}
		if e := told[w.id]; len(e) != 1 || e[0].From != "n1" || e[0].To != after[w.id] {
			t.Errorf("client %s went to %s; mqttlb told %v", w.id, after[w.id], e)
		}
		if m := l.moments(w.id); !slices.Equal(m, []string{"quiet"}) {
			t.Errorf("client %s, which does nothing, was cut at these moments: %v", w.id, m)
		}
	}
	if moved != n {
		t.Errorf("%d clients were moved, n1 had %d", moved, n)
	}
	l.agreeOn(t, brokers, backends, after, slices.Collect(maps.Keys(before)))

	// A fifth of a second's worth may go at once; a second is left for looking again and for the slowest end.
	slices.SortFunc(ends, time.Time.Compare)
	span, ideal := ends[len(ends)-1].Sub(ends[0]), time.Duration(n-rate/5)*time.Second/rate
	t.Logf("%d clients at %d/s: cut within %v, %v would be exact; the command took %v", n, rate, span, ideal, took)
	if span < ideal*8/10-time.Second/2 {
		t.Errorf("%d clients were cut within %v, too fast for %d/s", n, span, rate)
	}

	if status, out := command(t, "resume", "n1", "--admin", l.socket); status != 0 {
		t.Fatalf("resume n1: exit status %d:\n%s", status, out)
	}
	l.reach(t, patience, "ready", "n1", "n2", "n3")
	gather(t, l, "late", 40)
	if n := counts(l.homes(t), "late")["n1"]; n < 4 {
		t.Errorf("%d of 40 new clients go to n1 after it was resumed", n)
	}
	for _, w := range wanderers {
		if len(w.history()) > 2 {
			t.Errorf("client %s was moved again: %v", w.id, w.history())
		}
	}
}

// agreeOn asserts that the mosquittos have these clients where mqttlb says they are, each with one connection.
func (l *lb) agreeOn(t *testing.T, brokers []*broker, backends []backend, homes map[string]string, ids []string) {
	t.Helper()
	found := make(map[string][]string)
	for i, b := range brokers {
		for id, stays := range b.stays() {
			for _, s := range stays {
				if !s.over {
					found[id] = append(found[id], backends[i].name)
				}
			}
		}
		if bad := b.harmed(); len(bad) > 0 {
			t.Errorf("%s complains: %q", backends[i].name, bad)
		}
	}
	for _, id := range ids {
		if at := found[id]; len(at) != 1 || at[0] != homes[id] {
			t.Errorf("client %s is on %v by the logs of the brokers, and on %s by mqttlb", id, at, homes[id])
		}
	}
}
