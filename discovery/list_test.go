package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func showList(a answer) string {
	var b strings.Builder
	for i, one := range a.backends {
		fmt.Fprintf(&b, "%s|%s|%s|%v|%v\n", a.where[i], one.Name, one.Address, one.Capacity, one.Labels)
	}
	for _, c := range a.left {
		fmt.Fprintf(&b, "%s|%s left out: %v\n", c.where, c.backend, c.why)
	}
	return b.String()
}

func TestParseList(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{
			"block", "# brokers\n- name: n1\n  address: 10.0.0.1:1883\n- address: \"h:1\"\n  capacity: 2.5\n  labels:\n    zone: a\n    version: 4.40\n",
			"2:3|n1|10.0.0.1:1883|1|map[]\n4:3||h:1|2.5|map[version:4.40 zone:a]\n",
		},
		{"flow", `[{name: n1, address: "10.0.0.1:1883", labels: {up: true}}]`, "1:2|n1|10.0.0.1:1883|1|map[up:true]\n"},
		{
			"JSON", "[\n\t{\"name\": \"a\\u00e9\", \"address\": \"h:1\",\t\"capacity\": 1e2},\n\t{\"address\":\"[::1]:1\",\"labels\":null}\n]\n",
			"2:2|aé|h:1|100|map[]\n3:2||[::1]:1|1|map[]\n",
		},
		{"JSON in a line", `[{"name":"a","address":"h:1"},{"name":"b","address":"h:2"}]`, "1:2|a|h:1|1|map[]\n1:31|b|h:2|1|map[]\n"},
		{"byte order mark", "\ufeff- address: h:1\n", "1:3||h:1|1|map[]\n"},
		{"CRLF", "- address: h:1\r\n  name: a\r\n", "1:3|a|h:1|1|map[]\n"},
		{"one document", "---\n- address: h:1\n", "2:3||h:1|1|map[]\n"},
		{"a number as name", "- {name: 7, address: h:1}", "1:3|7|h:1|1|map[]\n"},
		{
			"bad capacity", "- {name: a, address: h:1, capacity: -1}\n- {name: b, address: h:2}\n",
			"2:3|b|h:2|1|map[]\n1:3|a left out: its capacity must be from 0.001 to 1000000, got -1\n",
		},
		{"capacity out of all bounds", "- {name: a, address: h:1, capacity: 1e999}\n", "1:3|a left out: its capacity must be from 0.001 to 1000000, got 1e999\n"},
		{"capacity is no number", "- {name: a, address: h:1, capacity: NaN}\n", "1:3|a left out: its capacity must be from 0.001 to 1000000, got NaN\n"},
		{
			"no address", "- name: a\n- {name: b, address: h:2}\n- {}\n",
			"2:3|b|h:2|1|map[]\n" + `1:3|a left out: its address is missing; write address: "10.0.0.1:1883"` + "\n" + `3:3| left out: its address is missing; write address: "10.0.0.1:1883"` + "\n",
		},
		{"bad address is not our business", "- address: nowhere\n", "1:3||nowhere|1|map[]\n"},
	} {
		a, err := parseList([]byte(c.text))
		if got := showList(a); err != nil || got != c.want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", c.name, err, got, c.want)
		}
	}
}

func TestParseListMistakes(t *testing.T) {
	t.Parallel()
	const missing = `such as - {name: n1, address: "10.0.0.1:1883"}`
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "1:1: the file is empty; it must be a list of backends, " + missing},
		{"comment only", "# nothing\n", "1:1: the file is empty; it must be a list of backends, " + missing},
		{"null", "null\n", "1:1: the file is empty; it must be a list of backends, " + missing},
		{"empty list", "[]\n", "1:1: the list is empty; write the backends, " + missing},
		{"mapping", "backends:\n  - address: h:1\n", "1:1: must be a list of backends, " + missing},
		{"text", "10.0.0.1:1883 10.0.0.2:1883\n", "1:1: must be a list of backends, " + missing},
		{
			"list of texts", "- 10.0.0.1:1883\n- h:1\n",
			"1:3: a backend must have keys and values, " + missing + "; 2:3: a backend must have keys and values, " + missing,
		},
		{"unknown key", "- name: a\n  zone: h:1\n", `2:3: unknown key "zone"; valid keys are name, address, capacity, labels`},
		{"mistyped key", "- name: a\n  addrss: h:1\n", `2:3: unknown key "addrss"; did you mean "address"?`},
		{"long key", "- name: a\n  " + strings.Repeat("name", 99) + ": h:1\n", `2:3: unknown key "` + strings.Repeat("name", 64) + `…"; valid keys are name, address, capacity, labels`},
		{"known by another name", "- name: a\n  host: h:1\n", `2:3: unknown key "host"; did you mean "address"?`},
		{"other case", "- Name: a\n  address: h:1\n", `1:3: unknown key "Name"; did you mean "name"?`},
		{"another name in JSON", "[{\"address\":\"h:1\",\n\"weight\":2}]", `2:1: unknown key "weight"; did you mean "capacity"?`},
		{"twice", "- name: a\n  address: h:1\n  name: b\n", `3:3: "name" is set twice; keep one of them`},
		{"list as address", "- address: [h:1]\n", "1:12: address must be a text"},
		{"mapping as name", "- {address: h:1, name: {a: b}}\n", "1:24: name must be a text"},
		{"text as capacity", "- {address: h:1, capacity: big}\n", "1:28: capacity must be a number, such as 1 or 2.5"},
		{"number in quotes", "- {address: h:1, capacity: \"2\"}\n", "1:28: capacity must be a number, such as 1 or 2.5"},
		{"text as labels", "- {address: h:1, labels: zone-a}\n", "1:26: labels must be keys and values, such as {zone: a}"},
		{"list as label", "- {address: h:1, labels: {zone: [a]}}\n", "1:33: label zone must be a text"},
		{"two documents", "- address: h:1\n---\n- address: h:2\n", "3:1: a second YAML document starts here; keep one and remove the --- between them"},
		{"alias", "- &a {address: h:1}\n- *a\n", `1:3: not valid YAML: "&" is not supported in a list of backends; write the values out, or put a text in quotes`},
		{"merge", "- {<<: {address: h:1}}\n", `1:4: not valid YAML: "<<" is not supported in a list of backends; write the values out, or put a text in quotes`},
		{"tag", "- !!binary aGk=\n", `1:3: not valid YAML: "!!binary" is not supported in a list of backends; write the values out, or put a text in quotes`},
		{"bracket", "[{\"address\":\"h:1\"},\n", "1:1: not valid YAML: sequence end token ']' not found"},
		{"nesting", strings.Repeat("[", 10000), "1:9: not valid YAML: lists within lists nest too deeply"},
		{"dashes", strings.Repeat("- ", 10000), "1:17: not valid YAML: lists within lists nest too deeply"},
		{"dashes alone", strings.Repeat("-\n", 1<<19), "4097:1: not valid YAML: more than 4096 backends"},
		{"keys alone", strings.Repeat("- a:\n", 4000) + "  a:\n" + "- [{" + strings.Repeat("a, ", 9000) + "}]\n", "4002:12579: not valid YAML: more than 8192 keys have no value"},
		{"too many keys", "- a: b\n" + strings.Repeat("  a: b\n", 1<<17), "65:4: not valid YAML: more than 64 keys together; a list of backends has dashes, and after each a name, an address, a capacity and labels"},
		{"too many in brackets", "[{" + strings.Repeat("a:,", 1<<18) + "}]", "1:196: not valid YAML: more than 64 keys together; a list of backends has dashes, and after each a name, an address, a capacity and labels"},
		{"bytes", "- address: h\xff:1\n", "1:13: the byte 0xFF is not text; save the file as plain UTF-8"},
		{"control", "- address: h:1\n  name: a\x00\n", "2:10: the control character 0x00 is not text; save the file as plain UTF-8"},
		{"many", strings.Repeat("- x\n", 7), strings.Join(slices.Collect(func(yield func(string) bool) {
			for i := range 5 {
				yield(fmt.Sprintf("%d:3: a backend must have keys and values, %s", i+1, missing))
			}
		}), "; ") + "; and 2 more"},
	} {
		a, err := parseList([]byte(c.text))
		if err == nil || err.Error() != c.want || len(a.backends)+len(a.left) > 0 {
			t.Errorf("%s: got %s error\n%v\nwant\n%s", c.name, showList(a), err, c.want)
		}
	}
}

// FuzzParseList checks that any bytes give either backends, or mistakes with positions inside the file, and
// that the same list means the same when it is written differently.
func FuzzParseList(f *testing.F) {
	for _, seed := range []string{
		"- name: n1\n  address: 10.0.0.1:1883\n  capacity: 2\n  labels: {a: b}\n- address: h:1\n",
		`[{"name":"a","address":"h:1","labels":{"k":"v"}}]`,
		"- {name: a, addrss: h:1}", "", "[]", "- &a x\n- *a", "? a\n: b", "- |\n  text\n", "- 'it''s'\n", "%YAML 1.2\n---\n- a: b",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseList(data)
		if err != nil {
			wrong, ok := errors.AsType[mistakes](err)
			lines := bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r")) + 1
			if !ok || len(wrong) == 0 || len(a.backends) > 0 || !utf8.ValidString(err.Error()) {
				t.Fatalf("got %v and %q, want mistakes and nothing else", a, err)
			}
			for _, m := range wrong {
				if m.line < 1 || m.line > lines || m.column < 1 || m.msg == "" {
					t.Errorf("got %v, outside of a file of %d lines", m, lines)
				}
			}
			return
		}
		if len(a.backends)+len(a.left) == 0 || len(a.where) != len(a.backends) {
			t.Fatalf("got %+v without an error", a)
		}
		for i, b := range a.backends {
			if b.Address == "" || !(b.Capacity >= minCapacity && b.Capacity <= maxCapacity) || a.where[i] == "" {
				t.Errorf("got %+v at %s", b, a.where[i])
			}
		}
		var again bytes.Buffer
		for _, b := range a.backends {
			fmt.Fprintf(&again, "- {name: %s, address: %s, capacity: %v, labels: {", quote(b.Name), quote(b.Address), b.Capacity)
			for k, v := range b.Labels {
				fmt.Fprintf(&again, "%s: %s, ", quote(k), quote(v))
			}
			again.WriteString("}}\n")
		}
		if len(a.backends) == 0 {
			return
		}
		b, err := parseList(again.Bytes())
		if err != nil || fmt.Sprint(b.backends) != fmt.Sprint(a.backends) {
			t.Errorf("got %v and %v, want %v from\n%s", b.backends, err, a.backends, again.String())
		}
	})
}

// quote writes a text in double quotes, everything unusual as a JSON escape.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case c > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, c)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String() + `"`
}
