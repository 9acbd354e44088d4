package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
)

const (
	// Heartbeat is how often a listener hears something even if nothing happens, so that it notices a dead connection.
	Heartbeat = 15 * time.Second
	// maxListeners bounds how many listen over TCP at a time, and as many over the socket.
	maxListeners = 32
	// batchEvents is how many events are written at a time.
	batchEvents = 64
	// streamTimeout is how long one write may take before the listener is cut off.
	streamTimeout = 30 * time.Second
)

// EventKinds are the kinds that an Event can have, in alphabetical order.
func EventKinds() []string {
	return []string{
		cluster.EventDrain, cluster.EventEviction, cluster.EventJoin, cluster.EventLeave, cluster.EventLost,
		cluster.EventPhase, cluster.EventRebalance, cluster.EventResume, cluster.EventState,
	}
}

// An interest says which events somebody wants to hear of.
type interest struct {
	cluster string   // empty: all
	kinds   []string // none: all
}

func (i *interest) in(e *cluster.Event) bool {
	return (i.cluster == "" || i.cluster == e.Cluster) && (len(i.kinds) == 0 || slices.Contains(i.kinds, e.Kind))
}

// interest is what a request wants to hear of.
func (s *Server) interest(r *http.Request) (i interest, err error) {
	given, err := parameters(r, "cluster", "kind")
	if err != nil {
		return i, err
	}
	if i.cluster = given.Get("cluster"); i.cluster != "" {
		if _, err := s.find(i.cluster); err != nil {
			return i, err
		}
	}
	if text := given.Get("kind"); text != "" {
		i.kinds = strings.Split(text, ",")
	}
	for _, k := range i.kinds {
		if !slices.Contains(EventKinds(), k) {
			return i, failf(http.StatusBadRequest, "unknown kind %q; known are %s", k, strings.Join(EventKinds(), ", "))
		}
	}
	return i, nil
}

// events writes what happens as server-sent events until the listener goes or the Server stops.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	wanted, err := s.interest(r)
	if err != nil {
		respond(w, nil, err)
		return
	}
	listening := &s.listening[0]
	if peerOf(r).local {
		listening = &s.listening[1]
	}
	defer listening.Add(-1)
	if listening.Add(1) > maxListeners {
		respond(w, nil, failf(http.StatusServiceUnavailable, "%d listen already; try again when one of them is gone", maxListeners))
		return
	}
	header(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	from := s.hub.position()
	if heard, err := strconv.ParseUint(r.Header.Get("Last-Event-ID"), 10, 64); err == nil {
		from = s.hub.resume(heard)
	}
	s.stream(w, r, wanted, from)
}

// stream writes events from a number on.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, wanted interest, from uint64) {
	heartbeat := time.NewTimer(Heartbeat)
	defer heartbeat.Stop()
	events := make([]cluster.Event, batchEvents)
	var text bytes.Buffer
	text.WriteString(": listening\n\n") // so that the listener knows
	for {
		n, first, news := s.hub.since(from, events)
		if first > from {
			fmt.Fprintf(&text, "event: missed\ndata: {\"missed\":%d}\n\n", first-from)
		}
		for i := range n {
			if wanted.in(&events[i]) {
				writeEvent(&text, first+uint64(i), &events[i])
			}
		}
		from = first + uint64(n)
		if text.Len() > 0 && !send(w, &text) {
			return
		}
		if news == nil {
			continue
		}
		heartbeat.Reset(Heartbeat)
		select {
		case <-news:
		case <-heartbeat.C:
			text.WriteString(": still here\n\n")
		case <-r.Context().Done():
			return
		case <-s.ending:
			return
		}
	}
}

// writeEvent appends one event. JSON has no line breaks, so its data is one line.
func writeEvent(text *bytes.Buffer, number uint64, e *cluster.Event) {
	data, err := json.Marshal(Event{Event: *e, ClientIDHex: hexOf(e.ClientID)})
	if err != nil {
		return // cannot happen: text and a time
	}
	fmt.Fprintf(text, "id: %d\nevent: %s\ndata: %s\n\n", number, e.Kind, data)
}

// send writes and forgets the text, and tells whether the listener may still be there.
func send(w http.ResponseWriter, text *bytes.Buffer) bool {
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Now().Add(streamTimeout))
	_, err := w.Write(text.Bytes())
	text.Reset()
	return err == nil && c.Flush() == nil
}
