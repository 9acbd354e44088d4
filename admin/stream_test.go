package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
)

// A streamWriter is an http.ResponseWriter for streams, whose listener reads when it likes.
type streamWriter struct {
	header http.Header

	mu       sync.Mutex
	text     strings.Builder
	deadline time.Time
	status   int
	reading  chan struct{} // Write waits until it is closed; nil does not wait
}

func (w *streamWriter) Header() http.Header { return w.header }
func (w *streamWriter) FlushError() error   { return nil }

func (w *streamWriter) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = status
}

func (w *streamWriter) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	return nil
}

func (w *streamWriter) Write(b []byte) (int, error) {
	if w.reading != nil {
		<-w.reading
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Now().After(w.deadline) {
		return 0, context.DeadlineExceeded
	}
	return w.text.Write(b)
}

// heard is what has been written since the last call.
func (w *streamWriter) heard() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.text.Reset()
	return w.text.String()
}

// listen begins to listen in a bubble, on a fresh Server.
func listen(t *testing.T, query string, header http.Header, w *streamWriter) (s *Server, ended <-chan struct{}) {
	t.Helper()
	o := twoClusters()
	o.Log = slog.New(slog.DiscardHandler)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s, listenTo(t, s, query, header, w)
}

func listenTo(t *testing.T, s *Server, query string, header http.Header, w *streamWriter) <-chan struct{} {
	t.Helper()
	w.header = make(http.Header)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mqttlb/api/v1/events"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = header
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.events(w, r)
	}()
	synctest.Wait()
	return ended
}

func check(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got\n%q\nwant\n%q", what, got, want)
	}
}

func TestStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(streamWriter)
		s, ended := listen(t, "", nil, w)
		check(t, "at the begin", w.heard(), ": listening\n\n")
		check(t, "Content-Type", w.header.Get("Content-Type"), "text/event-stream")
		time.Sleep(Heartbeat - time.Nanosecond)
		check(t, "before the heartbeat", w.heard(), "")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		check(t, "heartbeat", w.heard(), ": still here\n\n")
		time.Sleep(Heartbeat / 2)
		id := s.hub.position()
		s.hub.Publish(cluster.Event{
			At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Cluster: "hivemq", Kind: "eviction", Backend: "n1", ClientID: "a\xff\n\n", From: "n1", To: "n2", Reason: "n1 is draining",
		})
		synctest.Wait()
		check(t, "event", w.heard(), fmt.Sprintf("id: %d\nevent: eviction\ndata: ", id)+
			`{"at":"2026-01-02T03:04:05Z","cluster":"hivemq","kind":"eviction","backend":"n1","client_id":"a\ufffd\n\n","from":"n1","to":"n2","reason":"n1 is draining","client_id_hex":"61ff0a0a"}`+"\n\n")
		time.Sleep(Heartbeat - time.Nanosecond)
		check(t, "an event is a sign of life, too", w.heard(), "")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		check(t, "second heartbeat", w.heard(), ": still here\n\n")
		close(s.ending)
		<-ended
	})
}

func TestStreamFilters(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ query, kinds string }{
		{"", "drain state lost drain"},
		{"?cluster=emqx", "drain"},
		{"?kind=drain", "drain drain"},
		{"?kind=lost,state", "state lost"},
		{"?kind=drain&cluster=hivemq", "drain"},
		{"?kind=phase", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := new(streamWriter)
			s, ended := listen(t, test.query, nil, w)
			for _, e := range []cluster.Event{{Kind: "drain"}, {Kind: "state"}, {Kind: "lost"}, {Kind: "drain", Cluster: "emqx"}} {
				if e.Cluster == "" {
					e.Cluster = "hivemq"
				}
				s.hub.Publish(e)
			}
			synctest.Wait()
			var kinds []string
			for line := range strings.Lines(w.heard()) {
				if kind, ok := strings.CutPrefix(line, "event: "); ok {
					kinds = append(kinds, strings.TrimSpace(kind))
				}
			}
			check(t, test.query, strings.Join(kinds, " "), test.kinds)
			close(s.ending)
			<-ended
		})
	}
}

// Who does not read holds up nobody, and hears later what it has missed.
func TestSlowListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quick, slow := new(streamWriter), &streamWriter{reading: make(chan struct{})}
		s, quickEnded := listen(t, "", nil, quick)
		slowEnded := listenTo(t, s, "", nil, slow)
		const more = 10
		for i := range keptEvents + more {
			publish(s.hub, i, 1)
			synctest.Wait() // for the quick one
		}
		if got := strings.Count(quick.heard(), "\nevent: eviction\n"); got != keptEvents+more {
			t.Errorf("the quick one got %d events, want %d", got, keptEvents+more)
		}
		close(slow.reading)
		synctest.Wait()
		heard := slow.heard()
		if want := fmt.Sprintf(": listening\n\nevent: missed\ndata: {\"missed\":%d}\n\nid: %d\n", more, s.hub.begin+more); !strings.HasPrefix(heard, want) {
			t.Errorf("got\n%.100q\nwant it to begin with\n%q", heard, want)
		}
		if got := strings.Count(heard, "\nevent: eviction\n"); got != keptEvents || !strings.Contains(heard, `"from":"1033"`) {
			t.Errorf("the slow one got %d events, want the last %d", got, keptEvents)
		}
		close(s.ending)
		<-quickEnded
		<-slowEnded
	})
}

// Who does not read at all is cut off.
func TestDeafListener(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &streamWriter{reading: make(chan struct{})}
		_, ended := listen(t, "", nil, w)
		time.Sleep(streamTimeout + time.Second)
		close(w.reading) // a connection returns from Write at its deadline
		<-ended
	})
}

func TestStreamResumes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		first := new(streamWriter)
		s, ended := listen(t, "", nil, first)
		publish(s.hub, 0, 5)
		for _, test := range []struct {
			last string
			want int
		}{
			{fmt.Sprint(s.hub.begin + 2), 2}, {fmt.Sprint(s.hub.begin + 4), 0}, {"5", 5}, {"", 0}, {"nonsense", 0}, {"-1", 0},
		} {
			w := new(streamWriter)
			listenTo(t, s, "", http.Header{"Last-Event-Id": {test.last}}, w)
			if got := strings.Count(w.heard(), "\nevent: "); got != test.want {
				t.Errorf("Last-Event-ID %q: got %d events, want %d", test.last, got, test.want)
			}
		}
		close(s.ending)
		<-ended
	})
}

// open listens over a connection, and returns when the Server has noticed.
func open(t *testing.T, c *http.Client) *bufio.Reader {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://mqttlb/api/v1/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	lines := bufio.NewReader(response.Body)
	if line, err := lines.ReadString('\n'); line != ": listening\n" {
		t.Fatalf("got %d %q (error %v), want to be greeted", response.StatusCode, line, err)
	}
	return lines
}

// The read timeout of requests does not end a stream; the end of the Server does, in good order.
func TestStreamOverConnections(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	o.ReadTimeout = 2 * time.Second // plenty for a request on a busy machine
	o.Events = NewHub()
	r := start(t, o)
	for _, c := range []*http.Client{r.tcp, r.unix} {
		lines := open(t, c)
		// When a request that came later has run into its timeout, the stream has outlived it.
		if _, err := io.ReadAll(raw(t, r, "GET /livez HTTP/1.1\r\nHost: mq")); err != nil {
			t.Fatal(err)
		}
		o.Events.Publish(cluster.Event{Kind: "state"})
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("the stream has ended: %v", err)
			}
			if line == "event: state\n" {
				break
			}
		}
		defer func() {
			if _, err := io.ReadAll(lines); err != nil {
				t.Errorf("got %v at the end, want the end of the stream", err)
			}
		}()
	}
	r.stop()
}

func TestListenersAreBounded(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	ctx, cancel := context.WithCancel(t.Context())
	for range maxListeners {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://mqttlb/api/v1/events", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := r.tcp.Do(request)
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("got %v (error %v), want a stream", response, err)
		}
		defer response.Body.Close()
	}
	failed(t, get(t, r.tcp, "/api/v1/events"), http.StatusServiceUnavailable, "32 listen already; try again when one of them is gone")
	open(t, r.unix) // operators can always get in
	cancel()
	for r.listening[0].Load() >= maxListeners { // the Server notices that they are gone
		time.Sleep(time.Millisecond)
	}
	open(t, r.tcp)
}

func TestStreamRequests(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	for path, test := range map[string]struct {
		status  int
		message string
	}{
		"?cluster=nope":        {404, `unknown cluster "nope"; known are hivemq, emqx`},
		"?kind=drained":        {400, `unknown kind "drained"; known are drain, eviction, join, leave, lost, phase, rebalance, resume, state`},
		"?kind=drain,":         {400, `unknown kind ""; known are drain, eviction, join, leave, lost, phase, rebalance, resume, state`},
		"?kind=drain&kind=all": {400, `parameter "kind" is given 2 times`},
		"?kinds=drain":         {400, `unknown parameter "kinds"; known are cluster, kind`},
	} {
		failed(t, get(t, r.tcp, "/api/v1/events"+path), test.status, test.message)
	}
	failed(t, ask(t, r.tcp, http.MethodPost, "/api/v1/events", nil, nil), http.StatusMethodNotAllowed, "/api/v1/events allows only GET, HEAD")
	if a := ask(t, r.tcp, http.MethodHead, "/api/v1/events", nil, nil); a.status != http.StatusOK || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("HEAD: got %d and %v", a.status, a.header)
	}
}
