package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
)

func rebalanceCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var wait waitFlags
	var inCluster string
	var dryRun, asJSON bool
	var limit int
	c := &cobra.Command{
		Use:   "rebalance",
		Short: "Move clients to where they belong, as few as possible",
		Long: `Have a running mqttlb move as few clients as possible so that every backend has its share and every group
of consumers is spread; with --dry-run, only show who would be moved and why. Moves are carried out at the
pace of drain.rate in the configuration, and what is true when the turn of a client comes decides.

WHY is emptying (its backend drains), cooling (its backend is overloaded), spreading (its group is uneven)
or levelling (its backend has more than its share). Without TO, the place is decided when the client comes.`,
		Example: `  mqttlb rebalance --dry-run
  mqttlb rebalance --wait
  mqttlb rebalance --dry-run --json --limit 10000 | jq -r '.moves[].client_id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > admin.MaxMoves {
				return usagef("--limit must be from 1 to %d, got %d", admin.MaxMoves, limit)
			}
			if dryRun && wait.wait {
				return usagef("--dry-run moves nobody, there is nothing to --wait for")
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
			asked := admin.MaxMoves // the summary is about all of them
			if asJSON {
				asked = limit
			}
			var plan admin.Plan
			if err := a.post(cmd.Context(), clusterPath(in.Name, "rebalance"), admin.RebalanceRequest{DryRun: dryRun, Limit: &asked}, &plan); err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(e.out, plan)
			} else {
				err = showPlan(e, &plan, dryRun, limit)
			}
			if err != nil || !wait.wait {
				return err
			}
			begun, why := time.Now(), ""
			f := newFollower("rebalance of "+in.Name, progressOut(e, asJSON))
			if err := wait.await(cmd.Context(), f, "the rebalance goes on", func(ctx context.Context) (p progress, err error) {
				p, why, err = a.lookAtMoves(ctx, in.Name)
				return p, err
			}); err != nil || asJSON {
				return err
			}
			if why == plan.Why {
				why = "" // it has been told
			}
			_, err = fmt.Fprintf(e.out, "nobody is left to be moved, after %s%s\n", span(time.Since(begun).Seconds()), because(why))
			return err
		},
	}
	flags.registerWrite(c)
	flags.clusterFlag(e, c, &inCluster, "the cluster, when there are several")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "show the plan and move nobody")
	c.Flags().IntVar(&limit, "limit", 20, fmt.Sprintf("show at most this many moves, up to %d; all are carried out", admin.MaxMoves))
	wait.register(c, "until nobody is left to move")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// lookAtMoves sees how far the moves of a cluster are. It is done when a plan would have none; why is what the plan
// says about that.
func (c *adminClient) lookAtMoves(ctx context.Context, name string) (p progress, why string, err error) {
	list, err := c.clustersOf(ctx, name)
	if err != nil {
		return p, "", err
	}
	m := &list[0].Moves
	p = progress{left: m.Pending + m.InFlight, what: "move", waits: paused(m)}
	if p.left > 0 || m.Paused != "" {
		return p, "", nil
	}
	var plan admin.Plan
	one := 1
	err = c.post(ctx, clusterPath(name, "rebalance"), admin.RebalanceRequest{DryRun: true, Limit: &one}, &plan)
	p.left, p.done = plan.Total, plan.Total == 0
	return p, plan.Why, err
}

func showPlan(e *environment, p *admin.Plan, dryRun bool, limit int) error {
	if p.Total == 0 {
		_, err := fmt.Fprintf(e.out, "cluster %s, %s: nobody is to be moved%s\n", harmless(p.Cluster), harmless(p.State), because(p.Why))
		return err
	}
	rows := make([][]string, 0, limit)
	for i := range p.Moves[:min(limit, len(p.Moves))] {
		m := &p.Moves[i]
		rows = append(rows, []string{quoteID(m.ID()), m.ExactGroup(), m.From, m.To, m.Why, m.Reason})
	}
	if err := writeTable(e.out, []column{
		{name: "CLIENT"}, {name: "GROUP"}, {name: "FROM"}, {name: "TO"}, {name: "WHY"}, {name: "REASON"},
	}, rows); err != nil {
		return err
	}
	if len(rows) < p.Total {
		fmt.Fprintf(e.out, "… %s of %s, use --limit\n", count(len(rows)), count(p.Total))
	}
	verb := "are to be moved"
	if dryRun {
		verb = "would be moved"
	}
	fmt.Fprintf(e.out, "\ncluster %s, %s: %s %s%s\n", harmless(p.Cluster), harmless(p.State), several(p.Total, "client"), verb, because(p.Why))
	of := ""
	if len(p.Moves) < p.Total {
		of = fmt.Sprintf(" (of the first %s)", count(len(p.Moves)))
	}
	purposes, ways := tally(p.Moves)
	fmt.Fprintf(e.out, "why%s: %s\n", of, purposes)
	_, err := fmt.Fprintf(e.out, "ways%s: %s\n", of, ways)
	return err
}

// because adds a reason, if there is one.
func because(why string) string {
	if why == "" {
		return ""
	}
	return "; " + harmless(why)
}

// tally counts moves by purpose and by way, the most frequent first.
func tally(moves []admin.Move) (purposes, ways string) {
	why, way := make(map[string]int), make(map[string]int)
	for i := range moves {
		m := &moves[i]
		why[harmless(m.Why)]++
		way[harmless(m.From)+" → "+harmless(cmp.Or(m.To, "anywhere"))]++
	}
	return ranked(why), ranked(way)
}

// maxRanked is how many are listed in a summary.
const maxRanked = 20

func ranked(counts map[string]int) string {
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	parts := make([]string, 0, len(keys))
	for _, k := range keys[:min(len(keys), maxRanked)] {
		parts = append(parts, k+" "+count(counts[k]))
	}
	if len(keys) > maxRanked {
		parts = append(parts, "…")
	}
	return strings.Join(parts, ", ")
}
