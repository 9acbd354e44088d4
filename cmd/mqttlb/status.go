package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
)

func statusCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show clusters, backends and connections at a glance",
		Long: `Show clusters, backends and connections of a running mqttlb at a glance. mqttlb backends shows more of the
backends, and explains PHASE, WEIGHT, LOAD and WHY.

SPEAKS is what clients speak with a listener, and LEADS TO the clusters that its routes know. mqttlb check --show
prints the routes.

SHARE is the part of the cluster's connections that a backend has, EXPECTED the part that its weight
gives it. FAILED counts attempts to connect clients to it that did not succeed, since the start.`,
		Example: `  mqttlb status
  mqttlb status --admin http://10.0.0.5:9180
  watch mqttlb status`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			var s admin.Status
			if err := a.get(cmd.Context(), "/api/v1/status", nil, &s); err != nil {
				return err
			}
			if asJSON {
				return writeJSON(e.out, s)
			}
			return showStatus(e, &s)
		},
	}
	flags.register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showStatus(e *environment, s *admin.Status) error {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY: " + harmless(s.Reason)
	}
	fmt.Fprintf(e.out, "mqttlb %s, instance %s, up %s, %s\n", harmless(s.Version), harmless(s.Instance), span(s.UptimeSeconds), ready)
	fmt.Fprintf(e.out, "connections %s, memory %s\n", count(s.Connections), size(s.Traffic.SessionsBytes))
	fmt.Fprintf(e.out, "carried %s and %s packets from clients, %s and %s packets to clients\n",
		size(s.Traffic.BytesUp), count(s.Traffic.PacketsUp), size(s.Traffic.BytesDown), count(s.Traffic.PacketsDown))
	if err := showListeners(e, s.Listeners); err != nil {
		return err
	}
	for i := range s.Clusters {
		if err := showCluster(e, &s.Clusters[i]); err != nil {
			return err
		}
	}
	return nil
}

func showListeners(e *environment, list []admin.Listener) error {
	fmt.Fprintln(e.out)
	rows := make([][]string, len(list))
	for i := range list {
		l := &list[i]
		rows[i] = []string{l.Name, l.Address, spoken(l), strings.Join(l.Clusters, ", "), count(l.Connections)}
	}
	return writeTable(e.out, []column{
		{name: "LISTENER"},
		{name: "ADDRESS"},
		{name: "SPEAKS"},
		{name: "LEADS TO"},
		{"CONNECTIONS", true},
	}, rows)
}

// spoken is what clients speak with a listener; empty for one that was removed and has connections left.
func spoken(l *admin.Listener) string {
	switch {
	case l.Address == "":
		return ""
	case l.TLS == config.TLSPassthrough:
		return "TLS, passed through"
	case l.Transport == config.TransportWebSocket && l.TLS != "":
		return "wss"
	case l.Transport == config.TransportWebSocket:
		return "ws"
	case l.TLS != "":
		return "TLS"
	}
	return "TCP"
}

func showCluster(e *environment, c *cluster.Status) error {
	discovered := "no backend discovered yet"
	if !c.Discovered.IsZero() {
		discovered = "discovered " + span(time.Since(c.Discovered).Seconds()) + " ago"
	}
	groups := ""
	if c.Groups > 0 {
		groups = several(c.Groups, "group") + " with " + several(c.GroupMembers, "member") + ", "
	}
	state := harmless(c.State)
	if c.Forced {
		state += " (set by an operator)"
	}
	fmt.Fprintf(e.out, "\ncluster %s: %s, %s for %s, %s connections, %s%s sticky, %s\n",
		harmless(c.Name), harmless(c.Strategy), state, span(time.Since(c.StateSince).Seconds()),
		count(c.Connections), groups, percent(c.Sticky), discovered)
	if text := moves(&c.Moves); text != "" {
		fmt.Fprintf(e.out, "moves: %s\n", text)
	}
	rows := make([][]string, len(c.Backends))
	for i := range c.Backends {
		b := &c.Backends[i]
		rows[i] = []string{b.Name, b.Phase, weight(b), load(b), count(b.Connections), share(b, c.Connections), expected(b), failed(b), why(b)}
	}
	return writeTable(e.out, []column{
		{name: "BACKEND"},
		{name: "PHASE"},
		{"WEIGHT", true},
		{"LOAD", true},
		{"CONNECTIONS", true},
		{"SHARE", true},
		{"EXPECTED", true},
		{"FAILED", true},
		{name: "WHY"},
	}, rows)
}

// moves tells what is being moved and what was, empty if nothing ever was.
func moves(m *cluster.MoveStatus) string {
	if *m == (cluster.MoveStatus{}) {
		return ""
	}
	text := fmt.Sprintf("%s pending, %s in flight; since the start %s moved, %s returned, %s lost",
		count(m.Pending), count(m.InFlight), count(m.Moved), count(m.Returned), count(m.Lost))
	if m.Levelling {
		text += "; levelling"
	}
	return join("; ", text, harmless(paused(m)))
}

// several writes a number of things.
func several(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return count(n) + " " + thing + "s"
}

// weight is the weight, and what the load makes of it.
func weight(b *cluster.BackendStatus) string {
	text := fmt.Sprintf("%.4g", b.Weight)
	if factor := fmt.Sprintf("%.2f", b.LoadFactor); factor != "1.00" && b.LoadFactor > 0 {
		text += " × " + factor
	}
	return text
}

// share is the part of all connections that the backend has.
func share(b *cluster.BackendStatus, all int) string {
	if all == 0 {
		return ""
	}
	return percent(float64(b.Connections) / float64(all))
}

// expected is the part of all connections that the backend should have.
func expected(b *cluster.BackendStatus) string { return percent(b.Share) }

func failed(b *cluster.BackendStatus) string {
	var n uint64
	for _, failures := range b.Failures {
		n += failures
	}
	return count(n)
}
