package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// An endpoint is one thing that the API can do.
type endpoint struct {
	method string
	path   string // a pattern of http.ServeMux
	about  string
	serve  http.Handler
}

// endpoints is the whole API.
func (s *Server) endpoints() []endpoint {
	read := func(path, about string, f function) endpoint { return endpoint{http.MethodGet, path, about, f} }
	write := func(path, about string, f function) endpoint {
		return endpoint{http.MethodPost, path, about, s.guarded(f)}
	}
	return []endpoint{
		{http.MethodGet, "/{$}", "this page", http.HandlerFunc(s.page)},
		{http.MethodGet, "/livez", "200 while the process runs", http.HandlerFunc(s.livez)},
		{http.MethodGet, "/readyz", "200 when clients may be sent here, else 503 and the reason", http.HandlerFunc(s.readyz)},
		{http.MethodGet, "/metrics", "metrics for Prometheus", s.options.Metrics},
		read("/api/v1/status", "everything at a glance", s.status),
		read("/api/v1/clusters", "all clusters with their backends", s.clusters),
		read("/api/v1/clusters/{cluster}", "one cluster", s.cluster),
		read("/api/v1/clusters/{cluster}/backends", "the backends of one cluster", s.backends),
		read("/api/v1/clusters/{cluster}/groups", "the shared-subscription groups of one cluster; parameter limit", s.groups),
		read("/api/v1/clusters/{cluster}/lost", "clients that were moved and did not come again; parameter limit", s.lost),
		read("/api/v1/clients", "connected clients; parameters cluster, backend, group, prefix, limit", s.clients),
		read("/api/v1/explain", "where a client would go, and why; parameters cluster, client_id, persistent", s.explain),
		{http.MethodGet, "/api/v1/events", "what happens, as server-sent events; parameters cluster, kind", http.HandlerFunc(s.events)},
		write("/api/v1/clusters/{cluster}/backends/{backend}/drain", `move its clients away; {"rate":"50/s"}`, s.drain),
		write("/api/v1/clusters/{cluster}/backends/{backend}/resume", "take the drain back", s.resume),
		write("/api/v1/clusters/{cluster}/rebalance", `move clients to where they belong; {"dry_run":true,"limit":100}`, s.rebalance),
		write("/api/v1/clusters/{cluster}/state", `make it have a state; {"state":"auto"} takes that back`, s.force),
		write("/api/v1/reload", "reload the configuration", s.reload),
	}
}

// routes is the Handler for all endpoints.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, e := range s.endpoints() {
		// Patterns without a method, because what net/http answers to a wrong one is not JSON.
		mux.Handle(e.path, only(e.method, e.serve))
	}
	mux.Handle("/", function(func(r *http.Request) (any, error) {
		return nil, failf(http.StatusNotFound, "there is no %s; / lists what there is", r.URL.Path)
	}))
	return mux
}

// only lets one method through. HEAD goes with GET.
func only(method string, h http.Handler) http.Handler {
	allow := method
	if method == http.MethodGet {
		allow += ", " + http.MethodHead
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method || r.Method == http.MethodHead && method == http.MethodGet {
			h.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", allow)
		respond(w, nil, failf(http.StatusMethodNotAllowed, "%s allows only %s", r.URL.Path, allow))
	})
}

// A function answers a request with a value, which becomes JSON, or with an error.
type function func(*http.Request) (any, error)

// ServeHTTP makes a function an http.Handler.
func (f function) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, err := f(r)
	respond(w, v, err)
}

// maxBody bounds the body of a request.
const maxBody = 16 << 10

// guarded lets only those through who may write, and logs every attempt.
func (s *Server) guarded(f function) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// What is done takes as long as it takes, and the answer must still arrive. It is small.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
		var v any
		err := s.mayWrite(r)
		if err == nil {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			v, err = f(r)
		}
		s.logWrite(r, respond(w, v, err))
	})
}

// respond writes the answer and returns its status.
func respond(w http.ResponseWriter, v any, err error) int {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if e, ok := errors.AsType[*statusError](err); ok {
			status = e.status
		}
		v = Failure{Error: err.Error()}
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false) // it is never shown as HTML, and ids stay readable
	if err := encoder.Encode(v); err != nil {
		status = http.StatusInternalServerError
		body.Reset()
		fmt.Fprintf(&body, "{\"error\":%q}\n", "the answer has no JSON form")
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="mqttlb"`) // RFC 9110 §11.6.1
	}
	header(w, "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // who does not listen any more gets nothing
	return status
}

func header(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
}

// A statusError is an error with an HTTP status. Every other error is a 500.
type statusError struct {
	status int
	error
}

func failf(status int, format string, args ...any) error {
	return &statusError{status, fmt.Errorf(format, args...)}
}

// parameters returns the parameters of a request, of which each may be given once.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	given, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, failf(http.StatusBadRequest, "malformed parameters: %w", err)
	}
	for name, values := range given {
		if !slices.Contains(known, name) {
			return nil, failf(http.StatusBadRequest, "unknown parameter %q; known are %s", name, strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return nil, failf(http.StatusBadRequest, "parameter %q is given %d times", name, len(values))
		}
	}
	return given, nil
}

// decode reads the body of a request, a JSON object. No body is the empty object.
func decode(r *http.Request, into any) error {
	body, err := io.ReadAll(r.Body)
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return failf(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return failf(http.StatusRequestTimeout, "the body did not arrive in time")
	}
	if err != nil {
		return failf(http.StatusBadRequest, "the body cannot be read: %w", err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return failf(http.StatusBadRequest, "the body is not what is expected here: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return failf(http.StatusBadRequest, "the body goes on behind its JSON object")
	}
	return nil
}
