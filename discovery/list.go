package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/mqttlb/mqttlb/balancer"
)

const (
	// maxMistakes is how many mistakes in a file are told.
	maxMistakes = 5
	minCapacity = 0.001 // as in the configuration
)

// A mistake is a place in a list, counted from 1, columns in characters, and what is wrong there.
type mistake struct {
	line, column int
	msg          string
}

// mistakes are what keeps a list from being read, in the order of the file.
type mistakes []mistake

// Error returns "LINE:COLUMN: message" for the first mistakes.
func (m mistakes) Error() string { return m.in("") }

// in is Error with the name of the file.
func (m mistakes) in(file string) string {
	if file != "" {
		file += ":"
	}
	var b strings.Builder
	for i, one := range m {
		if i == maxMistakes {
			fmt.Fprintf(&b, "; and %d more", len(m)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		fmt.Fprintf(&b, "%s%d:%d: %s", file, one.line, one.column, one.msg)
	}
	return b.String()
}

// example is the smallest list, for messages.
const example = `- {name: n1, address: "10.0.0.1:1883"}`

// parseList reads a list of backends, YAML or JSON. What is not such a list at all, or has keys that nobody
// knows, is an error of type mistakes; a single value that makes no sense costs only its backend.
func parseList(data []byte) (answer, error) {
	p := &listParser{}
	p.list(p.parse(data))
	if len(p.wrong) > 0 {
		slices.SortStableFunc(p.wrong, func(a, b mistake) int {
			if a.line != b.line {
				return a.line - b.line
			}
			return a.column - b.column
		})
		return answer{}, p.wrong
	}
	return p.found, nil
}

// A listParser collects backends and mistakes.
type listParser struct {
	found answer
	wrong mistakes
}

func (p *listParser) refuse(n ast.Node, format string, args ...any) {
	line, column := place(n)
	p.wrong = append(p.wrong, mistake{line, column, fmt.Sprintf(format, args...)})
}

// parse returns the value that the file consists of, nil if there is none.
func (p *listParser) parse(data []byte) ast.Node {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at, what := unprintable(data); what != "" {
		at.msg = what + " is not text; save the file as plain UTF-8"
		p.wrong = append(p.wrong, at)
		return nil
	}
	file, err := parseTokens(untabbed(string(data)))
	if err != nil {
		at := mistake{1, 1, ""}
		if located, ok := errors.AsType[yaml.Error](err); ok {
			at.line, at.column = placeOf(located.GetToken())
			at.msg = "not valid YAML: " + strings.ReplaceAll(located.GetMessage(), "\t", `\t`)
		} else {
			at.msg = "not valid YAML: " + err.Error()
		}
		p.wrong = append(p.wrong, at)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			p.refuse(doc.Body, "a second YAML document starts here; keep one and remove the --- between them")
			return nil
		default:
			body = doc.Body
		}
	}
	return body
}

// list reads the whole file.
func (p *listParser) list(body ast.Node) {
	if len(p.wrong) > 0 {
		return
	}
	switch body := body.(type) {
	case nil, *ast.NullNode:
		p.wrong = append(p.wrong, mistake{1, 1, "the file is empty; it must be a list of backends, such as " + example})
	case *ast.SequenceNode:
		if len(body.Values) == 0 {
			p.refuse(body, "the list is empty; write the backends, such as %s", example)
		}
		for _, n := range body.Values {
			p.backend(n)
		}
	default:
		p.refuse(body, "must be a list of backends, such as %s", example)
	}
}

// backend reads one entry of the list.
func (p *listParser) backend(n ast.Node) {
	b := balancer.Backend{Capacity: 1}
	var bad error // what keeps this backend from being used, without making the file wrong
	ok := p.mapping(n, "a backend must have keys and values, such as "+example, func(key string, at, value ast.Node) {
		switch key {
		case "name":
			b.Name = p.text(key, value)
		case "address":
			b.Address = p.text(key, value)
		case "capacity":
			b.Capacity, bad = p.capacity(value)
		case "labels":
			b.Labels = p.labels(value)
		default:
			p.refuse(at, "unknown key %q; %s", cut(key, maxShown), advice(key))
		}
	})
	if !ok {
		return
	}
	line, column := place(n)
	where := fmt.Sprintf("%d:%d", line, column)
	if b.Address == "" && bad == nil {
		bad = errors.New(`its address is missing; write address: "10.0.0.1:1883"`)
	}
	if bad != nil {
		p.found.left = append(p.found.left, complaint{backend: b.Name, where: where, why: bad})
		return
	}
	p.found.backends = append(p.found.backends, b)
	p.found.where = append(p.found.where, where)
}

// mapping calls each for all pairs of a mapping. It is false after a mistake: n is none.
func (p *listParser) mapping(n ast.Node, want string, each func(key string, at, value ast.Node)) bool {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		p.refuse(n, "%s", want)
		return false
	}
	seen := make(map[string]bool, len(pairs))
	for _, pair := range pairs {
		key, ok := scalar(pair.Key)
		switch {
		case !ok:
			p.refuse(pair.Key, "a key must be plain text")
		case seen[key]:
			p.refuse(pair.Key, "%q is set twice; keep one of them", cut(key, maxShown))
		default:
			seen[key] = true
			each(key, pair.Key, pair.Value)
		}
	}
	return true
}

func (p *listParser) text(key string, n ast.Node) string {
	text, ok := scalar(n)
	if !ok {
		p.refuse(n, "%s must be a text", cut(key, maxShown))
	}
	return text
}

func (p *listParser) capacity(n ast.Node) (float64, error) {
	text, ok := scalar(n)
	c, err := strconv.ParseFloat(text, 64)
	str, quoted := n.(*ast.StringNode)
	quoted = quoted && str.Token.Type != token.StringType // 1e2 is a plain text to the parser
	if !ok || quoted || err != nil && !errors.Is(err, strconv.ErrRange) {
		p.refuse(n, "capacity must be a number, such as 1 or 2.5")
		return 1, nil
	}
	if !(c >= minCapacity && c <= maxCapacity) { // a NaN is neither
		return 1, fmt.Errorf("its capacity must be from %v to %.0f, got %s", minCapacity, maxCapacity, cut(text, maxName))
	}
	return c, nil
}

func (p *listParser) labels(n ast.Node) map[string]string {
	if _, null := n.(*ast.NullNode); null {
		return nil
	}
	labels := make(map[string]string)
	p.mapping(n, "labels must be keys and values, such as {zone: a}", func(key string, _, value ast.Node) {
		labels[key] = p.text("label "+key, value)
	})
	return labels
}

// scalar is the text of a value that is neither a list nor a mapping. No value is an empty text.
func scalar(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "", true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.StringNode:
		return n.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}

// advice says what may be written instead of an unknown key.
func advice(key string) string {
	word := strings.ToLower(strings.TrimSpace(key))
	others := map[string]string{"host": "address", "url": "address", "weight": "capacity", "tags": "labels", "id": "name"}
	for _, valid := range []string{"name", "address", "capacity", "labels"} {
		if others[word] == valid || slips(word, valid) <= 2 {
			return fmt.Sprintf("did you mean %q?", valid)
		}
	}
	return "valid keys are name, address, capacity, labels"
}

// slips is how many characters must be inserted, deleted or replaced to turn a into b.
func slips(a, b string) int {
	if len(a) > 2*len(b) {
		return len(a) // far enough, and the time is quadratic
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// place is where a node begins. A block mapping says where its first colon is; a reader looks at its first key.
func place(n ast.Node) (line, column int) {
	switch m := n.(type) {
	case nil:
		return 1, 1
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return placeOf(m.Values[0].Key.GetToken())
		}
	case *ast.MappingValueNode:
		return placeOf(m.Key.GetToken())
	}
	return placeOf(n.GetToken())
}

func placeOf(tk *token.Token) (line, column int) {
	if tk == nil || tk.Position == nil {
		return 1, 1
	}
	return max(1, tk.Position.Line), max(1, tk.Position.Column)
}
