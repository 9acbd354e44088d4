package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
)

// writes are all endpoints that change something in a cluster, with a body that they accept.
func writes() map[string]string {
	return map[string]string{
		"/api/v1/clusters/hivemq/backends/n1/drain":  `{"rate":"50/s"}`,
		"/api/v1/clusters/hivemq/backends/n1/resume": `{}`,
		"/api/v1/clusters/hivemq/rebalance":          `{"dry_run":true,"limit":5}`,
		"/api/v1/clusters/hivemq/state":              `{"state":"rolling"}`,
	}
}

// steered is a running Server, and what its first cluster was told to do.
func steered(t *testing.T, o Options) (*running, *[]string) {
	t.Helper()
	asked := new([]string)
	o.Clusters[0].(*fakeCluster).asked = asked
	r := start(t, o)
	r.SetReady()
	return r, asked
}

func TestSteering(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path, body string
		status     int
		message    string // or what the cluster was told
	}{
		{"hivemq/backends/n1/drain", "", 200, "drain n1 0"},
		{"hivemq/backends/n1/drain", "{}", 200, "drain n1 0"},
		{"hivemq/backends/n1/drain", `{"rate":""}`, 200, "drain n1 0"},
		{"hivemq/backends/n1/drain", `{"rate":"50/s"}`, 200, "drain n1 50"},
		{"hivemq/backends/n%31/drain", `{"rate":"0.5/s"}`, 200, "drain n1 0.5"},
		{"hivemq/backends/n2/resume", "", 200, "resume n2"},
		{"hivemq/rebalance", "", 200, "rebalance false 100"},
		{"hivemq/rebalance", `{"dry_run":true}`, 200, "rebalance true 100"},
		{"hivemq/rebalance", `{"dry_run":false,"limit":10000}`, 200, "rebalance false 10000"},
		{"hivemq/state", `{"state":"auto"}`, 200, "force auto"},
		{"hivemq/state", `{"state":"degraded"}`, 200, "force degraded"},

		{"hivemq/backends/n3/drain", "", 404, `unknown backend "n3"; hivemq has n1, n2`},
		{"hivemq/backends/n3/resume", "", 404, `unknown backend "n3"; hivemq has n1, n2`},
		{"emqx/backends/n1/drain", "", 404, `unknown backend "n1"; emqx has no backends`},
		{"nope/backends/n1/drain", "", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"nope/backends/n1/resume", "", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"nope/rebalance", "", 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"nope/state", `{"state":"auto"}`, 404, `unknown cluster "nope"; known are hivemq, emqx`},
		{"hivemq/backends//drain", "", 404, "there is no /api/v1/clusters/hivemq/backends/drain; / lists what there is"},

		{"hivemq/backends/n1/drain", `{"rate":"50"}`, 400, `a rate needs its unit, got "50"; write "50/s"`},
		{"hivemq/backends/n1/drain", `{"rate":50}`, 400, "the body is not what is expected here: json: cannot unmarshal number into Go struct field DrainRequest.rate of type string"},
		{"hivemq/backends/n1/drain", `{"rates":"50/s"}`, 400, `the body is not what is expected here: json: unknown field "rates"`},
		{"hivemq/backends/n1/drain?rate=50/s", "", 400, `unknown parameter "rate"; known are `},
		{"hivemq/backends/n1/resume", `{"rate":"50/s"}`, 400, `the body is not what is expected here: json: unknown field "rate"`},
		{"hivemq/rebalance", `{"limit":0}`, 400, "limit must be a number from 1 to 10000, got 0"},
		{"hivemq/rebalance", `{"limit":10001}`, 400, "limit must be a number from 1 to 10000, got 10001"},
		{"hivemq/rebalance", `{"dry-run":true}`, 400, `the body is not what is expected here: json: unknown field "dry-run"`},
		{"hivemq/state", "", 400, `state must be one of auto, balanced, scaling, rolling, overloaded, degraded, got ""`},
		{"hivemq/state", `{"state":"Auto"}`, 400, `state must be one of auto, balanced, scaling, rolling, overloaded, degraded, got "Auto"`},
	} {
		t.Run(test.path+" "+test.body, func(t *testing.T) {
			t.Parallel()
			r, asked := steered(t, twoClusters())
			a := ask(t, r.unix, http.MethodPost, "/api/v1/clusters/"+test.path, nil, strings.NewReader(test.body))
			if test.status != http.StatusOK {
				if a.status == http.StatusTemporaryRedirect { // of an empty part of the path
					a = ask(t, r.unix, http.MethodPost, a.header.Get("Location"), nil, nil)
				}
				failed(t, a, test.status, test.message)
				if len(*asked) > 0 {
					t.Errorf("the cluster was told %q", *asked)
				}
				return
			}
			if a.status != http.StatusOK || !slices.Equal(*asked, []string{test.message}) {
				t.Errorf("got %d %s, and the cluster was told %q, want %q", a.status, a.body, *asked, test.message)
			}
		})
	}
}

func TestSteeringAnswers(t *testing.T) {
	t.Parallel()
	r, _ := steered(t, twoClusters())
	for path, body := range writes() {
		name := path[strings.LastIndexByte(path, '/')+1:] + ".json"
		a := ask(t, r.unix, http.MethodPost, path, nil, strings.NewReader(body))
		if a.status != http.StatusOK {
			t.Errorf("%s: got %d %s", path, a.status, a.body)
		}
		var b bytes.Buffer
		if err := json.Indent(&b, []byte(a.body), "", "  "); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.String())
	}
	if p := as[Plan](t, ask(t, r.unix, http.MethodPost, "/api/v1/clusters/emqx/rebalance", nil, nil)); p.Moves == nil {
		t.Error("got null for no moves, want an empty list")
	}
}

// What cannot be done is a conflict, with the reason of the cluster.
func TestRefusedByTheCluster(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	o.Clusters[0].(*fakeCluster).refusal = errors.New("n1 is the last backend")
	r, _ := steered(t, o)
	for path, body := range writes() {
		failed(t, ask(t, r.unix, http.MethodPost, path, nil, strings.NewReader(body)), http.StatusConflict, "n1 is the last backend")
	}
}

// Nobody moves clients while mqttlb stops, which is no conflict.
func TestNobodyMoves(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	o.Clusters[0].(*fakeCluster).refusal = cluster.ErrNobodyMoves
	r, _ := steered(t, o)
	failed(t, ask(t, r.unix, http.MethodPost, "/api/v1/clusters/hivemq/rebalance", nil, nil), http.StatusServiceUnavailable, cluster.ErrNobodyMoves.Error())
	if e := as[Explanation](t, get(t, r.unix, "/api/v1/explain?cluster=hivemq&client_id=worker-1")); e.Connected == nil || e.Move != nil {
		t.Errorf("got %+v, want the connection without a plan", e)
	}
}

func TestNothingIsSteeredBeforeTheStart(t *testing.T) {
	t.Parallel()
	r := start(t, twoClusters())
	for path, body := range writes() {
		failed(t, ask(t, r.unix, http.MethodPost, path, nil, strings.NewReader(body)), http.StatusServiceUnavailable, "mqttlb is starting")
	}
	if e := as[Explanation](t, get(t, r.unix, "/api/v1/explain?cluster=hivemq&client_id=worker-1")); e.Connected != nil {
		t.Error("asked the event loops before they run")
	}
}

// Every write is refused without the right (A1 of protocol.md, 9.2), and leaves a line in the log.
func TestWritesNeedARight(t *testing.T) {
	t.Parallel()
	const (
		readOnly = "this address is read-only; use the unix socket, or set admin.token_file"
		missing  = `this needs the header "Authorization: Bearer TOKEN" with the token from admin.token_file`
		wrong    = "the token is wrong"
	)
	for _, test := range []struct {
		name, token, header string
		socket              bool
		status              int
		message             string
	}{
		{"tcp", "", "", false, 403, readOnly},
		{"tcp, no token", secret, "", false, 401, missing},
		{"tcp, wrong token", secret, "Bearer x" + secret, false, 401, wrong},
		{"tcp, right token", secret, "Bearer " + secret, false, 200, ""},
		{"socket", "", "", true, 200, ""},
	} {
		for path, body := range writes() {
			t.Run(test.name+" "+path, func(t *testing.T) {
				t.Parallel()
				o := twoClusters()
				if test.token != "" {
					o.Token = []byte(test.token)
				}
				r, asked := steered(t, o)
				c, header := r.tcp, http.Header{"Origin": {"https://evil.test"}}
				if test.socket {
					c = r.unix
				}
				if test.header != "" {
					header.Set("Authorization", test.header)
				}
				a := ask(t, c, http.MethodPost, path, header, strings.NewReader(body))
				if test.status != http.StatusOK {
					failed(t, a, test.status, test.message)
				}
				if a.status != test.status || (len(*asked) > 0) != (test.status == http.StatusOK) {
					t.Errorf("got %d %s, and the cluster was told %q", a.status, a.body, *asked)
				}
				if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
					t.Errorf("other sites may read the answer: %q", got)
				}
				r.stop()
				who := "remote=127.0.0.1:"
				if test.socket {
					who = fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
				}
				if line := fmt.Sprintf("path=%s status=%d %s", path, test.status, who); !strings.Contains(r.log.String(), line) {
					t.Errorf("the log lacks %q:\n%s", line, r.log)
				}
			})
		}
	}
}

// A link, an image or a form of another site cannot write (A1 of protocol.md, 9.2).
func TestWritesOverGet(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	o.Token = []byte(secret)
	r, asked := steered(t, o)
	for path := range writes() {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions} {
			a := ask(t, r.tcp, method, path, http.Header{"Authorization": {"Bearer " + secret}}, nil)
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != http.MethodPost {
				t.Errorf("%s %s: got %d and Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
	if len(*asked) > 0 {
		t.Errorf("the cluster was told %q", *asked)
	}
}

// Bodies without end or without hurry cost little (A1 of protocol.md, 9.2).
func TestBadBodiesOfWrites(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	o.ReadTimeout = time.Second // plenty for a header on a busy machine
	slow, asked := steered(t, o)
	r, askedToo := steered(t, twoClusters())
	for path := range writes() {
		huge := io.MultiReader(strings.NewReader(`{"rate":"` + strings.Repeat("1", 4<<20)))
		failed(t, ask(t, r.unix, http.MethodPost, path, nil, huge), http.StatusRequestEntityTooLarge, "the body is larger than 16384 bytes")
		c := raw(t, slow, "POST "+path+" HTTP/1.1\r\nHost: mqttlb\r\nContent-Length: 2\r\n\r\n{")
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		failed(t, answer{response.StatusCode, response.Header, string(body)}, http.StatusRequestTimeout, "the body did not arrive in time")
	}
	if len(*asked)+len(*askedToo) > 0 {
		t.Errorf("the clusters were told %q and %q", *asked, *askedToo)
	}
}

// However long the client ids, an answer stays within bounds.
func TestLongIDsAreBounded(t *testing.T) {
	t.Parallel()
	o := twoClusters()
	c := o.Clusters[0].(*fakeCluster)
	id := strings.Repeat("x", maxClientID)
	for range 200 {
		c.plan.Moves = append(c.plan.Moves, cluster.PlannedMove{ClientID: id})
		c.lost = append(c.lost, cluster.LostClient{ClientID: id})
	}
	r, _ := steered(t, o)
	if p := as[Plan](t, ask(t, r.unix, http.MethodPost, "/api/v1/clusters/hivemq/rebalance", nil, strings.NewReader(`{"limit":10000}`))); len(p.Moves) > maxIDs/maxClientID+2 {
		t.Errorf("got %d moves with 64 KiB each", len(p.Moves))
	}
	if l := as[LostList](t, get(t, r.unix, "/api/v1/clusters/hivemq/lost?limit=10000")); len(l.Clients) > maxIDs/maxClientID+2 {
		t.Errorf("got %d lost clients with 64 KiB each", len(l.Clients))
	}
}

func TestManyNames(t *testing.T) {
	t.Parallel()
	list := make([]cluster.BackendStatus, maxNamed+1)
	for i := range list {
		list[i].Name = fmt.Sprint("n", i)
	}
	if got := namesOf(list); !strings.HasSuffix(got, "n48, n49, …") {
		t.Errorf("got %s", got)
	}
	if got := namesOf(list[:maxNamed]); !strings.HasSuffix(got, "n48, n49") {
		t.Errorf("got %s", got)
	}
}
