package config

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// entry is one key of a mapping with its value.
type entry struct {
	key   string
	at    position
	value ast.Node
}

// entries returns the keys and values of n, including those that it merges in
// with <<. It is false after reporting that n is no mapping.
func (d *decoder) entries(n ast.Node, path, want string) ([]entry, bool) {
	return d.merged(n, path, want, maxHops)
}

func (d *decoder) merged(n ast.Node, path, want string, hops int) ([]entry, bool) {
	var pairs []*ast.MappingValueNode
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return nil, true
	case *ast.MappingNode:
		pairs = n.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{n}
	default:
		d.wrongType(n, path, want)
		return nil, false
	}
	var own, inherited []entry
	lines := map[string]int{}
	for _, pair := range pairs {
		at := positionOf(pair.Key.GetToken())
		if !d.spend() {
			break
		}
		if pair.Key.IsMergeKey() {
			inherited = append(inherited, d.inherit(pair.Value, path, want, hops)...)
			continue
		}
		key, ok := literalOf(pair.Key)
		if !ok {
			d.decoding(at, path, "a key must be plain text; write it out instead of using an alias or a list")
			continue
		}
		if key.null {
			key.text = pair.Key.GetToken().Value
		}
		if first, ok := lines[key.text]; ok {
			d.decoding(at, join(path, key.text), "%s is set twice, first in line %d; keep one of them", join(path, key.text), first)
			continue
		}
		lines[key.text] = at.line
		own = append(own, entry{key.text, at, pair.Value})
	}
	for _, e := range inherited { // what a mapping says itself counts, then what it merged first
		if _, ok := lines[e.key]; !ok {
			lines[e.key] = e.at.line
			own = append(own, e)
		}
	}
	return own, true
}

// inherit returns what the value of a << key contributes: a mapping or a list
// of mappings.
func (d *decoder) inherit(n ast.Node, path, want string, hops int) []entry {
	n, ok := d.resolve(n, path)
	if !ok {
		return nil
	}
	if hops == 0 {
		d.decoding(start(n), path, "%s merges mappings (<<) that merge each other; write the keys out", nameOf(path))
		return nil
	}
	sources := []ast.Node{n}
	if seq, ok := n.(*ast.SequenceNode); ok {
		sources = seq.Values
	}
	var entries []entry
	for _, source := range sources {
		if source, ok := d.resolve(source, path); ok && d.spend() {
			more, _ := d.merged(source, path, want, hops-1)
			entries = append(entries, more...)
		}
	}
	return entries
}

// resolve follows anchors and aliases to the node that they stand for.
func (d *decoder) resolve(n ast.Node, path string) (ast.Node, bool) {
	for range maxHops {
		switch at := n.(type) {
		case *ast.AnchorNode:
			n = at.Value
		case *ast.AliasNode:
			anchor, ok := d.anchors[at.Value.GetToken().Value]
			if name := at.Value.GetToken().Value; !ok && strings.HasPrefix(name, ".") {
				d.decoding(start(at), path, "a value that begins with * is an alias in YAML; put it in quotes: \"*%s\"", name)
				return nil, false
			}
			if !ok || !before(start(anchor), start(at)) {
				d.decoding(start(at), path, "no anchor &%s comes before this alias; write the value out", at.Value.GetToken().Value)
				return nil, false
			}
			n = anchor.Value
		default:
			return n, true
		}
	}
	d.decoding(start(n), path, "this alias leads to itself; write the value out")
	return nil, false
}

func before(a, b position) bool {
	return a.line < b.line || a.line == b.line && a.column < b.column
}

// findAnchors remembers the anchors below n.
func (d *decoder) findAnchors(n ast.Node) {
	switch n := n.(type) {
	case *ast.AnchorNode:
		name := n.Name.GetToken().Value
		if first, ok := d.anchors[name]; ok {
			d.add(start(n), "", fmt.Sprintf("the anchor &%s is already used in line %d; choose another name", name, start(first).line))
		} else {
			d.anchors[name] = n
		}
		d.findAnchors(n.Value)
	case *ast.MappingNode:
		for _, pair := range n.Values {
			d.findAnchors(pair)
		}
	case *ast.MappingValueNode:
		d.findAnchors(n.Key)
		d.findAnchors(n.Value)
	case *ast.SequenceNode:
		for _, entry := range n.Values {
			d.findAnchors(entry)
		}
	}
}
