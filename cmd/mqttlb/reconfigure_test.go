package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/config"
)

// A reload takes over the log level and the backends, and no session notices.
func TestReload(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	a := startApp(t, appYAML("", first.Addr()))
	client := enter(t, a.address, "stays")
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := a.clusters()[0].Status().Generation; got != 1 {
		t.Errorf("a reload of the same configuration: got generation %d, want 1", got)
	}

	a.rewrite(appYAML("log: {level: debug}", first.Addr(), second.Addr()))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := 0; second.Count() == 0; i++ {
		if i == 200 {
			t.Fatal("got no client on the new backend")
		}
		enter(t, a.address, fmt.Sprint("c", i))
	}
	if got, want := a.level.Level().String(), "DEBUG"; got != want {
		t.Errorf("got log level %s, want %s", got, want)
	}

	// The backend of the client leaves; its session stays, and nobody new goes there.
	before := first.Count()
	a.rewrite(strings.Replace(appYAML("", second.Addr()), "name: b0", "name: b1", 1))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		enter(t, a.address, fmt.Sprint("later-", i))
	}
	wantAlive(t, client)
	if got := first.Count(); got != before {
		t.Errorf("got %d clients on the backend that has left, want %d as before", got, before)
	}
	if got, want := a.level.Level().String(), "INFO"; got != want {
		t.Errorf("got log level %s, want %s again", got, want)
	}
	a.wantMetric(`mqttlb_config_reloads_total{result="success"} 4`)
	a.wantMetric(`mqttlb_backend_phase{backend="b0",cluster="test",phase="draining"} 1`)
	a.wantMetric(`mqttlb_discovery_backends{cluster="test"} 1`)
	if strings.Contains(a.log.String(), "level=WARN") {
		t.Errorf("got warnings in\n%s", a.log)
	}
}

// A broker that gets another address keeps its name, and its clients keep it.
func TestReloadOfAnAddress(t *testing.T) {
	t.Parallel()
	first, second := startBroker(t), startBroker(t)
	a := startApp(t, appYAML("", first.Addr()))
	client := enter(t, a.address, "stays")
	a.rewrite(appYAML("", second.Addr()))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved := enter(t, a.address, "moves")
	wantAlive(t, client)
	wantAlive(t, moved)
	if first.Count() != 1 || second.Count() != 1 {
		t.Errorf("got %q and %q, want stays and moves", first.Clients(), second.Clients())
	}
	a.wantMetric(`mqttlb_backend_connections{backend="b0",cluster="test"} 2`)
	a.wantLog(`msg="backend has a new address" instance=host cluster=test backend=b0 address=` + second.Addr())
}

// An invalid configuration changes nothing, and the error says what is wrong with it.
func TestInvalidReload(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	a := startApp(t, appYAML("", broker.Addr()))
	client := enter(t, a.address, "stays")
	before := a.config
	a.rewrite(appYAML("log: {level: debug}\nshutdwn: {}", "127.0.0.1:1"))
	err := a.reload(t.Context())
	if want := `mqttlb.yaml:5:1: unknown key "shutdwn" at the top of the file; did you mean "shutdown"?`; !errors.As(err, new(config.Errors)) || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	if a.config != before || a.level.Level().String() != "INFO" || a.clusters()[0].Status().Generation != 1 {
		t.Error("got something changed by an invalid configuration")
	}
	wantAlive(t, client)
	wantAlive(t, enter(t, a.address, "new"))
	a.wantMetric(`mqttlb_config_reloads_total{result="failure"} 1`)
	a.wantMetric("mqttlb_config_last_reload_successful 0")
	a.wantLog(`level=ERROR msg="the configuration is invalid; nothing has changed" instance=host error="mqttlb.yaml:5:1: `)

	a.rewrite(appYAML("", broker.Addr()))
	if err := a.reload(t.Context()); err != nil {
		t.Errorf("got error %v for a valid configuration, want none", err)
	}
	a.wantMetric("mqttlb_config_last_reload_successful 1")
}

// With flags there is no file to read again.
func TestReloadWithoutFile(t *testing.T) {
	t.Parallel()
	a := startApp(t, appYAML("", "127.0.0.1:1"))
	a.app.load = nil
	if err := a.reload(t.Context()); err == nil || err.Error() != "mqttlb was started without a configuration file; there is nothing to reload" {
		t.Errorf("got %v, want an error", err)
	}
}

// The admin API reloads as well, for those who may.
func TestReloadOverTheAPI(t *testing.T) {
	t.Parallel()
	a := startApp(t, appYAML("", "127.0.0.1:1"))
	client := &http.Client{Timeout: appPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Post(a.admin+"/api/v1/reload", "application/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusUnauthorized {
		t.Errorf("got status %d without a token, want it forbidden", r.StatusCode)
	}
	a.wantMetric(`mqttlb_config_reloads_total{result="success"} 1`)
}

// Settings that a reload cannot change are named, each once.
func TestNeedRestart(t *testing.T) {
	t.Parallel()
	const base = `listeners: [{name: mqtt, address: ":1883", cluster: one}]
clusters: [{name: one, discovery: {static: [{address: "10.0.0.1:1883"}]}}, {name: two, discovery: {static: [{address: "10.0.0.2:1883"}]}}]
`
	for _, c := range []struct {
		name, from, to string
		want           []string
	}{
		{"nothing", "", "", nil},
		{"log level", "", "log: {level: debug}", nil},
		{"shutdown", "", "shutdown: {grace: 1s}", nil},
		{"backends", "10.0.0.1:1883", "10.0.0.9:1883", nil},
		{"listener address", ":1883\", cluster", ":1884\", cluster", nil},
		{"another listener", "cluster: one}]", "cluster: one}, {address: \":1884\", cluster: two}]", nil},
		{"placement", "{name: one, ", "{name: one, placement: {strategy: round-robin}, ", nil},
		{"instance name", "", "instance: {name: other}", []string{"instance.name"}},
		{"hash key", "", "instance: {hash_key: secret}", []string{"instance.hash_key"}},
		{"one of two", "", "instance: {index: 1, count: 2}", []string{"instance.index", "instance.count"}},
		{"log format", "", "log: {format: json, level: debug}", []string{"log.format"}},
		{"admin", "", "admin: {address: \"127.0.0.1:9181\", socket: /run/x.sock}", []string{"admin.address", "admin.socket"}},
		{"all", "", "instance: {name: other}\nlog: {clients: false}\nadmin: {address: \"\"}\nshutdown: {drain: 1s}", []string{"instance.name", "log.clients", "admin.address"}},
	} {
		old, err := parse(base)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(base, c.from, c.to, 1)
		if c.from == "" {
			changed = base + c.to
		}
		next, err := parse(changed)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := needRestart(old, next); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if got := needRestart(next, old); !slices.Equal(got, c.want) {
			t.Errorf("%s, the other way round: got %q, want %q", c.name, got, c.want)
		}
		keepWhatNeedsRestart(old, next)
		if got := needRestart(old, next); got != nil {
			t.Errorf("%s: got %q after they were kept, want none", c.name, got)
		}
	}
}

// Whoever adds a setting of the whole process decides whether a reload takes it over: it does, or it is said to need a
// restart.
func TestEverySettingIsReloadedOrNamed(t *testing.T) {
	t.Parallel()
	reloaded := []string{"log.level", "shutdown.grace", "shutdown.drain"}
	var named []string
	for _, r := range restarts(new(config.Config)) {
		named = append(named, r.name)
	}
	for section := range reflect.TypeFor[config.Config]().Fields() {
		if section.Type.Kind() != reflect.Struct {
			continue // listeners and clusters are reloaded as a whole
		}
		for key := range section.Type.Fields() {
			name := section.Tag.Get("yaml") + "." + key.Tag.Get("yaml")
			if slices.Contains(named, name) == slices.Contains(reloaded, name) {
				t.Errorf("got %s neither reloaded nor named, or both", name)
			}
		}
	}
}

// Until that restart, what was said to need one stays as it was, and everything else is taken over.
func TestReloadLeavesTheRest(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	a := startApp(t, appYAML("shutdown: {grace: 1h}", broker.Addr()))
	a.rewrite(appYAML("shutdown: {grace: 0s}\ninstance: {name: other}\nlog: {format: json, level: debug}", broker.Addr()))
	if err := a.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, setting := range []string{"instance.name", "log.format"} {
		a.wantLog(`level=WARN msg="a changed setting takes effect only after a restart" instance=host setting=` + setting)
	}
	if a.level.Level().String() != "DEBUG" {
		t.Errorf("got level %v, want DEBUG: it needs no restart", a.level.Level())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	a.shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("got the shutdown.grace from the start, want the new one")
	}
	if err := a.reload(t.Context()); err == nil || err.Error() != "mqttlb is stopping; nothing is reloaded any more" {
		t.Errorf("got %v, want an error: it has stopped", err)
	}
}

// The warning compares with what runs: it comes back with every reload until the restart, and goes when the
// change is taken back.
func TestReloadComparesWithWhatRuns(t *testing.T) {
	t.Parallel()
	broker := startBroker(t)
	started := appYAML("", broker.Addr())
	a := startApp(t, started)
	warnings := func() int { return strings.Count(a.log.String(), "takes effect only after a restart") }
	for i, step := range []struct {
		yaml string
		want int
	}{
		{started, 0},
		{appYAML("instance: {name: other}", broker.Addr()), 1},
		{appYAML("instance: {name: other}", broker.Addr()), 2},
		{started, 2},
	} {
		a.rewrite(step.yaml)
		if err := a.reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := warnings(); got != step.want {
			t.Errorf("after reload %d: got %d warnings, want %d", i+1, got, step.want)
		}
	}
}
