package main

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// This file turns a demoState into lines of text. It knows neither terminals nor time.

// A demoStyle is an ANSI style. Only the eight colours that every terminal lets its user choose are used,
// and never as the only sign of anything.
type demoStyle string

const (
	demoPlain  demoStyle = ""
	demoBold   demoStyle = "1"
	demoDim    demoStyle = "2"
	demoRed    demoStyle = "31"
	demoGreen  demoStyle = "32"
	demoYellow demoStyle = "33"
	demoCyan   demoStyle = "36"
)

// A demoSpan is a piece of text in one style, a demoLine a row of them.
type demoSpan struct {
	text  string
	style demoStyle
}

type demoLine []demoSpan

// paint cuts the line to width and returns it as text.
func (l demoLine) paint(width int, colour bool) string {
	var b strings.Builder
	for _, s := range l {
		text := []rune(s.text)
		text = text[:min(len(text), width)]
		width -= len(text)
		if colour && s.style != demoPlain && len(text) > 0 {
			fmt.Fprintf(&b, "\x1b[%sm%s\x1b[0m", s.style, string(text))
		} else {
			b.WriteString(string(text))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

const (
	demoMaxWidth = 110 // wider is not easier to read
	demoMinBar   = 8
	demoMaxBar   = 60
)

// demoTable draws the picture: who sits where now. The events beneath it are the last that fit into height.
func demoTable(p *demoState, width, height int) []demoLine {
	width = min(width, demoMaxWidth)
	lines := demoTitle(p)
	lines[0] = demoProgress(p, lines[0], width)
	lines = append(lines, nil)
	lines = append(lines, demoRows(p, width)...)
	lines = append(lines, nil)
	lines = append(lines, demoFigures(p)...)
	lines = append(lines, nil)
	events := p.Events
	if room := max(1, height-len(lines)); len(events) > room {
		events = events[len(events)-room:]
	}
	for _, e := range events {
		lines = append(lines, demoLine{{"  " + demoClock(e.At), demoDim}, {"  " + e.Text, demoPlain}})
	}
	return lines
}

// demoTitle says what is shown.
func demoTitle(p *demoState) []demoLine {
	const name = "mqttlb demo"
	lines := []demoLine{{{name, demoBold}, {fmt.Sprintf("  %s → %s → %d brokers", demoClients(p.Clients), p.Address, len(p.Brokers)), demoPlain}}}
	if p.Admin != "" {
		lines = append(lines, demoLine{{strings.Repeat(" ", len(name)+2) + "operators look at http://" + p.Admin, demoDim}})
	}
	return lines
}

// demoProgress says how far the story is, at the right end of a line of this width.
func demoProgress(p *demoState, before demoLine, width int) demoLine {
	clock := fmt.Sprintf("%d s, Ctrl-C ends it", p.At/time.Second)
	if p.Of > 0 {
		clock = fmt.Sprintf("%d of %d s", p.At/time.Second, p.Of/time.Second)
	}
	for _, s := range before {
		width -= utf8.RuneCountInString(s.text)
	}
	return append(before, demoSpan{fmt.Sprintf("  %*s", width-2, clock), demoDim})
}

// demoRows is the table of the brokers, with what its bars mean beneath.
func demoRows(p *demoState, width int) []demoLine {
	const left, right = "  %-9s  %-5s  %7s  ", "  %7s  %7s"
	leftWidth := len(fmt.Sprintf(left, "", "", ""))
	bar := min(max(width-leftWidth-len(fmt.Sprintf(right, "", "")), demoMinBar), demoMaxBar)
	head := fmt.Sprintf(left, "broker", "state", "clients") + strings.Repeat(" ", bar) + fmt.Sprintf(right, "in/s", "out/s")
	lines := []demoLine{{{head, demoDim}}}
	scale := p.scale()
	for _, b := range p.Brokers {
		state, style := "up", demoGreen
		if b.Gone {
			state, style = "gone", demoRed
		}
		row := fmt.Sprintf(left, b.Name, state, count(b.Clients))
		before, after, _ := strings.Cut(row, state)
		line := demoLine{{before, demoPlain}, {state, style}, {after, demoPlain}}
		line = append(line, demoBar(b, scale, bar)...)
		lines = append(lines, append(line, demoSpan{fmt.Sprintf(right, demoPerSecond(b.In), demoPerSecond(b.Out)), demoPlain}))
	}
	return append(lines, demoLine{
		{strings.Repeat(" ", leftWidth), demoPlain},
		{"█", demoCyan},
		{" at home  ", demoDim},
		{"▒", demoYellow},
		{" guest  · its own, elsewhere", demoDim},
	})
}

func demoPerSecond(rate float64) string { return count(int(math.Round(rate))) }

// scale is how many clients a full bar stands for: as many as a broker has when one is missing, or more if
// one has more. It hardly ever changes, so bars can be compared over time.
func (p *demoState) scale() float64 {
	full := float64(p.Clients) / float64(len(p.Brokers)-1)
	for _, b := range p.Brokers {
		full = max(full, float64(b.Own), float64(b.Clients))
	}
	return full * 1.05
}

// demoBar draws a broker's clients: those at home, then guests, then its own that are elsewhere.
func demoBar(b demoBroker, scale float64, width int) demoLine {
	cell := func(clients int) int { return min(int(float64(clients)/scale*float64(width)+0.5), width) }
	home, all := cell(b.AtHome), cell(b.Clients)
	own := max(all, cell(b.Clients+b.Own-b.AtHome))
	return demoLine{
		{strings.Repeat("█", home), demoCyan},
		{strings.Repeat("▒", all-home), demoYellow},
		{strings.Repeat("·", own-all), demoDim},
		{strings.Repeat(" ", width-own), demoPlain},
	}
}

// demoFigures are the totals, in columns of labels and numbers.
func demoFigures(p *demoState) []demoLine {
	type figure struct{ label, number string }
	t := p.Totals
	columns := [][]figure{
		{{"connected", count(p.Seated)}, {"at home", count(p.AtHome)}, {"moved away", count(t.Fled + t.Spilled)}, {"returned", count(t.Returned)}},
		{{"connects", count(t.Connects)}, {"same broker", count(t.Faithful)}, {"lost", count(t.Lost)}, {"sticky", percent(p.Sticky)}},
		{{"published", count(t.Published)}, {"delivered", count(t.Delivered)}, {"across", count(t.Crossed)}},
	}
	lines := make([]demoLine, len(columns[0]))
	for _, column := range columns {
		label, number := 0, 0
		for _, f := range column {
			label, number = max(label, len(f.label)), max(number, len(f.number))
		}
		for i, f := range column {
			lines[i] = append(lines[i],
				demoSpan{fmt.Sprintf("  %-*s", label, f.label), demoDim},
				demoSpan{fmt.Sprintf("  %*s  ", number, f.number), demoPlain})
		}
	}
	return lines
}

// demoClock is a time of the story, aligned for those below 1000 s.
func demoClock(at time.Duration) string {
	return fmt.Sprintf("%-5s", fmt.Sprintf("t+%ds", at/time.Second))
}

// demoPulse is the picture in one line, for outputs that cannot be drawn upon.
func demoPulse(p *demoState) string {
	brokers := make([]string, len(p.Brokers))
	var in float64
	for i, b := range p.Brokers {
		in += b.In
		brokers[i] = b.Name + " " + count(b.Clients)
		if b.Gone {
			brokers[i] = b.Name + " gone"
		}
	}
	return fmt.Sprintf("%s  %s | %s of %s at home | %.0f messages/s",
		demoClock(p.At), strings.Join(brokers, ", "), count(p.AtHome), count(p.Clients), in)
}
