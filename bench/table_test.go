package main

import (
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	tests := []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	}
	for _, test := range tests {
		if got := median(test.values); got != test.want {
			t.Errorf("median(%v): got %v, want %v", test.values, got, test.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing: got %v, want NaN", got)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0.000", 0.0346: "0.035", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 99.96: "100.0", 12345: "12345", -56.78: "-56.8",
		math.NaN(): nothing, math.Inf(1): nothing,
	} {
		if got := format(v); got != want {
			t.Errorf("format(%v): got %q, want %q", v, got, want)
		}
	}
}

// measurements are those of a run in which HAProxy needs 10 µs per round trip, nginx 8 and mqttlb 6.
func measurements() results {
	one := func(system string, round int, cpu, p50 time.Duration) cell {
		return cell{Scenario: "pingpong-1000", System: system, Round: round, Result: loadResult{
			usage: usage{Elapsed: time.Second, CPU: 1000 * cpu}, Work: 1000, P50: p50, P99: 2 * p50,
		}}
	}
	const µs, ms = time.Microsecond, time.Millisecond
	return results{
		one(direct, 1, 0, 4*ms), one(haproxy, 1, 10*µs, 9*ms), one(nginx, 1, 8*µs, 8*ms), one(mqttlb, 1, 6*µs, 7*ms),
		one(mqttlb, 2, 7*µs, 20*ms), one(mqttlb, 3, 5*µs, 5*ms),
	}
}

func TestWriteTable(t *testing.T) {
	t.Parallel()
	p := fullPlan()
	if err := p.narrow("pingpong-1000"); err != nil {
		t.Fatal(err)
	}
	const want = `
                                    direct  HAProxy  nginx  Envoy  mqttlb     ±  ÷ HAProxy  ÷ nginx  ÷ Envoy  target
                                             2.6.12     1.22.1

1000 connections, one message under way on each
  CPU per message              µs        –     5.00   4.00      –    3.00  17 %       0.60     0.75        –  ≤ 0.85 × HAProxy, ≤ 1 × nginx  ✓
  round trips                  k/s    1.00     1.00   1.00      –    1.00             1.00     1.00        –
  latency, p50                 ms     4.00     9.00   8.00      –    7.00 107 %       0.78     0.88        –
  latency, p99                 ms     8.00     18.0   16.0      –    14.0 107 %       0.78     0.88        –
  added latency, p50           ms        –     5.00   4.00      –    3.00 250 %       0.60     0.75        –  ≤ 1 × HAProxy                  ✓
  added latency, p99           ms        –     10.0   8.00      –    6.00 250 %       0.60     0.75        –  ≤ 1 × HAProxy                  ✓
`
	var got strings.Builder
	got.WriteString("\n")
	writeTable(&got, measurements(), &p, map[string]string{haproxy: "2.6.12", nginx: "1.22.1"})
	fields := func(s string) string { return strings.Join(strings.Fields(s), " ") }
	if fields(got.String()) != fields(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	widths := make(map[int]bool)
	for line := range strings.Lines(got.String()) {
		if before, _, found := strings.Cut(line, "≤"); found {
			widths[utf8.RuneCountInString(before)] = true
		}
	}
	if len(widths) != 1 {
		t.Errorf("the targets stand in %d columns, want one:\n%s", len(widths), got.String())
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	figure := func(_ results, system string) float64 {
		return map[string]float64{haproxy: 10, nginx: 5, mqttlb: 6, direct: -1}[system]
	}
	tests := []struct {
		name    string
		targets []target
		want    string
	}{
		{"none", nil, ""},
		{"met", []target{against(haproxy, 0.6)}, "✓"},
		{"missed", []target{against(haproxy, 0.59)}, "✗"},
		{"one of two", []target{against(haproxy, 0.9), against(nginx, 1)}, "✗"},
		{"value", []target{own(6)}, "✓"},
		{"no ratio", []target{against(direct, 1)}, nothing},
	}
	for _, test := range tests {
		if got := (row{figure: figure, targets: test.targets}).verdict(nil); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
	for _, w := range rows {
		if w.targets != nil && w.verdict(nil) != nothing {
			t.Errorf("%s, %s: got %q without a measurement, want %q", w.scenario, w.label, w.verdict(nil), nothing)
		}
	}
}

func TestRowsBelongToScenarios(t *testing.T) {
	t.Parallel()
	known := make(map[string]bool)
	for _, s := range scenarios {
		known[s.name] = true
	}
	for _, w := range rows {
		if !known[w.scenario] {
			t.Errorf("row %q belongs to %q, which is no scenario", w.label, w.scenario)
		}
	}
}
