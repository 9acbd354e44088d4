package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/proxy"
)

// The answers are the wire format: what is in the golden files is a promise.
func TestAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	r.SetReady()
	uptime := regexp.MustCompile(`("uptime_seconds": )36[0-9.]+`)
	for name, path := range map[string]string{
		"status.json":    "/api/v1/status",
		"clusters.json":  "/api/v1/clusters",
		"cluster.json":   "/api/v1/clusters/hivemq",
		"backends.json":  "/api/v1/clusters/emqx/backends",
		"groups.json":    "/api/v1/clusters/hivemq/groups",
		"ungrouped.json": "/api/v1/clusters/emqx/groups",
		"clients.json":   "/api/v1/clients",
		"explain.json":   "/api/v1/explain?cluster=hivemq&client_id=%ff%00x",
		"nobody.json":    "/api/v1/explain?cluster=emqx&client_id=",
		"present.json":   "/api/v1/explain?cluster=hivemq&client_id=worker-1",
		"lost.json":      "/api/v1/clusters/hivemq/lost",
		"lost_none.json": "/api/v1/clusters/emqx/lost?limit=10000",
	} {
		for way, c := range map[string]*http.Client{"tcp": r.tcp, "unix": r.unix} {
			t.Run(name+" "+way, func(t *testing.T) {
				a := get(t, c, path)
				if a.status != http.StatusOK {
					t.Errorf("got %d, want 200", a.status)
				}
				for name, want := range map[string]string{
					"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
				} {
					if got := a.header.Get(name); got != want {
						t.Errorf("got %s %q, want %q", name, got, want)
					}
				}
				var b bytes.Buffer
				if err := json.Indent(&b, []byte(a.body), "", "  "); err != nil {
					t.Fatal(err)
				}
				golden(t, name, uptime.ReplaceAllString(b.String(), "${1}3600"))
			})
		}
	}
}

func TestPlainAnswers(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	r.SetReady()
	for path, want := range map[string]string{
		"/livez": "alive\n", "/readyz": "ready\n", "/metrics": "mqttlb_build_info 1\n",
	} {
		if a := get(t, r.tcp, path); a.status != http.StatusOK || a.body != want {
			t.Errorf("%s: got %d %q, want 200 %q", path, a.status, a.body, want)
		}
		if a := ask(t, r.tcp, http.MethodHead, path, nil, nil); a.status != http.StatusOK || a.body != "" {
			t.Errorf("HEAD %s: got %d %q, want 200 and nothing", path, a.status, a.body)
		}
	}
}

func TestPageListsEveryEndpoint(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	a := get(t, r.tcp, "/")
	if got := a.header.Get("Content-Type"); a.status != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Errorf("got %d %s, want 200 text/html", a.status, got)
	}
	for _, e := range r.endpoints() {
		if path := strings.TrimSuffix(e.path, "{$}"); !strings.Contains(a.body, path) {
			t.Errorf("the page does not mention %s", path)
		}
	}
	if !strings.Contains(a.body, "edge-&lt;1&gt;") {
		t.Errorf("the instance is not there or not escaped:\n%s", a.body)
	}
}

func TestReadiness(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	empty := o.Clusters[1].(*fakeCluster)
	r := start(t, o)
	check := func(status int, body string) {
		t.Helper()
		if a := get(t, r.tcp, "/readyz"); a.status != status || a.body != body {
			t.Errorf("got %d %q, want %d %q", a.status, a.body, status, body)
		}
		s := as[Status](t, get(t, r.tcp, "/api/v1/status"))
		if reason := strings.TrimSpace(body); s.Ready != (status == http.StatusOK) || !s.Ready && s.Reason != reason {
			t.Errorf("status says %v %q, want the same as /readyz", s.Ready, s.Reason)
		}
		if a := get(t, r.tcp, "/livez"); a.status != http.StatusOK {
			t.Errorf("/livez: got %d, want 200", a.status)
		}
	}
	check(http.StatusServiceUnavailable, "mqttlb is starting\n")
	failed(t, get(t, r.tcp, "/api/v1/clients"), http.StatusServiceUnavailable, "mqttlb is starting")
	r.SetReady()
	check(http.StatusServiceUnavailable, "cluster \"emqx\" knows no backend\n")
	empty.status.Backends = o.Clusters[0].Status().Backends
	check(http.StatusOK, "ready\n")
	r.SetStopping()
	check(http.StatusServiceUnavailable, "mqttlb is stopping\n")
	r.SetReady() // a start that ends late must not undo it
	check(http.StatusServiceUnavailable, "mqttlb is stopping\n")
	as[ClientList](t, get(t, r.tcp, "/api/v1/clients")) // everything else goes on
}

func TestClientsFilter(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	r.SetReady()
	const odd = "\xff\x00\x1b[2J<b>"
	for query, want := range map[string][]string{
		"":                           {"homeless", "other", "sensor-1", "sensor-2", "worker-1", odd},
		"cluster=hivemq":             {"sensor-1", "sensor-2", "worker-1", odd},
		"group=worker%ff":            {"worker-1"},
		"group=worker":               {},
		"group=worker%ff&backend=n1": {},
		"backend=n1":                 {"sensor-1", odd},
		"backend=n1&prefix=s":        {"sensor-1"},
		"prefix=%ff":                 {odd},
		"prefix=none":                {},
		"cluster=&backend=&group=&prefix=&limit=":   {"homeless", "other", "sensor-1", "sensor-2", "worker-1", odd},
		"limit=10000&cluster=hivemq&prefix=sensor-": {"sensor-1", "sensor-2"},
	} {
		list := as[ClientList](t, get(t, r.tcp, "/api/v1/clients?"+query))
		got := make([]string, 0, len(list.Clients))
		for i := range list.Clients {
			got = append(got, list.Clients[i].ID())
		}
		if !slices.Equal(got, want) || list.Truncated {
			t.Errorf("%q: got %q, truncated %v, want %q", query, got, list.Truncated, want)
		}
	}
}

func TestClientsAreLimited(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	many := make([]proxy.SessionInfo, 150)
	for i := range many {
		many[i] = session(fmt.Sprintf("c%03d", i), "hivemq", "n1")
	}
	o.Proxy = &fakeProxy{sessions: many}
	long := oneCluster()
	huge := make([]proxy.SessionInfo, 100)
	for i := range huge {
		huge[i] = session(strings.Repeat("x", maxClientID), "hivemq", "n1")
	}
	long.Proxy = &fakeProxy{sessions: huge}
	for _, test := range []struct {
		name, query string
		options     Options
		clients     int
		truncated   bool
	}{
		{"default", "", o, 100, true},
		{"one", "?limit=1", o, 1, true},
		{"one too few", "?limit=149", o, 149, true},
		{"just enough", "?limit=150", o, 150, false},
		{"more", "?limit=151", o, 150, false},
		{"all on one backend", "?limit=200&backend=n1", o, 150, false},
		{"huge ids", "?limit=10000", long, maxIDs / maxClientID, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, test.options)
			r.SetReady()
			list := as[ClientList](t, get(t, r.unix, "/api/v1/clients"+test.query))
			if len(list.Clients) != test.clients || list.Truncated != test.truncated {
				t.Errorf("got %d clients, truncated %v, want %d, %v", len(list.Clients), list.Truncated, test.clients, test.truncated)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	one, two := start(t, oneCluster()), start(t, twoClusters())
	for _, id := range []string{"sensor-1", "", "a&b=c d+e/ü", "\xc3\x28", strings.Repeat("\xff", maxClientID)} {
		e := as[Explanation](t, get(t, one.tcp, "/api/v1/explain?client_id="+url.QueryEscape(id)))
		if e.ID() != id || e.Cluster != "hivemq" || e.Backend != "n2" {
			t.Errorf("got %.20q in %s on %s, want %.20q in hivemq on n2", e.ID(), e.Cluster, e.Backend, id)
		}
	}
	for query, kind := range map[string]string{"": "grouped", "&persistent=": "grouped", "&persistent=false": "grouped", "&persistent=true": "persistent"} {
		if e := as[Explanation](t, get(t, one.tcp, "/api/v1/explain?client_id=x"+query)); e.Kind != kind {
			t.Errorf("%q: got kind %q, want %q", query, e.Kind, kind)
		}
	}
	two.SetReady()
	e := as[Explanation](t, get(t, two.tcp, "/api/v1/explain?client_id=x&cluster=emqx"))
	if e.Cluster != "emqx" || e.Backend != "" || e.Otherwise == nil {
		t.Errorf("got %+v, want nobody in emqx, with an empty list", e)
	}
	// Whoever is connected in exactly one of several clusters is meant there.
	if e := as[Explanation](t, get(t, two.tcp, "/api/v1/explain?client_id=other")); e.Cluster != "emqx" || e.Connected == nil {
		t.Errorf("got %+v for a client that is connected in emqx, want it there", e)
	}
	o := twoClusters()
	p := o.Proxy.(*fakeProxy)
	p.sessions = append(p.sessions, session("other", "hivemq", "n1"))
	both := start(t, o)
	both.SetReady()
	failed(t, get(t, both.tcp, "/api/v1/explain?client_id=other"), http.StatusBadRequest, "which cluster? known are hivemq, emqx")
}

// Listeners are described as they are known: one that was removed has nothing but its name and connections.
func TestStatusDescribesListeners(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	want := Listener{Name: "mqtt", Address: "0.0.0.0:8883", Transport: "tcp", TLS: "terminate", Clusters: []string{"emqx", "hivemq"}}
	r.SetListeners([]Listener{want, {Name: "closed"}})
	list := as[Status](t, get(t, r.tcp, "/api/v1/status")).Listeners
	for _, l := range list {
		if l.Name == "mqtt" {
			want.Connections = l.Connections
			if !reflect.DeepEqual(l, want) || l.Connections == 0 {
				t.Errorf("got %+v, want %+v with connections", l, want)
			}
		} else if l.Address != "" || l.Name == "closed" {
			t.Errorf("got %+v, want a name and connections, of those that there are", l)
		}
	}
}

// The list of groups is bounded, by the limit and by what it may cost.
func TestGroupsAreLimited(t *testing.T) {
	t.Parallel()
	many := oneCluster()
	crowd := many.Clusters[0].(*fakeCluster)
	crowd.groups = make([]cluster.GroupStatus, 11_000)
	for i := range crowd.groups {
		crowd.groups[i].Name = fmt.Sprintf("g%05d", i)
	}
	wide := oneCluster()
	*wide.Clusters[0].(*fakeCluster) = *crowd
	wide.Clusters[0].(*fakeCluster).status.Backends = make([]cluster.BackendStatus, 1000)
	for name, test := range map[string]struct {
		options Options
		query   string
		groups  int
	}{
		"default":       {many, "", 100},
		"one":           {many, "?limit=1", 1},
		"as many":       {many, "?limit=10000", 10_000},
		"many backends": {wide, "?limit=10000", 200},
	} {
		list := as[GroupList](t, get(t, start(t, test.options).tcp, "/api/v1/clusters/hivemq/groups"+test.query))
		if len(list.Groups) != test.groups || !list.Truncated || list.Cluster != "hivemq" || list.Groups[0].Exact() != "g00000" {
			t.Errorf("%s: got %d groups of %s, truncated %t, want %d", name, len(list.Groups), list.Cluster, list.Truncated, test.groups)
		}
	}
}
