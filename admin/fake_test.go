package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// All tests together must leave no goroutine behind; one by one is impossible for parallel tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the API is made for.
var (
	_ Proxy   = (*proxy.Proxy)(nil)
	_ Cluster = (*cluster.Cluster)(nil)
)

// fakeProxy has a fixed set of sessions.
type fakeProxy struct {
	sessions    []proxy.SessionInfo
	stats       proxy.Stats
	connections map[string]int
}

func (p *fakeProxy) Stats() proxy.Stats          { return p.stats }
func (p *fakeProxy) Connections() map[string]int { return p.connections }

func (p *fakeProxy) Sessions(match func(*proxy.SessionInfo) bool, limit int) []proxy.SessionInfo {
	var found []proxy.SessionInfo
	for i := range p.sessions {
		if match(&p.sessions[i]) && len(found) < limit {
			found = append(found, p.sessions[i])
		}
	}
	return found
}

// fakeCluster shows what it was given.
type fakeCluster struct {
	status      cluster.Status
	groups      []cluster.GroupStatus
	explanation cluster.Explanation
	plan        cluster.Plan
	lost        []cluster.LostClient
	asked       *[]string // what it was told to do
	refusal     error     // … and its answer
}

func (c *fakeCluster) Name() string           { return c.status.Name }
func (c *fakeCluster) Ready() bool            { return len(c.status.Backends) > 0 }
func (c *fakeCluster) Status() cluster.Status { return c.status }

func (c *fakeCluster) Groups(limit int) ([]cluster.GroupStatus, bool) {
	n := min(limit, len(c.groups))
	return c.groups[:n], n < len(c.groups)
}

func (c *fakeCluster) Group(name string) (g cluster.GroupStatus, known bool) {
	for _, g := range c.groups {
		if g.Name == name {
			return g, true
		}
	}
	return g, false
}

func (c *fakeCluster) Lost(limit int) []cluster.LostClient { return c.lost[:min(limit, len(c.lost))] }

func (c *fakeCluster) Drain(backend string, rate float64) error {
	return c.told(backend, "drain %s %v", backend, rate)
}

func (c *fakeCluster) Resume(backend string) error { return c.told(backend, "resume %s", backend) }

func (c *fakeCluster) Force(state string) error { return c.told("", "force %s", state) }

func (c *fakeCluster) Rebalance(dryRun bool, limit int) (cluster.Plan, error) {
	p := c.plan
	p.Moves = p.Moves[:min(limit, len(p.Moves))]
	return p, c.told("", "rebalance %v %d", dryRun, limit)
}

// told notes what was asked for, unless it cannot be done.
func (c *fakeCluster) told(backend, format string, args ...any) error {
	known := slices.ContainsFunc(c.status.Backends, func(b cluster.BackendStatus) bool { return b.Name == backend })
	if backend != "" && !known {
		return fmt.Errorf("cluster %s: %w: %s", c.status.Name, cluster.ErrNoSuchBackend, backend)
	}
	if c.refusal == nil && c.asked != nil {
		*c.asked = append(*c.asked, fmt.Sprintf(format, args...))
	}
	return c.refusal
}

func (c *fakeCluster) Explain(id string, persistent bool) cluster.Explanation {
	e := c.explanation
	if persistent {
		e.Kind = "persistent"
	}
	e.Cluster, e.ClientID = c.status.Name, id
	return e
}

// session is a client that sits on a backend.
func session(id, inCluster, backend string) proxy.SessionInfo {
	return proxy.SessionInfo{
		ClientID: id, Version: 5, Listener: "mqtt", Remote: netip.MustParseAddrPort("192.0.2.1:4711"),
		Target: proxy.Target{
			Backend: &proxy.Backend{Cluster: inCluster, Name: backend},
			Reason:  balancer.Reason{Strategy: "client-hash", Cause: balancer.Home},
		},
		Since: 90*time.Second + 1500*time.Microsecond, Bytes: [2]uint64{1000, 2000}, Packets: [2]uint64{10, 20},
	}
}

// twoClusters is a proxy with something of everything.
func twoClusters() Options {
	homeless := session("homeless", "", "")
	homeless.Target = proxy.Target{}
	worker := session("worker-1", "hivemq", "n2")
	worker.Target.Reason = balancer.Reason{Strategy: "group-spread", Group: "worker\xff", Cause: balancer.Emptiest, Other: "n1,n2"}
	p := &fakeProxy{
		sessions: []proxy.SessionInfo{
			session("sensor-2", "hivemq", "n2"), session("sensor-1", "hivemq", "n1"), worker,
			session("other", "emqx", "e1"), homeless, session("\xff\x00\x1b[2J<b>", "hivemq", "n1"),
		},
		stats:       proxy.Stats{Sessions: 6, Bytes: [2]uint64{1 << 20, 3 << 20}, Memory: 2048},
		connections: map[string]int{"tls": 2, "mqtt": 4},
	}
	p.stats.Packets[proxy.Up][3], p.stats.Packets[proxy.Up][12], p.stats.Packets[proxy.Down][3] = 100, 7, 300
	return Options{
		Version: "1.2.3", Instance: "edge-<1>", Started: time.Now().Add(-time.Hour), Proxy: p,
		Clusters: []Cluster{
			&fakeCluster{
				status: cluster.Status{
					Name: "hivemq", Strategy: "adaptive", State: "scaling", StateSince: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC),
					Generation: 7, Connections: 5, Groups: 2, GroupMembers: 3, Sticky: 0.75,
					Discovered: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
					Moves:      cluster.MoveStatus{Pending: 3, InFlight: 2, Moved: 10, Returned: 8, Lost: 1, Levelling: true, Paused: "n2 is slow"},
					Backends: []cluster.BackendStatus{
						{Name: "n1", Address: "10.0.0.1:1883", Phase: "ready", Weight: 1, LoadFactor: 1, Share: .5, Connections: 3, Placed: 9, Labels: map[string]string{"zone": "a"}},
						{
							Name: "n2", Address: "10.0.0.2:1883", Phase: "hot", PhaseSince: time.Date(2026, 1, 2, 3, 1, 0, 0, time.UTC), Why: "load 0.9 for 30s",
							Weight: 1, LoadFactor: .25, Share: .5, Connections: 2, Placed: 5, BytesPerSecond: 1234.5, ConnackSeconds: .012,
							Failures: map[string]uint64{"refused": 2}, Removed: true,
							Drain: &cluster.DrainStatus{
								Since: time.Date(2026, 1, 2, 3, 2, 0, 0, time.UTC), Begun: 5, Rate: 50, Kept: map[string]int{"will": 1}, Operator: true, By: "operator",
							},
							Check: &cluster.CheckStatus{At: time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), Failed: 1, Error: "no answer", Note: "note", Seconds: 3},
							Load: &cluster.LoadStatus{
								Load: new(.75), Util: new(.9), Level: new(0.), At: time.Date(2026, 1, 2, 3, 3, 0, 0, time.UTC), Stale: true, Predicted: .8, Error: "no answer",
							},
						},
					},
				},
				groups: []cluster.GroupStatus{
					{Name: "backend", Members: 1, Leased: 1, Spread: 1, Backends: []cluster.GroupShare{{Backend: "n1", Members: 1, Share: .5}, {Backend: "n2", Leased: 1, Share: .5}}},
					{Name: "worker\xff", Members: 1, Elsewhere: 1, Backends: []cluster.GroupShare{}},
				},
				explanation: cluster.Explanation{
					Strategy: "adaptive", State: "scaling", Group: "g\xff", Kind: "grouped", Backend: "n2", Address: "10.0.0.2:1883", Reason: "home by hash",
					Otherwise: []cluster.Choice{{Backend: "n1", Reason: "away from home: n2 did not accept the connection"}},
				},
				plan: cluster.Plan{
					Cluster: "hivemq", State: "scaling", Total: 3,
					Moves: []cluster.PlannedMove{
						{ClientID: "worker-1", Group: "worker\xff", From: "n2", To: "n1", Why: "spreading", Reason: "group worker has 2 too many on n2"},
						{ClientID: "\xff\x00\x1b[2J<b>", From: "n1", Why: "emptying", Reason: "n1 is draining"},
					},
				},
				lost: []cluster.LostClient{
					{ClientID: "gone\xff", From: "n1", To: "n2", At: time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)},
					{ClientID: "gone-2", From: "n2", At: time.Date(2026, 1, 2, 2, 0, 0, 0, time.UTC)},
				},
			},
			&fakeCluster{
				status:      cluster.Status{Name: "emqx", Strategy: "round-robin", State: "balanced", Sticky: 1},
				explanation: cluster.Explanation{Strategy: "round-robin", State: "balanced", Kind: "anonymous", Reason: "no backend can take a client"},
			},
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "mqttlb_build_info 1\n") }),
		Reload:  func(context.Context) error { return nil },
	}
}

// oneCluster is twoClusters without the second one, which makes it ready.
func oneCluster() Options {
	o := twoClusters()
	o.Clusters = o.Clusters[:1]
	return o
}

// A running Server with a client for each way in.
type running struct {
	*Server
	tcp, unix *http.Client
	log       *syncBuffer
	stop      func() // and wait until it has
}

// start serves until the end of the test, on a free port and on a socket, and then proves that Serve
// has returned, that no connection is counted any more, and that the socket is gone.
func start(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{log: new(syncBuffer)}
	o.Address, o.Socket = "127.0.0.1:0", filepath.Join(t.TempDir(), "admin.sock")
	o.Log = slog.New(slog.NewTextHandler(r.log, nil))
	var err error
	if r.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	r.tcp, r.unix = client("tcp", r.Addr().String()), client("unix", o.Socket)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Serve(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(o.Socket); !os.IsNotExist(err) {
			t.Errorf("the socket is left behind (error %v)", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func client(network, address string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func ask(t *testing.T, c *http.Client, method, path string, header http.Header, body io.Reader) answer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://mqttlb"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(data)}
}

func get(t *testing.T, c *http.Client, path string) answer {
	t.Helper()
	return ask(t, c, http.MethodGet, path, nil, nil)
}

// as decodes an answer that must be a success.
func as[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	d := json.NewDecoder(strings.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil || a.status != http.StatusOK {
		t.Fatalf("got %d %s (error %v), want 200 and a %T", a.status, a.body, err, v)
	}
	return v
}

// failed demands an error in JSON.
func failed(t *testing.T, a answer, status int, message string) {
	t.Helper()
	var f Failure
	if err := json.Unmarshal([]byte(a.body), &f); err != nil || a.status != status || f.Error != message {
		t.Errorf("got %d %q (error %v)\nwant %d %q", a.status, a.body, err, status, message)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("got Content-Type %q, want application/json", got)
	}
}

// golden compares got with the content of a file, or writes the file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s (go test ./admin -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
