package main

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthPatience is shorter than what container runtimes allow a health check.
const healthPatience = 3 * time.Second

func healthcheckCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var live bool
	c := &cobra.Command{
		Use:   "healthcheck",
		Short: "Exit status for container health checks",
		Long: `Exit with status 0 when mqttlb is ready for clients, else with 1 and the reason in one line. With
--live, when the process answers at all: a container that is not ready need not be restarted.`,
		Example: `  mqttlb healthcheck
  HEALTHCHECK CMD ["/mqttlb", "healthcheck"]      (in a Dockerfile)`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			path := "/readyz"
			if live {
				path = "/livez"
			}
			status, body, err := a.ask(cmd.Context(), http.MethodGet, path, nil, healthPatience)
			if err != nil {
				return err
			}
			if status != http.StatusOK {
				first, _, _ := strings.Cut(string(body), "\n")
				if first == "" {
					first = http.StatusText(status)
				}
				return errors.New("not healthy: " + harmless(first))
			}
			return nil
		},
	}
	flags.register(c)
	c.Flags().BoolVar(&live, "live", false, "ask whether the process is alive, not whether it is ready")
	return c
}
