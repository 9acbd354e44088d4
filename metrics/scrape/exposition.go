package scrape

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// A page is what a scrape has found of the wanted metrics.
type page struct {
	series     map[string][]series // by name of the metric
	types      map[string]string   // by name of the metric, as its TYPE line has it
	lines      int                 // all samples of the page, wanted or not
	duplicates int                 // samples that were dropped, because one with the same labels came before
}

// A series is one sample of a metric.
type series struct {
	key    string // the labels, for comparison
	labels []label
	value  float64
}

type label struct{ name, value string }

// cumulative tells whether a metric only rises, as far as its type tells: a counter, or the sum or count
// of a histogram or summary.
func (p *page) cumulative(name string) bool {
	if t := p.types[name]; t != "" {
		return t == "counter"
	}
	family := familyOf(name)
	return family != name && (p.types[family] == "histogram" || p.types[family] == "summary")
}

// familyOf is the name of the histogram or summary that a metric would be a part of, else its own.
func familyOf(name string) string {
	for _, suffix := range []string{"_sum", "_count", "_bucket"} {
		if family, ok := strings.CutSuffix(name, suffix); ok {
			return family
		}
	}
	return name
}

// readPage reads a page in the Prometheus text format, as it comes in. Of thousands of lines only those
// of the wanted metrics reach the parser: the rest costs a look at its name and no memory, and an error
// in it does no harm.
func readPage(r io.Reader, wanted []string, most int) (*page, error) {
	f := &filter{
		r: bufio.NewReaderSize(r, maxLine), left: most, most: most,
		wanted: make(map[string]bool), types: make(map[string]string),
	}
	for _, name := range wanted {
		f.wanted[name] = true
		f.types[name], f.types[familyOf(name)] = "", ""
	}
	// The filter passes no TYPE lines: for the parser all is untyped, and each line a sample of its own.
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(f)
	if f.err != nil && !errors.Is(f.err, io.EOF) {
		return nil, f.err
	}
	if syntax, ok := errors.AsType[expfmt.ParseError](err); ok {
		return nil, fmt.Errorf("line %d: %.300s", f.line, syntax.Msg)
	}
	if err != nil {
		return nil, fmt.Errorf("line %d: %.300w", f.line, err)
	}
	p := &page{series: make(map[string][]series, len(families)), types: f.types, lines: f.samples}
	for name, family := range families {
		seen := make(map[string]bool, len(family.GetMetric()))
		for _, m := range family.GetMetric() {
			s := series{value: m.GetUntyped().GetValue()}
			for _, l := range m.GetLabel() {
				s.labels = append(s.labels, label{l.GetName(), l.GetValue()})
			}
			s.key = keyOf(s.labels)
			if seen[s.key] {
				p.duplicates++
				continue
			}
			seen[s.key] = true
			p.series[name] = append(p.series[name], s)
		}
	}
	return p, nil
}

// keyOf sorts labels and joins them by bytes that UTF-8 does not have.
func keyOf(labels []label) string {
	slices.SortFunc(labels, func(a, b label) int { return strings.Compare(a.name, b.name) })
	var key strings.Builder
	for _, l := range labels {
		key.WriteString(l.name)
		key.WriteByte(0xFE)
		key.WriteString(l.value)
		key.WriteByte(0xFF)
	}
	return key.String()
}

// maxLine bounds a line of interest; real ones have some hundred bytes. It is also all the memory that
// reading takes besides the samples themselves.
const maxLine = 64 << 10

// A filter passes those lines of a page that hold samples of wanted metrics. One Read returns no more
// than the rest of one line, so that line is where the reader is.
type filter struct {
	r      *bufio.Reader
	wanted map[string]bool
	types  map[string]string // has a key for each type of interest
	rest   []byte            // of the line that is being passed
	err    error

	line, samples int
	left, most    int // samples that may still be passed, and at all
}

func (f *filter) Read(p []byte) (int, error) {
	for len(f.rest) == 0 {
		if f.err != nil {
			return 0, f.err
		}
		f.rest, f.err = f.next()
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// next returns the next wanted line.
func (f *filter) next() ([]byte, error) {
	for {
		line, err := f.r.ReadSlice('\n')
		f.line++
		if errors.Is(err, io.EOF) && len(bytes.TrimLeft(line, " \t")) == 0 {
			return nil, io.EOF
		}
		wanted := f.wants(line)
		if wanted && errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("line %d is longer than %d bytes", f.line, maxLine)
		}
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = f.r.ReadSlice('\n')
		}
		switch {
		case errors.Is(err, io.EOF): // the last line, too, must end (exposition formats, text format)
			return nil, fmt.Errorf("the page is cut off within line %d", f.line)
		case err != nil:
			return nil, fmt.Errorf("after line %d: %w", f.line-1, err)
		case wanted && f.left == 0:
			return nil, fmt.Errorf("the figures select more than %d series; name labels to select fewer: NAME{LABEL=\"VALUE\"}", f.most)
		case wanted:
			f.left--
			return line, nil
		}
	}
}

// wants looks at the beginning of a line.
func (f *filter) wants(line []byte) bool {
	line = bytes.TrimLeft(line, " \t")
	if len(line) == 0 || line[0] == '\n' {
		return false
	}
	if line[0] == '#' {
		f.comment(line[1:])
		return false
	}
	f.samples++
	end := bytes.IndexAny(line, "{ \t\n")
	if end < 0 {
		end = len(line)
	}
	return f.wanted[string(line[:end])]
}

// comment notes the type of a metric of interest.
func (f *filter) comment(text []byte) {
	text = bytes.TrimLeft(text, " \t")
	if !bytes.HasPrefix(text, []byte("TYPE")) {
		return // HELP, mostly, which may be long
	}
	words := bytes.Fields(text)
	if len(words) != 3 || len(words[0]) != len("TYPE") {
		return
	}
	if known, ok := f.types[string(words[1])]; ok && known == "" {
		f.types[string(words[1])] = strings.ToLower(string(words[2]))
	}
}
