package config

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"
)

const (
	referencePage  = "../docs/configuration.md"
	referenceBegin = "<!-- The rest of this page is generated from config/schema.go by: go test ./config -update -->\n"
)

// TestReferencePage checks that docs/configuration.md describes the schema as
// it is. With -update it writes the generated half of the page.
func TestReferencePage(t *testing.T) {
	t.Parallel()
	page := string(readFile(t, referencePage))
	prose, _, found := strings.Cut(page, referenceBegin)
	if !found {
		t.Fatalf("%s has lost the line %q", referencePage, referenceBegin)
	}
	golden(t, referencePage, prose+referenceBegin+"\n"+reference(t))
}

// reference returns the generated half of the page: a table for each section
// at the top of the file, and what is not built.
func reference(t *testing.T) string {
	t.Helper()
	comments := fieldComments(t)
	var b strings.Builder
	b.WriteString("## Reference\n")
	for _, k := range allKeys() {
		comment := comments[fieldName(k.path)]
		if comment == "" {
			t.Errorf("%s has no comment in schema.go", k.path)
		}
		if parent(k.path) == "" {
			fmt.Fprintf(&b, "\n### %s\n\n%s\n", k.key, comment)
			if isList(k.typ) {
				fmt.Fprintf(&b, "A %s. Default: %s.\n", typeOf(k), strings.Replace(defaultOf(k), "required", "none, it is required", 1))
			}
			b.WriteString("\n| key | type | default | effect |\n| --- | --- | --- | --- |\n")
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", pattern(k.path), typeOf(k), defaultOf(k), strings.ReplaceAll(comment, "|", `\|`))
	}
	b.WriteString("\n## Known, but not supported yet\n\nUsing one of these is an error in this version:\n\n")
	for _, entry := range notBuilt() {
		path, value, isValue := strings.Cut(entry, "=")
		if isValue {
			path += ": " + value
		}
		fmt.Fprintf(&b, "- `%s`\n", path)
	}
	return b.String()
}

// typeOf returns what the table says about the values of a key.
func typeOf(k key) string {
	kind, scalar := kindOf(k.typ)
	switch {
	case k.oneOf != nil && k.zero != "":
		return "`" + strings.Join(k.oneOf, "` `") + "`, or `\"\"`: " + k.zero
	case k.oneOf != nil:
		return "`" + strings.Join(k.oneOf, "` `") + "`"
	case scalar && k.min != "" && k.zero != "":
		return fmt.Sprintf("%s, %s to %s, or 0: %s", kind.name, k.min, k.max, k.zero)
	case scalar && k.min != "":
		return fmt.Sprintf("%s, %s to %s", kind.name, k.min, k.max)
	case scalar:
		return kind.name
	case isSection(k.typ), isOptional(k.typ):
		return "section"
	case isList(k.typ):
		return fmt.Sprintf("list, %s to %s entries", k.min, k.max)
	default:
		return "keys and texts"
	}
}

func defaultOf(k key) string {
	_, scalar := kindOf(k.typ)
	switch {
	case k.required != "":
		return "required"
	case k.derived != "":
		return k.derived
	case k.def != "":
		return "`" + k.def + "`"
	case scalar:
		return "`\"\"`"
	default:
		return ""
	}
}

// fieldComments returns the comments of all fields in schema.go, by the name
// of the type and the field.
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	for _, name := range []string{"schema.go", "schemalistener.go", "schemacluster.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, collectComments(comments))
	}
	return comments
}

// collectComments puts the comments of the fields of all structs into comments.
func collectComments(comments map[string]string) func(ast.Node) bool {
	return func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if fields, ok := spec.Type.(*ast.StructType); ok {
			for _, f := range fields.Fields.List {
				for _, name := range f.Names {
					comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(f.Doc.Text()), " ")
				}
			}
		}
		return false
	}
}

// fieldName returns the type and the name of the field for the key at path.
func fieldName(path string) string {
	section := reflect.TypeFor[Config]()
	name := ""
	for key := range strings.SplitSeq(strings.ReplaceAll(path, "[0]", ""), ".") {
		for _, f := range fieldsOf(section) {
			if f.key == key {
				name = section.Name() + "." + section.Field(f.index).Name
				section = section.Field(f.index).Type
				break
			}
		}
		if isList(section) || isOptional(section) {
			section = section.Elem()
		}
	}
	return name
}
