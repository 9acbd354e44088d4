package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// key is one key of the schema.
type key struct {
	path string // with [0] for the entries of lists
	field
	typ reflect.Type
}

// allKeys returns every key of the schema, in its order.
func allKeys() []key {
	var keys []key
	visit(reflect.ValueOf(specimen()).Elem(), "", func(path string, f field, v reflect.Value) {
		keys = append(keys, key{path, f, v.Type()})
	})
	return keys
}

// TestSchema checks the tags of every field, so that nothing else has to.
func TestSchema(t *testing.T) {
	t.Parallel()
	for _, k := range allKeys() {
		if k.key == "" {
			t.Errorf("%s: a field has no yaml tag", k.path)
		}
		kind, scalar := kindOf(k.typ)
		if strings.HasSuffix(k.key, "_file") && !k.file && k.key != "state_file" { // which is written
			t.Errorf("%s: a file that is read needs the tag file", k.path)
		}
		switch {
		case scalar:
			if k.derived == "" && k.required == "" {
				checkLiteral(t, k, kind, "default", k.def)
			}
			if k.min != "" {
				checkLiteral(t, k, kind, "range", k.min)
				checkLiteral(t, k, kind, "range", k.max)
			}
			for _, value := range k.oneOf {
				checkLiteral(t, k, kind, "oneof", value)
			}
			if k.oneOf != nil && !slices.Contains(k.oneOf, k.def) && (k.zero == "" || k.def != "") {
				t.Errorf("%s: the default %q is not in %v", k.path, k.def, k.oneOf)
			}
		case isList(k.typ):
			if k.maxItems() == 0 || !isSection(k.typ.Elem()) && k.typ.Elem() != reflect.TypeFor[IP]() &&
				k.typ.Elem() != reflect.TypeFor[Origin]() && k.typ.Elem() != reflect.TypeFor[Network]() {
				t.Errorf("%s: a list needs a range, and sections, addresses, networks or origins as entries", k.path)
			}
		case isOptional(k.typ):
			if !isSection(k.typ.Elem()) {
				t.Errorf("%s: only sections can be optional", k.path)
			}
		case !isSection(k.typ) && k.typ != reflect.TypeFor[map[string]string]():
			t.Errorf("%s: the type %v has no form in the file", k.path, k.typ)
		}
	}
}

func checkLiteral(t *testing.T, k key, kind kind, tag, text string) {
	t.Helper()
	v := reflect.New(k.typ).Elem()
	if _, ok := kind.parse(v, literal{text: text}); !ok {
		t.Errorf("%s: the %s %q is not %s", k.path, tag, text, kind.want)
	} else if got := kind.text(v); got != text && kind.name != "duration" {
		t.Errorf("%s: the %s %q is written %q", k.path, tag, text, got)
	}
}

// TestDefaultsAreInRange checks the rules of the tags against their defaults.
func TestDefaultsAreInRange(t *testing.T) {
	t.Parallel()
	for _, source := range []string{"static", "file", "dns", "s3"} {
		for _, probe := range []string{"mqtt", "http", "tcp"} {
			cfg := specimen()
			c := &cfg.Clusters[0]
			complete(c)
			cfg.Listeners[0].TLS.Mode, cfg.Listeners[0].TLS.Certificates[0] = TLSTerminate, Certificate{Cert: "x", Key: "x"}
			cfg.Listeners[0].Transport = TransportWebSocket
			keepOne(reflect.ValueOf(&c.Discovery).Elem(), source)
			keepOne(reflect.ValueOf(&c.Health).Elem(), probe)
			r := newReport("defaults")
			finish(cfg, testOptions(), r)
			if err := r.err(); err != nil {
				t.Errorf("%s, %s: %v", source, probe, err)
			}
		}
	}
}

// complete fills in the values that have no default.
func complete(c *Cluster) {
	c.Discovery.Static[0].Address = "10.0.0.1:1883"
	c.Discovery.File.Path, c.Discovery.DNS.Name, c.Discovery.S3.Bucket = "x", "x", "xyz"
	c.Placement.Groups[0].UserProperty = "x"
	c.Load.Preset, c.Load.Figures[0].Metric = "hivemq", "x"
	c.ProxyProtocol.Custom[0] = TLV{Type: 0xE4, Value: "x"}
}

// keepOne leaves one of the values of a section that exclude each other.
func keepOne(section reflect.Value, key string) {
	for _, f := range fieldsOf(section.Type()) {
		if v := section.Field(f.index); f.key != key && (isOptional(v.Type()) || isList(v.Type())) {
			v.SetZero()
		}
	}
}

// TestNotBuilt checks that the table of missing features follows the schema:
// its keys have a place there, and leave the table when they are built.
func TestNotBuilt(t *testing.T) {
	t.Parallel()
	built := map[string]key{}
	for _, k := range allKeys() {
		built[pattern(k.path)] = k
	}
	for _, entry := range notBuilt() {
		path, value, isValue := strings.Cut(entry, "=")
		k, found := built[path]
		switch {
		case isValue && !found:
			t.Errorf("%s: there is no such key", entry)
		case isValue && slices.Contains(k.oneOf, value):
			t.Errorf("%s is built; delete it from notbuilt.go", entry)
		case !isValue && found:
			t.Errorf("%s is built; delete it from notbuilt.go", entry)
		case !isValue:
			section, ok := built[strings.TrimSuffix(parent(path), "[]")]
			if !ok && parent(path) != "" {
				t.Errorf("%s: there is no section %s (%v)", entry, parent(path), section.path)
			}
		}
	}
}

// TestSessionScopeNode checks that every strategy either suits sessions that live on one broker, or is refused for
// them.
func TestSessionScopeNode(t *testing.T) {
	t.Parallel()
	var refused []string
	for _, k := range allKeys() {
		if pattern(k.path) != "clusters[].placement.strategy" {
			continue
		}
		for _, strategy := range k.oneOf {
			file := "clusters: [{discovery: {static: [{address: \"h:1\"}]}, placement: {session_scope: node, strategy: " + strategy + "}}]"
			if _, err := Parse("test", []byte(file), testOptions()); err != nil {
				refused = append(refused, strategy)
			}
		}
	}
	if want := []string{"metric-wrr", "least-connections", "round-robin", "random"}; !slices.Equal(refused, want) {
		t.Errorf("got %v refused, want %v", refused, want)
	}
}
