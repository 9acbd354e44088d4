package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

func backendsCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var asJSON bool
	c := &cobra.Command{
		Use:   "backends",
		Short: "Show the backends of all clusters",
		Long: `Show the backends of all clusters of a running mqttlb.

FOR is how long a backend has been in its phase, and WHY what has put it there, unless it is ready, and
what its last health check and its last load figure lacked. WEIGHT is capacity and slow start, with what
the load makes of it where clients are placed by load; LOAD is what the broker reports, with its age
when it is too old to count. PLACED counts the clients that were sent to a backend, FAILED the attempts
that did not lead to a connection and why, both since the start. A backend that discovery does not name
any more is shown as draining until its last connection has ended. How far a drain is, and who is not moved
and why, is in WHY.`,
		Example: `  mqttlb backends
  mqttlb backends --cluster hivemq
  mqttlb backends --json | jq -r '.clusters[].backends[].address'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			var list admin.ClusterList
			if list.Clusters, err = a.clustersOf(cmd.Context(), inCluster); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, list)
			}
			return showBackends(e, list.Clusters)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&inCluster, "cluster", "", "only this cluster")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showBackends(e *environment, clusters []cluster.Status) error {
	var rows [][]string
	for i := range clusters {
		c := &clusters[i]
		for j := range c.Backends {
			b := &c.Backends[j]
			rows = append(rows, []string{
				c.Name, b.Name, b.Address, b.Phase, phaseAge(b), weight(b), load(b), count(b.Connections), share(b, c.Connections), expected(b),
				count(b.Placed), failures(b), pairs(b.Labels, "=", func(v string) string { return v }), why(b),
			})
		}
	}
	return writeTable(e.out, []column{
		{name: "CLUSTER"},
		{name: "BACKEND"},
		{name: "ADDRESS"},
		{name: "PHASE"},
		{"FOR", true},
		{"WEIGHT", true},
		{"LOAD", true},
		{"CONNECTIONS", true},
		{"SHARE", true},
		{"EXPECTED", true},
		{"PLACED", true},
		{name: "FAILED"},
		{name: "LABELS"},
		{name: "WHY"},
	}, rows)
}

// phaseAge is how long the backend has been in its phase.
func phaseAge(b *cluster.BackendStatus) string {
	if b.PhaseSince.IsZero() {
		return ""
	}
	return span(time.Since(b.PhaseSince).Seconds())
}

// load is what the broker reports, with its age if that is too old to count.
func load(b *cluster.BackendStatus) string {
	l := b.Load
	if l == nil {
		return ""
	}
	text := ""
	switch {
	case l.Load != nil:
		text = fmt.Sprintf("%.0f%%", *l.Load*100)
	case l.Level != nil:
		text = fmt.Sprintf("level %.3g", *l.Level)
	default:
		return "unknown"
	}
	if l.Stale {
		text += " (" + span(time.Since(l.At).Seconds()) + " old)"
	}
	return text
}

// maxWhy bounds the column WHY, in characters: brokers may send long texts.
const maxWhy = 200

// why is what is remarkable about the backend.
func why(b *cluster.BackendStatus) string {
	var parts []string
	if b.Phase != balancer.Ready.String() && b.Why != "" {
		parts = append(parts, b.Why)
	}
	if c := b.Circuit; c.State != "" && b.Phase != balancer.Down.String() {
		parts = append(parts, "circuit "+strings.ReplaceAll(c.State, "_", "-")+": "+c.Why)
	}
	if b.Most > 0 && b.Connections >= b.Most {
		parts = append(parts, "full: it may have "+several(b.Most, "connection"))
	}
	if b.Drain != nil && b.Connections > 0 {
		parts = append(parts, drained(b))
	}
	if c := b.Check; c != nil {
		switch {
		case c.Failed > 0 && b.Phase != balancer.Down.String():
			parts = append(parts, several(c.Failed, "check")+" failed: "+c.Error)
		case c.Note != "":
			parts = append(parts, c.Note)
		}
	}
	if l := b.Load; l != nil && l.Error != "" {
		parts = append(parts, "load: "+l.Error)
	}
	text := []rune(strings.Join(parts, "; "))
	if len(text) > maxWhy {
		return string(text[:maxWhy-1]) + "…"
	}
	return string(text)
}

func failures(b *cluster.BackendStatus) string { return pairs(b.Failures, " ", count) }

// pairs writes a map sorted by key.
func pairs[V any](m map[string]V, between string, text func(V) string) string {
	parts := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, k+between+text(m[k]))
	}
	return strings.Join(parts, ", ")
}
