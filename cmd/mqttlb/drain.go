package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

func drainCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var wait waitFlags
	var inCluster, rate string
	var asJSON bool
	c := &cobra.Command{
		Use:   "drain BACKEND",
		Short: "Move the clients of a backend away, gently",
		Long: `Have a running mqttlb move the clients of a backend to the others, at a steady pace, and send it no new
ones, until mqttlb resume. Which clients are moved and what becomes of their last wills is said by drain in
the configuration. Clients come back by themselves, as after any lost connection.

With --wait, the exit status is 0 when the backend is empty. Whoever stops waiting does not stop the drain.
Where several mqttlb stand in front of the same brokers, drain the backend on each of them.`,
		Example: `  mqttlb drain hivemq-2 --wait
  mqttlb drain hivemq-2 --rate 50/s --wait --timeout 30m && ssh hivemq-2 systemctl stop hivemq
  mqttlb drain hivemq-2 --cluster hivemq --admin http://10.0.0.5:9180 --token-file /etc/mqttlb/token`,
		Args:              oneArg("BACKEND"),
		ValidArgsFunction: flags.completeBackends(e, &inCluster),
		RunE: func(cmd *cobra.Command, args []string) error {
			if rate != "" {
				if _, err := admin.ParseRate(rate); err != nil {
					return usagef("--rate: %w", err)
				}
			}
			if err := wait.check(cmd); err != nil {
				return err
			}
			a, err := flags.writer(e)
			if err != nil {
				return err
			}
			in, err := a.oneCluster(cmd.Context(), inCluster)
			if err != nil {
				return err
			}
			begun := time.Now()
			done, err := a.steerBackend(cmd.Context(), in, args[0], "drain", admin.DrainRequest{Rate: rate})
			if err != nil {
				return err
			}
			had := done.Backend.Connections
			if wait.wait {
				name := done.Backend.Name
				goesOn := fmt.Sprintf("the drain goes on, mqttlb resume %s takes it back", harmless(name))
				f := newFollower(name, progressOut(e, asJSON))
				err = wait.await(cmd.Context(), f, goesOn, func(ctx context.Context) (progress, error) {
					return a.lookAtDrain(ctx, &done)
				})
				if err != nil {
					return err
				}
			}
			switch {
			case asJSON:
				return writeJSON(e.out, done)
			case wait.wait:
				_, err = fmt.Fprintf(e.out, "%s is empty, %s ended in %s\n", harmless(done.Backend.Name), several(had, "connection"), span(time.Since(begun).Seconds()))
			default:
				_, err = fmt.Fprintf(e.out, "draining %s: %s\n", harmless(done.Backend.Name), drained(&done.Backend))
			}
			return err
		},
	}
	flags.registerWrite(c)
	flags.clusterFlag(e, c, &inCluster, "the cluster, when there are several")
	c.Flags().StringVar(&rate, "rate", "", "clients per second, such as 50/s, of all instances together (default: half of drain.rate in the configuration)")
	wait.register(c, "until the backend is empty")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// lookAtDrain sees how far a drain is. It keeps what it has seen in change.
func (c *adminClient) lookAtDrain(ctx context.Context, change *admin.BackendChange) (progress, error) {
	list, err := c.clustersOf(ctx, change.Cluster)
	if err != nil {
		return progress{}, err
	}
	name := change.Backend.Name
	b := findBackend(&list[0], name)
	if b == nil { // it was empty, and discovery does not name it any more
		change.Backend = cluster.BackendStatus{Name: name}
		return progress{done: true}, nil
	}
	change.Backend = *b
	if b.Connections > 0 && b.Drain == nil && b.Phase != balancer.Down.String() {
		return progress{}, fmt.Errorf("%s is not drained any more; somebody has resumed it", harmless(name))
	}
	p := progress{done: b.Connections == 0, left: b.Connections, what: "connection"}
	if b.Drain == nil {
		p.waits = "it is down: " + b.Why
		return p, nil
	}
	p.waits = join("; ", kept(b.Drain), paused(&list[0].Moves))
	held := 0
	for _, n := range b.Drain.Kept {
		held += n
	}
	p.stuck = held >= b.Connections
	return p, nil
}

// drained tells how far the drain of a backend is.
func drained(b *cluster.BackendStatus) string {
	d := b.Drain
	if d == nil {
		return several(b.Connections, "connection") + " left"
	}
	text := fmt.Sprintf("%s of %s left", count(b.Connections), several(max(d.Begun, b.Connections), "connection"))
	if d.Rate > 0 {
		text += fmt.Sprintf(" at %.4g/s", d.Rate)
	}
	return join(", ", text, kept(d))
}

// kept says who of a backend that is drained is not moved, and why.
func kept(d *cluster.DrainStatus) string {
	if d == nil || len(d.Kept) == 0 {
		return ""
	}
	return "not moved: " + pairs(d.Kept, " ", count)
}

// paused says why nothing is moved.
func paused(m *cluster.MoveStatus) string {
	if m.Paused == "" {
		return ""
	}
	return "paused: " + m.Paused
}

// join joins those texts that are not empty.
func join(between string, texts ...string) string {
	var parts []string
	for _, t := range texts {
		if t != "" {
			parts = append(parts, t)
		}
	}
	return strings.Join(parts, between)
}
