package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// notes say, by key of a row, why mqttlb is not ahead in it. They are kept by hand in a Markdown file and survive a run.
type notes map[string]string

// notesFile is beside the results. A heading "## scenario: label" is the key; what follows it is the note. A key whose
// label is * stands for all rows of the scenario that have no note of their own.
const notesFile = "notes.md"

func readNotes(path string) (notes, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return notes{}, nil
	}
	if err != nil {
		return nil, err
	}
	return parseNotes(string(text))
}

func parseNotes(text string) (notes, error) {
	n := make(notes)
	key := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if heading, is := strings.CutPrefix(line, "## "); is {
			if key = heading; n.has(key) {
				return nil, fmt.Errorf("%s has two notes for %q", notesFile, key)
			}
			n[key] = ""
			continue
		}
		if key != "" && line != "" {
			n[key] = strings.TrimSpace(n[key] + " " + line)
		}
	}
	return n, nil
}

func (n notes) has(key string) bool {
	_, known := n[key]
	return known
}

// of is the row's note, empty when there is none.
func (n notes) of(w row) string {
	if text := n[w.key()]; text != "" {
		return text
	}
	return n[w.scenario+": *"]
}

// missing are the keys of the rows in which mqttlb is behind without a note.
func (n notes) missing(r results, p *plan) []string {
	var keys []string
	for _, w := range p.rows() {
		for _, other := range rivals {
			if w.standing(r, other) == behind && n.of(w) == "" {
				keys = append(keys, w.key()+" ("+w.behindText(r, other)+")")
				break
			}
		}
	}
	return keys
}
