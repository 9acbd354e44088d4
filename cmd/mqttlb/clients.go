package main

import (
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
)

func clientsCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster, backend, group, prefix string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "clients",
		Short: "Show connected clients and where they are",
		Long: `Show clients that are connected through a running mqttlb, where they are and why.

With many clients, the list is an arbitrary part of them, sorted by client id.`,
		Example: `  mqttlb clients --backend hivemq-2
  mqttlb clients --prefix sensor- --limit 1000
  mqttlb clients --group backend-ingest
  mqttlb clients --json | jq -r '.clients[].client_id'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > admin.MaxClients {
				return usagef("--limit must be from 1 to %d, got %d", admin.MaxClients, limit)
			}
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range map[string]string{"cluster": inCluster, "backend": backend, "group": group, "prefix": prefix} {
				if value != "" {
					query.Set(name, value)
				}
			}
			var list admin.ClientList
			if err := a.get(cmd.Context(), "/api/v1/clients", query, &list); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, list)
			}
			return showClients(e, &list)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&inCluster, "cluster", "", "only clients of this cluster")
	c.Flags().StringVar(&backend, "backend", "", "only clients on this backend")
	c.Flags().StringVar(&group, "group", "", "only members of this shared-subscription group")
	c.Flags().StringVar(&prefix, "prefix", "", "only clients whose id begins with this")
	c.Flags().IntVar(&limit, "limit", 100, fmt.Sprintf("show at most this many, up to %d", admin.MaxClients))
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showClients(e *environment, list *admin.ClientList) error {
	rows := make([][]string, len(list.Clients))
	for i := range list.Clients {
		c := &list.Clients[i]
		rows[i] = []string{
			shownID(c), c.Cluster, c.Backend, c.Reason, mqttVersion(c.Version), c.Listener, c.Remote,
			span(c.Seconds), size(c.BytesUp), size(c.BytesDown),
		}
	}
	err := writeTable(e.out, []column{
		{name: "CLIENT"},
		{name: "CLUSTER"},
		{name: "BACKEND"},
		{name: "REASON"},
		{name: "MQTT"},
		{name: "LISTENER"},
		{name: "REMOTE"},
		{"SINCE", true},
		{"UP", true},
		{"DOWN", true},
	}, rows)
	if err == nil && list.Truncated {
		_, err = fmt.Fprintf(e.out, "… %s of many, use --limit\n", count(len(rows)))
	}
	return err
}

// shownID is the client id, or the server name of a client whose TLS is passed through.
func shownID(c *admin.Client) string {
	if c.Version == 0 && c.SNI != "" {
		return "(" + harmless(c.SNI) + ")"
	}
	return quoteID(c.ID())
}

// mqttVersion names a protocol level as people know it.
func mqttVersion(level int) string {
	switch level {
	case 0:
		return "TLS"
	case 3:
		return "3.1"
	case 4:
		return "3.1.1"
	}
	return strconv.Itoa(level)
}
