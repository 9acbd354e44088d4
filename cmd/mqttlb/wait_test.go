package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mqttlb/mqttlb/cluster"
)

func TestDrainWaits(t *testing.T) {
	t.Parallel()
	gone := draining(0)
	gone.Backends = gone.Backends[1:]
	down := draining(12)
	down.Backends[0].Drain, down.Backends[0].Phase, down.Backends[0].Why = nil, "down", "3 checks failed"
	resumed := draining(300)
	resumed.Backends[0].Drain = nil
	for name, test := range map[string]struct {
		looks        []cluster.Status // the first is for finding the cluster, the second for the answer
		args         []string
		out, message string
	}{
		"until it is empty": {
			[]cluster.Status{draining(340), draining(340), draining(290), draining(0)},
			nil,
			"hivemq-0: 290 connections left; not moved: busy 3, will 12; paused: 10 clients are away\nhivemq-0 is empty, 340 connections ended in 0s\n", "",
		},
		"until it has left": {
			[]cluster.Status{draining(340), draining(340), gone}, nil, "hivemq-0 is empty, 340 connections ended in 0s\n", "",
		},
		"it is empty": {
			[]cluster.Status{draining(0)}, nil, "hivemq-0 is empty, 0 connections ended in 0s\n", "",
		},
		"not for ever": {
			[]cluster.Status{draining(12)},
			[]string{"--timeout", "2s"},
			"hivemq-0: 12 connections left; not moved: busy 3, will 12; paused: 10 clients are away\n",
			"hivemq-0: 12 connections left after 2s; not moved: busy 3, will 12; paused: 10 clients are away; the drain goes on, mqttlb resume hivemq-0 takes it back",
		},
		"it goes down": {
			[]cluster.Status{draining(12), draining(12), down},
			[]string{"--timeout", "2s"},
			"hivemq-0: 12 connections left; it is down: 3 checks failed\n",
			"hivemq-0: 12 connections left after 2s; it is down: 3 checks failed; the drain goes on, mqttlb resume hivemq-0 takes it back",
		},
		"somebody resumes it": {
			[]cluster.Status{draining(340), draining(340), resumed},
			nil, "",
			"hivemq-0 is not drained any more; somebody has resumed it",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, _ := steered(test.looks...)
			_, socket := serveAdmin(t, o)
			out, err := execCommand(t, drainCommand, append(test.args, "hivemq-0", "--wait", "--admin", socket)...)
			if out, _, _ = strings.Cut(out, " ended in "); out != "" && err == nil {
				out += " ended in 0s\n" // on a busy machine it takes longer
			}
			if message := fmt.Sprint(err); out != test.out || err != nil && message != test.message || err == nil && test.message != "" {
				t.Errorf("got\n%q, error %v\nwant\n%q, error %s", out, err, test.out, test.message)
			}
		})
	}
}

// Whoever stops waiting does not stop the drain, and is told so.
func TestInterruptedWait(t *testing.T) {
	t.Parallel()
	o, c := steered(draining(340))
	_, socket := serveAdmin(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	var out cancelling
	out.cancel = cancel // at the first line
	cmd := drainCommand(&environment{out: &out, err: io.Discard})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"hivemq-0", "--wait", "--admin", socket})
	err := cmd.ExecuteContext(ctx)
	if want := "interrupted; the drain goes on, mqttlb resume hivemq-0 takes it back"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !slices.Equal(c.asked, []string{"drain hivemq-0 0"}) {
		t.Errorf("the cluster was told %q", c.asked)
	}
}

// cancelling is an output that cancels when it is written to.
type cancelling struct {
	bytes.Buffer
	cancel context.CancelFunc
}

func (c *cancelling) Write(b []byte) (int, error) {
	c.cancel()
	return c.Buffer.Write(b)
}

func TestRebalanceWaits(t *testing.T) {
	t.Parallel()
	rest := draining(0)
	rest.Moves = cluster.MoveStatus{Levelling: true}
	o, c := steered(draining(0), draining(0), rest)
	c.planned = func(n int) int { return max(0, 5-n) } // the fifth plan has nobody left
	_, socket := serveAdmin(t, o)
	out, err := execCommand(t, rebalanceCommand, "--wait", "--limit", "1", "--admin", socket)
	want := "rebalance of hivemq: 312 moves left; paused: 10 clients are away\nnobody is left to be moved, after "
	if i := strings.Index(out, "rebalance of"); err != nil || i < 0 || !strings.HasPrefix(out[i:], want) || !strings.HasSuffix(out, "s\n") {
		t.Errorf("got\n%s(error %v)\nwant it to end with\n%s", out, err, want)
	}
	if got := strings.Count(strings.Join(c.asked, " "), "rebalance false"); got != 1 {
		t.Errorf("the cluster was told %q, want one rebalance that is no dry run", c.asked)
	}
	o, _ = steered(draining(0))
	_, socket = serveAdmin(t, o)
	_, err = execCommand(t, rebalanceCommand, "--wait", "--timeout", "2s", "--admin", socket)
	if want := "rebalance of hivemq: 312 moves left after 2s; paused: 10 clients are away; the rebalance goes on"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
