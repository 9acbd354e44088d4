package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// What every fakeCluster can be told.

func (c *fakeCluster) Group(name string) (g cluster.GroupStatus, known bool) {
	for _, g := range c.groups {
		if g.Name == name {
			return g, true
		}
	}
	return g, false
}

func (c *fakeCluster) Lost(int) []cluster.LostClient             { return nil }
func (c *fakeCluster) Drain(string, float64) error               { return nil }
func (c *fakeCluster) Resume(string) error                       { return nil }
func (c *fakeCluster) Force(string) error                        { return nil }
func (c *fakeCluster) Rebalance(bool, int) (cluster.Plan, error) { return cluster.Plan{}, nil }

// A steeredCluster notes what it is told, and looks different every time.
type steeredCluster struct {
	fakeCluster
	refusal error
	plan    cluster.Plan
	looks   []cluster.Status // the last one stays
	planned func(n int) int  // Total of the plan number n, from 1; nil keeps that of plan

	mu    sync.Mutex
	asked []string
}

func (c *steeredCluster) Status() cluster.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.looks[0]
	if len(c.looks) > 1 {
		c.looks = c.looks[1:]
	}
	return s
}

func (c *steeredCluster) told(backend, format string, args ...any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if backend != "" && findBackend(&c.looks[0], backend) == nil {
		return cluster.ErrNoSuchBackend
	}
	c.asked = append(c.asked, fmt.Sprintf(format, args...))
	return c.refusal
}

func (c *steeredCluster) Drain(backend string, rate float64) error {
	return c.told(backend, "drain %s %v", backend, rate)
}

func (c *steeredCluster) Resume(backend string) error { return c.told(backend, "resume %s", backend) }
func (c *steeredCluster) Force(state string) error    { return c.told("", "force %s", state) }

func (c *steeredCluster) Rebalance(dryRun bool, limit int) (cluster.Plan, error) {
	p := c.plan
	p.Moves = p.Moves[:min(limit, len(p.Moves))]
	err := c.told("", "rebalance %v %d", dryRun, limit)
	if c.planned != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		p.Total = c.planned(len(c.asked))
	}
	return p, err
}

// draining is a cluster of three, the first of which is drained and has so many connections left.
func draining(left int) cluster.Status {
	return cluster.Status{
		Name: "hivemq", Strategy: "adaptive", State: "scaling", Forced: true, StateSince: time.Now().Add(-time.Hour - time.Second), Connections: 1200 + left,
		Discovered: time.Now().Add(-time.Minute - time.Second), Sticky: 1,
		Moves: cluster.MoveStatus{Pending: 300, InFlight: 12, Moved: 1234, Returned: 1220, Lost: 2, Paused: "10 clients are away"},
		Backends: []cluster.BackendStatus{
			{
				Name: "hivemq-0", Address: "10.0.0.1:1883", Phase: "draining", Why: "an operator wants it", Weight: 1, LoadFactor: 1, Connections: left, Placed: 500,
				Drain: &cluster.DrainStatus{Begun: 400, Rate: 50, Kept: map[string]int{"will": 12, "busy": 3}, Operator: true},
			},
			{Name: "hivemq-1", Address: "10.0.0.2:1883", Phase: "ready", Weight: 1, LoadFactor: 1, Share: .5, Connections: 600, Placed: 600},
			{Name: "hivemq-2", Address: "10.0.0.3:1883", Phase: "ready", Weight: 1, LoadFactor: 1, Share: .5, Connections: 600, Placed: 600},
		},
	}
}

// steered is an mqttlb with one cluster that can be steered.
func steered(looks ...cluster.Status) (admin.Options, *steeredCluster) {
	c := &steeredCluster{fakeCluster: fakeCluster{status: cluster.Status{Name: "hivemq"}}, looks: looks}
	c.plan = cluster.Plan{
		Cluster: "hivemq", State: "balanced", Total: 5, Why: "paused: 10 clients are away",
		Moves: []cluster.PlannedMove{
			{ClientID: "sensor-1", From: "hivemq-0", To: "hivemq-3", Why: "levelling", Reason: "hivemq-0 has 40 more than its share"},
			{ClientID: "sensor-2", From: "hivemq-1", To: "hivemq-3", Why: "levelling", Reason: "hivemq-1 has 38 more than its share"},
			{ClientID: "worker-1", Group: "worker", From: "hivemq-0", To: "hivemq-3", Why: "spreading", Reason: "group worker: 3 on hivemq-0, 0 on hivemq-3"},
			{ClientID: "evil\x1b[2J\xff", Group: "evil\xff", From: "hivemq-0", Why: "emptying", Reason: "hivemq-0 drains"},
		},
	}
	o := operated()
	o.Clusters = []admin.Cluster{c}
	return o, c
}

func TestSteeringCommands(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		golden, told string
		construct    func(*environment) *cobra.Command
		args         []string
	}{
		{"drain.txt", "drain hivemq-0 0", drainCommand, []string{"hivemq-0"}},
		{"drain.txt", "drain hivemq-0 50", drainCommand, []string{"hivemq-0", "--rate", "50/s", "--cluster", "hivemq"}},
		{"resume.txt", "resume hivemq-1", resumeCommand, []string{"hivemq-1"}},
		{"rebalance_dry.txt", "rebalance true 10000", rebalanceCommand, []string{"--dry-run"}},
		{"rebalance.txt", "rebalance false 10000", rebalanceCommand, []string{"--limit", "2"}},
		{"state.txt", "force rolling", stateCommand, []string{"rolling"}},
		{"state_auto.txt", "force auto", stateCommand, []string{"auto"}},
		{"status_moves.txt", "", statusCommand, nil},
		{"backends_drain.txt", "", backendsCommand, nil},
	} {
		t.Run(test.golden, func(t *testing.T) {
			t.Parallel()
			o, c := steered(draining(340))
			_, socket := serveAdmin(t, o)
			out, err := execCommand(t, test.construct, append(test.args, "--admin", socket)...)
			if err != nil {
				t.Fatal(err)
			}
			compareGolden(t, test.golden, out)
			if got := strings.Join(c.asked, ", "); got != test.told {
				t.Errorf("the cluster was told %q, want %q", got, test.told)
			}
		})
	}
}

func TestNothingToRebalance(t *testing.T) {
	t.Parallel()
	o, c := steered(draining(0))
	_, socket := serveAdmin(t, o)
	for why, want := range map[string]string{
		"":                      "cluster hivemq, balanced: nobody is to be moved\n",
		"hivemq-0 is \x1b[2Jup": "cluster hivemq, balanced: nobody is to be moved; \"hivemq-0 is \\x1b[2Jup\"\n",
	} {
		c.plan = cluster.Plan{Cluster: "hivemq", State: "balanced", Why: why}
		if out, err := execCommand(t, rebalanceCommand, "--admin", socket); out != want || err != nil {
			t.Errorf("got %q (error %v), want %q", out, err, want)
		}
	}
}

func TestSteeringErrors(t *testing.T) {
	t.Parallel()
	o, c := steered(draining(340))
	_, socket := serveAdmin(t, o)
	refusing, last := steered(draining(340))
	last.refusal = errors.New("hivemq-0 is the last backend that serves clients")
	_, refusingSocket := serveAdmin(t, refusing)
	_, twoSocket := serveAdmin(t, operated())
	for _, test := range []struct {
		socket    string
		construct func(*environment) *cobra.Command
		args      []string
		message   string
		usage     bool
	}{
		{socket, drainCommand, []string{"hivmq-0"}, `unknown backend "hivmq-0"; hivemq has hivemq-0, hivemq-1, hivemq-2; did you mean hivemq-0?`, false},
		{socket, resumeCommand, []string{"x"}, `unknown backend "x"; hivemq has hivemq-0, hivemq-1, hivemq-2`, false},
		{socket, drainCommand, []string{"hivemq-0", "--cluster", "x"}, `unknown cluster "x"; known are hivemq`, false},
		{socket, drainCommand, []string{"hivemq-0", "--rate", "50"}, `--rate: a rate needs its unit, got "50"; write "50/s"`, true},
		{socket, drainCommand, []string{"hivemq-0", "--timeout", "5s"}, "--timeout is for --wait; write both, or neither", true},
		{socket, drainCommand, []string{"hivemq-0", "--wait", "--timeout", "-5s"}, "--timeout must not be negative, got -5s", true},
		{socket, drainCommand, []string{"hivemq-0", "--token-file", "/nowhere"}, "the token cannot be read: open /nowhere: no such file or directory", true},
		{socket, rebalanceCommand, []string{"--dry-run", "--wait"}, "--dry-run moves nobody, there is nothing to --wait for", true},
		{socket, rebalanceCommand, []string{"--limit", "0"}, "--limit must be from 1 to 10000, got 0", true},
		{socket, rebalanceCommand, []string{"--timeout", "1s"}, "--timeout is for --wait; write both, or neither", true},
		{socket, eventsCommand, []string{"--kind", "drain,drained"}, `--kind must be some of drain, eviction, join, leave, lost, phase, rebalance, resume, state, got "drained"`, true},
		{socket, eventsCommand, []string{"--cluster", "x"}, `unknown cluster "x"; known are hivemq`, false},
		{refusingSocket, drainCommand, []string{"hivemq-0"}, "hivemq-0 is the last backend that serves clients", false},
		{refusingSocket, rebalanceCommand, nil, "hivemq-0 is the last backend that serves clients", false},
		{twoSocket, drainCommand, []string{"hivemq-0"}, "which cluster? use --cluster with one of hivemq, empty", true},
		{twoSocket, stateCommand, []string{"auto"}, "which cluster? use --cluster with one of hivemq, empty", true},
	} {
		out, err := execCommand(t, test.construct, append(test.args, "--admin", test.socket)...)
		if err == nil || err.Error() != test.message || errors.As(err, new(usageError)) != test.usage || out != "" {
			t.Errorf("%v: got %q and %v\nwant %s", test.args, out, err, test.message)
		}
	}
	if len(c.asked) > 0 {
		t.Errorf("the cluster was told %q", c.asked)
	}
	if got := execLine("state", "roling"); got.status != exitUsage || !strings.Contains(got.err, "known are auto, balanced, scaling, rolling, overloaded, degraded") {
		t.Errorf("an unknown state: got %+v", got)
	}
}

// With --json, the output is JSON and nothing else, also with --wait.
func TestSteeringJSON(t *testing.T) {
	t.Parallel()
	o, _ := steered(draining(340), draining(340), draining(340), draining(0))
	_, socket := serveAdmin(t, o)
	for _, test := range []struct {
		construct func(*environment) *cobra.Command
		args      []string
		want      string
	}{
		{drainCommand, []string{"hivemq-0", "--wait"}, `"connections": 0,`},
		{drainCommand, []string{"hivemq-0"}, `"phase": "draining"`},
		{resumeCommand, []string{"hivemq-1"}, `"name": "hivemq-1"`},
		{rebalanceCommand, []string{"--dry-run", "--limit", "1"}, `"total": 5`},
		{stateCommand, []string{"auto"}, `"name": "hivemq"`},
	} {
		out, err := execCommand(t, test.construct, append(test.args, "--json", "--admin", socket)...)
		if err != nil || !strings.HasPrefix(out, "{\n") || !strings.HasSuffix(out, "\n}\n") || !strings.Contains(out, test.want) {
			t.Errorf("%v: got (error %v)\n%s", test.args, err, out)
		}
		if strings.Contains(out, "sensor-2") {
			t.Errorf("got more than one move:\n%s", out)
		}
	}
}

// Over TCP, writes need the token, which comes from a file.
func TestSteeringOverTCP(t *testing.T) {
	t.Parallel()
	const secret = "0123456789abcdef0123456789abcdef"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, c := steered(draining(340))
	o.Address, o.Token = "127.0.0.1:0", []byte(secret)
	s, _ := serveAdmin(t, o)
	at := "http://" + s.Addr().String()
	for _, test := range []struct {
		construct func(*environment) *cobra.Command
		args      []string
	}{
		{drainCommand, []string{"hivemq-0"}}, {resumeCommand, []string{"hivemq-0"}}, {rebalanceCommand, nil}, {stateCommand, []string{"auto"}},
	} {
		for _, flag := range []string{"", "--token-file", "--admin-token-file"} {
			args := append([]string{"--admin", at}, test.args...)
			if flag != "" {
				args = append(args, flag, file)
			}
			_, err := execCommand(t, test.construct, args...)
			if refused := err != nil && strings.HasPrefix(err.Error(), "this needs the header"); refused != (flag == "") || err != nil && !refused {
				t.Errorf("%v: got %v", args, err)
			}
		}
	}
	if len(c.asked) != 8 {
		t.Errorf("the cluster was told %q, want 8 things", c.asked)
	}
}

func TestExplainPresent(t *testing.T) {
	t.Parallel()
	o, c := steered(draining(340))
	o.Proxy = &fakeProxy{[]proxy.SessionInfo{
		placed("worker-1", "hivemq-0", 5, 90*time.Second, balancer.Reason{Strategy: "group-spread", Group: "worker", Cause: balancer.SeatLease, Left: 12_000}),
		placed("stays", "hivemq-1", 5, time.Hour, balancer.Reason{Cause: balancer.Home}),
	}}
	c.groups = []cluster.GroupStatus{{
		Name: "worker", Members: 4, Backends: []cluster.GroupShare{{Backend: "hivemq-0", Members: 3, Share: .5}, {Backend: "hivemq-1", Members: 1, Share: .5}},
	}}
	_, socket := serveAdmin(t, o)
	for golden, id := range map[string]string{"explain_moves.txt": "worker-1", "explain_stays.txt": "stays"} {
		out, err := execCommand(t, explainCommand, "--admin", socket, id)
		if err != nil {
			t.Fatal(err)
		}
		compareGolden(t, golden, out)
	}
}

// The shell completes names of backends and clusters by asking the mqttlb that runs, and nothing if none does.
func TestCompletion(t *testing.T) {
	t.Parallel()
	_, socket := serveAdmin(t, operated())
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"drain", "--admin", socket, ""}, "hivemq-0\tready, 8,226 connections\nhivemq-1\tramping, 4,102 connections\nhivemq-2\tdown, 0 connections\n"},
		{[]string{"resume", "--admin", socket, "--cluster", "empty", ""}, ""},
		{[]string{"resume", "--admin", socket, "hivemq-0", ""}, ""},
		{[]string{"drain", "--admin", socket, "--cluster", ""}, "hivemq\nempty\n"},
		{[]string{"drain", "--admin", "/nowhere/admin.sock", ""}, ""},
		{[]string{"state", "r"}, "rolling\n"},
		{[]string{"events", "--kind", ""}, strings.Join(admin.EventKinds(), "\n") + "\n"},
	} {
		got := execLine(append([]string{"__complete"}, test.args...)...)
		names, _, _ := strings.Cut(got.out, ":")
		if i := strings.Index(names, `"evil`); i >= 0 {
			names = names[:i]
		}
		if names != test.want {
			t.Errorf("%v: got\n%q\nwant\n%q", test.args, names, test.want)
		}
	}
}

func TestSteeringHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"drain", "resume", "rebalance", "state"} {
		got := execLine(name, "--help")
		if !strings.Contains(got.out, "--token-file") || !strings.Contains(got.out, "--json") || strings.Contains(got.out, "admin-token-file") {
			t.Errorf("%s: got\n%s", name, got.out)
		}
	}
}
