package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
)

// happened is an event of every kind.
func happened() []cluster.Event {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return []cluster.Event{
		{At: at, Cluster: "hivemq", Kind: "join", Backend: "hivemq-3"},
		{At: at, Cluster: "hivemq", Kind: "phase", Backend: "hivemq-3", From: "joining", To: "ramping", Reason: "healthy for 30s"},
		{At: at, Cluster: "hivemq", Kind: "state", From: "balanced", To: "scaling"},
		{At: at, Cluster: "hivemq", Kind: "rebalance", Reason: "12 clients are to be moved"},
		{At: at, Cluster: "hivemq", Kind: "eviction", Backend: "hivemq-0", ClientID: "sensor-1", From: "hivemq-0", To: "hivemq-3", Reason: "levelling"},
		{At: at, Cluster: "hivemq", Kind: "lost", ClientID: "evil\x1b[2J\xff", From: "hivemq-0", To: "hivemq-3"},
		{At: at, Cluster: "hivemq", Kind: "drain", Backend: "hivemq-0", Reason: "50/s"},
		{At: at, Cluster: "hivemq", Kind: "resume", Backend: "hivemq-0"},
		{At: at, Cluster: "hivemq", Kind: "leave", Backend: "hivemq-0"},
	}
}

// watching runs mqttlb events until it has written that many lines, and interrupts it then.
func watching(t *testing.T, o admin.Options, lines int, args ...string) string {
	t.Helper()
	_, socket := serveAdmin(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &enough{lines: lines, cancel: cancel}
	cmd := eventsCommand(&environment{out: out, err: io.Discard})
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append(args, "--admin", socket))
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	for { // it listens from some moment on
		for _, e := range happened() {
			o.Events.Publish(e)
		}
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("got %v, want it to end in peace", err)
			}
			return out.String()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// enough cancels when it has so many lines, and takes no more.
type enough struct {
	bytes.Buffer
	lines  int
	cancel context.CancelFunc
}

func (e *enough) Write(b []byte) (int, error) {
	if bytes.Count(e.Bytes(), []byte("\n")) >= e.lines {
		return len(b), nil
	}
	n, err := e.Buffer.Write(b)
	if bytes.Count(e.Bytes(), []byte("\n")) >= e.lines {
		e.cancel()
	}
	return n, err
}

func TestEvents(t *testing.T) {
	t.Parallel()
	for golden, args := range map[string][]string{
		"events.txt": nil, "events_json.txt": {"--json"}, "events_some.txt": {"--kind", "drain,lost", "--cluster", "hivemq"},
	} {
		t.Run(golden, func(t *testing.T) {
			t.Parallel()
			o, _ := steered(draining(340))
			o.Events = admin.NewHub()
			lines := 2 * len(happened()) // the first may come in the middle of a round
			if golden == "events_some.txt" {
				lines = 4
			}
			out := watching(t, o, lines, args...)
			first := strings.Index(out, "join")
			if golden == "events_some.txt" {
				first = strings.Index(out, "lost")
			}
			first = max(0, strings.LastIndex(out[:max(first, 0)], "\n")+1)
			round := strings.SplitAfter(out[first:], "\n")
			compareGolden(t, golden, strings.Join(round[:min(len(round), lines/2)], ""))
		})
	}
}

// What is not a stream of events is told, and so is its end.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		serve        http.HandlerFunc
		out, message string
	}{
		"it ends": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": hello\n\nevent: missed\ndata: {\"missed\":1234}\n\n")
		}, "1,234 events missed, they came too fast\n", "mqttlb has ended the stream; it is stopping, or has been restarted"},
		"no event": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, "event: drain\ndata: x\n\n")
		}, "", "an event is not JSON: invalid character 'x' looking for beginning of value"},
		"something else": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
		}, "", `URL has sent "text/html" instead of events; is it mqttlb?`},
		"no": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "", "URL has answered 502 Bad Gateway; is it mqttlb?"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := httptest.NewServer(test.serve)
			defer s.Close()
			out, err := execCommand(t, eventsCommand, "--admin", s.URL)
			if want := strings.ReplaceAll(test.message, "URL", s.URL); err == nil || err.Error() != want || out != test.out {
				t.Errorf("got %q and %v, want %q and %s", out, err, test.out, want)
			}
		})
	}
	if _, err := execCommand(t, eventsCommand, "--admin", "/nowhere/admin.sock"); err == nil || !strings.HasPrefix(fmt.Sprint(err), "cannot reach mqttlb at /nowhere/admin.sock") || errors.As(err, new(usageError)) {
		t.Errorf("got %v", err)
	}
}

func TestMissedAsJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := eventJSON(&out, "missed", []byte(`{"missed":7}`)); err != nil || out.String() != "{\"kind\":\"missed\",\"missed\":7}\n" {
		t.Errorf("got %q and %v", out.String(), err)
	}
}
