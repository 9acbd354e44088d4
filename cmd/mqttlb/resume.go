package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func resumeCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var asJSON bool
	c := &cobra.Command{
		Use:   "resume BACKEND",
		Short: "Take back the drain of a backend",
		Long: `Have a running mqttlb give clients to a backend again that was drained. Those that were moved away come
back when they connect anew, the backend is their home still, or when a rebalance moves them. That is ten
minutes after they were moved at the earliest.`,
		Example: `  mqttlb resume hivemq-2
  mqttlb resume hivemq-2 --admin http://10.0.0.5:9180 --token-file /etc/mqttlb/token`,
		Args:              oneArg("BACKEND"),
		ValidArgsFunction: flags.completeBackends(e, &inCluster),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := flags.writer(e)
			if err != nil {
				return err
			}
			in, err := a.oneCluster(cmd.Context(), inCluster)
			if err != nil {
				return err
			}
			done, err := a.steerBackend(cmd.Context(), in, args[0], "resume", nil)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, done)
			}
			_, err = fmt.Fprintf(e.out, "resumed %s: %s\n", harmless(done.Backend.Name), join(", ", harmless(done.Backend.Phase), several(done.Backend.Connections, "connection")))
			if err == nil {
				_, err = fmt.Fprintln(e.out, "clients come back as they connect anew; mqttlb rebalance moves those whom the drain moved, ten minutes after that")
			}
			return err
		},
	}
	flags.registerWrite(c)
	flags.clusterFlag(e, c, &inCluster, "the cluster, when there are several")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
