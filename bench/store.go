package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"
)

// The files of a results folder. Their names have no date: a new run replaces the old.
const (
	resultFile = "result.json"
	pageFile   = "README.md"
	ratiosFile = "ratios.svg"
	growthFile = "growth.svg"
)

// store writes the page, the plots and the measurements into a folder, where the notes are.
func (b *book) store(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var page, ratios, growth bytes.Buffer
	b.writeMarkdown(&page)
	b.plotRatios(&ratios)
	b.plotGrowth(&growth)
	measurements, err := b.encode()
	if err != nil {
		return err
	}
	var errs []error
	for name, text := range map[string][]byte{
		pageFile: page.Bytes(), ratiosFile: ratios.Bytes(), growthFile: growth.Bytes(), resultFile: measurements,
	} {
		errs = append(errs, os.WriteFile(filepath.Join(folder, name), text, 0o644))
	}
	return errors.Join(errs...)
}

// A rowReport is a row of the table for programs.
type rowReport struct {
	Scenario string             `json:"scenario"`
	Label    string             `json:"label"`
	Unit     string             `json:"unit"`
	Values   map[string]float64 `json:"values"` // by system
	Spread   map[string]spread  `json:"spread"` // by system
	Target   string             `json:"target,omitempty"`
	Verdict  string             `json:"verdict,omitempty"`
}

// A storedPlan is what is needed to know what a run has measured.
type storedPlan struct {
	Scenarios []string      `json:"scenarios"`
	Systems   []string      `json:"systems"`
	Rounds    int           `json:"rounds"`
	Warmup    time.Duration `json:"warmup_ns"`
	Duration  time.Duration `json:"duration_ns"`
	Idle      time.Duration `json:"idle_ns"`
}

// A storedBook is the form of the file.
type storedBook struct {
	Header  header      `json:"header"`
	Plan    storedPlan  `json:"plan"`
	Quality quality     `json:"quality"`
	Table   []rowReport `json:"table"`
	Cells   results     `json:"measurements"`
}

// encode is the book as JSON with a line for each row and each measurement.
func (b *book) encode() ([]byte, error) {
	p := storedPlan{
		Systems: b.plan.systems, Rounds: b.plan.rounds, Warmup: b.plan.warmup, Duration: b.plan.duration, Idle: b.plan.idle,
	}
	for _, s := range b.plan.scenarios {
		p.Scenarios = append(p.Scenarios, s.name)
	}
	var out bytes.Buffer
	out.WriteString("{")
	var errs []error
	put := func(v any) {
		text, err := json.Marshal(v)
		errs = append(errs, err)
		out.Write(text)
	}
	out.WriteString(`"header": `)
	put(b.head)
	out.WriteString(",\n\"plan\": ")
	put(p)
	out.WriteString(",\n\"quality\": ")
	put(b.measured.quality())
	out.WriteString(",\n\"table\": [")
	for i, row := range b.plan.rows() {
		out.WriteString(separator(i))
		put(b.report(row))
	}
	out.WriteString("\n],\n\"measurements\": [")
	for i, c := range b.measured {
		out.WriteString(separator(i))
		put(c)
	}
	out.WriteString("\n]}\n")
	return out.Bytes(), errors.Join(errs...)
}

func separator(i int) string {
	if i == 0 {
		return "\n"
	}
	return ",\n"
}

func (b *book) report(w row) rowReport {
	one := rowReport{
		Scenario: w.scenario, Label: w.label, Unit: w.unit, Values: make(map[string]float64), Spread: make(map[string]spread),
		Target: w.targetText(), Verdict: w.verdict(b.measured),
	}
	for _, sys := range b.plan.systems {
		s := w.spread(b.measured, sys)
		if finite(s.Median) {
			one.Values[sys] = s.Median
		}
		if finite(s.Median) && finite(s.Low) && finite(s.High) {
			one.Spread[sys] = s
		}
	}
	return one
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }

// readBook reads what store has written. Scenarios that there are no more are left out.
func readBook(path string) (*book, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s storedBook
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &plan{systems: s.Plan.Systems, rounds: s.Plan.Rounds, warmup: s.Plan.Warmup, duration: s.Plan.Duration, idle: s.Plan.Idle}
	for _, one := range scenarios {
		for _, name := range s.Plan.Scenarios {
			if one.name == name {
				p.scenarios = append(p.scenarios, one)
			}
		}
	}
	return &book{head: s.Header, plan: p, measured: s.Cells}, nil
}
