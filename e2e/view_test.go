//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// quick makes the health checks, the slow start and everything else that takes its time take little of it.
// A broker that hangs is down within two intervals and the second in which phases follow.
const quick = `health: {interval: 2s, timeout: 300ms, rise: 1, fall: 1}
settle: 1s
ramp: 1s
limits: {first_byte_timeout: 1s}
`

// quickInterval is the interval of quick.
const quickInterval = 2 * time.Second

// A view is what mqttlb thinks of a broker.
type view struct {
	Name   string            `json:"name"`
	Phase  string            `json:"phase"`
	Factor float64           `json:"load_factor"` // on its weight, because of its load
	Labels map[string]string `json:"labels"`
	Load   struct {
		Util  float64 `json:"util"` // at the last reading, 0…1
		Stale bool    `json:"stale"`
		Error string  `json:"error"`
	} `json:"load"`
}

// views are what mqttlb thinks of all brokers, by name.
func (l *lb) views(t *testing.T) map[string]view {
	t.Helper()
	var list struct {
		Backends []view `json:"backends"`
	}
	l.get(t, "/api/v1/clusters/brokers/backends", nil, &list)
	views := make(map[string]view)
	for _, b := range list.Backends {
		views[b.Name] = b
	}
	return views
}

// phases are the phases of all brokers, by name: ready, down and so on.
func (l *lb) phases(t *testing.T) map[string]string {
	t.Helper()
	phases := make(map[string]string)
	for name, v := range l.views(t) {
		phases[name] = v.Phase
	}
	return phases
}

// reach waits until these brokers, and no others, are in this phase.
func (l *lb) reach(t *testing.T, within time.Duration, phase string, brokers ...string) {
	t.Helper()
	var last map[string]string
	deadline := time.Now().Add(within)
	for {
		last = l.phases(t)
		var there []string
		for name, p := range last {
			if p == phase {
				there = append(there, name)
			}
		}
		slices.Sort(there)
		if slices.Equal(there, slices.Sorted(slices.Values(brokers))) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the phases are %v after %v, want %v and no others %s", last, within, brokers, phase)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stay asserts that the phases do not change for a while.
func (l *lb) stay(t *testing.T, during time.Duration, phase string, brokers ...string) {
	t.Helper()
	for until := time.Now().Add(during); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		l.reach(t, 0, phase, brokers...)
	}
}

// homes are the brokers of all connected clients, by client id; of a client's connections the last one counts.
func (l *lb) homes(t *testing.T) map[string]string {
	t.Helper()
	var list struct {
		Clients []struct {
			ClientID string  `json:"client_id"`
			Backend  string  `json:"backend"`
			Seconds  float64 `json:"seconds"`
		} `json:"clients"`
	}
	l.get(t, "/api/v1/clients", map[string][]string{"limit": {"10000"}}, &list)
	homes, ages := make(map[string]string), make(map[string]float64)
	for _, c := range list.Clients {
		if age, twice := ages[c.ClientID]; !twice || c.Seconds < age {
			homes[c.ClientID], ages[c.ClientID] = c.Backend, c.Seconds
		}
	}
	return homes
}

// A herd is a number of clients that stay connected, by client id.
type herd map[string]*net.TCPConn

// gather connects n clients, several at a time, and waits for their CONNACKs.
func gather(t *testing.T, l *lb, prefix string, n int) herd {
	t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprint(prefix, "-", i))
	}
	h := make(herd)
	h.join(t, l, ids)
	return h
}

// join connects clients with these ids. All of them must be accepted.
func (h herd) join(t *testing.T, l *lb, ids []string) {
	t.Helper()
	conns := make([]*net.TCPConn, len(ids))
	for i := range ids {
		conns[i] = dial(t, l.address, "")
	}
	var joining sync.WaitGroup
	const atOnce = 4
	for k := range atOnce {
		joining.Go(func() {
			for i := k; i < len(ids); i += atOnce {
				if err := greet(conns[i], opening{id: ids[i]}); err != nil {
					t.Errorf("client %s: %v", ids[i], err)
				}
			}
		})
	}
	joining.Wait()
	for i, id := range ids {
		h[id] = conns[i]
	}
	if t.Failed() {
		t.FailNow()
	}
}

// greet sends CONNECT and waits for an accepting CONNACK.
func greet(c *net.TCPConn, o opening) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(o.bytes()); err != nil {
		return err
	}
	answer, err := readPacket(c)
	if err != nil {
		return fmt.Errorf("no CONNACK: %w", err)
	}
	if want := connack(o.version, 0); string(answer) != string(want) {
		return fmt.Errorf("got %x instead of CONNACK %x", answer, want)
	}
	return nil
}

// ping asserts that each client is still connected to a broker that answers.
func (h herd) ping(t *testing.T) {
	t.Helper()
	for id, c := range h {
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte{0xc0, 0}); err != nil {
			t.Errorf("client %s is not connected any more: %v", id, err)
		}
	}
	for id, c := range h {
		pong := make([]byte, 2)
		if _, err := io.ReadFull(c, pong); err != nil || string(pong) != "\xd0\x00" {
			t.Errorf("client %s got %x instead of an answer to its ping: %v", id, pong, err)
		}
	}
}

// unharmed asserts that each client is still connected to a greeter, which never says a word.
func (h herd) unharmed(t *testing.T) {
	t.Helper()
	for id, c := range h {
		_ = c.SetDeadline(time.Now().Add(patience))
		_, err := c.Write([]byte{0xc0, 0})
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err = c.Read(make([]byte, 1))
		}
		if !isTimeout(err) {
			t.Errorf("client %s is not connected any more: %v", id, err)
		}
	}
}

// leave disconnects all clients.
func (h herd) leave() {
	for _, c := range h {
		c.Close()
	}
}

// of is the part of the herd that is on this broker.
func (h herd) of(homes map[string]string, broker string) herd {
	part := make(herd)
	for id, c := range h {
		if homes[id] == broker {
			part[id] = c
		}
	}
	return part
}

// ids are the client ids of the herd.
func (h herd) ids() []string {
	var ids []string
	for id := range h {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// counts are how many clients with ids that begin like this are on each broker.
func counts(homes map[string]string, prefix string) map[string]int {
	n := make(map[string]int)
	for id, broker := range homes {
		if strings.HasPrefix(id, prefix) {
			n[broker]++
		}
	}
	return n
}

// refreshed is when discovery last succeeded, in seconds since 1970.
func (l *lb) refreshed(t *testing.T) float64 {
	t.Helper()
	return l.metric(t, `mqttlb_discovery_last_success_timestamp_seconds{cluster="brokers"}`)
}

// serveHTTP runs a handler on a free port until the test ends. Handlers that hang are let go.
func serveHTTP(t *testing.T, handler http.Handler) (address string) {
	t.Helper()
	address = loopback(t)
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(ln)
	}()
	t.Cleanup(func() {
		_ = server.Close() // ends the contexts of all requests
		<-served
	})
	return address
}

// replace puts a file into the place of another in one step, as it should be done.
func replace(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
