package scrape

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestVersionOfAPage(t *testing.T) {
	t.Parallel()
	rabbit, err := os.ReadFile("testdata/rabbitmq_1.txt")
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("v", 65)
	for _, test := range []struct {
		name, metric, label, page, want, err string
	}{
		{"RabbitMQ", "rabbitmq_build_info", "rabbitmq_version", string(rabbit), "3.10.8", ""},
		{"another label of it", "rabbitmq_build_info", "erlang_version", string(rabbit), "25.2.3", ""},
		{"the first of several", "m", "v", `m{v="2"} 1; m{v="1"} 1`, "2", ""},
		{"the first that fits", `m{own="true"}`, "v", `m{v="2"} 1; m{v="1",own="true"} 1`, "1", ""},
		{"whatever the value", "m", "v", "# TYPE m counter; m{v=\"1\"} NaN", "1", ""},
		{"64 bytes", "m", "v", `m{v="` + long[:64] + `"} 1`, long[:64], ""},
		{"any letters", "m", "v", `m{v="5.0 β"} 1`, "5.0 β", ""},
		{"no metric", "m", "v", "other 1", "", "the metric m is not among the 1 samples of the page"},
		{"none that fits", `m{own="true"}`, "v", `m{v="2"} 1`, "", `none of the 1 series of m has the labels of m{own="true"}`},
		{"no label", "m", "v", `m{w="2"} 1`, "", "m has no label v, which would be the version"},
		{"empty", "m", "v", `m{v=""} 1`, "", "m has no label v, which would be the version"},
		{"too long", "m", "v", `m{v="` + long + `"} 1`, "", "the version of 65 bytes in the label v of m is too long, the most is 64"},
		{"two lines", "m", "v", `m{v="1\n2"} 1`, "", `the version "1\n2" in the label v of m cannot be printed`},
		{"an escape", "m", "v", "m{v=\"\x1b[2J\"} 1", "", `the version "\x1b[2J" in the label v of m cannot be printed`},
	} {
		s, err := New(Options{
			URL: "http://{host}/", Version: VersionOptions{Metric: test.metric, Label: test.label},
			Clock: func() int64 { return 1 }, OnReading: func(Reading) {},
		})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		text := test.page
		if !strings.HasSuffix(text, "\n") {
			text = strings.ReplaceAll(text, "; ", "\n") + "\n"
		}
		page, err := readPage(strings.NewReader(text), s.plan.names, 100)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		r := s.read(&target{name: "n"}, &fetched{page: page, at: 1})
		message := ""
		if r.Err != nil {
			message = r.Err.Error()
		}
		if r.Version != test.want || message != test.err {
			t.Errorf("%s: got version %q and error %q, want %q and %q", test.name, r.Version, message, test.want, test.err)
		}
	}
}

// The preset of RabbitMQ has a version, which the settings override in part or as a whole; a version alone is
// enough to read.
func TestVersionSettings(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		o    Options
		want string // the metric and the label, or the error
	}{
		{"preset", Options{Preset: "rabbitmq"}, "rabbitmq_build_info rabbitmq_version"},
		{"its metric", Options{Preset: "rabbitmq", Version: VersionOptions{Label: "erlang_version"}}, "rabbitmq_build_info erlang_version"},
		{"its label", Options{Preset: "rabbitmq", Version: VersionOptions{Metric: "mine"}}, "mine rabbitmq_version"},
		{"a preset without", Options{Preset: "vernemq"}, "none"},
		{"nothing else", Options{URL: "http://{host}/", Version: VersionOptions{Metric: `m{a="b"}`, Label: "v"}}, `m{a="b"} v`},
		{"no metric", Options{Preset: "hivemq", Version: VersionOptions{Label: "v"}}, "version.metric must be set, too: the metric whose label v is the version"},
		{"no label", Options{Preset: "hivemq", Version: VersionOptions{Metric: "m"}}, "version.label must be set, too: the label of m that is the version"},
		{"no name", Options{Preset: "hivemq", Version: VersionOptions{Metric: "m", Label: "a-b"}}, `version.label "a-b" is no name of a label, which has letters, digits and _ only`},
		{"no metric at all", Options{Preset: "hivemq", Version: VersionOptions{Metric: "m{", Label: "v"}}, `version.metric "m{", character 3: the name of a label must stand here: {LABEL="VALUE"}`},
		{"a rate", Options{Preset: "hivemq", Version: VersionOptions{Metric: "rate(m)", Label: "v"}}, `version.metric "rate(m)" must be one metric, NAME or NAME{LABEL="VALUE"}: not its value is the version but one of its labels`},
		{"a ratio", Options{Preset: "hivemq", Version: VersionOptions{Metric: "m / n", Label: "v"}}, `version.metric "m / n" must be one metric, NAME or NAME{LABEL="VALUE"}: not its value is the version but one of its labels`},
	} {
		test.o.Clock, test.o.OnReading = func() int64 { return 1 }, func(Reading) {}
		s, err := New(test.o)
		got := "none"
		switch {
		case err != nil:
			got = err.Error()
		case s.ReadsVersions():
			got = s.plan.version.series.text + " " + s.plan.version.label
		}
		if got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// A version that is missing harms no figure, and a figure that is missing harms no version.
func TestVersionsBesideFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(o *Options) { o.Version = VersionOptions{Metric: "build_info", Label: "version"} })
		f.page("n0", "m 0.5\nlevel 3\nbuild_info{version=\"5.0\"} 1\n")
		f.page("n1", "m 0.5\nlevel 3\n")
		f.page("n2", "level 3\nbuild_info{version=\"5.1\"} 1\n")
		f.Set(backends("n%d", 3))
		f.run(t)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		for i, want := range []struct {
			version string
			load    bool
			err     bool
		}{{"5.0", true, false}, {"", true, true}, {"5.1", false, true}} {
			r := f.of([]string{"n0", "n1", "n2"}[i])[0]
			if r.Version != want.version || (r.Util.At != 0) != want.load || (r.Err != nil) != want.err || r.Level.At == 0 {
				t.Errorf("n%d: got %+v, want %+v", i, r, want)
			}
		}
	})
}
