package scrape

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// A step of a test is a scrape, seconds after the first one.
type step struct {
	at   int64
	page string // lines of it, separated by "; "
	want float64
	err  string // a part of it
}

const first = "a rate needs a second scrape"

func TestExpressionValues(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, metric string
		steps        []step
	}{
		{"a gauge", "m", []step{{0, "m 3", 3, ""}, {15, "m 4", 4, ""}}},
		{"a sum", "m", []step{{0, `m{a="1"} 1; m{a="2"} 2`, 3, ""}}},
		{"of some", `m{a!="1"}`, []step{{0, `m{a="1"} 1; m{a="2"} 2; m 4`, 6, ""}}},
		{"negative", "m", []step{{0, "m -1", -1, ""}}},
		{"not a number", "m", []step{{0, `m{a="1"} 1; m NaN`, 0, "m is NaN"}}},
		{"infinite", "m", []step{{0, "m +Inf", 0, "m is +Inf"}}},
		{"opposite infinities", "m", []step{{0, `m +Inf; m{a="1"} -Inf`, 0, "m is NaN"}}},
		{"too large to sum", "m", []step{{0, `m 1.7e308; m{a="1"} 1.7e308`, 0, "m is +Inf"}}},
		{"duplicates count once", "m", []step{{0, "m 1; m 2", 1, ""}}},
		{"missing", "m", []step{{0, "other 1; another 2", 0, "the metric m is not among the 2 samples of the page"}}},
		{"labels are missing", `m{a="x"}`, []step{{0, `m 1; m{a="y"} 2`, 0, `none of the 2 series of m has the labels of m{a="x"}`}}},
		{"a counter without rate", "m_total", []step{{0, "# TYPE m_total counter; m_total 5", 0, "m_total is a counter, which only rises; write rate(m_total)"}}},
		{"a count without rate", "m_count", []step{{0, "# TYPE m summary; m_count 5", 0, "m_count is a counter"}}},
		{"a gauge that is called a count", "m_count", []step{{0, "# TYPE m summary; # TYPE m_count gauge; m_count 5", 5, ""}}},
		{"a quantile", `m{quantile="0.5"}`, []step{{0, `# TYPE m summary; m{quantile="0.5"} 7`, 7, ""}}},

		{"a ratio", "m / n", []step{{0, "m 3; n 4", 0.75, ""}}},
		{"three terms", "m / n / o", []step{{0, "m 12; n 3; o 2", 2, ""}}},
		{"division by zero", "m / n", []step{{0, "m 3; n 0", 0, "m / n: n is 0 and cannot divide"}}},
		{"0 / 0", "m / n", []step{{0, "m 0; n 0", 0, "cannot divide"}}},
		{"overflow", "m / n", []step{{0, "m 1e300; n 1e-300", 0, "m / n is +Inf"}}},
		{"both are missing", "m / n", []step{{0, "o 1", 0, "metric m is not among the 1 samples of the page; the metric n is"}}},

		{"a rate", "rate(m)", []step{{0, "m 100", 0, first}, {10, "m 150", 5, ""}, {30, "m 150", 0, ""}, {40, "m 151", 0.1, ""}}},
		{"of a gauge that is a counter", "rate(m)", []step{{0, "# TYPE m gauge; m 100", 0, first}, {10, "# TYPE m gauge; m 150", 5, ""}}},
		{"reset", "rate(m)", []step{{0, "m 100", 0, first}, {10, "m 20", 2, ""}, {20, "m 30", 1, ""}}},
		{"reset to zero", "rate(m)", []step{{0, "m 100", 0, first}, {10, "m 0", 0, ""}}},
		{"one of two is reset", "rate(m)", []step{{0, `m{a="1"} 10; m{a="2"} 1000`, 0, first}, {10, `m{a="1"} 20; m{a="2"} 50`, 6, ""}}},
		{"a series appears", "rate(m)", []step{
			{0, `m{a="1"} 10`, 0, first},
			{10, `m{a="1"} 20; m{a="2"} 1000`, 1, ""},
			{20, `m{a="1"} 30; m{a="2"} 1010`, 2, ""},
		}},
		{"a series leaves and returns", "rate(m)", []step{
			{0, `m{a="1"} 10; m{a="2"} 10`, 0, first},
			{10, `m{a="1"} 20`, 1, ""},
			{20, `m{a="1"} 30; m{a="2"} 500`, 1, ""},
		}},
		{"all series are new", "rate(m)", []step{{0, `m{a="1"} 10`, 0, first}, {10, `m{a="2"} 20`, 0, first}, {20, `m{a="2"} 25`, 0.5, ""}}},
		{"after a gap", "rate(m)", []step{{0, "m 10", 0, first}, {300, "m 310", 1, ""}, {601, "m 10000", 0, first}, {611, "m 10010", 1, ""}}},
		{"the page is read twice at one time", "rate(m)", []step{{0, "m 10", 0, first}, {0, "m 20", 0, first}, {10, "m 30", 1, ""}}},
		{"missing once", "rate(m)", []step{{0, "m 10", 0, first}, {10, "o 1", 0, "metric m is not"}, {20, "m 20", 0, first}, {30, "m 40", 2, ""}}},
		{"not a number", "rate(m)", []step{{0, "m NaN", 0, "rate(m): a counter is NaN"}, {10, "m 5", 0, first}, {20, "m 15", 1, ""}}},
		{"negative", "rate(m)", []step{{0, "m 10", 0, first}, {10, "m -10", 0, "rate(m): a counter is -10"}}},
		{"infinite", "rate(m)", []step{{0, "m 10", 0, first}, {10, "m +Inf", 0, "a counter is +Inf"}}},

		{"a ratio of rates", "rate(m) / rate(n)", []step{{0, "m 10; n 10", 0, first}, {7, "m 15; n 30", 0.25, ""}, {8, "m 15; n 30", 0, "cannot divide"}}},
		{"every counter is noted", "rate(m) / n", []step{{0, "m 10; n NaN", 0, "n is NaN"}, {10, "m 60; n 5", 1, ""}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, err := parseExpression(test.metric)
			if err != nil {
				t.Fatal(err)
			}
			p := &plan{horizon: 300e9}
			p.add(e)
			h := &history{counters: make(map[*term]*counters)}
			for _, s := range test.steps {
				got, err := p.value(e, h, pageOf(t, p, s.page), 1e9*(s.at+1))
				checkValue(t, s, got, err)
			}
		})
	}
}

func pageOf(t *testing.T, p *plan, text string) *page {
	t.Helper()
	pg, err := readPage(strings.NewReader(strings.ReplaceAll(text, "; ", "\n")+"\n"), p.names, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return pg
}

func checkValue(t *testing.T, s step, got float64, err error) {
	t.Helper()
	switch {
	case s.err == "" && err != nil, s.err != "" && (err == nil || !strings.Contains(err.Error(), s.err)):
		t.Errorf("at %d: got error %v, want %q", s.at, err, s.err)
	case err == nil && math.Abs(got-s.want) > 1e-9*max(1, math.Abs(s.want)):
		t.Errorf("at %d: got %g, want %g", s.at, got, s.want)
	case s.err == first && !isFirst(err):
		t.Errorf("at %d: %v should pass by itself", s.at, err)
	}
}

func TestResetsAreCounted(t *testing.T) {
	t.Parallel()
	c := &counters{}
	var total uint64
	for i, v := range []float64{5, 4, 4, 10, 3} {
		_, resets, _ := c.observe([]series{{value: v}}, int64(i+1)*1e9, 300e9)
		total += resets
	}
	if total != 2 {
		t.Errorf("got %d resets, want 2", total)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		figures []FigureOptions
		step    step
	}{
		{"scale", []FigureOptions{{"m", 100, 0}}, step{0, "m 41.5", 0.415, ""}},
		{"overload is kept", []FigureOptions{{"m", 100, 0}}, step{0, "m 250", 2.5, ""}},
		{"weights", []FigureOptions{{"m", 1, 3}, {"n", 10, 1}}, step{0, "m 0.5; n 9", (3*0.5 + 0.9) / 4, ""}},
		{"one metric, two figures", []FigureOptions{{"m", 1, 0}, {"m", 2, 0}}, step{0, "m 1", 0.75, ""}},
		{"negative", []FigureOptions{{"m", 1, 0}}, step{0, "m -1", 0, "m is -1: a load cannot be negative"}},
		{"percent for a part", []FigureOptions{{"m", 1, 0}}, step{0, "m 41.5", 0, "m is 41.5, that is 41.5 times its scale of 1: set scale to the value that means fully loaded"}},
		{"ten times the scale is the most", []FigureOptions{{"m", 2, 0}}, step{0, "m 20", 10, ""}},
		{"one is missing", []FigureOptions{{"m", 1, 0}, {"n", 1, 0}}, step{0, "m 0.5", 0, "the metric n is not among the 1 samples of the page"}},
		{"a lasting error goes before one that passes", []FigureOptions{{"rate(m)", 1, 0}, {"n", 1, 0}}, step{0, "m 0.5", 0, "the metric n is not"}},
		{"only what passes", []FigureOptions{{"rate(m)", 1, 0}, {"n", 1, 0}}, step{0, "m 0.5; n 1", 0, first}},
	} {
		o := Options{URL: "http://x/", Figures: test.figures, Clock: func() int64 { return 1 }, OnReading: func(Reading) {}}
		_, p, err := o.settle()
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		h := &history{counters: make(map[*term]*counters)}
		got, err := p.load(h, pageOf(t, p, test.step.page), 1, make([]float64, len(p.figures)))
		t.Run(test.name, func(t *testing.T) { checkValue(t, test.step, got, err) })
	}
}

func TestJoin(t *testing.T) {
	t.Parallel()
	a, b := errors.New("a"), errors.New("b")
	for _, test := range []struct {
		errs []error
		want string
	}{
		{nil, ""},
		{[]error{a}, "a"},
		{[]error{a, b}, "a; b"},
		{[]error{errFirst, a}, "a"},
		{[]error{errFirst}, first},
		{[]error{errFirst, errFirst}, first + "; " + first},
	} {
		err := join(test.errs)
		if got := text(err); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
		for _, e := range test.errs {
			if strings.Contains(test.want, e.Error()) && !errors.Is(err, e) {
				t.Errorf("%q does not wrap %q", err, e)
			}
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
