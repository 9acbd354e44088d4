//go:build linux

package e2e

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A logBook collects the output of a process while it runs.
type logBook struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced when text arrives
	gate    sync.Mutex    // held while the book does not read
	once    func()        // lets the gate go
}

func newLogBook() *logBook { return &logBook{changed: make(chan struct{})} }

// Write implements io.Writer.
func (b *logBook) Write(p []byte) (int, error) {
	b.gate.Lock()
	defer b.gate.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
	return b.text.Write(p)
}

// block keeps the book from reading until unblock: the pipe of the process fills up.
func (b *logBook) block() {
	b.gate.Lock()
	b.once = sync.OnceFunc(b.gate.Unlock)
}

func (b *logBook) unblock() { b.once() }

func (b *logBook) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// from returns the whole lines behind the offset, and the channel that tells of more.
func (b *logBook) from(offset int) (string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.text.String()[offset:]
	return text[:strings.LastIndexByte(text, '\n')+1], b.changed
}

// wait returns the first line behind the offset that is wanted, and the offset behind it.
func (b *logBook) wait(t *testing.T, offset int, within time.Duration, what string, wanted func(line string) bool) (string, int) {
	t.Helper()
	timeout := time.After(within)
	for {
		text, changed := b.from(offset)
		for line := range strings.Lines(text) {
			offset += len(line)
			if wanted(line) {
				return line, offset
			}
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("not logged within %v: %s", within, what)
		}
	}
}

// A record is one line of mqttlb's log.
type record map[string]string

// parseRecord reads a line of log/slog's text format.
func parseRecord(line string) record {
	r := make(record)
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimLeft(line, " ") {
		key, rest, ok := strings.Cut(line, "=")
		if !ok {
			return r // not a log line: a panic, or a usage error
		}
		if quoted, err := strconv.QuotedPrefix(rest); err == nil {
			r[key], _ = strconv.Unquote(quoted)
			line = rest[len(quoted):]
			continue
		}
		r[key], line, _ = strings.Cut(rest, " ")
	}
	if id, err := strconv.Unquote(r["client"]); err == nil {
		r["client"] = id
	}
	return r
}
