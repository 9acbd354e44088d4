package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// maxErrors is how many mistakes are shown: a screen full. Beyond that a
	// reader starts at the top and runs the check again.
	maxErrors = 20
	// maxCollected bounds the work on a file that is wrong in every line.
	maxCollected = 1000
)

// Error is one mistake in a configuration.
type Error struct {
	// File is the name of the file, empty when the configuration comes from flags.
	File string
	// Line and Column count from 1, columns in characters. They are 0 when
	// the configuration comes from flags.
	Line, Column int
	// Path names the key, for example listeners[0].address; it is empty when
	// the mistake is not about one key.
	Path string
	// Msg says what is wrong and what to write instead.
	Msg string
}

// Error returns "FILE:LINE:COLUMN: message" as far as these are known.
func (e Error) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
	case e.File != "":
		return e.File + ": " + e.Msg
	default:
		return e.Msg
	}
}

// Errors are the mistakes of one configuration in the order of the file, at
// most 20. If there are more, a last entry without a position says how many.
type Errors []Error

// Error returns one line per mistake.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// position is a place in a file; the zero value is nowhere.
type position struct{ line, column int }

// report collects the mistakes of one configuration, and knows where each key
// was written.
type report struct {
	file  string
	where map[string]position // by path
	// flags maps paths to the flags they come from. It is nil for a file.
	flags map[string]string

	errs    []Error
	omitted int
	// unread holds the paths whose values could not be read, above the paths
	// of what these values are in. Rules about either would only add noise.
	unread, above map[string]bool
	// told holds the paths about which there is a mistake already.
	told map[string]bool
}

func newReport(file string) *report {
	return &report{
		file:   file,
		where:  map[string]position{},
		unread: map[string]bool{},
		above:  map[string]bool{},
		told:   map[string]bool{},
	}
}

// decoding reports a mistake that keeps the value at path from being read.
func (r *report) decoding(at position, path, format string, args ...any) {
	r.add(at, path, fmt.Sprintf(format, args...))
	r.spoil(path)
}

// spoil marks the value at path as not read.
func (r *report) spoil(path string) {
	r.unread[path] = true
	for path != "" {
		path = parent(path)
		r.above[path] = true
	}
}

// at reports that the value at path breaks a rule, unless that value was not
// read in the first place. The message continues the name of the key: at("a.b",
// "must be 1") becomes "a.b must be 1".
func (r *report) at(path, format string, args ...any) {
	if !r.spoiled(path) {
		r.about(path, format, args...)
	}
}

// about does what at does, whether the value was read or not.
func (r *report) about(path, format string, args ...any) {
	r.add(r.find(path), path, r.subject(path)+" "+fmt.Sprintf(format, args...))
}

// spoiled reports whether the value at path, something in it, or something
// that it is in was not read.
func (r *report) spoiled(path string) bool {
	if r.above[path] {
		return true
	}
	for ; path != ""; path = parent(path) {
		if r.unread[path] {
			return true
		}
	}
	return r.unread[""]
}

// find returns where path was written, or else what it would be in.
func (r *report) find(path string) position {
	if r.flags != nil {
		return position{}
	}
	for ; path != ""; path = parent(path) {
		if at, ok := r.where[path]; ok {
			return at
		}
	}
	return position{1, 1}
}

// subject returns what a user calls the value at path.
func (r *report) subject(path string) string {
	for p := path; p != "" && r.flags != nil; p = parent(p) {
		if name, ok := r.flags[p]; ok {
			return name
		}
	}
	return path
}

// reference returns what a message calls another value than its own.
func (r *report) reference(path string) string {
	if at, ok := r.where[path]; ok {
		return fmt.Sprintf("%s in line %d", path, at.line)
	}
	if name := r.subject(path); name != path {
		return "another " + name
	}
	return path
}

// given reports whether the key at path is written in the file.
func (r *report) given(path string) bool {
	_, ok := r.where[path]
	return ok
}

// sound reports whether the value at path was read and has no mistake so far.
func (r *report) sound(path string) bool { return !r.told[path] && !r.spoiled(path) }

func (r *report) add(at position, path, msg string) {
	r.told[path] = true
	if r.full() {
		r.omitted++
		return
	}
	r.errs = append(r.errs, Error{File: r.file, Line: at.line, Column: at.column, Path: path, Msg: msg})
}

// full reports whether further mistakes are only counted.
func (r *report) full() bool { return len(r.errs) >= maxCollected }

// err returns all mistakes as Errors, or nil.
func (r *report) err() error {
	if len(r.errs) == 0 {
		return nil
	}
	errs := slices.Clone(r.errs)
	slices.SortStableFunc(errs, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if more := len(errs) - maxErrors + r.omitted; more > 0 {
		errs = append(errs[:maxErrors], Error{File: r.file, Msg: fmt.Sprintf("%d more mistakes are not shown; correct these first", more)})
	}
	return Errors(errs)
}
