package main

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a link has behind # is a heading of the page that it leads to.
func TestAnchorsInTheDocs(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^):#]*)#([^)]*)\)`)
	found := 0
	for page, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			found++
			target := page
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(page), m[1])
			}
			content, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if !anchors(string(content))[m[2]] {
				t.Errorf("%s: %s has no heading #%s", page, cmp.Or(m[1], "it"), m[2])
			}
		}
	}
	if found < 5 {
		t.Errorf("got %d links to headings, want more; is the test blind?", found)
	}
}

// anchors are those that GitHub makes of the headings of a page.
func anchors(page string) map[string]bool {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	found := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		found[strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return found
}

// Every page is in the index, but the index itself.
func TestIndexOfTheDocs(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for page := range all {
		name := filepath.Base(page)
		if name != "README.md" && !strings.Contains(all["../../docs/README.md"], "]("+name+")") {
			t.Errorf("docs/README.md does not lead to %s", name)
		}
	}
}
