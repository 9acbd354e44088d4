package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// nothing stands where there is no figure.
const nothing = "–"

// titles of the systems in the table.
var titles = map[string]string{direct: "direct", haproxy: "HAProxy", nginx: "nginx", envoy: "Envoy", mqttlb: "mqttlb"}

// writeTable prints the rows of the scenarios that were measured: a column per system, then mqttlb's ratios to the
// others, the target, and whether it is met.
func writeTable(w io.Writer, r results, plan *plan, versions map[string]string) {
	head := []string{"", ""}
	second := []string{"", ""}
	for _, s := range plan.systems {
		head = append(head, titles[s])
		second = append(second, versions[s])
	}
	head, second = append(head, "±"), append(second, "")
	for _, other := range rivals {
		head, second = append(head, "÷ "+titles[other]), append(second, "")
	}
	head, second = append(head, "target", ""), append(second, "", "")

	lines := [][]string{head, second}
	for _, s := range plan.scenarios {
		lines = append(lines, nil, []string{s.title})
		for _, row := range rows {
			if row.scenario == s.name {
				lines = append(lines, row.cells(r, plan.systems))
			}
		}
	}
	writeColumns(w, lines)
}

// cells is the row as text.
func (w row) cells(r results, systems []string) []string {
	cells := []string{"  " + w.label, w.unit}
	for _, s := range systems {
		cells = append(cells, format(w.figure(r, s)))
	}
	cells = append(cells, w.spread(r, mqttlb).percentText())
	value := w.figure(r, mqttlb)
	for _, other := range rivals {
		cells = append(cells, formatRatio(ratio(value, w.figure(r, other))))
	}
	return append(cells, w.targetText(), w.verdict(r))
}

func (w row) targetText() string {
	var parts []string
	for _, t := range w.targets {
		text := "≤ " + strconv.FormatFloat(t.limit, 'g', -1, 64)
		if t.against != "" {
			text += " × " + titles[t.against]
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// verdict is ✓ when all targets are met, ✗ when one is not.
func (w row) verdict(r results) string {
	if len(w.targets) == 0 {
		return ""
	}
	verdict := "✓"
	for _, t := range w.targets {
		met, known := t.met(r, w)
		if !known {
			return nothing
		}
		if !met {
			verdict = "✗"
		}
	}
	return verdict
}

// format prints three significant digits.
func format(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nothing
	}
	decimals := 0
	for size := math.Abs(v); decimals < 3 && size < 100; decimals++ {
		size *= 10
	}
	return strconv.FormatFloat(v, 'f', decimals, 64)
}

// percentText is half the range in terms of the median.
func (s spread) percentText() string {
	half := ratio((s.High-s.Low)/2, s.Median)
	if !finite(half) {
		return ""
	}
	return strconv.FormatFloat(percent*half, 'f', 0, 64) + " %"
}

func formatRatio(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nothing
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// writeColumns aligns cells: the first two and the last two columns to the left, figures to the right. A line of one cell
// is a title and has no columns.
func writeColumns(w io.Writer, lines [][]string) {
	var widths []int
	for _, cells := range lines {
		if len(cells) < 2 {
			continue
		}
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range lines {
		if len(cells) < 2 {
			fmt.Fprintln(w, strings.Join(cells, ""))
			continue
		}
		var line strings.Builder
		for i, c := range cells {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if i < 2 || i >= len(cells)-2 {
				line.WriteString(c + padding + "  ")
			} else {
				line.WriteString(padding + c + "  ")
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}
