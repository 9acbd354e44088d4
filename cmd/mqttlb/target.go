package main

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
)

// clustersOf asks for one cluster or, without a name, for all.
func (c *adminClient) clustersOf(ctx context.Context, name string) ([]cluster.Status, error) {
	var list admin.ClusterList
	if name == "" {
		err := c.get(ctx, "/api/v1/clusters", nil, &list)
		return list.Clusters, err
	}
	list.Clusters = make([]cluster.Status, 1)
	err := c.get(ctx, clusterPath(name), nil, &list.Clusters[0])
	return list.Clusters, err
}

// oneCluster is the cluster with this name or, without a name, the only one.
func (c *adminClient) oneCluster(ctx context.Context, name string) (*cluster.Status, error) {
	list, err := c.clustersOf(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(list) != 1 {
		names := make([]string, len(list))
		for i := range list {
			names[i] = harmless(list[i].Name)
		}
		return nil, usagef("which cluster? use --cluster with one of %s", strings.Join(names, ", "))
	}
	return &list[0], nil
}

// clusterPath is where a cluster and what belongs to it is found.
func clusterPath(name string, parts ...string) string {
	escaped := []string{url.PathEscape(name)}
	for _, p := range parts {
		escaped = append(escaped, url.PathEscape(p))
	}
	return "/api/v1/clusters/" + strings.Join(escaped, "/")
}

// steerBackend tells a cluster to do something with a backend.
func (c *adminClient) steerBackend(ctx context.Context, in *cluster.Status, backend, verb string, request any) (done admin.BackendChange, err error) {
	err = c.post(ctx, clusterPath(in.Name, "backends", backend, verb), request, &done)
	if refused, ok := errors.AsType[*apiError](err); ok && refused.status == http.StatusNotFound {
		if meant := config.Nearest(backend, backendNames(in)); meant != "" {
			refused.message += "; did you mean " + harmless(meant) + "?"
		}
	}
	return done, err
}

func backendNames(c *cluster.Status) []string {
	names := make([]string, len(c.Backends))
	for i := range c.Backends {
		names[i] = c.Backends[i].Name
	}
	return names
}

// findBackend is the status of a backend, nil if the cluster does not have it any more.
func findBackend(c *cluster.Status, name string) *cluster.BackendStatus {
	if i := slices.Index(backendNames(c), name); i >= 0 {
		return &c.Backends[i]
	}
	return nil
}

// completionPatience is how long somebody who has pressed the tabulator waits.
const completionPatience = time.Second

// completeBackends offers the names of the backends that the running mqttlb has.
func (f *adminFlags) completeBackends(e *environment, inCluster *string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, c := range f.known(cmd.Context(), e, *inCluster) {
			for i := range c.Backends {
				b := &c.Backends[i]
				names = append(names, cobra.CompletionWithDesc(harmless(b.Name), harmless(b.Phase)+", "+several(b.Connections, "connection")))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// clusterFlag adds --cluster, which knows the clusters that the running mqttlb has.
func (f *adminFlags) clusterFlag(e *environment, cmd *cobra.Command, inCluster *string, usage string) {
	cmd.Flags().StringVar(inCluster, "cluster", "", usage)
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("cluster", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var names []cobra.Completion
		for _, c := range f.known(cmd.Context(), e, "") {
			names = append(names, harmless(c.Name))
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// known asks what there is to complete; nothing if there is no quick answer.
func (f *adminFlags) known(ctx context.Context, e *environment, inCluster string) []cluster.Status {
	a, err := f.client(e)
	if err != nil {
		return nil
	}
	if ctx == nil { // completion runs without one
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	list, _ := a.clustersOf(ctx, inCluster)
	return list
}
