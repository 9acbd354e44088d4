package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// someBook has a figure of each kind that the plots know.
func someBook() *book {
	p := fullPlan()
	measured := measurements()
	for _, sys := range proxies {
		measured = append(measured, cell{Scenario: growthIdle(0), System: sys, Round: 1, Result: loadResult{Figures: map[string]float64{
			sized(residentAt, 1000): 500, sized(residentAt, 8000): 450, sized(idleCPUAt, 1000): 12, sized(kernelAt, 1000): -5,
		}}})
	}
	return &book{
		head: header{CPU: "a CPU", Commit: "0123456789ab", Versions: map[string]string{nginx: "1.22.1"}},
		plan: &p, measured: measured, notes: notes{},
	}
}

func TestStoreAndReadBack(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "results")
	if err := someBook().store(folder); err != nil {
		t.Fatal(err)
	}
	first := readFiles(t, folder)
	for name, wants := range map[string][]string{
		pageFile:   {"a CPU", "0123456789ab", "nginx 1.22.1", "3.00 (2.50–3.50)", ratiosFile, growthFile},
		ratiosFile: {"HAProxy", "CPU per message", "prefers-color-scheme: dark", "bar-nginx"},
		growthFile: {"resident memory per connection", "connections", "8000", "line-mqttlb"},
		resultFile: {`"commit":"0123456789ab"`},
	} {
		for _, want := range wants {
			if !strings.Contains(first[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, first[name])
			}
		}
	}
	for _, name := range []string{ratiosFile, growthFile} {
		if err := wellFormed(first[name]); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(first[name], "NaN") || strings.Contains(first[name], "Inf") {
			t.Errorf("%s has a place that is no number:\n%s", name, first[name])
		}
	}

	again, err := readBook(filepath.Join(folder, resultFile))
	if err != nil {
		t.Fatal(err)
	}
	again.notes = notes{}
	if err := again.store(folder); err != nil {
		t.Fatal(err)
	}
	for name, text := range readFiles(t, folder) {
		if text != first[name] {
			t.Errorf("%s differs after it was read back:\n%s\nwant\n%s", name, text, first[name])
		}
	}
}

func readFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, name := range []string{pageFile, ratiosFile, growthFile, resultFile} {
		text, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	return files
}

func wellFormed(text string) error {
	for decoder := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func TestPublishKeepsEarlierResults(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	folder := t.TempDir()
	page := filepath.Join(folder, pageFile)
	if err := os.WriteFile(page, []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := someBook().publish(folder, false, &out); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(page); err != nil || string(text) != "earlier" {
		t.Errorf("an incomplete run: the page is %q, %v, want the earlier one", text, err)
	}
	if !strings.Contains(out.String(), "bench report -from") {
		t.Errorf("an incomplete run does not say where its measurements are:\n%s", out.String())
	}
	if err := someBook().publish(folder, true, &out); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "a CPU") {
		t.Errorf("a complete run: the page is %q, %v", text, err)
	}
}

func TestWhereResultsGo(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                       resultsFolder,
		"-rounds 3":              resultsFolder,
		"-quick":                 "",
		"-only bulk":             "",
		"-quick -results here":   "here",
		"-only idle -results it": "it",
	} {
		o, err := parseRun(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if o.results != want || o.asked != strings.Contains(args, "-results") {
			t.Errorf("run %s: results go to %q, asked for: %v; want %q", args, o.results, o.asked, want)
		}
	}
}

func TestAxisStep(t *testing.T) {
	t.Parallel()
	for most, want := range map[float64]float64{0: 1, 1: 0.2, 18_000: 2000, 35: 5, 80: 20, 0.9: 0.2} {
		if got := axisStep(most); got < want*0.999 || got > want*1.001 {
			t.Errorf("axis up to %v: got steps of %v, want %v", most, got, want)
		}
	}
}
