package discovery

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	// maxNesting bounds brackets within brackets, and dashes within a line. A list of backends needs three;
	// the YAML parser recurses once for each, and a stack that overflows cannot be recovered.
	maxNesting = 8
	// maxKeys bounds the keys of one backend, those of its labels included, and maxMissing the keys without a
	// value in the whole file. The parser needs a time that grows with the square of either: for 150,000, which
	// fit into the file, it is a minute.
	maxKeys    = 64
	maxMissing = 2 * maxListed
)

// parseTokens parses text after refusing the parts of YAML that are not wanted here. The parser of the
// library has panicked on odd input before.
func parseTokens(text string) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			file, err = nil, fmt.Errorf("the YAML parser failed: %v", p)
		}
	}()
	tokens := lexer.Tokenize(text)
	if tokens.InvalidToken() == nil {
		var c checker
		for _, tk := range tokens {
			if msg := c.check(tk); msg != "" {
				return nil, &yaml.SyntaxError{Message: msg, Token: tk}
			}
		}
	}
	return parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
}

// A checker looks at the tokens of a file, one after the other, for what the parser should not see.
type checker struct {
	brackets []bracket
	entries  int // dashes in the file
	line     int // the last line with dashes
	dashes   int // … and how many
	missing  int // keys without a value
	keys     int // … of the last backend, or whatever it is

	before, last *token.Token
}

// A bracket is one that is open.
type bracket struct {
	mapping bool // {, not [
	colon   bool // since the last comma
}

// check returns what is wrong with the next token, empty if nothing is.
func (c *checker) check(tk *token.Token) string {
	if c.lacksValue(tk) {
		c.missing++
	}
	c.before, c.last = c.last, tk
	open := len(c.brackets) - 1
	switch tk.Type { //nolint:exhaustive // the other types are fine
	case token.AnchorType, token.AliasType, token.MergeKeyType, token.TagType, token.DirectiveType, token.MappingKeyType:
		return fmt.Sprintf("%q is not supported in a list of backends; write the values out, or put a text in quotes", cut(tk.Value, maxShown))
	case token.MappingStartType, token.SequenceStartType:
		if open <= 0 {
			c.keys = 0
		}
		c.brackets = append(c.brackets, bracket{mapping: tk.Type == token.MappingStartType})
	case token.MappingEndType, token.SequenceEndType:
		c.brackets = c.brackets[:max(open, 0)]
	case token.MappingValueType, token.CollectEntryType:
		if tk.Type == token.MappingValueType {
			c.keys++
		}
		if open >= 0 {
			c.brackets[open].colon = tk.Type == token.MappingValueType
		}
	case token.SequenceEntryType:
		if tk.Position.Line != c.line {
			c.line, c.dashes = tk.Position.Line, 0
		}
		c.dashes++
		c.entries++
		c.keys = 0
	}
	switch {
	case len(c.brackets) > maxNesting || c.dashes > maxNesting:
		return "lists within lists nest too deeply"
	case c.entries > maxListed:
		return fmt.Sprintf("more than %d backends", maxListed)
	case c.keys > maxKeys:
		return fmt.Sprintf("more than %d keys together; a list of backends has dashes, and after each a name, an address, a capacity and labels", maxKeys)
	case c.missing > maxMissing:
		return fmt.Sprintf("more than %d keys have no value", maxMissing)
	}
	return ""
}

// lacksValue tells that, as the next token is tk, the last key has no value.
func (c *checker) lacksValue(tk *token.Token) bool {
	ends := tk.Type == token.CollectEntryType || tk.Type == token.MappingEndType || tk.Type == token.SequenceEndType
	if n := len(c.brackets); n > 0 && ends && c.brackets[n-1].mapping && !c.brackets[n-1].colon {
		return true // {a, b}
	}
	if c.last == nil || c.last.Type != token.MappingValueType {
		return false
	}
	return ends || c.before != nil && tk.Position.Line > c.last.Position.Line && tk.Position.Column <= c.before.Position.Column
}

// untabbed makes spaces of the tabs that lines begin with, if text looks like JSON: the YAML parser takes them
// but does not count them in its positions.
func untabbed(text string) string {
	if start := strings.TrimSpace(text); start == "" || start[0] != '[' && start[0] != '{' || !strings.Contains(text, "\t") {
		return text
	}
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		rest := strings.TrimLeft(line, " \t")
		lines[i] = strings.Repeat(" ", len(line)-len(rest)) + rest
	}
	return strings.Join(lines, "")
}

// unprintable returns the first place in data that no text editor would write.
func unprintable(data []byte) (at mistake, what string) {
	at = mistake{line: 1, column: 1}
	for len(data) > 0 {
		c, size := utf8.DecodeRune(data)
		switch {
		case c == utf8.RuneError && size == 1:
			return at, fmt.Sprintf("the byte 0x%02X", data[0])
		case c == '\n':
			at.line, at.column = at.line+1, 0
		case c < ' ' && c != '\t' && c != '\r', c == 0x7f:
			return at, fmt.Sprintf("the control character 0x%02X", c)
		}
		at.column++
		data = data[size:]
	}
	return at, ""
}
