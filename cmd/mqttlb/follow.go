package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// A progress is how far something is that shrinks to nothing.
type progress struct {
	done bool
	left int
	what string // is left
	// waits says what holds it up, empty if nothing is known to; stuck tells that it holds up all that is left.
	waits string
	stuck bool
}

const (
	lookEvery    = 500 * time.Millisecond // how often progress is looked at
	tellEvery    = 5 * time.Second        // how often it is told where lines stay
	rateWindow   = 10 * time.Second       // over which the pace is measured
	stalledAfter = 10 * time.Second       // without progress, until it is told why
)

// A follower shows how something goes on until it is done: on a terminal in one line that is drawn again, elsewhere
// in a line every few seconds.
type follower struct {
	name  string // of what is followed
	out   io.Writer
	width func() int // of the terminal; nil if it is none

	seen  []sighting // of the last rateWindow, the oldest first
	moved time.Time  // when there was progress
	told  time.Time
	drawn bool
}

// A sighting is how much was left at a moment.
type sighting struct {
	at   time.Time
	left int
}

func newFollower(name string, out io.Writer) *follower {
	f := &follower{name: name, out: out}
	if file, ok := out.(*os.File); ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb" {
		f.width = func() int {
			if width, _, err := term.GetSize(int(file.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	return f
}

// follow looks until it is done, an error comes or ctx ends. It returns what was seen last.
func (f *follower) follow(ctx context.Context, look func(context.Context) (progress, error)) (p progress, err error) {
	defer f.close()
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	for {
		now, failed := look(ctx)
		if ctx.Err() != nil {
			return p, ctx.Err() // which is why looking has failed, if it has
		}
		if failed != nil {
			return p, failed
		}
		if p = now; p.done {
			return p, nil
		}
		f.show(p, time.Now())
		select {
		case <-every.C:
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
}

// show notes and shows one look.
func (f *follower) show(p progress, now time.Time) {
	if len(f.seen) == 0 || p.left < f.seen[len(f.seen)-1].left {
		f.moved = now
	}
	f.seen = append(f.seen, sighting{now, p.left})
	for len(f.seen) > 2 && now.Sub(f.seen[0].at) > rateWindow {
		f.seen = f.seen[1:]
	}
	line := f.line(p, now)
	if f.width == nil {
		if f.told.IsZero() || now.Sub(f.told) >= tellEvery {
			f.told = now
			fmt.Fprintln(f.out, line)
		}
		return
	}
	if text, width := []rune(line), f.width(); len(text) >= width {
		line = string(text[:width-1]) // the cursor needs a place, too
	}
	f.drawn = true
	fmt.Fprint(f.out, "\r\x1b[K"+line)
}

// line tells one look.
func (f *follower) line(p progress, now time.Time) string {
	line := fmt.Sprintf("%s: %s left", harmless(f.name), several(p.left, p.what))
	first := f.seen[0]
	if gone, passed := first.left-p.left, now.Sub(first.at).Seconds(); gone > 0 && !p.stuck {
		rate := float64(gone) / passed
		line += fmt.Sprintf(", %s/s, %s to go", perSecond(rate), span(float64(p.left)/rate))
	}
	if p.waits != "" && (p.stuck || now.Sub(f.moved) >= stalledAfter || p.left == f.seen[0].left) {
		line += "; " + harmless(p.waits)
	}
	return line
}

// perSecond writes a rate with as many digits as anybody wants to know.
func perSecond(rate float64) string {
	if rate >= 10 {
		return fmt.Sprintf("%.0f", rate)
	}
	return fmt.Sprintf("%.1f", rate)
}

// close takes the line away again.
func (f *follower) close() {
	if f.drawn {
		fmt.Fprint(f.out, "\r\x1b[K")
	}
}
