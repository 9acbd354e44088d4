package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
)

func groupsCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var limit int
	var asJSON bool
	c := &cobra.Command{
		Use:   "groups",
		Short: "Show the shared-subscription groups and where their members are",
		Long: `Show the groups of shared subscriptions whose members are connected through a running mqttlb, sorted
by name. Who is a member is said by placement.groups in the configuration.

LEASED are seats that are kept for members that are away. SPREAD is the greatest difference of members
between two usable backends of equal weight: 0 or 1 is as even as it gets. BACKENDS are the members on
each backend and, behind the slash, how many its weight gives it.`,
		Example: `  mqttlb groups
  mqttlb groups --cluster hivemq --limit 1000
  mqttlb groups --json | jq -r '.clusters[].groups[] | select(.spread > 1).group'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 || limit > admin.MaxGroups {
				return usagef("--limit must be from 1 to %d, got %d", admin.MaxGroups, limit)
			}
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			all, err := a.groups(cmd.Context(), inCluster, limit)
			if err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, all)
			}
			return showGroups(e, &all)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&inCluster, "cluster", "", "only this cluster")
	c.Flags().IntVar(&limit, "limit", 100, fmt.Sprintf("show at most this many of each cluster, up to %d", admin.MaxGroups))
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// groupLists are the groups of several clusters.
type groupLists struct {
	Clusters []admin.GroupList `json:"clusters"`
}

// groups asks for the groups of one cluster or, without a name, of all.
func (c *adminClient) groups(ctx context.Context, inCluster string, limit int) (all groupLists, err error) {
	names := []string{inCluster}
	if inCluster == "" {
		var clusters admin.ClusterList
		if err := c.get(ctx, "/api/v1/clusters", nil, &clusters); err != nil {
			return all, err
		}
		names = names[:0]
		for i := range clusters.Clusters {
			names = append(names, clusters.Clusters[i].Name)
		}
	}
	all.Clusters = make([]admin.GroupList, len(names))
	for i, name := range names {
		query := url.Values{"limit": {strconv.Itoa(limit)}}
		if err := c.get(ctx, "/api/v1/clusters/"+url.PathEscape(name)+"/groups", query, &all.Clusters[i]); err != nil {
			return all, err
		}
	}
	return all, nil
}

func showGroups(e *environment, all *groupLists) error {
	var rows [][]string
	truncated := false
	for i := range all.Clusters {
		list := &all.Clusters[i]
		truncated = truncated || list.Truncated
		for j := range list.Groups {
			g := &list.Groups[j]
			rows = append(rows, []string{list.Cluster, harmless(g.Exact()), count(g.Members), count(g.Leased), count(g.Spread), shares(&g.GroupStatus)})
		}
	}
	err := writeTable(e.out, []column{
		{name: "CLUSTER"}, {name: "GROUP"}, {"MEMBERS", true}, {"LEASED", true}, {"SPREAD", true}, {name: "BACKENDS"},
	}, rows)
	if err == nil && truncated {
		_, err = fmt.Fprintf(e.out, "… %s of many, use --limit\n", count(len(rows)))
	}
	return err
}

// shares is who has how many members, and how many it should have.
func shares(g *cluster.GroupStatus) string {
	parts := make([]string, 0, len(g.Backends)+1)
	for _, b := range g.Backends {
		parts = append(parts, fmt.Sprintf("%s %s/%.1f", b.Backend, count(b.Members), b.Share*float64(g.Members)))
	}
	if g.Elsewhere > 0 {
		parts = append(parts, count(g.Elsewhere)+" on backends that have left")
	}
	return strings.Join(parts, ", ")
}
