package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// shrinking is something that shrinks by this much at every look, down to a rest that does not go away.
func shrinking(left, by, rest int, waits string) func(context.Context) (progress, error) {
	return func(context.Context) (progress, error) {
		now := left
		left = max(rest, left-by)
		return progress{done: now == 0, left: now, what: "connection", waits: waits}, nil
	}
}

// Where lines stay there is one every five seconds, with the pace and how long it will take.
func TestFollowLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		begun := time.Now()
		p, err := newFollower("n1", &out).follow(t.Context(), shrinking(400, 25, 0, ""))
		if err != nil || !p.done || time.Since(begun) != 8*time.Second {
			t.Errorf("got %+v and %v after %s, want it to be done after 8s", p, err, time.Since(begun))
		}
		if want := "n1: 400 connections left\nn1: 150 connections left, 50/s, 3s to go\n"; out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), want)
		}
	})
}

// What holds it up is told when nothing goes on, and not before.
func TestFollowStalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 26*time.Second)
		defer cancel()
		p, err := newFollower("n1", &out).follow(ctx, shrinking(110, 2, 90, "not moved: will 90"))
		if !errors.Is(err, context.DeadlineExceeded) || p.left != 90 {
			t.Errorf("got %+v and %v, want the deadline with 90 left", p, err)
		}
		want := `n1: 110 connections left; not moved: will 90
n1: 90 connections left, 4.0/s, 22s to go
n1: 90 connections left, 2.0/s, 45s to go
n1: 90 connections left; not moved: will 90
n1: 90 connections left; not moved: will 90
n1: 90 connections left; not moved: will 90
`
		if out.String() != want {
			t.Errorf("got\n%s\nwant\n%s", out.String(), want)
		}
	})
}

// If all that is left is held up, there is no time to go.
func TestFollowStuck(t *testing.T) {
	t.Parallel()
	f := newFollower("n1", io.Discard)
	now := time.Now()
	f.show(progress{left: 100, what: "connection"}, now)
	f.show(progress{left: 8, what: "connection"}, now.Add(time.Second))
	p := progress{left: 8, what: "connection", waits: "not moved: will 8", stuck: true}
	if got, want := f.line(p, now.Add(2*time.Second)), "n1: 8 connections left; not moved: will 8"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// On a terminal there is one line, which never wraps and is gone at the end.
func TestFollowOnTerminal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		f := newFollower("n1", &out)
		width := 80
		f.width = func() int { width -= 20; return width }
		if _, err := f.follow(t.Context(), shrinking(3, 1, 0, "paused: \x1b[2J")); err != nil {
			t.Fatal(err)
		}
		want := "\r\x1b[Kn1: 3 connections left; \"paused: \\x1b[2J\"" +
			"\r\x1b[Kn1: 2 connections left, 2.0/s, 1s to go" +
			"\r\x1b[Kn1: 1 connection le" +
			"\r\x1b[K"
		if out.String() != want {
			t.Errorf("got\n%q\nwant\n%q", out.String(), want)
		}
	})
}

func TestFollowFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	broken := errors.New("cannot reach mqttlb")
	_, err := newFollower("n1", &out).follow(t.Context(), func(context.Context) (progress, error) { return progress{}, broken })
	if !errors.Is(err, broken) || out.Len() > 0 {
		t.Errorf("got %v and %q, want %v", err, out.String(), broken)
	}
	if got := fmt.Sprint(perSecond(9.96), " ", perSecond(0.04), " ", strings.TrimSpace(perSecond(1234.5))); got != "10.0 0.0 1234" {
		t.Errorf("got %s", got)
	}
}
