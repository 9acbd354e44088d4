package scrape

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// An expression is what a metric setting means. Its grammar is a small part of PromQL:
//
//	expression = term { "/" term }
//	term       = selector | "rate(" selector ")"
//	selector   = name [ "{" matcher { "," matcher } "}" ]
//	matcher    = label ( "=" | "!=" | "=~" | "!~" ) string
//
// Each term is one number, the sum of all series that it selects.
type expression struct {
	text  string
	terms []*term
}

// A term selects series of one metric, and is their sum or the sum of their rates per second.
type term struct {
	name     string
	rate     bool
	matchers []matcher
	text     string
}

// A matcher is a condition on one label. A label that a series lacks counts as empty, as in PromQL.
type matcher struct {
	label, value string
	pattern      *regexp.Regexp // instead of value, unless nil
	negate       bool
}

// Bounds of an expression. Whoever needs more writes several figures.
const (
	maxExpression = 1024 // bytes
	maxTerms      = 4
	maxMatchers   = 16
)

func (m *matcher) matches(value string) bool {
	if m.pattern != nil {
		return m.pattern.MatchString(value) != m.negate
	}
	return (m.value == value) != m.negate
}

// selects tells whether a series of the metric belongs to the term.
func (t *term) selects(labels []label) bool {
	for i := range t.matchers {
		m := &t.matchers[i]
		value := ""
		if j := slices.IndexFunc(labels, func(l label) bool { return l.name == m.label }); j >= 0 {
			value = labels[j].value
		}
		if !m.matches(value) {
			return false
		}
	}
	return true
}

// parseExpression reads a metric setting. Its errors say where it went wrong and what to write instead.
func parseExpression(text string) (*expression, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("is %d bytes long, the most is %d", len(text), maxExpression)
	}
	p := &parser{text: text}
	e := &expression{text: strings.TrimSpace(text)}
	for {
		if len(e.terms) == maxTerms {
			return nil, p.errorf("more than %d terms; several figures can be written instead", maxTerms)
		}
		t, err := p.term()
		if err != nil {
			return nil, err
		}
		e.terms = append(e.terms, t)
		if p.end() {
			return e, nil
		}
		if !p.take("/") {
			return nil, p.unexpected()
		}
	}
}

// A parser reads an expression from left to right.
type parser struct {
	text string
	pos  int // of the next byte
}

// errorf returns an error about the next byte.
func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("%q, character %d: %s", p.text, p.pos+1, fmt.Sprintf(format, args...))
}

// end skips blanks and tells whether nothing follows.
func (p *parser) end() bool {
	for p.pos < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.pos]) >= 0 {
		p.pos++
	}
	return p.pos == len(p.text)
}

// take skips blanks and then s, if it comes next.
func (p *parser) take(s string) bool {
	p.end()
	if !strings.HasPrefix(p.text[p.pos:], s) {
		return false
	}
	p.pos += len(s)
	return true
}

// word takes a name: of a metric, which may have colons, or of a label.
func (p *parser) word(colons bool) string {
	p.end()
	start := p.pos
	for ; p.pos < len(p.text); p.pos++ {
		c := p.text[p.pos]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == ':' && colons
		if !letter && (p.pos == start || c < '0' || c > '9') {
			break
		}
	}
	return p.text[start:p.pos]
}

func (p *parser) term() (*term, error) {
	p.end()
	start := p.pos
	name := p.word(true)
	t := &term{name: name}
	switch {
	case name == "":
		return nil, p.noName()
	case name == "rate" && p.take("("):
		t.rate = true
		p.end()
		if t.name = p.word(true); t.name == "" {
			return nil, p.noName()
		}
	case p.take("("):
		p.pos = start
		return nil, p.errorf("unknown function %s; write METRIC, whose series are summed, or rate(METRIC)", name)
	}
	if p.take("{") {
		if err := p.matchers(t); err != nil {
			return nil, err
		}
	}
	if t.rate && !p.take(")") {
		if p.take("[") {
			p.pos--
			return nil, p.errorf("a rate has no range here: it is taken from one scrape to the next; write rate(METRIC)")
		}
		return nil, p.errorf("the ) of rate( is missing")
	}
	t.text = p.text[start:p.pos]
	return t, nil
}

// noName is the error for a term that does not begin with a name.
func (p *parser) noName() error {
	switch {
	case p.end():
		return p.errorf("the name of a metric is missing")
	case p.text[p.pos] >= '0' && p.text[p.pos] <= '9':
		return p.errorf("a number is no metric; scale says which value means fully loaded")
	}
	return p.errorf("the name of a metric must stand here, got %.20q", p.text[p.pos:])
}

// unexpected is the error for what cannot follow a term.
func (p *parser) unexpected() error {
	switch p.text[p.pos] {
	case '+', '-', '*', '%', '^':
		return p.errorf("the only operator is /; figures are added by writing several, with their weights")
	case '[':
		return p.errorf("a range is of no use here; write rate(METRIC) for a counter, window is the time of the mean")
	}
	return p.errorf("got %.20q; a metric is NAME, NAME{LABEL=\"VALUE\"} or rate(NAME), and such may be divided by /", p.text[p.pos:])
}

// matchers takes what stands between braces.
func (p *parser) matchers(t *term) error {
	for !p.take("}") {
		if len(t.matchers) == maxMatchers {
			return p.errorf("more than %d conditions", maxMatchers)
		}
		m := matcher{label: p.word(false)}
		if m.label == "" {
			return p.errorf("the name of a label must stand here: {LABEL=\"VALUE\"}")
		}
		regex := false
		switch {
		case p.take("=~"):
			regex = true
		case p.take("!~"):
			regex, m.negate = true, true
		case p.take("!="):
			m.negate = true
		case p.take("="):
		default:
			return p.errorf("one of = != =~ !~ must follow the label %s", m.label)
		}
		value, err := p.quoted()
		if err != nil {
			return err
		}
		m.value = value
		if regex {
			if m.pattern, err = regexp.Compile("^(?s:" + value + ")$"); err != nil {
				return p.errorf("the pattern for the label %s is none: %s", m.label, err)
			}
		}
		t.matchers = append(t.matchers, m)
		if !p.take(",") && !strings.HasPrefix(p.text[p.pos:], "}") {
			return p.errorf("a comma or } must follow the value of label %s", m.label)
		}
	}
	return nil
}

// quoted takes a string in double quotes, with the escapes of the exposition format: \\ \" \n.
func (p *parser) quoted() (string, error) {
	if !p.take(`"`) {
		return "", p.errorf("the value of a label must stand in double quotes")
	}
	var value strings.Builder
	for ; p.pos < len(p.text); p.pos++ {
		switch c := p.text[p.pos]; c {
		case '"':
			p.pos++
			return value.String(), nil
		case '\\':
			p.pos++
			if p.pos == len(p.text) {
				return "", p.errorf(`the value of a label ends within an escape`)
			}
			switch p.text[p.pos] {
			case '"', '\\':
				value.WriteByte(p.text[p.pos])
			case 'n':
				value.WriteByte('\n')
			default:
				return "", p.errorf(`only \\ \" and \n are escapes; a backslash is \\`)
			}
		default:
			value.WriteByte(c)
		}
	}
	return "", p.errorf("the double quote after the value of a label is missing")
}
