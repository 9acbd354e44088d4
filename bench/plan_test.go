package main

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestNarrow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		only      string
		scenarios string
		systems   string
	}{
		{"connect", "connect", "direct haproxy nginx envoy mqttlb"},
		{"growth", "pingpong-1000 paced-2000 growth-idle paced-2000-on-2000 paced-2000-on-4000 paced-2000-on-8000 " +
			"pingpong-2000 pingpong-4000 pingpong-8000", "direct haproxy nginx envoy mqttlb"},
		{"tls", "tls-connect tls-connect-12 tls-connect-rsa tls-connect-mlkem tls-pingpong tls-idle tls-idle-mlkem", "direct haproxy nginx envoy mqttlb"},
		{"nginx,haproxy,idle,pingpong-50", "pingpong-50 idle", "haproxy nginx"},
	}
	for _, test := range tests {
		p := fullPlan()
		if err := p.narrow(test.only); err != nil {
			t.Errorf("narrow(%q): %v", test.only, err)
		}
		var names []string
		for _, s := range p.scenarios {
			names = append(names, s.name)
		}
		if got := strings.Join(names, " "); got != test.scenarios {
			t.Errorf("narrow(%q): got scenarios %s, want %s", test.only, got, test.scenarios)
		}
		if got := strings.Join(p.systems, " "); got != test.systems {
			t.Errorf("narrow(%q): got systems %s, want %s", test.only, got, test.systems)
		}
	}
	p := fullPlan()
	if err := p.narrow("idle,squid"); !errors.Is(err, errUsage) || !strings.Contains(err.Error(), "squid") {
		t.Errorf("unknown name: got %v, want wrong usage", err)
	}
	if len(fullPlan().scenarios) != len(scenarios) || len(fullPlan().systems) != len(systemNames) {
		t.Error("narrowing one plan changed the next")
	}
}

func TestLoadArgsAreUnderstood(t *testing.T) {
	t.Parallel()
	p := quickPlan()
	for _, s := range p.scenarios {
		if s.measure != nil {
			continue
		}
		args := append(p.loadArgs(s, mqttlb), "-target", "127.0.0.1:1", "-proxy", joinPIDs([]int{1, 2}))
		c, err := parseLoad(s.mode, args[2:])
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if !slices.Equal(c.meter.proxy, []int{1, 2}) || c.duration <= 0 {
			t.Errorf("%s: got %+v", s.name, c)
		}
	}
	for _, bad := range []string{"-target x", "-target [::1]:1", "-proxy 0", "-level 3", "-payload 8", "-rate 0", "extra"} {
		if _, err := parseLoad(modePaced, strings.Fields(bad)); !errors.Is(err, errUsage) {
			t.Errorf("load paced %s: got %v, want wrong usage", bad, err)
		}
	}
}

func TestPlaceOn(t *testing.T) {
	t.Parallel()
	if p := placeOn(2, 2); p.proxy != nil || p.others != nil {
		t.Error("two cores for two threads: want that everybody shares them")
	}
	p := placeOn(8, 2)
	if p.proxy.Count() != 2 || p.others.Count() != 6 || !p.proxy.IsSet(1) || p.others.IsSet(1) {
		t.Errorf("eight cores for two threads: got %d for the proxy, %d for the others", p.proxy.Count(), p.others.Count())
	}
}

func TestWriteConfig(t *testing.T) {
	t.Parallel()
	config := proxyConfig{
		Listen: netip.MustParseAddrPort("127.0.0.1:1883"),
		Admin:  netip.MustParseAddrPort("127.0.0.1:9180"),
		Backends: []netip.AddrPort{
			netip.MustParseAddrPort("127.0.0.1:2001"), netip.MustParseAddrPort("127.0.0.1:2002"),
		},
		Threads: 2,
		Folder:  t.TempDir(),
	}
	for _, s := range []system{
		{template: "haproxy.cfg.tmpl"},
		{template: "nginx.conf.tmpl", module: "/lib/stream.so"},
		{name: envoy, template: "envoy.yaml.tmpl"},
		{template: "mqttlb.yaml.tmpl"},
	} {
		path, err := s.writeConfig(config)
		if err != nil {
			t.Errorf("%s: %v", s.template, err)
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"127.0.0.1:1883", "127.0.0.1:2001", "127.0.0.1:2002", s.module} {
			// Envoy has address and port apart.
			if _, port, is := strings.Cut(want, ":"); is && s.name == envoy {
				want = "port_value: " + port + "}"
			}
			if !strings.Contains(string(text), want) {
				t.Errorf("%s: %s is missing in\n%s", s.template, want, text)
			}
		}
	}
}

func TestStreamModule(t *testing.T) {
	t.Parallel()
	tests := []struct {
		said   string
		exists bool
		path   string
		found  bool
	}{
		{"configure arguments: --with-stream --with-threads", false, "", true},
		{"--modules-path=/m --with-stream=dynamic", true, "/m/ngx_stream_module.so", true},
		{"--modules-path=/m --with-stream=dynamic", false, "/m/ngx_stream_module.so", false},
		{"", true, "/usr/lib/nginx/modules/ngx_stream_module.so", true},
	}
	for _, test := range tests {
		path, found := streamModule(test.said, func(string) bool { return test.exists })
		if path != test.path || found != test.found {
			t.Errorf("%q: got %q, %v, want %q, %v", test.said, path, found, test.path, test.found)
		}
	}
}
