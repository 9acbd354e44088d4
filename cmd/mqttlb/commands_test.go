package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// fakeProxy has a fixed set of sessions.
type fakeProxy struct{ sessions []proxy.SessionInfo }

func (p *fakeProxy) Sessions(match func(*proxy.SessionInfo) bool, limit int) []proxy.SessionInfo {
	var found []proxy.SessionInfo
	for i := range p.sessions {
		if match(&p.sessions[i]) && len(found) < limit {
			found = append(found, p.sessions[i])
		}
	}
	return found
}

func (p *fakeProxy) Stats() proxy.Stats {
	s := proxy.Stats{Bytes: [2]uint64{5 << 30, 999}, Memory: 24<<20 + 100<<10}
	s.Packets[proxy.Up][3], s.Packets[proxy.Down][3] = 1234567, 12
	return s
}

func (p *fakeProxy) Connections() map[string]int { return map[string]int{"tls": 0, "mqtt": 12340} }

// fakeCluster shows what it was given.
type fakeCluster struct {
	status cluster.Status
	groups []cluster.GroupStatus
}

func (c *fakeCluster) Name() string           { return c.status.Name }
func (c *fakeCluster) Ready() bool            { return len(c.status.Backends) > 0 }
func (c *fakeCluster) Status() cluster.Status { return c.status }

func (c *fakeCluster) Groups(limit int) ([]cluster.GroupStatus, bool) {
	n := min(limit, len(c.groups))
	return c.groups[:n], n < len(c.groups)
}

func (c *fakeCluster) Explain(id string, _ bool) cluster.Explanation {
	return cluster.Explanation{
		Cluster: c.status.Name, ClientID: id, Strategy: c.status.Strategy, State: c.status.State,
		Group: "g\xff", Kind: "grouped", Reason: "no backend can take a client",
	}
}

// placed is a client that sits on a backend.
func placed(id, backend string, version byte, since time.Duration, why balancer.Reason) proxy.SessionInfo {
	return proxy.SessionInfo{
		ClientID: id, Version: version, Listener: "mqtt", Remote: netip.MustParseAddrPort("192.0.2.1:4711"),
		Target: proxy.Target{Backend: &proxy.Backend{Cluster: "hivemq", Name: backend}, Reason: why},
		Since:  since, Bytes: [2]uint64{1000, 5 << 20},
	}
}

// operated is an mqttlb with a bit of everything.
func operated() admin.Options {
	home := balancer.Reason{Strategy: "client-hash", Cause: balancer.Home}
	homeless := placed("homeless", "", 3, time.Second, home)
	homeless.Target = proxy.Target{}
	return admin.Options{
		Version: "1.2.3", Instance: "edge-1", Started: time.Now().Add(-76*time.Hour - time.Minute),
		Proxy: &fakeProxy{[]proxy.SessionInfo{
			placed("sensor-2", "hivemq-0", 4, 90*time.Second, balancer.Reason{Cause: balancer.Spilled, Other: "hivemq-1"}),
			placed("sensor-1", "hivemq-1", 5, 76*time.Hour, home),
			placed("\xff\x1b[2J\n", "hivemq-1", 5, 3*time.Hour, home),
			placed(strings.Repeat("long-", 30), "hivemq-1", 5, 0, home),
			homeless,
			placed("worker-1", "hivemq-1", 5, time.Minute, balancer.Reason{Strategy: "group-spread", Group: "worker", Cause: balancer.SeatLease, Left: 12_000}),
		}},
		Clusters: []admin.Cluster{
			&fakeCluster{cluster.Status{
				Name: "hivemq", Strategy: "adaptive", State: "rolling", StateSince: time.Now().Add(-150*time.Minute - 30*time.Second),
				Generation: 7, Connections: 12340, Sticky: 0.9987, Groups: 1200, GroupMembers: 9600,
				Discovered: time.Now().Add(-90*time.Minute - 30*time.Second),
				Backends: []cluster.BackendStatus{
					{
						Name: "hivemq-0", Address: "10.0.0.1:1883", Phase: "ready", Weight: 1, Share: 1 / 1.5, Connections: 8226, Placed: 10001,
						Labels:     map[string]string{"zone": "a", "version": "4.40"},
						PhaseSince: time.Now().Add(-3*time.Hour - 30*time.Second), Why: "its ramp is over", LoadFactor: .4567,
						Check: &cluster.CheckStatus{Failed: 1, Error: "no answer within 3s"},
						Load:  &cluster.LoadStatus{Load: new(.815), Util: new(.5)},
					},
					{
						Name: "hivemq-1", Address: "10.0.0.2:1883", Phase: "ramping", Weight: .5, Share: .5 / 1.5, Connections: 4102, Placed: 4102,
						Failures:   map[string]uint64{"timeout": 2, "refused": 1300},
						PhaseSince: time.Now().Add(-time.Minute), Why: "healthy for 30s", LoadFactor: 1,
						Check: &cluster.CheckStatus{Passed: true, Note: "not authorized"},
						Load: &cluster.LoadStatus{
							Load: new(.02), At: time.Now().Add(-4*time.Minute - time.Second/2), Stale: true, Error: "GET was answered with 503",
						},
					},
					{
						Name: "hivemq-2", Address: "10.0.0.4:1883", Phase: "down", Weight: 1, LoadFactor: 1, PhaseSince: time.Now().Add(-5 * time.Second),
						Why:   "3 checks failed: evil \x1b[2J " + strings.Repeat("long ", 50),
						Check: &cluster.CheckStatus{Failed: 3, Error: "evil"}, Load: &cluster.LoadStatus{Stale: true},
					},
					{Name: "evil\x1b[2J", Address: "10.0.0.3:1883", Phase: "draining", Removed: true, Why: "discovery does not name it any more", Connections: 12, Placed: 40},
				},
			}, []cluster.GroupStatus{
				{
					Name: "backend-ingest", Members: 1234, Leased: 6, Spread: 2, Elsewhere: 1,
					Backends: []cluster.GroupShare{{Backend: "hivemq-0", Members: 823, Leased: 6, Share: 1 / 1.5}, {Backend: "hivemq-1", Members: 410, Share: .5 / 1.5}},
				},
				{Name: "evil\xff\x1b[2J", Members: 0, Leased: 1, Backends: []cluster.GroupShare{{Backend: "evil\x1b[2J", Leased: 1}}},
				{Name: "zero", Backends: []cluster.GroupShare{}},
			}},
			&fakeCluster{status: cluster.Status{Name: "empty", Strategy: "round-robin", State: "balanced", StateSince: time.Now().Add(-26*time.Hour - time.Minute), Sticky: 1}},
		},
		Metrics: http.NotFoundHandler(),
		Reload:  func(context.Context) error { return nil },
		Log:     slog.New(slog.DiscardHandler),
	}
}

// serveAdmin runs an admin API until the end of the test and returns its socket.
func serveAdmin(t *testing.T, o admin.Options) (*admin.Server, string) {
	t.Helper()
	o.Socket = filepath.Join(t.TempDir(), "a.sock")
	s, err := admin.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	s.SetReady()
	return s, o.Socket
}

// execCommand runs one command as root would.
func execCommand(t *testing.T, construct func(*environment) *cobra.Command, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	e := &environment{in: strings.NewReader(""), out: &out, err: io.Discard, hostname: "host"}
	c := construct(e)
	c.SilenceErrors, c.SilenceUsage = true, true
	c.SetOut(io.Discard)
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

// compareGolden compares got with the content of a file, or writes the file.
func compareGolden(t *testing.T, name, got string) {
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
		t.Errorf("%s (go test ./cmd/mqttlb -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestShowingCommands(t *testing.T) {
	t.Parallel()
	server, socket := serveAdmin(t, operated())
	server.SetListeners([]admin.Listener{
		{Name: "mqtt", Address: "0.0.0.0:1883", Transport: "tcp", Clusters: []string{"hivemq"}},
		{Name: "tls", Address: "[::]:8883", Transport: "tcp", TLS: "terminate", Clusters: []string{"empty", "hivemq"}},
	})
	ready := operated()
	ready.Clusters = ready.Clusters[:1]
	_, readySocket := serveAdmin(t, ready)
	for _, test := range []struct {
		golden    string
		construct func(*environment) *cobra.Command
		args      []string
	}{
		{"status.txt", statusCommand, []string{"--admin", socket}},
		{"status_ready.txt", statusCommand, []string{"--admin", readySocket}},
		{"backends.txt", backendsCommand, []string{"--admin", "unix:" + socket}},
		{"backends_none.txt", backendsCommand, []string{"--admin", socket, "--cluster", "empty"}},
		{"clients.txt", clientsCommand, []string{"--admin", socket}},
		{"clients_some.txt", clientsCommand, []string{"--admin", socket, "--cluster", "hivemq", "--backend", "hivemq-1", "--prefix", "sensor"}},
		{"clients_none.txt", clientsCommand, []string{"--admin", socket, "--prefix", "x&limit=1"}},
		{"clients_limit.txt", clientsCommand, []string{"--admin", socket, "--limit", "2"}},
		{"clients_group.txt", clientsCommand, []string{"--admin", socket, "--group", "worker"}},
		{"groups.txt", groupsCommand, []string{"--admin", socket}},
		{"groups_limit.txt", groupsCommand, []string{"--admin", socket, "--cluster", "hivemq", "--limit", "1"}},
		{"groups_none.txt", groupsCommand, []string{"--admin", socket, "--cluster", "empty"}},
		{"explain_nobody.txt", explainCommand, []string{"--admin", socket, "--cluster", "empty", "\xff\x1b[2J"}},
		{"reload.txt", reloadCommand, []string{"--admin", socket}},
	} {
		t.Run(test.golden, func(t *testing.T) {
			out, err := execCommand(t, test.construct, test.args...)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, test.golden, out)
		})
	}
}

// Being alive is less than being ready; what is not, TestCommandErrors shows.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	o := operated()
	_, unready := serveAdmin(t, o)
	o.Clusters = o.Clusters[:1]
	_, ready := serveAdmin(t, o)
	for _, args := range [][]string{{"--admin", ready}, {"--admin", unready, "--live"}} {
		if out, err := execCommand(t, healthcheckCommand, args...); err != nil || out != "" {
			t.Errorf("%v: got %q and error %v, want neither", args, out, err)
		}
	}
}

// With a real cluster, the answer is what a client would meet.
func TestExplainCommand(t *testing.T) {
	t.Parallel()
	c, err := cluster.New(cluster.Options{
		Name: "hivemq", Key: "k", Strategy: "adaptive", Placement: balancer.Options{NodeScope: true},
		Rules: []cluster.GroupRule{{ClientID: regexp.MustCompile(`^(?P<group>worker)-`)}}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	set := make([]balancer.Backend, 3)
	for i := range set {
		set[i] = balancer.Backend{Name: fmt.Sprintf("hivemq-%d", i), Address: fmt.Sprintf("10.0.0.%d:1883", i+1)}
	}
	c.Apply(set)
	o := operated()
	o.Clusters = []admin.Cluster{c}
	_, socket := serveAdmin(t, o)
	c.Apply(set[:2])
	out, err := execCommand(t, explainCommand, "--admin", socket, "sensor-17")
	if err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "explain.txt", out)
	if out, err = execCommand(t, explainCommand, "--admin", socket, "worker-1"); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "explain_member.txt", out)
	if out, err = execCommand(t, explainCommand, "--admin", socket, "--persistent", "worker-1"); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "explain_persistent.txt", out)
	c.Apply(set[:1])
	if out, err = execCommand(t, explainCommand, "--admin", socket, "--", "-odd \"id\""); err != nil {
		t.Fatal(err)
	}
	compareGolden(t, "explain_last.txt", out)
}

// What --json prints is what the API answers.
func TestJSON(t *testing.T) {
	t.Parallel()
	_, socket := serveAdmin(t, operated())
	decode := func(construct func(*environment) *cobra.Command, into any, args ...string) {
		t.Helper()
		out, err := execCommand(t, construct, append(args, "--json", "--admin", socket)...)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(strings.NewReader(out))
		d.DisallowUnknownFields()
		if err := d.Decode(into); err != nil {
			t.Errorf("%v in\n%s", err, out)
		}
	}
	var s admin.Status
	if decode(statusCommand, &s); s.Version != "1.2.3" || len(s.Clusters) != 2 || s.Connections != 12340 {
		t.Errorf("status: got %+v", s)
	}
	var b, one admin.ClusterList
	if decode(backendsCommand, &b); len(b.Clusters) != 2 || len(b.Clusters[0].Backends) != 4 {
		t.Errorf("backends: got %+v", b)
	}
	if decode(backendsCommand, &one, "--cluster", "empty"); len(one.Clusters) != 1 || one.Clusters[0].Name != "empty" {
		t.Errorf("backends --cluster: got %+v", one)
	}
	var g groupLists
	if decode(groupsCommand, &g); len(g.Clusters) != 2 || len(g.Clusters[0].Groups) != 3 || len(g.Clusters[1].Groups) != 0 || g.Clusters[0].Groups[1].Exact() != "evil\xff\x1b[2J" {
		t.Errorf("groups: got %+v", g)
	}
	var c admin.ClientList
	if decode(clientsCommand, &c, "--limit", "4"); len(c.Clients) != 4 || !c.Truncated {
		t.Errorf("clients: got %+v", c)
	}
	const odd = "\xff\x00"
	var x admin.Explanation
	if decode(explainCommand, &x, "--cluster", "hivemq", odd); x.ID() != odd || x.Cluster != "hivemq" {
		t.Errorf("explain: got %+v", x)
	}
}

func TestCommandErrors(t *testing.T) {
	t.Parallel()
	o := operated()
	o.Reload = func(context.Context) error {
		return errors.New("mqttlb.yaml:3:1: wrong\x1b[2J\nmqttlb.yaml:4:1: wrong too")
	}
	_, socket := serveAdmin(t, o)
	for _, test := range []struct {
		name      string
		construct func(*environment) *cobra.Command
		args      []string
		message   string
		usage     bool
	}{
		{"unknown cluster", backendsCommand, []string{"--cluster", "a/b?c"}, `unknown cluster "a/b?c"; known are hivemq, empty`, false},
		{"unknown backend", clientsCommand, []string{"--backend", "x"}, `unknown backend "x"; /api/v1/clusters lists them`, false},
		{"unknown cluster of groups", groupsCommand, []string{"--cluster", "x"}, `unknown cluster "x"; known are hivemq, empty`, false},
		{"limit of groups too small", groupsCommand, []string{"--limit", "0"}, "--limit must be from 1 to 10000, got 0", true},
		{"limit of groups too large", groupsCommand, []string{"--limit", "10001"}, "--limit must be from 1 to 10000, got 10001", true},
		{"which cluster", explainCommand, []string{"id"}, "which cluster? known are hivemq, empty; use --cluster, unless the client is connected in exactly one", false},
		{"limit too small", clientsCommand, []string{"--limit", "0"}, "--limit must be from 1 to 10000, got 0", true},
		{"limit too large", clientsCommand, []string{"--limit", "10001"}, "--limit must be from 1 to 10000, got 10001", true},
		{"invalid configuration", reloadCommand, nil, "\"not reloaded: mqttlb.yaml:3:1: wrong\\x1b[2J\"\nmqttlb.yaml:4:1: wrong too", false},
		{"no token file", reloadCommand, []string{"--token-file", "/nowhere"}, "the token cannot be read: open /nowhere: no such file or directory", true},
		{"not ready", healthcheckCommand, nil, `not healthy: cluster "empty" knows no backend`, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := execCommand(t, test.construct, append(test.args, "--admin", socket)...)
			if err == nil || err.Error() != test.message {
				t.Errorf("got  %v\nwant %s", err, test.message)
			}
			if got := errors.As(err, new(usageError)); got != test.usage {
				t.Errorf("got usage error %v, want %v", got, test.usage)
			}
			if out != "" {
				t.Errorf("got output %q, want none", out)
			}
		})
	}
}

// Over TCP, a reload needs the token, from a flag or from where the configuration keeps it.
func TestReloadOverTCP(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	folder := t.TempDir()
	file := func(name, content string) string {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	right, wrong := file("right", secret+"\n"), file("wrong", "x"+secret)
	o := operated()
	var reloads atomic.Int32
	o.Address, o.Token = "127.0.0.1:0", []byte(secret)
	o.Reload = func(context.Context) error { reloads.Add(1); return nil }
	s, _ := serveAdmin(t, o)
	at := "http://" + s.Addr().String()
	cfg := file("mqttlb.yaml", fmt.Sprintf(
		"admin: {address: %q, socket: \"\", token_file: %q}\nclusters: [{discovery: {static: [{address: \"10.0.0.1:1883\"}]}}]\n", s.Addr(), right))
	for _, test := range []struct {
		args    []string
		message string
	}{
		{[]string{"--admin", at}, `this needs the header "Authorization: Bearer TOKEN" with the token from admin.token_file`},
		{[]string{"--admin", at, "--token-file", wrong}, "the token is wrong"},
		{[]string{"-c", cfg, "--token-file", wrong}, "the token is wrong"},
		{[]string{"--admin", at, "--token-file", right}, ""},
		{[]string{"-c", cfg}, ""},
	} {
		out, err := execCommand(t, reloadCommand, test.args...)
		if got := fmt.Sprint(err); err != nil && got != test.message || err == nil && (test.message != "" || out != "reloaded\n") {
			t.Errorf("%v: got %q and %q, want %q", test.args, out, got, test.message)
		}
	}
	if got := reloads.Load(); got != 2 {
		t.Errorf("got %d reloads, want 2", got)
	}
}

// Every command's help shows how it is used.
func TestCommandHelp(t *testing.T) {
	t.Parallel()
	for _, construct := range []func(*environment) *cobra.Command{
		statusCommand, backendsCommand, clientsCommand, groupsCommand, explainCommand, reloadCommand, healthcheckCommand,
	} {
		c := construct(&environment{out: io.Discard})
		if !strings.Contains(c.Example, "mqttlb "+c.Name()) {
			t.Errorf("%s has no example", c.Name())
		}
		if f := c.Flags().Lookup("admin"); f == nil {
			t.Errorf("%s has no --admin", c.Name())
		}
	}
}
