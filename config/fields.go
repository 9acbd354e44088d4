package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// field is one key of the schema: a struct field and what its tags say.
type field struct {
	index    int
	key      string
	def      string // as it would be written in the file
	derived  string
	required string
	min, max string // bounds of a value, or of the number of entries; empty when unbounded
	zero     string
	oneOf    []string
	off      string
	also     []string // what others call it
	file     bool     // the path of a file
}

// fieldsOf returns the keys of a section in the order of the schema.
func fieldsOf(t reflect.Type) []field {
	fields := make([]field, 0, t.NumField())
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		f := field{
			index:    i,
			key:      tag.Get("yaml"),
			def:      tag.Get("default"),
			derived:  tag.Get("derived"),
			required: tag.Get("required"),
			zero:     tag.Get("zero"),
			off:      tag.Get("off"),
			file:     tag.Get("file") != "",
		}
		if names := tag.Get("also"); names != "" {
			f.also = strings.Split(names, "|")
		}
		f.min, f.max, _ = strings.Cut(tag.Get("range"), "..")
		if values, ok := tag.Lookup("oneof"); ok {
			f.oneOf = strings.Split(values, "|")
		}
		fields = append(fields, f)
	}
	return fields
}

// maxItems returns how many entries a list may have.
func (f field) maxItems() int {
	n, err := strconv.Atoi(f.max)
	if err != nil {
		return 0 // a list without a bound in its tags takes no entries, which its first test notices
	}
	return n
}

// setDefaults fills a section with the defaults of its tags, sections within
// it included. Lists start out empty, and optional sections are not there;
// entries and optional sections get their defaults when they are made.
func setDefaults(section reflect.Value) {
	for _, f := range fieldsOf(section.Type()) {
		v := section.Field(f.index)
		if isSection(v.Type()) {
			setDefaults(v)
			continue
		}
		k, ok := kindOf(v.Type())
		if !ok || f.def == "" {
			continue
		}
		if _, ok := k.parse(v, literal{text: f.def}); !ok {
			panic(fmt.Sprintf("config: the default %q of %s is not %s", f.def, f.key, k.want)) //nolint:forbidigo // a tag in schema.go is wrong; no input leads here, and every test does
		}
	}
}

// visit calls fn for every value below a section, in the order of the schema:
// sections and lists before what is in them.
func visit(section reflect.Value, path string, fn func(path string, f field, v reflect.Value)) {
	for _, f := range fieldsOf(section.Type()) {
		v, at := section.Field(f.index), join(path, f.key)
		fn(at, f, v)
		switch {
		case isSection(v.Type()):
			visit(v, at, fn)
		case isOptional(v.Type()) && !v.IsNil():
			visit(v.Elem(), at, fn)
		case isList(v.Type()):
			for i := range v.Len() {
				if isSection(v.Type().Elem()) {
					visit(v.Index(i), item(at, i), fn)
				}
			}
		}
	}
}

// isSection reports whether t is written as a mapping with fixed keys.
func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct }

// isOptional reports whether t is a section that is there only when it is
// written: one of several that exclude each other.
func isOptional(t reflect.Type) bool { return t.Kind() == reflect.Pointer }

// isList reports whether t is written as a list, of sections or of addresses.
func isList(t reflect.Type) bool { return t.Kind() == reflect.Slice }

// specimen returns a configuration with one entry in every list and with all
// optional sections, so that a visit passes every key of the schema.
func specimen() *Config {
	cfg := new(Config)
	fill(reflect.ValueOf(cfg).Elem())
	return cfg
}

func fill(section reflect.Value) {
	setDefaults(section)
	for _, f := range fieldsOf(section.Type()) {
		v := section.Field(f.index)
		switch {
		case isSection(v.Type()):
			fill(v)
		case isOptional(v.Type()):
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case isList(v.Type()):
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			if isSection(v.Type().Elem()) {
				fill(v.Index(0))
			}
		}
	}
}

// join returns the path of a key of the section at path.
func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// item returns the path of an entry of the list at path.
func item(path string, i int) string {
	return path + "[" + strconv.Itoa(i) + "]"
}

// parent returns the path of what the value at path is in; "" is the whole file.
func parent(path string) string {
	if i := strings.LastIndexAny(path, ".["); i >= 0 {
		return path[:i]
	}
	return ""
}

// pattern returns path without the numbers of entries: listeners[3].tls
// becomes listeners[].tls.
func pattern(path string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(path, "[")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteString("[]")
		_, path, _ = strings.Cut(rest, "]")
	}
}
