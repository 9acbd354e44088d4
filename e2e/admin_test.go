//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ask sends a request to the admin API and returns status and body: to the unix socket if one is given,
// else to the TCP address.
func (l *lb) ask(t *testing.T, method, path, socket, token string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	client := http.Client{Transport: transport, Timeout: patience}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// get reads JSON from the admin API.
func (l *lb) get(t *testing.T, path string, query url.Values, into any) {
	t.Helper()
	status, body := l.ask(t, http.MethodGet, path+"?"+query.Encode(), "", "")
	if status != http.StatusOK {
		t.Fatalf("GET %s: status %d: %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// metric reads one series, named with its labels as Prometheus writes it; 0 if it is not there.
func (l *lb) metric(t *testing.T, series string) float64 {
	t.Helper()
	_, body := l.ask(t, http.MethodGet, "/metrics", "", "")
	for line := range strings.Lines(body) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	return 0
}

func TestReadinessFailsFirstWhenStopping(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, shutdown: "{grace: 2s, drain: 1s}"})
	c := connect(t, l, opening{id: "first"}, "")
	if status, body := l.ask(t, http.MethodGet, "/readyz", "", ""); status != http.StatusOK {
		t.Fatalf("ready: status %d: %s", status, body)
	}
	l.signal(t, syscall.SIGTERM)
	eventually(t, time.Second, "readiness fails", func() bool {
		status, _ := l.ask(t, http.MethodGet, "/readyz", "", "")
		return status == http.StatusServiceUnavailable
	})
	if status, _ := l.ask(t, http.MethodGet, "/livez", "", ""); status != http.StatusOK {
		t.Errorf("alive: status %d while stopping", status)
	}
	connect(t, l, opening{id: "second"}, "").Close()
	alive(t, []*net.TCPConn{c})
}

func TestReadinessNeedsABackend(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", "broker.invalid:1883"}}})
	if status, body := l.ask(t, http.MethodGet, "/readyz", "", ""); status != http.StatusServiceUnavailable || !strings.Contains(body, "brokers") {
		t.Errorf("ready: status %d: %s", status, body)
	}
	if status, body := l.ask(t, http.MethodGet, "/livez", "", ""); status != http.StatusOK {
		t.Errorf("alive: status %d: %s", status, body)
	}
}

func TestMetricsCountWhatWasRefused(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	for reason, openings := range garbage(t) {
		for _, b := range openings {
			c := dial(t, l.address, "")
			send(t, c, b)
			expectClosed(t, c, time.Second)
		}
		series := fmt.Sprintf("mqttlb_refused_total{listener=\"mqtt\",reason=%q}", reason)
		want := float64(len(openings))
		eventually(t, 2*time.Second, fmt.Sprintf("%s is %v", series, want), func() bool { return l.metric(t, series) == want })
	}
}

func TestMetricsCountConnectionsAndBytes(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers)})
	var clients []*net.TCPConn
	for i := range 10 {
		clients = append(clients, connect(t, l, opening{id: fmt.Sprint("metered-", i)}, ""))
		send(t, clients[i], publish("e2e", make([]byte, 1000)))
	}
	for _, c := range clients[:4] {
		c.Close()
	}
	sum := func() float64 {
		return l.metric(t, `mqttlb_backend_connections{backend="a",cluster="brokers"}`) +
			l.metric(t, `mqttlb_backend_connections{backend="b",cluster="brokers"}`)
	}
	eventually(t, patience, "the closed connections are gone", func() bool { return sum() == 6 })
	eventually(t, patience, "the bytes are counted", func() bool { return l.metric(t, `mqttlb_bytes_total{direction="up"}`) > 10_000 })
	for series, want := range map[string]float64{
		`mqttlb_connections{listener="mqtt"}`:                      6,
		`mqttlb_connects_total{listener="mqtt",result="accepted"}`: 10,
		`mqttlb_connack_total{cluster="brokers",code="0"}`:         10,
		`mqttlb_connect_seconds_count{cluster="brokers"}`:          10,
		`mqttlb_packets_total{direction="up",type="connect"}`:      10,
		`mqttlb_packets_total{direction="up",type="publish"}`:      10,
		`mqttlb_packets_total{direction="down",type="connack"}`:    10,
		`mqttlb_discovery_backends{cluster="brokers"}`:             2,
		`mqttlb_sticky_ratio{cluster="brokers"}`:                   1,
		`mqttlb_config_reloads_total{result="success"}`:            1,
	} {
		if n := l.metric(t, series); n != want {
			t.Errorf("%s is %v, want %v", series, n, want)
		}
	}
}

// The number of series must not depend on what clients do.
func TestMetricsNeverNameAClient(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	connect(t, l, opening{id: "secret-device"}, "")
	_, before := l.ask(t, http.MethodGet, "/metrics", "", "")
	for i := range 50 {
		connect(t, l, opening{id: fmt.Sprint("secret-device-", i)}, "")
	}
	_, after := l.ask(t, http.MethodGet, "/metrics", "", "")
	if strings.Contains(after, "secret-device") {
		t.Error("a client id is in the metrics")
	}
	if b, a := strings.Count(before, "\nmqttlb_"), strings.Count(after, "\nmqttlb_"); a != b {
		t.Errorf("%d series before, %d after 50 more clients", b, a)
	}
}

type clientList struct {
	Clients []struct {
		ClientID string `json:"client_id"`
		Backend  string `json:"backend"`
		Remote   string `json:"remote"`
	} `json:"clients"`
}

func TestClientsAreListed(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	remotes := make(map[string]string)
	for i := range 30 {
		id := fmt.Sprintf("listed-%02d", i)
		remotes[id] = connect(t, l, opening{id: id}, "").LocalAddr().String()
	}
	var all, some, one, few clientList
	l.get(t, "/api/v1/clients", nil, &all)
	l.get(t, "/api/v1/clients", url.Values{"prefix": {"listed-1"}}, &some)
	l.get(t, "/api/v1/clients", url.Values{"backend": {"b"}}, &one)
	l.get(t, "/api/v1/clients", url.Values{"limit": {"7"}}, &few)
	if len(all.Clients) != 30 || len(some.Clients) != 10 || len(few.Clients) != 7 {
		t.Errorf("listed %d of 30, %d of 10 with a prefix, %d of 7 with a limit", len(all.Clients), len(some.Clients), len(few.Clients))
	}
	if len(one.Clients) != brokers[1].present() {
		t.Errorf("listed %d clients of broker b, which has %d", len(one.Clients), brokers[1].present())
	}
	for _, c := range all.Clients {
		if c.Remote != remotes[c.ClientID] {
			t.Errorf("client %s comes from %s, listed as %s", c.ClientID, remotes[c.ClientID], c.Remote)
		}
	}
}

func TestExplainSaysWhereClientsGo(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	for i := range 60 {
		var explained struct {
			Backend   string `json:"backend"`
			Otherwise []struct {
				Backend string `json:"backend"`
			} `json:"otherwise"`
		}
		id := fmt.Sprint("curious-", i)
		l.get(t, "/api/v1/explain", url.Values{"client_id": {id}}, &explained)
		if home := homeOf(t, l, id); home != explained.Backend {
			t.Errorf("client %s went to %s, explained as %s", id, home, explained.Backend)
		}
		if len(explained.Otherwise) != 2 {
			t.Errorf("client %s has %d other choices of 2", id, len(explained.Otherwise))
		}
	}
}

func TestWritesNeedTheSocketOrTheToken(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	token := strings.Repeat("t", 40)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const path = "/api/v1/reload"
	closed := startLB(t, settings{backends: []backend{broker.backend()}})
	open := startLB(t, settings{backends: []backend{broker.backend()}, token: file})
	for name, c := range map[string]struct {
		lb             *lb
		method         string
		socket, bearer string
		want           []int
	}{
		"by_the_socket":                {closed, http.MethodPost, closed.socket, "", []int{200}},
		"by_address_without_a_token":   {closed, http.MethodPost, "", "", []int{401, 403}},
		"by_address_with_an_odd_token": {closed, http.MethodPost, "", token, []int{401, 403}},
		"with_the_token":               {open, http.MethodPost, "", token, []int{200}},
		"with_a_wrong_token":           {open, http.MethodPost, "", token + "x", []int{401, 403}},
		"without_the_token":            {open, http.MethodPost, "", "", []int{401, 403}},
		"by_GET":                       {closed, http.MethodGet, closed.socket, "", []int{405}},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := c.lb.ask(t, c.method, path, c.socket, c.bearer)
			if !slices.Contains(c.want, status) {
				t.Errorf("status %d, want one of %v: %s", status, c.want, body)
			}
		})
	}
}

func TestTheAdminSocketIsForOwnerAndGroup(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: []backend{{"a", "127.0.0.1:1"}}})
	info, err := os.Stat(l.socket)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o660 {
		t.Errorf("mode %o, want 660", mode)
	}
	l.signal(t, syscall.SIGTERM)
	l.exit(t, patience)
	if _, err := os.Stat(l.socket); err == nil {
		t.Error("the socket is still there after the end")
	}
}

func TestASocketLeftByAKilledProcessDoesNotKeepTheNextFromStarting(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}})
	l.kill(t)
	again := restart(t, l)
	connect(t, again, opening{id: "again"}, "").Close()
	if status, _ := again.ask(t, http.MethodGet, "/readyz", again.socket, ""); status != http.StatusOK {
		t.Errorf("ready: status %d", status)
	}
}

// Not parallel: it opens many connections.
func TestSessionsNeedNoGoroutines(t *testing.T) {
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers)})
	before := l.metric(t, "go_goroutines")
	var clients []*net.TCPConn
	for i := range 2000 {
		clients = append(clients, connect(t, l, opening{id: fmt.Sprint("idle-", i)}, ""))
	}
	with := l.metric(t, "go_goroutines")
	for _, c := range clients {
		c.Close()
	}
	eventually(t, patience, "all have left", func() bool { return l.metric(t, `mqttlb_connections{listener="mqtt"}`) == 0 })
	after := l.metric(t, "go_goroutines")
	if before == 0 || with > before+3 || after > before+3 {
		t.Errorf("%v goroutines before, %v with 2000 sessions, %v after", before, with, after)
	}
}

// Whoever keeps the admin API busy does not take from the clients (fault A1).
func TestAdminConnectionsDoNotTakeTheClientsDescriptors(t *testing.T) {
	t.Parallel()
	broker := newGreeter(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, files: 200})
	for range 300 {
		c := dial(t, l.admin, "")
		_, _ = c.Write([]byte("GET /api/v1/status HTTP/1.1\r\n")) // and no more
	}
	for i := range 20 {
		connect(t, l, opening{id: fmt.Sprint("served-", i)}, "")
	}
	if status, _ := l.ask(t, http.MethodGet, "/readyz", l.socket, ""); status != http.StatusOK {
		t.Errorf("ready: status %d by the socket", status)
	}
}
