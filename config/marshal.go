package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// Marshal returns the effective configuration as YAML, with every default
// written out and secrets replaced by a placeholder.
func (c *Config) Marshal() []byte { return c.marshal(false) }

// MarshalWithSecrets returns what Marshal does, but with the secrets, so that
// Parse reads the same configuration again.
func (c *Config) MarshalWithSecrets() []byte { return c.marshal(true) }

func (c *Config) marshal(secrets bool) []byte {
	w := &writer{secrets: secrets}
	w.section(reflect.ValueOf(c).Elem(), 0)
	return []byte(w.b.String())
}

// writer writes block style YAML, two spaces per level.
type writer struct {
	b       strings.Builder
	secrets bool
}

func (w *writer) section(section reflect.Value, level int) {
	for _, f := range fieldsOf(section.Type()) {
		v := section.Field(f.index)
		if absent(v, f) {
			continue
		}
		w.indent(level)
		w.b.WriteString(f.key + ":")
		w.value(v, level)
	}
}

// absent reports whether v is one of several values that exclude each other,
// and not the one that is there.
func absent(v reflect.Value, f field) bool {
	return isOptional(v.Type()) && v.IsNil() || isList(v.Type()) && v.IsNil() && f.min != "0"
}

// value writes what comes after the colon of a key, and ends the line.
func (w *writer) value(v reflect.Value, level int) {
	k, scalar := kindOf(v.Type())
	switch {
	case scalar:
		w.b.WriteString(" " + w.scalar(v, k) + "\n")
	case isOptional(v.Type()):
		w.value(v.Elem(), level)
	case isSection(v.Type()) && v.NumField() == 0:
		w.b.WriteString(" {}\n")
	case isSection(v.Type()):
		w.b.WriteByte('\n')
		w.section(v, level+1)
	case v.Len() == 0 && isList(v.Type()):
		w.b.WriteString(" []\n")
	case v.Len() == 0:
		w.b.WriteString(" {}\n")
	case isList(v.Type()):
		w.b.WriteByte('\n')
		for i := range v.Len() {
			w.entry(v.Index(i), level+1)
		}
	default:
		w.b.WriteByte('\n')
		labels, _ := reflect.TypeAssert[map[string]string](v)
		for _, key := range slices.Sorted(maps.Keys(labels)) {
			w.indent(level + 1)
			fmt.Fprintf(&w.b, "%s: %s\n", quote(key), quote(labels[key]))
		}
	}
}

// entry writes an entry of a list. The first line of a section starts with a dash.
func (w *writer) entry(section reflect.Value, level int) {
	if k, scalar := kindOf(section.Type()); scalar {
		w.indent(level)
		w.b.WriteString("- " + w.scalar(section, k) + "\n")
		return
	}
	inner := &writer{secrets: w.secrets}
	inner.section(section, level+1)
	w.indent(level)
	w.b.WriteString("- " + strings.TrimLeft(inner.b.String(), " "))
}

func (w *writer) scalar(v reflect.Value, k kind) string {
	text := k.text(v)
	switch {
	case v.Type() == reflect.TypeFor[Secret]() && text != "" && !w.secrets:
		return quote(redacted)
	case v.Kind() == reflect.String:
		return quote(text)
	default:
		return text
	}
}

func (w *writer) indent(level int) {
	w.b.WriteString(strings.Repeat("  ", level))
}

// quote returns text as YAML: plain when no reader could take it for something
// else, in double quotes otherwise.
func quote(text string) string {
	if isWord(text) {
		return text
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case unicode.IsPrint(c): // includes the space and no other white space
			b.WriteRune(c)
		case c < 0x10000:
			fmt.Fprintf(&b, `\u%04X`, c)
		default:
			fmt.Fprintf(&b, `\U%08X`, c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isWord reports whether text is a word that every version of YAML reads as text.
func isWord(text string) bool {
	switch strings.ToLower(text) {
	case "", "true", "false", "yes", "no", "on", "off", "y", "n", "null":
		return false
	}
	for i, c := range text {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || !strings.ContainsRune("0123456789_-.", c)) {
			return false
		}
	}
	return true
}
