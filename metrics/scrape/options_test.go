package scrape

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestNewErrors(t *testing.T) {
	t.Parallel()
	base := Options{URL: "http://x/", Figures: []FigureOptions{{Metric: "m"}}, Clock: func() int64 { return 1 }, OnReading: func(Reading) {}}
	for _, test := range []struct {
		name   string
		change func(*Options)
		want   string
	}{
		{"fine", func(*Options) {}, ``},
		{"hot only", func(o *Options) { o.Figures, o.Hot = nil, "m" }, ``},
		{"preset and own url", func(o *Options) { o.Preset, o.Figures = "emqx", nil }, ``},
		{"long interval", func(o *Options) { o.Interval = time.Hour }, ``},
		{"nothing", func(o *Options) { *o = Options{} }, "both OnReading and Clock must be set\n" +
			"url must be set without a preset; write one like http://{host}:9399/metrics\n" +
			"figures must be set without a preset; write {metric: NAME, scale: VALUE-THAT-MEANS-FULLY-LOADED}"},
		{
			"preset", func(o *Options) { *o = Options{Preset: "mosquitto", Clock: o.Clock, OnReading: o.OnReading} },
			`preset "mosquitto" is none; the presets are hivemq, emqx, rabbitmq, vernemq, prometheus`,
		},
		{"url", func(o *Options) { o.URL = "{host}" }, `url "1" is no URL of metrics; write one like http://{host}:9399/metrics`},
		{"interval", func(o *Options) { o.Interval = time.Millisecond }, "interval must be from 1s to 1h0m0s, got 1ms"},
		{"timeout", func(o *Options) { o.Timeout = time.Minute }, "timeout must be from 1ms to 15s, got 1m0s"},
		{"window", func(o *Options) { o.Window = time.Second }, "window must be from 15s to 4h10m0s, got 1s"},
		{"window and interval", func(o *Options) { o.Interval, o.Window = time.Second, time.Hour }, "window must be from 1s to 16m40s, got 1h0m0s"},
		{
			"metric", func(o *Options) { o.Figures = []FigureOptions{{Metric: "m"}, {Metric: "avg(m)"}} },
			`figures[1].metric "avg(m)", character 1: unknown function avg; write METRIC, whose series are summed, or rate(METRIC)`,
		},
		{"scale", func(o *Options) { o.Figures[0].Scale = -1 }, "figures[0].scale must be from 1e-09 to 1e+15, got -1; it is the value that means fully loaded"},
		{"scale is no number", func(o *Options) { o.Figures[0].Scale = math.NaN() }, "figures[0].scale must be from 1e-09 to 1e+15, got NaN; it is the value that means fully loaded"},
		{"weight", func(o *Options) { o.Figures[0].Weight = math.Inf(1) }, "figures[0].weight must be from 1e-09 to 1e+15, got +Inf; leave the figure out if it should not count"},
		{"figures", func(o *Options) { o.Figures = slices.Repeat(o.Figures, 33) }, "figures are 33, the most is 32"},
		{"hot", func(o *Options) { o.Hot = "m[" }, `hot.metric "m[", character 2: a range is of no use here; write rate(METRIC) for a counter, window is the time of the mean`},
		{"limits", func(o *Options) { o.MaxBody = -1 }, "none of Concurrency, MaxBody and MaxSeries may be negative"},
		{"two credentials", func(o *Options) { o.BearerTokenFile, o.Username = "/x", "me" }, "bearer_token_file cannot be combined with username and password_file"},
		{"half credentials", func(o *Options) { o.Username = "me" }, "password_file and username belong together: set both or none"},
		{"no file", func(o *Options) { o.BearerTokenFile = "/nowhere/token" }, "bearer_token_file token file: open /nowhere/token: no such file or directory"},
	} {
		o := base
		o.Figures = slices.Clone(base.Figures)
		test.change(&o)
		_, err := New(o)
		if got := text(err); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// TestNewErrorsByField is how a configuration finds the place of an error.
func TestNewErrorsByField(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Preset: "hivemq", Interval: 1, Hot: "-", Clock: func() int64 { return 1 }, OnReading: func(Reading) {}})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%T is no join", err)
	}
	var fields []string
	for _, err := range joined.Unwrap() {
		if e, ok := errors.AsType[*FieldError](err); ok && e.Msg != "" {
			fields = append(fields, e.Field)
		}
	}
	if want := []string{"interval", "hot.metric"}; !slices.Equal(fields, want) {
		t.Errorf("got %v, want %v", fields, want)
	}
}
