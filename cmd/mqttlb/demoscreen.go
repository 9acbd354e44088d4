package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// A demoScreen shows pictures: on a terminal the table, drawn again in its place; elsewhere a line for
// every event and a line for every second.
type demoScreen struct {
	out      io.Writer
	terminal bool
	colour   bool
	size     func() (width, height int)

	drawn  int // lines of the table on the terminal
	width  int // of the terminal when they were drawn
	told   int // events that have been written as lines
	second int // the last one that has been written as a line
}

const (
	demoHideCursor = "\x1b[?25l"
	demoShowCursor = "\x1b[?25h"
	demoClearLine  = "\x1b[K"
	demoClearBelow = "\x1b[J"
	demoClearAll   = "\x1b[H\x1b[2J"
)

func newDemoScreen(out io.Writer) *demoScreen {
	s := &demoScreen{out: out, second: -1}
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return s
	}
	s.terminal = true
	s.colour = os.Getenv("NO_COLOR") == ""
	s.size = func() (width, height int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
	return s
}

// show shows a picture.
func (s *demoScreen) show(p *demoState) {
	if s.terminal {
		s.draw(p)
		return
	}
	if s.second < 0 {
		for _, l := range demoTitle(p) {
			fmt.Fprintln(s.out, l.paint(demoMaxWidth, false))
		}
	}
	for ; s.told < len(p.Events); s.told++ {
		e := p.Events[s.told]
		fmt.Fprintf(s.out, "%s  %s\n", demoClock(e.At), e.Text)
	}
	if second := int(p.At.Seconds()); second > s.second {
		s.second = second
		fmt.Fprintln(s.out, demoPulse(p))
	}
}

// draw writes the table over the last one, in one write so that it does not flicker.
func (s *demoScreen) draw(p *demoState) {
	var b strings.Builder
	width, height := s.size()
	switch {
	case s.drawn == 0:
		b.WriteString(demoHideCursor)
	case width != s.width:
		b.WriteString(demoClearAll) // the terminal has wrapped lines, and nobody knows where they are
	default:
		fmt.Fprintf(&b, "\r\x1b[%dA", s.drawn)
	}
	// The last line of the terminal is where the cursor rests.
	lines := demoTable(p, width, height-1)
	lines = lines[:min(len(lines), height-1)]
	for _, l := range lines {
		b.WriteString(l.paint(width, s.colour) + demoClearLine + "\n")
	}
	b.WriteString(demoClearBelow)
	s.drawn, s.width = len(lines), width
	_, _ = io.WriteString(s.out, b.String())
}

// close leaves the last picture where it is and writes the closing words beneath.
func (s *demoScreen) close(words []string) {
	if s.terminal {
		_, _ = io.WriteString(s.out, demoShowCursor)
	}
	fmt.Fprintf(s.out, "\n%s\n", strings.Join(words, "\n"))
}

// A demoTail is where the log of mqttlb goes: into a file if there is one, else into a memory of its last
// bytes, because lines between those of the table would spoil it.
type demoTail struct {
	to io.Writer

	mu   sync.Mutex
	last []byte
}

const demoTailSize = 2048

// Write implements io.Writer.
func (t *demoTail) Write(line []byte) (int, error) {
	if t.to != nil {
		return t.to.Write(line)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, line...)
	t.last = t.last[max(0, len(t.last)-demoTailSize):]
	return len(line), nil
}

// String is the end of the log, in whole lines.
func (t *demoTail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.last)
	if len(t.last) == demoTailSize {
		_, text, _ = strings.Cut(text, "\n")
	}
	return strings.TrimSpace(text)
}
