package main

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/balancer"
)

func explainCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var persistent, asJSON bool
	c := &cobra.Command{
		Use:   "explain CLIENT-ID",
		Short: "Say where a client goes, why, and what would happen if that backend left",
		Long: `Say where a client would go if it connected now, why, and where it would go if that backend left.
The client need not be connected, and nothing is changed by asking. The empty id '' stands for a client
that lets the broker choose its id.

The group is the one of the connection or, without a connection, as far as the id tells; behind the members
on each backend and the slash is how many its weight gives it. For a client that is connected, it is shown
where it sits, and whether a rebalance would move it.

With several clusters, the one in which the client is connected is meant, unless --cluster names another. Which cluster
a client comes to that is not connected is up to the routes of the listener, and its id alone does not tell.`,
		Example: `  mqttlb explain sensor-17
  mqttlb explain --cluster hivemq -- -strange-id`,
		Args: oneArg("CLIENT-ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			query := url.Values{"client_id": {args[0]}}
			if inCluster != "" {
				query.Set("cluster", inCluster)
			}
			if persistent {
				query.Set("persistent", "true")
			}
			var x admin.Explanation
			if err := a.get(cmd.Context(), "/api/v1/explain", query, &x); err != nil {
				if refused, ok := errors.AsType[*apiError](err); ok && strings.HasPrefix(refused.message, "which cluster?") {
					refused.message += "; use --cluster, unless the client is connected in exactly one"
				}
				return err
			}
			if asJSON {
				return writeJSON(e.out, x)
			}
			return showExplanation(e, &x)
		},
	}
	flags.register(c)
	c.Flags().StringVar(&inCluster, "cluster", "", "the cluster, when there are several and the client is in none or more than one of them")
	c.Flags().BoolVar(&persistent, "persistent", false, "the client keeps its session while it is away")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showExplanation(e *environment, x *admin.Explanation) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(e.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("client", "%s", quoteID(x.ID()))
	line("cluster", "%s, strategy %s, state %s", harmless(x.Cluster), harmless(x.Strategy), harmless(x.State))
	line("kind", "%s", kindOf(x))
	if g := x.Members; g != nil {
		line("group", "%s: %s, %s", harmless(g.Exact()), several(g.Members, "member"), cmp.Or(harmless(shares(&g.GroupStatus)), "nowhere"))
	}
	if c := x.Connected; c != nil {
		line("sits on", "%s for %s, %s", harmless(c.Backend), span(c.Seconds), harmless(c.Reason))
		line("move", "%s", moveOf(x))
	}
	if x.Backend == "" {
		line("goes to", "nobody")
		line("because", "%s", harmless(x.Reason))
		return nil
	}
	line("goes to", "%s at %s", harmless(x.Backend), harmless(x.Address))
	line("because", "%s", harmless(x.Reason))
	if x.Redirect != "" {
		line("redirect", "to %s, if it speaks MQTT 5 and does not come back from there", harmless(x.Redirect))
	}
	if len(x.Otherwise) == 0 {
		line("otherwise", "nobody, if %s left", harmless(x.Backend))
		return nil
	}
	next := make([]string, len(x.Otherwise))
	for i, o := range x.Otherwise {
		next[i] = harmless(o.Backend)
	}
	next[0] += " if " + harmless(x.Backend) + " left"
	line("otherwise", "%s", strings.Join(next, ", then "))
	return nil
}

// moveOf says whether a client that is connected should be moved.
func moveOf(x *admin.Explanation) string {
	m := x.Move
	if m == nil {
		return "none planned"
	}
	return fmt.Sprintf("planned to %s, %s: %s", harmless(cmp.Or(m.To, "where it is placed then")), harmless(m.Why), harmless(m.Reason))
}

// kindOf says what the client is to the placement.
func kindOf(x *admin.Explanation) string {
	group := harmless(x.ExactGroup())
	if x.Learned && group != "" {
		group += ", learned from SUBSCRIBE"
	}
	switch {
	case group == "":
		return harmless(x.Kind) + meaning(x.Kind)
	case x.Kind == balancer.Grouped.String():
		return "member of group " + group
	}
	return harmless(x.Kind) + "; with session_scope node that counts more than its group " + group
}

// meaning explains a kind to those who read it for the first time.
func meaning(kind string) string {
	switch kind {
	case balancer.Fat.String():
		return ", it causes a notable part of the load"
	case balancer.Persistent.String():
		return ", its session outlives the connection"
	case balancer.Fleeting.String():
		return ", no session outlives its connection"
	case balancer.Anonymous.String():
		return ", it has no client id"
	}
	return ""
}
