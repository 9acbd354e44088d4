package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// A book is everything that a run leaves behind.
type book struct {
	head     header
	plan     *plan
	measured results
	notes    notes
}

// writeMarkdown is the results' page: what was measured, the plots, the table, and where mqttlb is not ahead.
func (b *book) writeMarkdown(w io.Writer) {
	fmt.Fprintf(w, "# Results\n\nWritten by `make bench` (`go run . run` in bench); do not edit. Why mqttlb is not ahead in some rows is kept by hand in\n"+
		"[%s](%s). What the rows mean is in [../README.md](../README.md), every single measurement in [%s](%s).\n\n",
		notesFile, notesFile, resultFile, resultFile)
	h := b.head
	fmt.Fprintf(w, "| | |\n| --- | --- |\n")
	for _, line := range [][2]string{
		{"date", h.Date + ", " + h.Took.Round(time.Second).String()},
		{"machine", fmt.Sprintf("%s, %d cores, %s of memory", h.CPU, h.Cores, formatBytes(h.Memory))},
		{"system", "Linux " + h.Kernel + ", " + h.Go},
		{"commit of mqttlb", h.Commit},
		{"versions", h.versionText()},
		{"network", h.Network},
		{"measured", b.plan.String()},
		{"disturbance", b.measured.quality().text(len(b.measured))},
	} {
		fmt.Fprintf(w, "| %s | %s |\n", line[0], escapeCell(line[1]))
	}
	if b.plan.rounds == 1 {
		fmt.Fprintf(w, "\n**From one short round, to see that it works: these figures mean nothing.**\n")
	}
	fmt.Fprintf(w, "\n![%s](%s)\n\n![%s](%s)\n\n", ratiosTitle, ratiosFile, growthTitle, growthFile)

	fmt.Fprintf(w, "## Table\n\nMedians over the rounds, with the least and the most of the rounds in brackets. The columns with ÷ are mqttlb's figure\n"+
		"divided by the other's. Less is better, except in rows marked ↑.\n\n")
	for _, s := range b.plan.scenarios {
		b.writeScenario(w, s)
	}
	b.writeBehind(w)
}

func (b *book) writeScenario(w io.Writer, s scenario) {
	systems := b.shownSystems(s)
	lines := 0
	for _, row := range rows {
		if row.scenario != s.name || !row.known(b.measured, systems) {
			continue
		}
		if lines++; lines == 1 {
			head := []string{"", "unit"}
			for _, sys := range systems {
				head = append(head, titles[sys])
			}
			for _, other := range b.shownRivals(systems) {
				head = append(head, "÷ "+titles[other])
			}
			fmt.Fprintf(w, "### %s\n\n", s.title)
			fmt.Fprintf(w, "| %s |\n|%s\n", strings.Join(append(head, "target"), " | "),
				" --- | --- |"+strings.Repeat(" ---: |", len(head)-2)+" --- |")
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(b.rowCells(row, systems), " | "))
	}
	if lines > 0 {
		fmt.Fprintln(w)
	}
}

func (b *book) rowCells(w row, systems []string) []string {
	label := w.label
	if w.more {
		label += " ↑"
	}
	cells := []string{escapeCell(label), w.unit}
	for _, sys := range systems {
		cells = append(cells, w.spread(b.measured, sys).text())
	}
	for _, other := range b.shownRivals(systems) {
		text := formatRatio(ratio(w.figure(b.measured, mqttlb), w.figure(b.measured, other)))
		if w.standing(b.measured, other) == behind {
			text = "**" + text + "**"
		}
		cells = append(cells, text)
	}
	return append(cells, escapeCell(strings.TrimSpace(w.targetText()+" "+w.verdict(b.measured))))
}

// shownSystems are those of the plan that the scenario is measured with.
func (b *book) shownSystems(s scenario) []string {
	var shown []string
	for _, sys := range b.plan.systems {
		if s.takes(sys) && len(b.measured.rounds(s.name, sys)) > 0 {
			shown = append(shown, sys)
		}
	}
	return shown
}

func (b *book) shownRivals(systems []string) []string {
	var shown []string
	for _, sys := range systems {
		if sys != direct && sys != mqttlb {
			shown = append(shown, sys)
		}
	}
	return shown
}

// writeBehind lists the rows in which mqttlb is not ahead, with the reason.
func (b *book) writeBehind(w io.Writer) {
	fmt.Fprintf(w, "## Where mqttlb is not ahead\n\nBehind in bold. The others are level: less than %.0f %% apart, with rounds that overlap.\n\n",
		(levelRatio-1)*percent)
	fmt.Fprintf(w, "| scenario | figure | mqttlb beside | why |\n| --- | --- | --- | --- |\n")
	for _, row := range b.plan.rows() {
		var parts []string
		isBehind := false
		for _, other := range rivals {
			switch row.standing(b.measured, other) {
			case behind:
				isBehind = true
				parts = append(parts, "**"+row.behindText(b.measured, other)+"**")
			case level:
				parts = append(parts, row.behindText(b.measured, other))
			case unknown, ahead:
			}
		}
		if len(parts) == 0 {
			continue
		}
		why := b.notes.of(row)
		if why == "" && isBehind {
			why = "not explained yet"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", row.scenario, escapeCell(row.label), strings.Join(parts, "; "), escapeCell(why))
	}
}

// known says whether the row has a figure of any of the systems.
func (w row) known(r results, systems []string) bool {
	for _, sys := range systems {
		if !math.IsNaN(w.figure(r, sys)) {
			return true
		}
	}
	return false
}

// text is the median with the range, which is left out where there is none.
func (s spread) text() string {
	if math.IsNaN(s.Median) || s.Low == s.High || math.IsNaN(s.Low) {
		return format(s.Median)
	}
	return format(s.Median) + " (" + format(s.Low) + "–" + format(s.High) + ")"
}

// escapeCell keeps a text within its cell.
func escapeCell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
