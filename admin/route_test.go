package admin

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestWrongRequests(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	r.SetReady()
	for _, test := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/nothing", 404, "there is no /nothing; / lists what there is"},
		{"GET", "/api/v1/clusters/", 404, "there is no /api/v1/clusters/; / lists what there is"},
		{"GET", "/api/v1/clusters/nope", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"GET", "/api/v1/clusters/nope/backends", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"GET", "/api/v1/clusters/nope/groups", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"GET", "/api/v1/event", 404, "there is no /api/v1/event; / lists what there is"},
		{"POST", "/api/v1/clusters/hivemq/balance", 404, "there is no /api/v1/clusters/hivemq/balance; / lists what there is"},

		{"POST", "/", 405, "/ allows only GET, HEAD"},
		{"POST", "/readyz", 405, "/readyz allows only GET, HEAD"},
		{"POST", "/metrics", 405, "/metrics allows only GET, HEAD"},
		{"DELETE", "/api/v1/status", 405, "/api/v1/status allows only GET, HEAD"},
		{"PUT", "/api/v1/clients", 405, "/api/v1/clients allows only GET, HEAD"},
		{"GET", "/api/v1/reload", 405, "/api/v1/reload allows only POST"},
		{"HEAD", "/api/v1/reload", 405, ""},

		{"GET", "/api/v1/status?x=1", 400, `unknown parameter "x"; known are `},
		{"GET", "/api/v1/clusters?x=1", 400, `unknown parameter "x"; known are `},
		{"GET", "/api/v1/clusters/hivemq?x=1", 400, `unknown parameter "x"; known are `},
		{"GET", "/api/v1/clusters/hivemq/backends?x=1", 400, `unknown parameter "x"; known are `},
		{"GET", "/api/v1/clusters/hivemq/groups?group=x", 400, `unknown parameter "group"; known are limit`},
		{"GET", "/api/v1/clusters/hivemq/groups?limit=0", 400, `limit must be a number from 1 to 10000, got "0"`},
		{"GET", "/api/v1/clusters/hivemq/groups?limit=10001", 400, `limit must be a number from 1 to 10000, got "10001"`},
		{"POST", "/api/v1/clusters/hivemq/groups", 405, "/api/v1/clusters/hivemq/groups allows only GET, HEAD"},
		{"GET", "/api/v1/explain?cluster=hivemq&client_id=x&persistent=maybe", 400, `persistent must be true or false, got "maybe"`},
		{"GET", "/api/v1/clients?backends=n1", 400, `unknown parameter "backends"; known are cluster, backend, group, prefix, limit`},
		{"GET", "/api/v1/clients?prefix=a&prefix=b", 400, `parameter "prefix" is given 2 times`},
		{"GET", "/api/v1/clients?prefix=%zz", 400, `malformed parameters: invalid URL escape "%zz"`},
		{"GET", "/api/v1/clients?limit=0", 400, `limit must be a number from 1 to 10000, got "0"`},
		{"GET", "/api/v1/clients?limit=-1", 400, `limit must be a number from 1 to 10000, got "-1"`},
		{"GET", "/api/v1/clients?limit=10001", 400, `limit must be a number from 1 to 10000, got "10001"`},
		{"GET", "/api/v1/clients?limit=99999999999999999999", 400, `limit must be a number from 1 to 10000, got "99999999999999999999"`},
		{"GET", "/api/v1/clients?limit=ten", 400, `limit must be a number from 1 to 10000, got "ten"`},
		{"GET", "/api/v1/clients?cluster=nope", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"GET", "/api/v1/clients?backend=n3", 404, `unknown backend "n3"; /api/v1/clusters lists them`},
		{"GET", "/api/v1/clients?cluster=emqx&backend=n1", 404, `unknown backend "n1"; /api/v1/clusters lists them`},
		{"GET", "/api/v1/explain?cluster=hivemq", 400, "which client? the parameter client_id is missing; empty it means a client without id"},
		{"GET", "/api/v1/explain?client_id=x", 400, "which cluster? known are hivemq, emqx"},
		{"GET", "/api/v1/explain?client_id=x&cluster=nope", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"GET", "/api/v1/explain?cluster=hivemq&client_id=" + strings.Repeat("x", maxClientID+1), 400, "a client id has at most 65535 bytes, this one has 65536"},
	} {
		t.Run(test.method+" "+test.path[:min(len(test.path), 60)], func(t *testing.T) {
			a := ask(t, r.unix, test.method, test.path, nil, nil)
			if test.method == http.MethodHead {
				if a.status != test.status {
					t.Errorf("got %d, want %d", a.status, test.status)
				}
				return
			}
			failed(t, a, test.status, test.message)
			_, allow, _ := strings.Cut(test.message, " allows only ")
			if got := a.header.Get("Allow"); got != allow {
				t.Errorf("got Allow %q, want %q", got, allow)
			}
		})
	}
}

func TestBodies(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	for _, test := range []struct {
		name, body string
		status     int
		message    string
	}{
		{"none", "", 200, ""},
		{"space", " \n", 200, ""},
		{"empty object", "{}", 200, ""},
		{"unknown field", `{"force":true}`, 400, `the body is not what is expected here: json: unknown field "force"`},
		{"no object", `[]`, 400, "the body is not what is expected here: json: cannot unmarshal array into Go value of type struct {}"},
		{"cut off", `{"a`, 400, "the body is not what is expected here: unexpected EOF"},
		{"two objects", `{}{}`, 400, "the body goes on behind its JSON object"},
		{"largest", strings.Repeat(" ", maxBody), 200, ""},
		{"too large", strings.Repeat(" ", maxBody+1), 413, "the body is larger than 16384 bytes"},
		{"huge", strings.Repeat("x", 4<<20), 413, "the body is larger than 16384 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// A body that is not a strings.Reader, so that its length is not told in advance.
			a := ask(t, r.unix, http.MethodPost, "/api/v1/reload", nil, io.MultiReader(strings.NewReader(test.body)))
			if test.status != http.StatusOK {
				failed(t, a, test.status, test.message)
			} else if !as[Reloaded](t, a).Reloaded {
				t.Errorf("got %s, want reloaded", a.body)
			}
		})
	}
}

// raw writes part of a request and leaves it at that.
func raw(t *testing.T, r *running, part string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", r.options.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, part); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestSlowBody(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	o.ReadTimeout = 50 * time.Millisecond
	r := start(t, o)
	c := raw(t, r, "POST /api/v1/reload HTTP/1.1\r\nHost: mqttlb\r\nContent-Length: 2\r\n\r\n{")
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	failed(t, answer{response.StatusCode, response.Header, string(body)}, http.StatusRequestTimeout, "the body did not arrive in time")
}

func TestSlowHeader(t *testing.T) {
	t.Parallel()
	o := oneCluster()
	o.ReadTimeout = 50 * time.Millisecond
	r := start(t, o)
	c := raw(t, r, "GET /livez HTTP/1.1\r\nHost: mq")
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Errorf("got %q (error %v), want the connection closed", got, err)
	}
}

func TestAbandonedBody(t *testing.T) {
	t.Parallel()
	r := start(t, oneCluster())
	c := raw(t, r, "POST /api/v1/reload HTTP/1.1\r\nHost: mqttlb\r\nContent-Length: 2\r\n\r\n{")
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	failed(t, answer{response.StatusCode, response.Header, string(body)}, http.StatusBadRequest, "the body cannot be read: unexpected EOF")
}

// unmarshalable has no JSON form.
type unmarshalable struct{}

func (unmarshalable) MarshalJSON() ([]byte, error) { return nil, errors.New("no") }

func TestAnswerWithoutJSON(t *testing.T) {
	t.Parallel()
	w := recorder{header: make(http.Header)}
	if status := respond(&w, unmarshalable{}, nil); status != http.StatusInternalServerError || w.status != status {
		t.Errorf("got %d and %d, want 500", status, w.status)
	}
	failed(t, answer{w.status, w.header, w.String()}, http.StatusInternalServerError, "the answer has no JSON form")
}

// recorder is an http.ResponseWriter that remembers.
type recorder struct {
	strings.Builder
	header http.Header
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
