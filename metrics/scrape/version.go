package scrape

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// VersionOptions say where a broker reports its version.
type VersionOptions struct {
	// Metric is NAME or NAME{LABEL="VALUE"}; the first series that fits counts.
	Metric string
	// Label is the label of it whose value is the version.
	Label string
}

// maxVersion bounds a version, in bytes. It is shown in lists and kept for every backend.
const maxVersion = 64

// A version is where to find the version of a broker on its page.
type version struct {
	series *term
	label  string
}

// version reads where the version is.
func (r *report) version(p *plan, o *Options, preset *preset) {
	metric := cmp.Or(o.Version.Metric, preset.version.Metric)
	name := cmp.Or(o.Version.Label, preset.version.Label)
	switch {
	case metric == "" && name == "":
		return
	case metric == "":
		r.add(fieldErrorf("version.metric", "must be set, too: the metric whose label %s is the version", name))
		return
	case name == "":
		r.add(fieldErrorf("version.label", "must be set, too: the label of %s that is the version", metric))
		return
	}
	word := parser{text: name}
	if word.word(false) != name {
		r.add(fieldErrorf("version.label", "%.80q is no name of a label, which has letters, digits and _ only", name))
	}
	e, err := parseExpression(metric)
	switch {
	case err != nil:
		r.at("version.metric", err)
	case len(e.terms) > 1 || e.terms[0].rate:
		r.add(fieldErrorf("version.metric", "%.80q must be one metric, NAME or NAME{LABEL=\"VALUE\"}: not its value is the version but one of its labels", metric))
	default:
		p.version = &version{series: e.terms[0], label: name}
		p.add(e)
	}
}

// read returns the version on a page.
func (v *version) read(pg *page) (string, error) {
	selected := selectSeries(pg.series[v.series.name], v.series)
	if len(selected) == 0 {
		return "", missing(v.series, pg)
	}
	labels := selected[0].labels
	i := slices.IndexFunc(labels, func(l label) bool { return l.name == v.label })
	if i < 0 || labels[i].value == "" {
		return "", fmt.Errorf("%s has no label %s, which would be the version", v.series.text, v.label)
	}
	value := labels[i].value
	switch {
	case len(value) > maxVersion:
		return "", fmt.Errorf("the version of %d bytes in the label %s of %s is too long, the most is %d", len(value), v.label, v.series.text, maxVersion)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "", fmt.Errorf("the version %q in the label %s of %s cannot be printed", value, v.label, v.series.text)
	}
	return value, nil
}
