package scrape

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

func TestReadPage(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "0 samples"},
		{"others only", "other 1\nother{a=\"b\"} 2\n", "2 samples"},
		{"plain", "m 1\n", "1 samples, m{}=1"},
		{"the name is whole", "mm 1\nm_ 2\nm 3\n", "3 samples, m{}=3"},
		{"blanks", "\n  \n \tm \t 1\n m{ a = \"b\" , } 2\n", "2 samples, m{}=1, m{a=b}=2"},
		{"labels are sorted", "m{b=\"2\",a=\"1\"} 1\n", "1 samples, m{a=1 b=2}=1"},
		{"escapes", `m{a="\\ \" \n,}"} 1` + "\n", "1 samples, m{a=\\ \" \n,}}=1"},
		{"timestamp", "m 1 1700000000000\n", "1 samples, m{}=1"},
		{"values", "m{a=\"1\"} NaN\nm{a=\"2\"} +Inf\nm{a=\"3\"} -Inf\nm{a=\"4\"} -1\nm{a=\"5\"} 1.5e3\n", "5 samples, m{a=1}=NaN, m{a=2}=+Inf, m{a=3}=-Inf, m{a=4}=-1, m{a=5}=1500"},
		{"type", "# HELP m of m\n# TYPE m gauge\nm 1\n", "1 samples, m{}=1, gauge"},
		{"types repeat, the first counts", "# TYPE m counter\nm 1\n# TYPE m gauge\nm{a=\"b\"} 2\n#TYPE m\n", "2 samples, m{}=1, m{a=b}=2, counter"},
		{"odd comments", "#\n# \n#TYPE m gauge\n# TYPES m counter\n# TYPE m\n# \xff\nm 1\n", "1 samples, m{}=1, gauge"},
		{"duplicates", "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 2\nm 3\nm 4\n", "4 samples, m{a=1 b=2}=1, m{}=3, 2 duplicates"},
		{"nonsense in other metrics", "other{ 1\n}{\n{\"quoted\"} 1\n\x00\xff\nother x y z\nm 1\n", "6 samples, m{}=1"},
		{"long lines of other metrics", "# HELP m " + strings.Repeat("x", 3*maxLine) + "\no{a=\"" + strings.Repeat("y", 5*maxLine) + "\"} 1\nm 1\n", "2 samples, m{}=1"},

		{"no value", "m\n", `line 1: expected float as value, got ""`},
		{"no number", "ok 1\nm x\n", `line 2: expected float as value, got "x"`},
		{"open labels", "m{a=\"b\" 1\n", `line 1: unexpected end of label value "b"`},
		{"open quotes", "m{a=\"b\nm 1\n", `line 1: label value "b" contains unescaped new-line`},
		{"label twice", "m{a=\"1\",a=\"2\"} 1\n", `line 1: duplicate label names for metric "m"`},
		{"no UTF-8", "m{a=\"\xff\"} 1\n", `line 1: invalid label value "\xff"`},
		{"OpenMetrics", "m 1 # {trace=\"x\"} 0.5\n", `line 1: expected integer as timestamp, got "#"`},
		{"cut off within a number", "m 123", "the page is cut off within line 1"},
		{"cut off within another metric", "m 1\nother 12", "the page is cut off within line 2"},
		{"cut off within a long line", "m 1\nother" + strings.Repeat("x", 2*maxLine), "the page is cut off within line 2"},
		{"too long", "m 1\nm{a=\"" + strings.Repeat("x", maxLine) + "\"} 1\n", "line 2 is longer than 65536 bytes"},
		{
			"too many", "m{a=\"1\"} 1\nm{a=\"2\"} 2\nm{a=\"3\"} 3\nm{a=\"4\"} 4\nm{a=\"5\"} 5\nm{a=\"6\"} 6\n",
			`the figures select more than 5 series; name labels to select fewer: NAME{LABEL="VALUE"}`,
		},
	} {
		for how, reader := range map[string]io.Reader{
			"at once":      strings.NewReader(test.text),
			"byte by byte": iotest.OneByteReader(strings.NewReader(test.text)),
			"with the end": iotest.DataErrReader(strings.NewReader(test.text)),
		} {
			p, err := readPage(reader, []string{"m"}, 5)
			if got := describe(p, err); got != test.want {
				t.Errorf("%s, %s:\n got %s\nwant %s", test.name, how, got, test.want)
			}
		}
	}
}

func describe(p *page, err error) string {
	if err != nil {
		return err.Error()
	}
	parts := []string{fmt.Sprintf("%d samples", p.lines)}
	for _, name := range slices.Sorted(maps.Keys(p.series)) {
		for _, s := range p.series[name] {
			var labels []string
			for _, l := range s.labels {
				labels = append(labels, l.name+"="+l.value)
			}
			parts = append(parts, fmt.Sprintf("%s{%s}=%g", name, strings.Join(labels, " "), s.value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.types)) {
		if p.types[name] != "" {
			parts = append(parts, p.types[name])
		}
	}
	if p.duplicates > 0 {
		parts = append(parts, fmt.Sprintf("%d duplicates", p.duplicates))
	}
	return strings.Join(parts, ", ")
}

func TestReadPageBrokenReader(t *testing.T) {
	t.Parallel()
	r := io.MultiReader(strings.NewReader("m 1\nm{a=\"b\"}"), iotest.ErrReader(io.ErrClosedPipe))
	if _, err := readPage(r, []string{"m"}, 5); err == nil || err.Error() != "after line 1: io: read/write on closed pipe" {
		t.Errorf("got error %v", err)
	}
}

// FuzzReadPage: nothing panics, no more than wanted is kept, and what the parser understands of a page as
// a whole is what is found by skipping to it.
func FuzzReadPage(f *testing.F) {
	for _, seed := range []string{
		"m 1\n", "# TYPE m counter\nm{a=\"b\"} 1\nm{a=\"c\"} NaN 12\nother 3\n", "m{a=\"\\\"}\"} 1\nm", "{\"m\"} 1\n", "\"m\" 2\n",
		"m{a=\"1\"} 1\nm{a=\"1\"} 2\n", "# HELP m \\\nm 1\n", "m\t1\n  m 2\n", "m{} 0x1p-2\n", "m_sum 1\n# TYPE m histogram\nm_bucket{le=\"+Inf\"} 1\n",
	} {
		f.Add([]byte(seed))
	}
	const most = 20
	named := regexp.MustCompile(`^[a-zA-Z0-9_:]+[{ \t]`)
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := readPage(bytes.NewReader(text), []string{"m", "m_sum"}, most)
		if err == nil {
			kept := got.duplicates
			for _, s := range got.series {
				kept += len(s)
			}
			if kept > most || kept > got.lines {
				t.Fatalf("%d of %d samples were kept", kept, got.lines)
			}
		}
		var samples []byte
		for line := range bytes.Lines(text) {
			switch start := bytes.TrimLeft(line, " \t"); {
			case len(start) == 0 || start[0] == '#':
				continue
			case start[0] == '{' || start[0] == '"':
				return // names in quotes are skipped on purpose
			case !named.Match(start):
				return // the parser takes m-1 for the metric m
			}
			samples = append(samples, line...)
		}
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, whole := parser.TextToMetricFamilies(bytes.NewReader(samples))
		if whole != nil {
			return
		}
		want := make(map[string][]float64)
		count := 0
		for _, name := range []string{"m", "m_sum"} {
			seen := make(map[string]bool)
			for _, m := range families[name].GetMetric() {
				count++
				var labels []label
				for _, l := range m.GetLabel() {
					labels = append(labels, label{l.GetName(), l.GetValue()})
				}
				if key := keyOf(labels); !seen[key] {
					seen[key] = true
					want[name] = append(want[name], m.GetUntyped().GetValue())
				}
			}
		}
		if count > most || len(text) >= maxLine || len(text) > 0 && text[len(text)-1] != '\n' {
			return
		}
		if err != nil {
			t.Fatalf("the parser understands the whole page, but: %v", err)
		}
		for _, name := range []string{"m", "m_sum"} {
			if !slices.EqualFunc(got.series[name], want[name], func(s series, v float64) bool {
				return s.value == v || math.IsNaN(s.value) && math.IsNaN(v)
			}) {
				t.Errorf("%s: got %v, want %v", name, got.series[name], want[name])
			}
		}
	})
}
