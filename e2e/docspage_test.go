//go:build linux

package e2e

import (
	"regexp"
	"strings"
	"testing"
)

// A step is one block of commands on a page, and what the page says that they print.
type step struct {
	section  string // its heading
	commands string
	prints   string // empty if the page does not say
}

// stepsOf reads a page: what is fenced as sh is to be run, in order, and what is fenced as text right behind it is what
// it prints. Indented blocks and those of other languages are for people alone.
func stepsOf(t *testing.T, page string) []step {
	t.Helper()
	var steps []step
	section, fence := "", ""
	var block strings.Builder
	for line := range strings.Lines(page) {
		language, isFence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case isFence && fence == "":
			fence = "```" + language
			block.Reset()
		case isFence && fence == "```sh":
			steps = append(steps, step{section: section, commands: block.String()})
			fence = ""
		case isFence && fence == "```text" && len(steps) > 0 && steps[len(steps)-1].prints == "":
			steps[len(steps)-1].prints = block.String()
			fence = ""
		case isFence && fence == "```text":
			t.Fatalf("there are no commands for this output:\n%s", &block)
		case isFence:
			fence = ""
		case fence != "":
			block.WriteString(line)
		case strings.HasPrefix(line, "## "):
			section = strings.TrimSpace(line[3:])
		}
	}
	return steps
}

// varying is what may differ from run to run: spans of time, and numbers that do not belong to a name. The 0 is not
// among them: where the page says that nobody is there, nobody is.
var varying = regexp.MustCompile(`(^|[^\w-])((?:\d+[dhms])+|\d[\d.,]*)`)

// pattern turns the output on a page into an expression for what may be printed: … stands for anything, on a line of
// its own for any lines, and columns may be wider.
func pattern(prints string) *regexp.Regexp {
	var expression strings.Builder
	expression.WriteString("^")
	for line := range strings.Lines(prints) {
		if line = strings.TrimSpace(line); line == "…" {
			expression.WriteString(`(?:.*\n)*`)
			continue
		}
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				expression.WriteString(".*")
			}
			expression.WriteString(loosened(part))
		}
		expression.WriteString(` *\n`)
	}
	return regexp.MustCompile(expression.String() + "$")
}

var blanks = regexp.MustCompile(` +`)

// loosened is an expression for a text whose numbers and blanks may vary.
func loosened(text string) string {
	var expression strings.Builder
	literal := func(s string) { expression.WriteString(blanks.ReplaceAllString(regexp.QuoteMeta(s), " +")) }
	end := 0
	for _, m := range varying.FindAllStringSubmatchIndex(text, -1) {
		literal(text[end:m[4]])
		if number := text[m[4]:m[5]]; strings.Trim(number, "0.") == "" {
			literal(number)
		} else {
			expression.WriteString(`(?:(?:\d+[dhms])+|\d[\d.,]*)`)
		}
		end = m[5]
	}
	literal(text[end:])
	return expression.String()
}

// The page is compared as a reader would: numbers and times may differ, names and zeros may not.
func TestOutputOnPages(t *testing.T) {
	t.Parallel()
	const page = "…\nBACKEND  CONNECTIONS  SHARE\nn1  19  28.8%\nn2  0  0.0%\nn2 is empty, 16 connections ended in 2s\n\"worker-…\"  n…  group\n"
	for output, want := range map[string]bool{
		"BACKEND CONNECTIONS SHARE\nn1 7 3.0%\nn2 0 0.0%\nn2 is empty, 1,600 connections ended in 1m2s\n\"worker-3\"   n4  group  \n":   true,
		"some\nlines\nBACKEND CONNECTIONS SHARE\nn1 7 3.0%\nn2 0 0.0%\nn2 is empty, 7 connections ended in 2s\n\"worker-3\" n4 group\n": true,
		"BACKEND CONNECTIONS SHARE\nn1 7 3.0%\nn2 1 0.0%\nn2 is empty, 7 connections ended in 2s\n\"worker-3\" n4 group\n":              false,
		"BACKEND CONNECTIONS SHARE\nn3 7 3.0%\nn2 0 0.0%\nn2 is empty, 7 connections ended in 2s\n\"worker-3\" n4 group\n":              false,
		"BACKEND CONNECTIONS SHARE\nn1 7 3.0%\nn2 0 0.0%\n\"worker-3\" n4 group\n":                                                      false,
		"BACKEND CONNECTIONS SHARE\nn1 7 3.0%\nn2 0 0.0%\nn2 is empty, 7 connections ended in 2s\n\"worker-3\" n4 group\nmore\n":        false,
	} {
		if got := pattern(page).MatchString(output); got != want {
			t.Errorf("got %t, want %t, for\n%s", got, want, output)
		}
	}
}
