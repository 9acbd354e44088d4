package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
)

// vetYAML is a configuration of one cluster with these keys, in its third line.
func vetYAML(keys string) string {
	return "clusters:\n  - discovery: {static: [{address: \"10.0.0.1:1883\"}]}\n    " + keys + "\n"
}

// What only other packages can tell is told with its place, like everything else, and once.
func TestVet(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	empty, good := filepath.Join(folder, "empty"), filepath.Join(folder, "good")
	for path, text := range map[string]string{empty: "\n", good: "secret\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, yaml, want string }{
		{"valid", vetYAML(`load: {preset: emqx, username: u, password_file: ` + good + `}`), ""},
		{
			"metric", vetYAML(`load: {preset: hivemq, figures: [{metric: up}, {metric: "avg(x)"}]}`),
			`:3:61: clusters[0].load.figures[1].metric "avg(x)", character 1: unknown function avg; write METRIC, whose series are summed, or rate(METRIC)`,
		},
		{
			"hot metric", vetYAML(`load: {preset: hivemq, hot: {metric: "x{y}"}}`),
			`:3:42: clusters[0].load.hot.metric "x{y}", character 4: one of = != =~ !~ must follow the label y`,
		},
		{
			"version", vetYAML(`load: {preset: hivemq, version: {metric: rate(x), label: v}}`),
			`:3:46: clusters[0].load.version.metric "rate(x)" must be one metric, NAME or NAME{LABEL="VALUE"}: not its value is the version but one of its labels`,
		},
		{
			"half a version", vetYAML(`load: {preset: hivemq, version: {label: v}}`),
			`:3:28: clusters[0].load.version.metric must be set, too: the metric whose label v is the version`,
		},
		{
			"half a version without a preset", vetYAML(`load: {url: "http://{host}/", version: {label: v}}`),
			`:3:35: clusters[0].load.version.metric is missing: the metric whose label v is the version, such as rabbitmq_build_info`,
		},
		{
			"no credentials", vetYAML(`load: {preset: hivemq, username: u}`),
			`:3:5: clusters[0].load.password_file and username belong together: set both or none`,
		},
		{
			"token", vetYAML(`load: {preset: hivemq, bearer_token_file: /nowhere}`),
			`:3:47: clusters[0].load.bearer_token_file token file: open /nowhere: no such file or directory`,
		},
		{
			"both credentials", vetYAML(`load: {preset: hivemq, bearer_token_file: ` + good + `, username: u, password_file: ` + good + `}`),
			`:3:47: clusters[0].load.bearer_token_file cannot be combined with username and password_file`,
		},
		{
			"said already", vetYAML(`load: {figures: [{metric: up}], interval: 100ms, timeout: 1ms}`),
			`:3:5: clusters[0].load.url is missing, and there is no preset that has it; write url: "http://{host}:9399/metrics"
:3:47: clusters[0].load.interval must be 1s..1h, got 100ms
:3:63: clusters[0].load.timeout must be 10ms..1h, got 1ms`,
		},
		{
			"not read", vetYAML(`load: {preset: hivemq, figures: [{metric: [up]}]}`),
			`:3:47: clusters[0].load.figures[0].metric must be text, got a list`,
		},
		{
			"password", vetYAML(`health: {mqtt: {username: u, password_file: ` + empty + `}}`),
			`:3:49: clusters[0].health.mqtt.password_file cannot be used: password file ` + empty + `: it is empty`,
		},
		{"no checks, no password", vetYAML(`health: {interval: 0, mqtt: {username: u, password_file: /nowhere}}`), ""},
		{
			"keys", "clusters: [{discovery: {s3: {bucket: abc, access_key_file: " + empty + ", secret_key_file: /nowhere, session_token_file: " + good + "}}}]",
			`:1:60: clusters[0].discovery.s3.access_key_file names ` + empty + `, which is empty
:1:` + fmt.Sprint(60+len(empty)+len(", secret_key_file: ")) + `: clusters[0].discovery.s3.secret_key_file cannot be read: open /nowhere: no such file or directory`,
		},
		{
			"second cluster", "listeners: [{cluster: a}]\nclusters:\n- {name: a, discovery: {static: [{address: \"h:1\"}]}}\n- {name: b, discovery: {static: [{address: \"h:1\"}]}, load: {preset: emqx, hot: {metric: 1}}}",
			`:4:89: clusters[1].load.hot.metric "1", character 1: a number is no metric; scale says which value means fully loaded`,
		},
	} {
		path := configFile(t, test.yaml)
		want := ""
		for line := range strings.Lines(test.want) {
			want += path + strings.TrimSuffix(line, "\n") + "\n"
		}
		got := execLine("check", "-c", path)
		if got.err != want || got.status != 0 != (want != "") {
			t.Errorf("%s: got status %d and\n%s\nwant\n%s", test.name, got.status, got.err, want)
		}
	}
}

// A reload finds them too, before it has changed anything.
func TestReloadVets(t *testing.T) {
	t.Parallel()
	path := configFile(t, vetYAML("load: {preset: hivemq}"))
	cfg, load, err := runConfig(path, nil, nil, &environment{})
	if err != nil || !cfg.Clusters[0].Load.Enabled() {
		t.Fatalf("got %+v and error %v, want a configuration", cfg, err)
	}
	if err := os.WriteFile(path, []byte(vetYAML("load: {preset: hivemq, hot: {metric: a+b}}")), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := load(); err == nil || !strings.Contains(err.Error(), "mqttlb.yaml:3:42: clusters[0].load.hot.metric ") {
		t.Errorf("got error %v, want one with a place", err)
	}
}

// Those who only look up where mqttlb is need not be able to read its secrets.
func TestClientCommandsReadNoSecrets(t *testing.T) {
	t.Parallel()
	path := configFile(t, "admin: {address: \"\", socket: /nowhere/admin.sock}\n"+vetYAML("load: {preset: hivemq, bearer_token_file: /nowhere}"))
	if got := execLine("status", "-c", path); got.status != 1 || !strings.HasPrefix(got.err, "mqttlb: cannot reach mqttlb at /nowhere/admin.sock") {
		t.Errorf("got status %d and %s, want that the socket was tried", got.status, got.err)
	}
}

// The words and defaults of the configuration are those of the packages behind it.
func TestConfigAgrees(t *testing.T) {
	t.Parallel()
	for _, preset := range append(scrape.Presets(), "", "nagios") {
		_, err := parse(vetYAML(fmt.Sprintf("load: {preset: %q}", preset)))
		if want := preset == "" || slices.Contains(scrape.Presets(), preset); (err == nil) != want {
			t.Errorf("preset %q: got error %v, want one: %v", preset, err, !want)
		}
	}
	cfg, err := parse(vetYAML("health: {http: {}}"))
	if err != nil {
		t.Fatal(err)
	}
	h, l := &cfg.Clusters[0].Health, &cfg.Clusters[0].Load
	if h.HTTP.URL != health.DefaultURL || h.Interval != health.DefaultInterval || h.Timeout != health.DefaultTimeout || h.Rise != health.DefaultRise || h.Fall != health.DefaultFall {
		t.Errorf("got %+v, want the defaults of health", h)
	}
	if l.Interval != scrape.DefaultInterval || l.Timeout != scrape.DefaultTimeout || l.Window != scrape.DefaultWindow {
		t.Errorf("got %+v, want the defaults of scrape", l)
	}
	if cfg, err = parse(vetYAML("")); err != nil || cfg.Clusters[0].Health.MQTT.ClientID != health.DefaultClientID {
		t.Errorf("got %+v and error %v, want the probe's default client id", cfg, err)
	}
}

// What config lets through, the packages behind it can work with: the limits of its schema, above all.
func TestConfigIsNoLaxer(t *testing.T) {
	t.Parallel()
	for _, keys := range []string{
		"load: {preset: hivemq, interval: 1s}",
		"load: {preset: hivemq, interval: 1h}",
		"load: {preset: hivemq, interval: 1h, timeout: 1h, window: 24h}",
		"load: {preset: hivemq, interval: 1s, timeout: 10ms, window: 1s}",
		"load: {preset: hivemq, interval: 1s, window: 1000s}",
		"load: {preset: hivemq, figures: [{metric: x, scale: 0.000001, weight: 0.001}, {metric: x, scale: 1000000000000000, weight: 1000000}]}",
		"load: {preset: hivemq, figures: [" + strings.Repeat("{metric: x},", 32) + "]}",
		`load: {url: "https://{host}:{port}/{name}/{label.x}?{label.y}", hot: {metric: x}}`,
		`load: {url: "http://[::1]:9/", hot: {metric: x}}`,
		`health: {http: {url: "https://{host}:{port}/{name}/{label.x}?{label.y}&{instance}"}}`,
		`health: {http: {url: "http://{label.api}/"}}`,
		`health: {mqtt: {client_id: "{instance}{name}{host}{port}{label.x}"}}`,
		"health: {interval: 100ms, timeout: 10ms, rise: 1, fall: 1}",
		"health: {interval: 1h, timeout: 1h, rise: 100, fall: 100}",
	} {
		if got := execLine("check", "-c", configFile(t, vetYAML(keys))); got.status != 0 {
			t.Errorf("%s: got %s, want it valid", keys, got.err)
		}
		cfg, err := parse(vetYAML(keys))
		if err != nil {
			continue
		}
		h := &cfg.Clusters[0].Health
		if _, err := health.NewChecker(health.Options{
			Prober: health.All{}, Report: func(health.Report) {}, Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall,
		}); err != nil {
			t.Errorf("%s: got %v, want a checker", keys, err)
		}
	}
}

// A configuration that is wrong from end to end is vetted without harm.
func TestVetOfNonsense(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{"clusters: x", "clusters: [x, {load: x, health: {mqtt: x}, discovery: {s3: x}}]", "clusters: []", "x"} {
		if _, err := config.Parse("test", []byte(yaml), config.Options{Check: vet}); err == nil {
			t.Errorf("%s: got no error", yaml)
		}
	}
}
