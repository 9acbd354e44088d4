package metrics_test

import (
	"crypto/tls"
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"

	"github.com/mqttlb/mqttlb/metrics"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// busy is an mqttlb that has seen everything once.
func busy() *metrics.Metrics {
	m := metrics.New(metrics.Sources{
		Version: "1.2.3", Commit: "abc", GoVersion: "go1.26",
		Traffic: func() metrics.Traffic {
			return metrics.Traffic{
				Connections:       map[string]int{"mqtt": 12, "tls": 0},
				Routes:            []metrics.Route{{Listener: "tls", Name: "tenant-a", Connections: 5}},
				Waiting:           map[string]int{"mqtt": 3, "tls": 0},
				Bytes:             [2]uint64{1000, 2000},
				Packets:           [2]map[string]uint64{{"connect": 12, "publish": 1 << 40}, {"connack": 11}},
				Memory:            65536,
				HeadersTrimmed:    3,
				Handshakes:        2,
				Nonconforming:     map[string]uint64{"reserved-flags": 2},
				AccessLogsDropped: 4,
			}
		},
		Memory: func() metrics.Memory { return metrics.Memory{Used: 900, Limit: 1000, Pressure: 2} },
		Clusters: func() []metrics.Cluster {
			return []metrics.Cluster{
				{
					Name: "hivemq", State: "rolling", Groups: 3, Members: 40, Spread: 2, Learned: 5, Sticky: 0.875, Pending: 70, Away: 4, Lost: 3, Levelling: true,
					Sources: []metrics.Source{{Address: "10.0.0.5"}, {Address: "10.0.0.6", Exhausted: 7}},
					Backends: []metrics.Backend{
						{Name: "hivemq-0", Phase: "ready", Weight: 1, Connections: 7, Factor: 0.75, Load: 0.5, Reported: time.Unix(1_800_000_050, 0)},
						{Name: "hivemq-1", Phase: "ramping", Weight: 0.25, Connections: 5, Factor: 1},
						{Name: "hivemq-2", Phase: "down", Weight: 1, Factor: 1},
						{Name: "hivemq-3", Phase: "draining", Removed: true, Connections: 2},
					},
				},
				{Name: "empty", State: "balanced", Sticky: 1},
			}
		},
	})
	m.Answered("mqtt", "hivemq", 0, 12*time.Millisecond)
	m.Answered("mqtt", "hivemq", 0, 700*time.Microsecond)
	m.Answered("mqtt", "hivemq", 5, 2*time.Second)
	m.Answered("tls", "hivemq", 0x87, time.Minute)
	m.Refused("mqtt", "connect_timeout")
	m.Refused("mqtt", "http")
	m.Refused("tls", "http")
	m.Cut("mqtt", "packet_size")
	m.Contested("mqtt")
	m.Redirected("mqtt", "hivemq")
	m.CertificatesExpire("tls", map[string]time.Time{"host.test": time.Unix(1_800_000_000, 0)})
	m.Handshook("tls", "", tls.VersionTLS13, false, 3*time.Millisecond)
	m.Handshook("tls", "", tls.VersionTLS12, true, 2*time.Millisecond)
	m.Handshook("tls", "tls_expired", 0, false, time.Second)
	m.HandshookBackend("hivemq", "", tls.VersionTLS13, false)
	m.HandshookBackend("hivemq", "", tls.VersionTLS12, true)
	m.HandshookBackend("hivemq", "tls_wrong_name", 0, false)
	m.Lost("mqtt")
	m.Placed("hivemq", "client-hash", "home")
	m.Placed("hivemq", "client-hash", "home")
	m.Placed("hivemq", "round-robin", "turn")
	m.DialFailed("hivemq", "hivemq-1", "refused")
	m.Evicted("hivemq", "emptying", "moved")
	m.Evicted("hivemq", "emptying", "busy")
	m.Returned("hivemq", 1200*time.Millisecond)
	m.Reloaded(true, time.Unix(1_800_000_100, 0))
	m.Reloaded(false, time.Unix(1_800_000_200, 0))
	m.Discovering("empty")
	m.Discovering("hivemq")
	m.Discovered("hivemq", 3, 2, time.Unix(1_700_000_000, 0))
	m.Discovered("hivemq", 2, 1, time.Unix(1_800_000_000, 500_000_000))
	m.DiscoveryFailed("hivemq")
	return m
}

// scrape returns what the handler answers to Prometheus.
func scrape(t *testing.T, m *metrics.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("got status %d, want 200:\n%s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours are the lines about metrics of mqttlb.
func ours(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "mqttlb_") || strings.HasPrefix(line, "# HELP mqttlb_") || strings.HasPrefix(line, "# TYPE mqttlb_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// Operators have dashboards and alerts that hang on these names, labels and values.
func TestGolden(t *testing.T) {
	t.Parallel()
	const path = "testdata/metrics.txt"
	got := ours(scrape(t, busy()))
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
		t.Errorf("%s (go test ./metrics -update rewrites it)\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

// contract are the metrics that users know, with all their labels.
var contract = map[string]string{
	"mqttlb_connections":                              "listener",
	"mqttlb_connects_total":                           "listener result",
	"mqttlb_connect_seconds":                          "cluster",
	"mqttlb_refused_total":                            "listener reason",
	"mqttlb_backend_phase":                            "backend cluster phase",
	"mqttlb_backend_connections":                      "backend cluster",
	"mqttlb_backend_weight":                           "backend cluster",
	"mqttlb_backend_up":                               "backend cluster",
	"mqttlb_backend_circuit":                          "backend cluster state",
	"mqttlb_backend_load":                             "backend cluster",
	"mqttlb_backend_load_factor":                      "backend cluster",
	"mqttlb_backend_load_timestamp_seconds":           "backend cluster",
	"mqttlb_backend_connect_failures_total":           "backend cluster reason",
	"mqttlb_connack_total":                            "cluster code",
	"mqttlb_placements_total":                         "cluster reason strategy",
	"mqttlb_redirects_total":                          "cluster",
	"mqttlb_sticky_ratio":                             "cluster",
	"mqttlb_cluster_state":                            "cluster state",
	"mqttlb_groups":                                   "cluster",
	"mqttlb_group_members":                            "cluster",
	"mqttlb_group_spread_max":                         "cluster",
	"mqttlb_learned_clients":                          "cluster",
	"mqttlb_moves_pending":                            "cluster",
	"mqttlb_moves_in_flight":                          "cluster",
	"mqttlb_source_exhausted_total":                   "cluster source",
	"mqttlb_memory_used_bytes":                        "",
	"mqttlb_memory_limit_bytes":                       "",
	"mqttlb_memory_pressure":                          "",
	"mqttlb_levelling":                                "cluster",
	"mqttlb_evictions_total":                          "cluster reason result",
	"mqttlb_evicted_return_seconds":                   "cluster",
	"mqttlb_evicted_lost_total":                       "cluster",
	"mqttlb_bytes_total":                              "direction",
	"mqttlb_packets_total":                            "direction type",
	"mqttlb_sessions_bytes":                           "",
	"mqttlb_discovery_backends":                       "cluster",
	"mqttlb_discovery_last_success_timestamp_seconds": "cluster",
	"mqttlb_discovery_skipped":                        "cluster",
	"mqttlb_discovery_failures_total":                 "cluster",
	"mqttlb_config_reloads_total":                     "result",
	"mqttlb_build_info":                               "commit go_version version",

	"mqttlb_config_last_reload_successful":                "",
	"mqttlb_config_last_reload_success_timestamp_seconds": "",
	"mqttlb_proxy_header_trimmed_total":                   "",
	"mqttlb_nonconforming_total":                          "kind",
	"mqttlb_access_log_dropped_total":                     "",
	"mqttlb_connects_waiting":                             "listener",
	"mqttlb_route_connections":                            "listener route",
	"mqttlb_takeovers_total":                              "listener",
	"mqttlb_certificate_expiry_timestamp_seconds":         "listener name",
	"mqttlb_certificate_reloads_total":                    "result",
	"mqttlb_tls_handshakes_total":                         "listener result version",
	"mqttlb_backend_tls_handshakes_total":                 "cluster result version",
	"mqttlb_tls_handshake_seconds":                        "listener",
	"mqttlb_tls_handshakes_under_way":                     "",
}

// No metric has other labels than the contract says: above all no client id and no topic, or the number of
// series would grow with the clients.
func TestNamesAndLabels(t *testing.T) {
	t.Parallel()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(ours(scrape(t, busy()))))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(families)) {
		want, ok := contract[name]
		if !ok {
			t.Errorf("got metric %s, which is not in the contract", name)
			continue
		}
		for _, m := range families[name].GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName())
			}
			slices.Sort(labels)
			if got := strings.Join(labels, " "); got != want {
				t.Errorf("%s: got labels %q, want %q", name, got, want)
			}
		}
	}
	for name := range contract {
		if families[name] == nil {
			t.Errorf("got no metric %s", name)
		}
	}
}

// Prometheus' own linter has nothing to say: units, suffixes, help.
func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := promlint.New(strings.NewReader(ours(scrape(t, busy())))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The runtime and the process are there too.
func TestRuntimeMetrics(t *testing.T) {
	t.Parallel()
	text := scrape(t, metrics.New(metrics.Sources{}))
	for _, name := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes", "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes"} {
		if !strings.Contains(text, "\n"+name+" ") {
			t.Errorf("got no %s", name)
		}
	}
}

// Without sources there is nothing about the state, and no error.
func TestWithoutSources(t *testing.T) {
	t.Parallel()
	got := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(ours(scrape(t, metrics.New(metrics.Sources{Version: "v", Commit: "c", GoVersion: "g"}))), "")
	want := `mqttlb_build_info{commit="c",go_version="g",version="v"} 1
mqttlb_certificate_reloads_total{result="failure"} 0
mqttlb_certificate_reloads_total{result="success"} 0
mqttlb_config_last_reload_success_timestamp_seconds 0
mqttlb_config_last_reload_successful 0
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A failed reload leaves the time of the last good one, and a good one clears the alarm.
func TestReloads(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Sources{})
	for _, step := range []struct {
		ok   bool
		at   int64
		want string
	}{
		{true, 100, "successful 1\ntimestamp_seconds 100\n"},
		{false, 200, "successful 0\ntimestamp_seconds 100\n"},
		{false, 300, "successful 0\ntimestamp_seconds 100\n"},
		{true, 400, "successful 1\ntimestamp_seconds 400\n"},
	} {
		m.Reloaded(step.ok, time.Unix(step.at, 0))
		text := scrape(t, m)
		for want := range strings.Lines(step.want) {
			if !regexp.MustCompile(`(?m)^mqttlb_config_last_reload_\w*` + want).MatchString(text) {
				t.Errorf("at %d: got\n%s\nwant a line that ends in %s", step.at, ours(text), want)
			}
		}
	}
	if got := ours(scrape(t, m)); !strings.Contains(got, `reloads_total{result="failure"} 2`) || !strings.Contains(got, `reloads_total{result="success"} 2`) {
		t.Errorf("got\n%s\nwant two successes and two failures", got)
	}
}

// A discovery that starts again keeps its figures; a cluster that is gone has none.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Sources{})
	lines := func() string {
		return strings.Join(regexp.MustCompile(`(?m)^mqttlb_discovery_.*$`).FindAllString(scrape(t, m), -1), "\n")
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"before the first answer", func() { m.Discovering("a") }, `mqttlb_discovery_backends{cluster="a"} 0
mqttlb_discovery_failures_total{cluster="a"} 0
mqttlb_discovery_skipped{cluster="a"} 0`},
		{"answered, failed, started again", func() {
			m.Discovered("a", 3, 1, time.Unix(100, 0))
			m.DiscoveryFailed("a")
			m.Discovering("a")
		}, `mqttlb_discovery_backends{cluster="a"} 3
mqttlb_discovery_failures_total{cluster="a"} 1
mqttlb_discovery_last_success_timestamp_seconds{cluster="a"} 100
mqttlb_discovery_skipped{cluster="a"} 1`},
		{"ended", func() { m.DiscoveryEnded("a") }, ""},
	} {
		step.do()
		if got := lines(); got != step.want {
			t.Errorf("%s: got\n%s\nwant\n%s", step.name, got, step.want)
		}
	}
}

// Events come from all event loops, while somebody scrapes.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Sources{})
	var all sync.WaitGroup
	const goroutines, rounds = 4, 500
	for range goroutines {
		all.Go(func() {
			for i := range rounds {
				m.Answered("mqtt", "hivemq", byte(i), time.Millisecond)
				m.Refused("mqtt", "http")
				m.Lost("mqtt")
				m.Placed("hivemq", "client-hash", "home")
				m.DialFailed("hivemq", "a", "refused")
				m.Reloaded(i%2 == 0, time.Unix(int64(i), 0))
				m.Discovered("hivemq", i, 0, time.Unix(int64(i), 0))
				m.DiscoveryFailed("hivemq")
			}
		})
	}
	all.Go(func() {
		for range 20 {
			scrape(t, m)
		}
	})
	all.Wait()
	if got, want := scrape(t, m), `mqttlb_connects_total{listener="mqtt",result="lost"} 2000`; !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant %s", ours(got), want)
	}
}
