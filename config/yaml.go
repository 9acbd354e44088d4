package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxFile bounds a configuration. 4096 backends with labels need about
	// half of it.
	maxFile = 1 << 20
	// maxNesting bounds brackets within brackets, and dashes within a line.
	// The schema needs 8; the YAML parser recurses once for each, and a stack
	// that overflows cannot be recovered.
	maxNesting = 64
)

// parseYAML returns the mapping that a file consists of, or nil after reporting
// why there is none.
func parseYAML(data []byte, r *report) *ast.MappingNode {
	if len(data) > maxFile {
		r.decoding(position{1, 1}, "", "the file is larger than %v; split the brokers over several clusters and instances", Size(maxFile))
		return nil
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at, what := unprintable(data); what != "" {
		r.decoding(at, "", "%s is not text; save the file as plain UTF-8", what)
		return nil
	}
	file, err := parseTokens(string(data))
	if err != nil {
		at, msg := explain(err)
		r.decoding(at, "", "%s", msg)
		return nil
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			r.decoding(start(doc.Body), "", "a second YAML document starts here; keep one and remove the --- between them")
			return nil
		default:
			body = doc.Body
		}
	}
	if _, null := body.(*ast.NullNode); null || body == nil {
		r.decoding(position{1, 1}, "", "the file is empty; the least it needs is %s", leastFile())
		return nil
	}
	mapping, ok := body.(*ast.MappingNode)
	if !ok {
		r.decoding(start(body), "", "the file must consist of keys and values, such as %s", leastFile())
	}
	return mapping
}

// parseTokens parses text after looking for the parts of YAML that are not
// wanted here. The parser of the library has panicked on odd input before, and
// a reload must survive whatever is in the file.
func parseTokens(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("the YAML parser failed: %v", p)
		}
	}()
	tokens := lexer.Tokenize(text)
	if tk := tokens.InvalidToken(); tk == nil {
		if err := plain(tokens); err != nil {
			return nil, err
		}
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // the decoder reports duplicates, all of them
}

// plain returns an error when the tokens nest too deeply or use parts of YAML
// that only make a configuration harder to read.
func plain(tokens token.Tokens) error {
	refuse := func(tk *token.Token, msg string) error {
		return &yaml.SyntaxError{Message: msg, Token: tk}
	}
	brackets, dashes, line := 0, 0, 0
	for _, tk := range tokens {
		switch tk.Type { //nolint:exhaustive // the other 25 types are fine
		case token.TagType:
			return refuse(tk, "tags such as "+literal{text: tk.Value}.show()+" are not supported; write the value alone, or in quotes if it starts with !")
		case token.DirectiveType:
			return refuse(tk, "directives that start with % are not supported; remove the line, or put a value that starts with % in quotes")
		case token.MappingKeyType:
			return refuse(tk, "keys that start with ? are not supported; write \"key: value\"")
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType:
			if tk.Position.Line != line {
				line, dashes = tk.Position.Line, 0
			}
			dashes++
		}
		if brackets > maxNesting || dashes > maxNesting {
			return refuse(tk, "lists within lists nest too deeply; the configuration needs no such nesting")
		}
	}
	return nil
}

// explain turns an error of the library into a position and one line that
// says what to do, where the library's own words do not.
func explain(err error) (position, string) {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return position{1, 1}, "not valid YAML: " + err.Error()
	}
	msg := located.GetMessage()
	for _, known := range []struct{ phrase, advice string }{
		{"not supported", ""},
		{"nest too deeply", ""},
		{"'\t'", "indent with spaces instead of tabs"},
		{"tab character", "indent with spaces instead of tabs"},
		{"reserved character", "put the value in quotes"},
		{"mapping value is not allowed", "put a value that contains \": \" in quotes, and check the indentation"},
		{"value is not allowed in this context", "check the indentation, or put the value in quotes"},
		{"block sequence entries are not allowed", "start the list on the next line"},
		{"could not find end character", "close the quotes"},
		{"non-map value", "write \"key: value\""},
		{"unexpected key name", "the line before this key has no \":\""},
		{"must be specified", "close the bracket, or separate the entries with commas"},
		{"not found", "close the bracket"},
	} {
		if strings.Contains(msg, known.phrase) {
			if known.advice == "" {
				return positionOf(located.GetToken()), msg
			}
			msg += "; " + known.advice
			break
		}
	}
	return positionOf(located.GetToken()), "not valid YAML: " + strings.ReplaceAll(msg, "\t", `\t`)
}

// leastFile returns the smallest valid file, for messages.
func leastFile() string {
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if f.key == "clusters" {
			return f.required
		}
	}
	return ""
}

// unprintable returns the first place in data that no text editor would write.
func unprintable(data []byte) (at position, what string) {
	at = position{1, 1}
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		switch {
		case c == utf8.RuneError && size == 1:
			return at, fmt.Sprintf("the byte 0x%02X", data[0])
		case c == '\n':
			at = position{at.line + 1, 0}
		case c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			return at, fmt.Sprintf("the control character 0x%02X", c)
		}
		at.column++
		data = data[size:]
	}
	return at, ""
}

// start returns where a node begins. A block mapping says where its first
// colon is; its first key is where a reader would look.
func start(n ast.Node) position {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		return positionOf(m.Values[0].Key.GetToken())
	}
	if n == nil {
		return position{1, 1}
	}
	return positionOf(n.GetToken())
}

func positionOf(tk *token.Token) position {
	if tk == nil || tk.Position == nil {
		return position{1, 1}
	}
	return position{tk.Position.Line, max(1, tk.Position.Column)}
}
