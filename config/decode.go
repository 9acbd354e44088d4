package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxValues bounds the keys and values that are read from one file. A file
	// of maxFile bytes has fewer, so only aliases of aliases come near it.
	maxValues = maxFile / 2
	// maxHops bounds how many aliases lead from one to the next.
	maxHops = 16
)

// decoder reads a tree of YAML nodes into the structs of the schema. What it
// cannot read it reports and leaves at its default, and goes on.
type decoder struct {
	*report
	anchors map[string]*ast.AnchorNode
	left    int // values that may still be read
}

// decode reads the file below root into cfg.
func decode(root *ast.MappingNode, cfg *Config, r *report) {
	d := &decoder{report: r, anchors: map[string]*ast.AnchorNode{}, left: maxValues}
	d.findAnchors(root)
	d.section(root, reflect.ValueOf(cfg).Elem(), "")
	if d.left <= 0 {
		r.decoding(position{1, 1}, "", "the aliases in this file expand to more than %d values; write the values out or use fewer aliases", maxValues)
	}
}

// spend reports whether one more value may be read.
func (d *decoder) spend() bool {
	d.left--
	return d.left > 0
}

// value reads n into v, which is the value of the key or entry at path; at is
// where that key or entry is written.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, f field, at position) {
	d.where[path] = at
	if !d.spend() {
		return
	}
	n, ok := d.resolve(n, path)
	if !ok {
		return
	}
	k, scalar := kindOf(v.Type())
	switch {
	case scalar:
		d.where[path] = start(n)
		d.scalar(n, v, path, k, f)
	case isSection(v.Type()) && f.off != "" && isOff(n):
		d.decoding(start(n), path, "%s must be keys and values (key: value), got %s; write %s", path, n.GetToken().Value, f.off)
	case isSection(v.Type()):
		d.section(n, v, path)
	case isOptional(v.Type()):
		v.Set(reflect.New(v.Type().Elem()))
		setDefaults(v.Elem())
		d.section(n, v.Elem(), path)
	case isList(v.Type()):
		d.list(n, v, path, f)
	default:
		d.labels(n, v, path)
	}
}

func (d *decoder) scalar(n ast.Node, v reflect.Value, path string, k kind, f field) {
	lit, ok := literalOf(n)
	if !ok {
		d.wrongType(n, path, k.want)
		return
	}
	if lit.null {
		d.decoding(start(n), path, "%s has no value; write %s, or remove the key", path, k.want)
		return
	}
	hint, ok := k.parse(v, lit)
	if ok {
		return
	}
	if f.oneOf != nil && v.Kind() == reflect.String { // quotes alone would not make it right
		d.decoding(start(n), path, "%s must be %s, got %s", path, oneOfWords(f.oneOf), lit.show())
		return
	}
	if hint != "" {
		hint = "; write " + hint
	}
	d.decoding(start(n), path, "%s must be %s, got %s%s", path, k.want, lit.show(), hint)
}

// isOff reports whether a node says that a section is not wanted.
func isOff(n ast.Node) bool {
	lit, ok := literalOf(n)
	return ok && slices.Contains([]string{"off", "no", "false", "none", "disabled"}, strings.ToLower(lit.text))
}

// literalOf returns the text of a scalar node.
func literalOf(n ast.Node) (literal, bool) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return literal{null: true}, true
	case *ast.LiteralNode:
		return literal{text: n.Value.Value, quoted: true}, true
	case *ast.StringNode:
		return literal{text: n.Value, quoted: n.Token.Type != token.StringType}, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return literal{text: n.GetToken().Value}, true
	default:
		return literal{}, false
	}
}

// section reads a mapping with fixed keys. A section without a value is what
// remains when all its keys are commented out, so it is fine.
func (d *decoder) section(n ast.Node, section reflect.Value, path string) {
	entries, ok := d.entries(n, path, "keys and values (key: value)")
	if !ok {
		return
	}
	fields := fieldsOf(section.Type())
	given := map[string]bool{}
	for _, e := range entries {
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == e.key })
		if i < 0 {
			d.unknownKey(e, path, fields)
			continue
		}
		f := fields[i]
		d.value(e.value, section.Field(f.index), join(path, e.key), f, e.at)
		_, null := e.value.(*ast.NullNode)
		given[e.key] = !null
	}
	for _, f := range fields {
		if f.required != "" && !given[f.key] {
			d.at(join(path, f.key), "is missing; write %s", f.required)
			d.spoil(join(path, f.key))
		}
	}
}

// unknownKey reports a key that the section at path does not have.
func (d *decoder) unknownKey(e entry, path string, fields []field) {
	at := join(path, e.key)
	if isNotBuilt(at) {
		d.decoding(e.at, at, "%s is not supported by this version of mqttlb yet; remove it", at)
		return
	}
	if d.full() {
		d.decoding(e.at, at, "unknown key") // only its number will be shown, so save the search
		return
	}
	var valid []string
	for _, f := range fields {
		valid = append(valid, f.key)
	}
	hint := "valid keys are " + strings.Join(valid, ", ")
	if len(valid) == 0 {
		hint = "this section has no keys; write {}"
	}
	candidates := valid
	for _, known := range notBuilt() {
		if parent(known) == pattern(path) && !strings.Contains(known, "=") {
			candidates = append(candidates, known[strings.LastIndex(known, ".")+1:])
		}
	}
	meant := nearest(e.key, candidates)
	if i := slices.IndexFunc(fields, func(f field) bool { return slices.Contains(f.also, normal(e.key)) }); i >= 0 {
		meant = fields[i].key
	}
	if meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
		if isNotBuilt(join(path, meant)) {
			hint += " That is not supported by this version of mqttlb yet"
		}
		d.spoil(join(path, meant)) // so that it is not reported as missing too
	} else if home := homeOf(e.key); home != "" {
		hint = "it belongs in " + home
	}
	where := "in " + path
	if path == "" {
		where = "at the top of the file"
	}
	d.decoding(e.at, at, "unknown key %s %s; %s", literal{text: e.key, quoted: true}.show(), where, hint)
}

// homeOf returns the one section that has the given key, or "".
func homeOf(key string) string {
	if key == "enabled" {
		return "" // people try it in any section
	}
	var homes []string
	visit(reflect.ValueOf(specimen()).Elem(), "", func(path string, f field, _ reflect.Value) {
		if f.key == key && parent(path) != "" {
			homes = append(homes, pattern(parent(path)))
		}
	})
	if len(homes) != 1 {
		return ""
	}
	return homes[0]
}

// list reads a list.
func (d *decoder) list(n ast.Node, v reflect.Value, path string, f field) {
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.SequenceNode:
		nodes := n.Values
		if most := f.maxItems(); len(nodes) > most {
			d.decoding(start(n), path, "%s must have %s..%s entries, got %d", path, f.min, f.max, len(nodes))
			nodes = nodes[:most]
		}
		if len(nodes) == 0 && f.min == "0" {
			return // an empty list is no list, unless a rule must notice it
		}
		v.Set(reflect.MakeSlice(v.Type(), len(nodes), len(nodes)))
		for i, entry := range nodes {
			if isSection(v.Type().Elem()) {
				setDefaults(v.Index(i))
			}
			d.value(entry, v.Index(i), item(path, i), field{}, start(entry))
		}
	default:
		d.wrongType(n, path, "a list, with \"- \" before each entry")
	}
}

// labels reads a mapping of free keys to text.
func (d *decoder) labels(n ast.Node, v reflect.Value, path string) {
	entries, ok := d.entries(n, path, "keys and values (key: value)")
	if !ok || len(entries) == 0 {
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, e := range entries {
		text := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, text, join(path, e.key), field{}, e.at)
		v.SetMapIndex(reflect.ValueOf(e.key), text)
	}
}

// wrongType reports that the value at path is of another shape than wanted.
func (d *decoder) wrongType(n ast.Node, path, want string) {
	got := "something else"
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		got = "keys and values"
	case *ast.SequenceNode:
		got = "a list"
	default:
		if lit, ok := literalOf(n); ok {
			got = lit.show()
		}
	}
	d.decoding(start(n), path, "%s must be %s, got %s", nameOf(path), want, got)
}

// nameOf returns what a message calls the value at path.
func nameOf(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}
