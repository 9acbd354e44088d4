package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mqttlb/mqttlb/admin"
)

func eventsCommand(e *environment) *cobra.Command {
	var flags adminFlags
	var inCluster string
	var kinds []string
	var asJSON bool
	c := &cobra.Command{
		Use:   "events",
		Short: "Follow what happens: phases, states, joins, drains, evictions",
		Long: `Show what happens in a running mqttlb, from now on until interrupted: backends that join, leave or change
their phase, states of clusters, drains, and every client that is moved or lost.`,
		Example: `  mqttlb events
  mqttlb events --kind phase,state
  mqttlb events --json | jq 'select(.kind == "lost")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range kinds {
				if !slices.Contains(admin.EventKinds(), k) {
					return usagef("--kind must be some of %s, got %q", strings.Join(admin.EventKinds(), ", "), k)
				}
			}
			a, err := flags.client(e)
			if err != nil {
				return err
			}
			query := make(url.Values)
			if inCluster != "" {
				query.Set("cluster", inCluster)
			}
			if len(kinds) > 0 {
				query.Set("kind", strings.Join(kinds, ","))
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = a.listen(ctx, query, func(kind string, data []byte) error {
				if asJSON {
					return eventJSON(e.out, kind, data)
				}
				return eventText(e.out, kind, data)
			})
			if ctx.Err() != nil {
				return nil // interrupted, which is how it ends
			}
			return err
		},
	}
	flags.register(c)
	flags.clusterFlag(e, c, &inCluster, "only this cluster")
	c.Flags().StringSliceVar(&kinds, "kind", nil, "only events of these kinds: "+strings.Join(admin.EventKinds(), ", "))
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(admin.EventKinds(), cobra.ShellCompDirectiveNoFileComp))
	c.Flags().BoolVar(&asJSON, "json", false, "print a line of JSON for each event")
	return c
}

// errSilent is what ends a stream that should have told something.
var errSilent = fmt.Errorf("mqttlb has not been heard of for %s; the connection is dead, or it stands still", 3*admin.Heartbeat)

// listen passes on events until the stream ends, which is always an error.
func (c *adminClient) listen(ctx context.Context, query url.Values, heard func(kind string, data []byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(3*admin.Heartbeat, func() { cancel(errSilent) })
	defer silence.Stop()
	path := "/api/v1/events"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	request, err := c.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.unreachable(err, 3*admin.Heartbeat)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		return c.failure(response.StatusCode, body)
	}
	if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
		return fmt.Errorf("%s has sent %q instead of events; is it mqttlb?", c.where, got)
	}
	kind := ""
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		silence.Reset(3 * admin.Heartbeat)
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "event":
			kind = value
		case "data":
			if err := heard(kind, []byte(value)); err != nil {
				return err
			}
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(errors.New("mqttlb has ended the stream; it is stopping, or has been restarted"), lines.Err())
}

// eventJSON writes an event as it came. What was missed has no kind in its data.
func eventJSON(w io.Writer, kind string, data []byte) error {
	if kind == missedKind {
		var m admin.Missed
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "{\"kind\":%q,\"missed\":%d}\n", missedKind, m.Missed)
		return err
	}
	_, err := fmt.Fprintf(w, "%s\n", data)
	return err
}

// missedKind is the event that tells how many others there were.
const missedKind = "missed"

// eventText writes an event for people.
func eventText(w io.Writer, kind string, data []byte) error {
	if kind == missedKind {
		var m admin.Missed
		if err := json.Unmarshal(data, &m); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%s missed, they came too fast\n", several(int(m.Missed), "event"))
		return err
	}
	var ev admin.Event
	if err := json.Unmarshal(data, &ev); err != nil {
		return fmt.Errorf("an event is not JSON: %w", err)
	}
	subject := ""
	if ev.ID() != "" {
		subject = quoteID(ev.ID())
	}
	backend := ev.Backend
	if backend == ev.From || backend == ev.To {
		backend = "" // it is named already
	}
	way := join(" → ", harmless(ev.From), harmless(ev.To))
	line := join(" ", ev.At.Format(time.RFC3339), harmless(ev.Cluster), harmless(ev.Kind), harmless(backend), subject, way)
	if ev.Reason != "" {
		line += ": " + harmless(ev.Reason)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}
