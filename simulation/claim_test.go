package simulation

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the table in docs/placement.md")

// long asks for more seeds and larger fleets. The figures then differ from those of the table.
func long() bool { return os.Getenv("LONG") != "" }

// times is n, or ten times as many in a long run.
func times(n int) int {
	if long() {
		return 10 * n
	}
	return n
}

// A claim is a statement about mqttlb, with the figures that prove it and the same figures of others.
type claim struct {
	test    string   // the test that proves it
	says    string   // the statement
	model   string   // what was simulated
	columns []string // who is compared; the statement is about the first
	figures []figure
}

// A figure is one line of a claim.
type figure struct {
	what     string
	decimals int
	unit     string
	limit    float64 // of the first value; absent for none
	least    bool    // the limit is the least instead of the most that is allowed
	values   []float64
}

// absent stands for a value or a limit that there is none of.
func absent() float64 { return math.NaN() }

// all is the claims in the order of the page. Each is computed once, whoever asks first.
func all() []func() claim {
	return []func() claim{
		scaleOut, smallJoin, rolling6, removal, drain, groupArrivals, groupLeases, groupRepair, smallGroups, instances,
		joining, fatClients, hotBroker, flapping, reaction,
	}
}

// skipRaced skips a test of the claims under the race detector.
func skipRaced(t *testing.T) {
	t.Helper()
	if raced {
		t.Skip("nothing here can race, and all claims together take minutes: run them without -race")
	}
}

// prove fails the test of a claim that does not hold.
func prove(t *testing.T, get func() claim) {
	t.Helper()
	t.Parallel()
	skipRaced(t)
	c := get()
	t.Logf("%s\n%s", c.says, c.table())
	if c.test != t.Name() {
		t.Errorf("the claim says that it is proved by %s", c.test)
	}
	for _, f := range c.figures {
		if len(f.values) != len(c.columns) {
			t.Fatalf("%s: got %d values, want %d", f.what, len(f.values), len(c.columns))
		}
		if !f.holds() {
			t.Errorf("%s: got %v, want %s", f.what, f.values[0], f.bound())
		}
	}
}

func (f figure) holds() bool {
	switch v := f.values[0]; {
	case math.IsNaN(f.limit):
		return true
	case f.least:
		return v >= f.limit-1e-9
	default:
		return v <= f.limit+1e-9
	}
}

func (f figure) bound() string {
	switch {
	case math.IsNaN(f.limit):
		return ""
	case f.least:
		return "≥ " + f.show(f.limit)
	default:
		return "≤ " + f.show(f.limit)
	}
}

func (f figure) show(v float64) string {
	switch {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 1):
		return "never"
	}
	number := strconv.FormatFloat(v, 'f', f.decimals, 64)
	if whole, _, _ := strings.Cut(number, "."); len(whole) > 4 { // 13 572
		for at := len(whole) - 3; at > 0; at -= 3 {
			number = number[:at] + " " + number[at:]
		}
	}
	return number + f.unit
}

// table is the figures as Markdown.
func (c claim) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | claimed | **%s** |", c.columns[0])
	for _, name := range c.columns[1:] {
		fmt.Fprintf(&b, " %s |", name)
	}
	fmt.Fprintf(&b, "\n|---|---|%s\n", strings.Repeat("---|", len(c.columns)))
	for _, f := range c.figures {
		fmt.Fprintf(&b, "| %s | %s | **%s** |", f.what, f.bound(), f.show(f.values[0]))
		for _, v := range f.values[1:] {
			fmt.Fprintf(&b, " %s |", f.show(v))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The table of docs/placement.md is what the claims have just computed.
func TestPlacementTable(t *testing.T) {
	t.Parallel()
	skipRaced(t)
	if long() {
		t.Skip("the table is for the usual sizes")
	}
	var b strings.Builder
	for _, get := range all() {
		c := get()
		fmt.Fprintf(&b, "### %s\n\n%s (`%s`)\n\n%s\n", c.says, c.model, c.test, c.table())
	}
	const begin, end = "<!-- figures: begin -->\n", "<!-- figures: end -->"
	path := filepath.Join("..", "docs", "placement.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := bytes.Cut(page, []byte(begin))
	is, after, found := bytes.Cut(rest, []byte(end))
	if !ok || !found {
		t.Fatalf("%s has no place for the figures: write the lines %q and %q", path, begin, end)
	}
	want := "\n" + b.String()
	if string(is) == want {
		return
	}
	if !*update {
		t.Errorf("the figures in %s are not those of the code; write them with: go test ./simulation -run TestPlacementTable -update\ngot:\n%s\nwant:\n%s",
			path, is, want)
		return
	}
	page = slices.Concat(before, []byte(begin), []byte(want), []byte(end), after)
	if err := os.WriteFile(path, page, 0o644); err != nil {
		t.Fatal(err)
	}
}

// must is for what cannot fail. A claim is computed by whoever asks first and has no test of its own to fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err) //nolint:forbidigo // a mistake in the claim itself
	}
	return v
}
