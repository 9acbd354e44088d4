package main

import (
	"math"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseNotes(t *testing.T) {
	t.Parallel()
	n, err := parseNotes("# Notes\n\nfor readers\n\n## a: one\n\nfirst line\nsecond line\n\n## a: *\n\nall of them\n")
	if err != nil {
		t.Fatal(err)
	}
	for label, want := range map[string]string{"one": "first line second line", "two": "all of them"} {
		if got := n.of(row{scenario: "a", label: label}); got != want {
			t.Errorf("note of %s: got %q, want %q", label, got, want)
		}
	}
	if got := n.of(row{scenario: "b", label: "one"}); got != "" {
		t.Errorf("note of another scenario: got %q, want none", got)
	}
	if _, err := parseNotes("## a: one\nx\n## a: one\ny\n"); err == nil {
		t.Error("two notes for a row: got no error")
	}
}

// TestNotesBelongToRows finds notes that no reader would ever see.
func TestNotesBelongToRows(t *testing.T) {
	t.Parallel()
	n, err := readNotes(filepath.Join(resultsFolder, notesFile))
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for _, w := range rows {
		if known[w.key()] {
			t.Errorf("two rows have the key %q", w.key())
		}
		known[w.key()], known[w.scenario+": *"] = true, true
	}
	for key, text := range n {
		if !known[key] {
			t.Errorf("the note %q belongs to no row", key)
		}
		if text == "" {
			t.Errorf("the note %q is empty", key)
		}
	}
}

// rounds are measurements with so many µs of CPU time for each of 1000 round trips, by system and round.
func rounds(scenario string, cpu map[string][]int) results {
	var r results
	for system, values := range cpu {
		for i, v := range values {
			r = append(r, cell{Scenario: scenario, System: system, Round: i + 1, Result: loadResult{
				usage: usage{Elapsed: time.Second, CPU: time.Duration(v) * time.Millisecond}, Work: 1000,
			}})
		}
	}
	return r
}

func TestStanding(t *testing.T) {
	t.Parallel()
	cost := row{scenario: "bulk", label: "CPU", figure: of("bulk", cpuPerWork, micro)}
	rate := row{scenario: "bulk", label: "rate", more: true, figure: of("bulk", cpuPerWork, micro)}
	tests := []struct {
		name         string
		ours, theirs []int
		cost, rate   standing
	}{
		{"far apart", []int{10, 11, 12}, []int{20, 21, 22}, ahead, behind},
		{"near, rounds overlap", []int{95, 104, 110}, []int{90, 100, 105}, level, ahead},
		{"near, rounds apart", []int{104, 105, 106}, []int{99, 100, 101}, behind, ahead},
		{"overlap, but far apart", []int{90, 150, 160}, []int{80, 100, 140}, behind, ahead},
		{"the same", []int{5}, []int{5}, level, level},
		{"one round", []int{101}, []int{100}, behind, ahead},
		{"not measured", nil, []int{5}, unknown, unknown},
	}
	for _, test := range tests {
		r := rounds("bulk", map[string][]int{mqttlb: test.ours, haproxy: test.theirs})
		if got := cost.standing(r, haproxy); got != test.cost {
			t.Errorf("%s, cost: got %d, want %d", test.name, got, test.cost)
		}
		if got := rate.standing(r, haproxy); got != test.rate {
			t.Errorf("%s, rate: got %d, want %d", test.name, got, test.rate)
		}
	}
}

func TestSpread(t *testing.T) {
	t.Parallel()
	r := rounds("bulk", map[string][]int{mqttlb: {8, 6, 7}, nginx: {16, 6, 28}, direct: {1, 1, 1}})
	w := row{scenario: "bulk", figure: of("bulk", cpuPerWork, micro)}
	if got, want := w.spread(r, mqttlb), (spread{7, 6, 8}); !near(got, want) {
		t.Errorf("spread: got %+v, want %+v", got, want)
	}
	if got, want := w.ratioSpread(r, nginx), (spread{7.0 / 16, 0.25, 1}); !near(got, want) {
		t.Errorf("spread of the ratio: got %+v, want %+v", got, want)
	}
	if got := w.spread(r, haproxy); !math.IsNaN(got.Median) || got.text() != nothing {
		t.Errorf("spread of what was not measured: got %+v", got)
	}
	w.figure = added("bulk", cpuPerWork, micro)
	if got, want := w.spread(r, mqttlb), (spread{6, 5, 7}); !near(got, want) {
		t.Errorf("spread of what is added: got %+v, want %+v", got, want)
	}
}

func near(a, b spread) bool {
	const tolerance = 1e-9
	return math.Abs(a.Median-b.Median) < tolerance && math.Abs(a.Low-b.Low) < tolerance && math.Abs(a.High-b.High) < tolerance
}

func TestBehindIsListed(t *testing.T) {
	t.Parallel()
	p := fullPlan()
	if err := p.narrow("pingpong-50"); err != nil {
		t.Fatal(err)
	}
	b := &book{plan: &p, measured: rounds("pingpong-50", map[string][]int{mqttlb: {30}, haproxy: {20}, nginx: {40}}), notes: notes{}}
	missing := b.notes.missing(b.measured, &p)
	if len(missing) != 1 || missing[0] != "pingpong-50: CPU per message (HAProxy: 50 % more)" {
		t.Errorf("rows without a note: got %q", missing)
	}
	var page strings.Builder
	b.writeMarkdown(&page)
	if want := "| pingpong-50 | CPU per message | **HAProxy: 50 % more** | not explained yet |"; !strings.Contains(page.String(), want) {
		t.Errorf("the page lacks %q:\n%s", want, page.String())
	}

	b.notes["pingpong-50: CPU per message"] = "a reason"
	if missing := b.notes.missing(b.measured, &p); len(missing) > 0 {
		t.Errorf("rows without a note: got %q, want none", missing)
	}
	page.Reset()
	b.writeMarkdown(&page)
	if !strings.Contains(page.String(), "| a reason |") {
		t.Errorf("the page lacks the note:\n%s", page.String())
	}
}
