package cluster_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A rig is a cluster with what it tells the world.
type rig struct {
	*cluster.Cluster
	t     *testing.T
	heard *ear
	log   *bytes.Buffer
	time  atomic.Int64 // of its clock, in nanoseconds
}

// advance lets so much time pass.
func (r *rig) advance(d time.Duration) { r.time.Add(int64(d)) }

func newRig(t *testing.T, o cluster.Options) *rig {
	t.Helper()
	r := &rig{t: t, heard: &ear{}, log: new(bytes.Buffer)}
	if o.Name == "" {
		o.Name = "hivemq"
	}
	if o.Strategy == "" {
		o.Strategy = "client-hash"
	}
	if o.Key == "" {
		o.Key = "secret"
	}
	o.Observer, o.Clock = r.heard, r.time.Load
	o.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	c, err := cluster.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Cluster = c
	return r
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// place places a client that must get a place.
func (r *rig) place(id string, tried ...string) proxy.Target {
	r.t.Helper()
	target, err := r.Place(request(id, tried...))
	if err != nil {
		r.t.Fatalf("client %q: got error %v, want a place", id, err)
	}
	return target
}

// status returns the status without its times.
func (r *rig) status() cluster.Status {
	s := r.Status()
	s.Discovered, s.StateSince = time.Time{}, time.Time{}
	for i := range s.Backends {
		b := &s.Backends[i]
		b.PhaseSince = time.Time{}
		if b.Drain != nil {
			b.Drain.Since = time.Time{}
		}
		if b.Check != nil {
			b.Check.At = time.Time{}
		}
		if b.Load != nil {
			b.Load.At = time.Time{}
		}
	}
	return s
}

// backend returns the status of one backend.
func (r *rig) backend(name string) cluster.BackendStatus {
	r.t.Helper()
	s := r.Status()
	i := slices.IndexFunc(s.Backends, func(b cluster.BackendStatus) bool { return b.Name == name })
	if i < 0 {
		r.t.Fatalf("got backends %+v, want %s among them", s.Backends, name)
	}
	return s.Backends[i]
}

// request is what the proxy asks for a client.
func request(id string, tried ...string) proxy.Request {
	return requestOf(&mqttparse.ConnectOptions{ClientID: id, CleanStart: true}, tried...)
}

// requestOf is what the proxy asks for a client with this CONNECT.
func requestOf(o *mqttparse.ConnectOptions, tried ...string) proxy.Request {
	c, err := mqttparse.ParseConnect(mqttparse.AppendConnect(nil, o))
	if err != nil {
		panic(err) //nolint:forbidigo // the test's own packet cannot be wrong
	}
	return proxy.Request{ClientID: o.ClientID, Connect: &c, Tried: tried}
}

// workers is a rule for client ids like workers-17, with the number as ordinal if wanted.
func workers(ordinals bool) []cluster.GroupRule {
	expression := `^(?P<group>[a-z]+)-(?:\d+)$`
	if ordinals {
		expression = `^(?P<group>[a-z]+)-(?P<ord>\d+)$`
	}
	return []cluster.GroupRule{{ClientID: regexp.MustCompile(expression)}}
}

// set is a membership of backends with these names, at 10.0.0.1:1883, 10.0.0.2:1883 and so on.
func set(names ...string) []balancer.Backend {
	list := make([]balancer.Backend, len(names))
	for i, name := range names {
		list[i] = balancer.Backend{Name: name, Address: "10.0.0." + strconv.Itoa(i+1) + ":1883"}
	}
	return list
}

// An ear is an Observer that remembers.
type ear struct {
	mu       sync.Mutex
	causes   map[balancer.Cause]int
	failures []string
	evicted  map[string]int // by purpose and result
	returned []time.Duration
}

func (e *ear) Evicted(_ string, why balancer.Purpose, result string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.evicted == nil {
		e.evicted = make(map[string]int)
	}
	e.evicted[why.String()+" "+result]++
}

func (e *ear) Returned(_ string, after time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.returned = append(e.returned, after)
}

func (e *ear) Placed(_ string, why balancer.Reason) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.causes == nil {
		e.causes = make(map[balancer.Cause]int)
	}
	e.causes[why.Cause]++
}

func (e *ear) DialFailed(cluster, backend string, why proxy.Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures = append(e.failures, cluster+" "+backend+" "+why.String())
}

// golden compares v, as indented JSON, with the content of a file, or writes the file.
func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s (go test ./cluster -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
