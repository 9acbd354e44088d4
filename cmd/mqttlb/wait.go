package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// waitFlags are the flags of commands that begin something long.
type waitFlags struct {
	wait    bool
	timeout time.Duration
}

func (w *waitFlags) register(c *cobra.Command, until string) {
	c.Flags().BoolVar(&w.wait, "wait", false, "wait "+until)
	c.Flags().DurationVar(&w.timeout, "timeout", 10*time.Minute, "with --wait: give up waiting after this time, with exit status 1; 0 never does")
}

func (w *waitFlags) check(cmd *cobra.Command) error {
	switch {
	case w.timeout < 0:
		return usagef("--timeout must not be negative, got %s", w.timeout)
	case !w.wait && cmd.Flags().Changed("timeout"):
		return usagef("--timeout is for --wait; write both, or neither")
	}
	return nil
}

// await follows what was begun, which goes on whatever happens here: goesOn says so and how to stop it.
func (w *waitFlags) await(ctx context.Context, f *follower, goesOn string, look func(context.Context) (progress, error)) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if w.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, w.timeout)
		defer cancel()
	}
	p, err := f.follow(ctx, look)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		left := fmt.Sprintf("%s: %s left after %s", harmless(f.name), several(p.left, p.what), w.timeout)
		if p.waits != "" {
			left += "; " + harmless(p.waits)
		}
		return fmt.Errorf("%s; %s", left, goesOn)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("interrupted; %s", goesOn)
	}
	return err
}

// progressOut is where progress is shown: not where JSON goes.
func progressOut(e *environment, asJSON bool) io.Writer {
	if asJSON {
		return e.err
	}
	return e.out
}
