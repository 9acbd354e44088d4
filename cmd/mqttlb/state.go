package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
)

func stateCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var asJSON bool
	c := &cobra.Command{
		Use:   "state " + strings.Join(admin.States(), "|"),
		Short: "Make a cluster have a state, whatever the figures say",
		Long: `Have a running mqttlb treat a cluster as if it were in this state, until mqttlb state auto or a restart. The
state decides how clients are placed and which moves are allowed: none at all in overloaded and degraded.`,
		Example: `  mqttlb state degraded        # nobody is moved now
  mqttlb state auto --cluster hivemq`,
		Args: cobra.MatchAll(oneArg("the state"), func(_ *cobra.Command, args []string) error {
			if slices.Contains(admin.States(), args[0]) {
				return nil
			}
			return fmt.Errorf("unknown state %q; known are %s", args[0], strings.Join(admin.States(), ", "))
		}),
		ValidArgs: admin.States(),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := flags.writer(e)
			if err != nil {
				return err
			}
			in, err := a.oneCluster(cmd.Context(), inCluster)
			if err != nil {
				return err
			}
			var now cluster.Status
			if err := a.post(cmd.Context(), clusterPath(in.Name, "state"), admin.StateRequest{State: args[0]}, &now); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, now)
			}
			if args[0] == admin.States()[0] {
				_, err = fmt.Fprintf(e.out, "cluster %s: %s, and from now on as the figures say\n", harmless(now.Name), harmless(now.State))
				return err
			}
			_, err = fmt.Fprintf(e.out, "cluster %s: %s until mqttlb state auto\n", harmless(now.Name), args[0])
			return err
		},
	}
	flags.registerWrite(c)
	flags.clusterFlag(e, c, &inCluster, "the cluster, when there are several")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
