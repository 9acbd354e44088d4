package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// checkValues checks every value against the range and oneof tags of its key.
func checkValues(cfg *Config, r *report) {
	visit(reflect.ValueOf(cfg).Elem(), "", func(path string, f field, v reflect.Value) {
		switch {
		case isList(v.Type()) && !v.IsNil():
			checkCount(path, f, v.Len(), r)
		case f.oneOf != nil:
			checkOneOf(path, f, v, r)
		case f.min != "" && !isList(v.Type()):
			checkRange(path, f, v, r)
		}
	})
}

func checkCount(path string, f field, n int, r *report) {
	least, _ := strconv.Atoi(f.min)
	if n < least || n > f.maxItems() {
		advice := ""
		if n == 0 && f.required != "" {
			advice = "; write " + f.required
		}
		r.at(path, "must have %s..%s entries, got %d%s", f.min, f.max, n, advice)
	}
}

func checkOneOf(path string, f field, v reflect.Value, r *report) {
	k, _ := kindOf(v.Type())
	got := k.text(v)
	if slices.Contains(f.oneOf, got) || f.zero != "" && v.IsZero() {
		return
	}
	want := oneOfWords(f.oneOf)
	if f.zero != "" {
		want += fmt.Sprintf(`, or "" for %s`, f.zero)
	}
	if isValueNotBuilt(path, got) {
		r.at(path, "%s is not supported by this version of mqttlb yet; write %s", got, want)
		return
	}
	hint := ""
	if meant := nearest(got, f.oneOf); meant != "" && v.Kind() == reflect.String {
		hint = "; did you mean " + strconv.Quote(meant) + "?"
	}
	r.at(path, "must be %s, got %s%s", want, shown(v, k), hint)
}

func checkRange(path string, f field, v reflect.Value, r *report) {
	k, _ := kindOf(v.Type())
	if f.zero != "" && v.IsZero() {
		return
	}
	if number(v) >= number(bound(f.min, v.Type(), k)) && number(v) <= number(bound(f.max, v.Type(), k)) {
		return
	}
	zero := ""
	if f.zero != "" {
		zero = ", or 0 for " + f.zero
	}
	r.at(path, "must be %s..%s%s, got %s", f.min, f.max, zero, shown(v, k))
}

// bound returns the bound that a range tag writes as text.
func bound(text string, t reflect.Type, k kind) reflect.Value {
	v := reflect.New(t).Elem()
	k.parse(v, literal{text: text}) // TestSchema reads all bounds
	return v
}

// number returns v for a comparison. The precision of a float64 is enough for
// bounds that people write.
func number(v reflect.Value) float64 {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanUint():
		return float64(v.Uint())
	default:
		return v.Float()
	}
}

// shown returns v for a message.
func shown(v reflect.Value, k kind) string {
	if v.Kind() != reflect.String {
		return k.text(v)
	}
	return literal{text: k.text(v), quoted: true}.show()
}

// choice is one of several sections that exclude each other.
type choice struct {
	key   string
	given bool
}

// checkChoice checks that at most one of the choices is given, and returns how
// many there are.
func checkChoice(path string, choices []choice, r *report) int {
	var given []string
	for _, c := range choices {
		if c.given {
			given = append(given, c.key)
		}
	}
	if len(given) > 1 { // which is a mistake whatever else is wrong with them
		r.about(path, "has %s; keep one of them", strings.Join(given, " and "))
	}
	return len(given)
}
