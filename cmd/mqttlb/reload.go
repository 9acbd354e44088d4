package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
)

func reloadCommand(e *environment) *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "reload",
		Short: "Reload the configuration (same as SIGHUP)",
		Long: `Have a running mqttlb read its configuration again, as SIGHUP does, and take over listeners, clusters
and everything in them without touching a connection. When the configuration is invalid, or a listener
cannot be opened, nothing changes and the errors are printed. What takes effect only after a restart
(instance, admin, log but for its level) is named in the log.`,
		Example: `  mqttlb check -c mqttlb.yaml && mqttlb reload
  mqttlb reload --admin http://10.0.0.5:9180 --token-file /etc/mqttlb/token`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := flags.writer(e)
			if err != nil {
				return err
			}
			var done admin.Reloaded
			if err := a.post(cmd.Context(), "/api/v1/reload", nil, &done); err != nil {
				return err
			}
			_, err = fmt.Fprintln(e.out, "reloaded")
			return err
		},
	}
	flags.registerWrite(c)
	return c
}
