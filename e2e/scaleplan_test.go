//go:build linux

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// uneven is an mqttlb in front of four brokers of which the last has joined 600 clients, and nobody is moved unless
// somebody asks for it. least is how many would have to be.
func uneven(t *testing.T, token string) (l *lb, s *swarm, names []string, least int) {
	t.Helper()
	names, port := hosts(t, 4)
	for _, name := range names {
		openHall(t, name, hostPort(name, port))
	}
	r := newListFile(t)
	r.list(names[:3]...)
	l = startLB(t, settings{
		discovery: r.source(port), token: token, log: quietly,
		cluster: brisk("0s") + moving(200, 300) + "rebalance: {auto: false}\n",
	})
	s = swarmOf(t, l, 600, manners{prefix: "device"})
	view := l.cluster(t)
	r.list(names...)
	l.reach(t, patience, "ready", names...)
	return l, s, names, fewest(view.connections())
}

func TestRebalanceShowsItsPlanAndCarriesItOutWhenAsked(t *testing.T) {
	t.Parallel()
	l, s, _, least := uneven(t, "")
	run := func(args ...string) string {
		t.Helper()
		status, out := command(t, append(args, "--admin", l.socket)...)
		if status != 0 {
			t.Fatalf("%v: exit status %d:\n%s", args, status, out)
		}
		return out
	}
	run("state", "balanced") // otherwise it goes on scaling for half a minute, and --wait with it

	before := l.homes(t)
	var plan struct {
		Total int `json:"total"`
		Moves []struct {
			Client string `json:"client_id"`
			From   string `json:"from"`
			To     string `json:"to"`
			Why    string `json:"why"`
			Reason string `json:"reason"`
		} `json:"moves"`
	}
	if err := json.Unmarshal([]byte(run("rebalance", "--dry-run", "--json", "--limit", "1000")), &plan); err != nil {
		t.Fatal(err)
	}
	text := run("rebalance", "--dry-run", "--limit", "1000")
	moves := make(map[string]string) // where the plan moves whom
	for _, m := range plan.Moves {
		moves[m.Client] = m.To
		if m.From != before[m.Client] || m.Why != "levelling" || m.Reason == "" {
			t.Errorf("client %s is on %s, and the plan is %+v", m.Client, before[m.Client], m)
		}
		line := regexp.MustCompile(fmt.Sprintf(`(?m)^"?%s"? +- +%s +%s +levelling +%s$`, m.Client, m.From, m.To, regexp.QuoteMeta(m.Reason)))
		if !line.MatchString(text) {
			t.Errorf("no line for %+v", m)
		}
	}
	if n := plan.Total; n < least || float64(n) > 1.05*float64(least) || n != len(moves) {
		t.Errorf("the plan lists %d clients, moves %d, and %d are the fewest", len(moves), n, least)
	}
	if want := fmt.Sprintf("%d clients would be moved", plan.Total); !strings.Contains(text, want) {
		t.Errorf("no %q in:\n%s", want, text)
	}
	time.Sleep(time.Second) // moves would have begun
	if n := len(s.cuts()); n > 0 {
		t.Fatalf("%d clients were moved by a dry run", n)
	}
	for id, to := range moves {
		if out := run("explain", id); !strings.Contains(out, "planned to "+to+", levelling: ") {
			t.Errorf("the plan moves client %s to %s:\n%s", id, to, out)
		}
		break // one is as good as all
	}

	if out := run("rebalance", "--wait"); !strings.Contains(out, "nobody is left to be moved, after ") {
		t.Errorf("said:\n%s", out)
	}
	for id, home := range l.homes(t) {
		want := before[id]
		if to, planned := moves[id]; planned {
			want = to
		}
		if home != want {
			t.Errorf("client %s is on %s, want %s as planned", id, home, want)
		}
	}
	if n := len(s.cuts()); n != len(moves) {
		t.Errorf("%d clients were moved, %d were planned", n, len(moves))
	}
	if out := run("rebalance", "--dry-run"); !strings.Contains(out, "nobody is to be moved") {
		t.Errorf("what is level is planned to be levelled:\n%s", out)
	}
}

// Whatever client is asked for, it comes to the broker that was named, and if that has left to the second choice.
func TestExplainKnowsTheBrokerTheReasonAndTheSecondChoiceOfAnyClient(t *testing.T) {
	t.Parallel()
	names, port := hosts(t, 4)
	for _, name := range names {
		openHall(t, name, hostPort(name, port))
	}
	r := newListFile(t)
	r.list(names...)
	l := startLB(t, settings{discovery: r.source(port), log: quietly, cluster: brisk("0s") + moving(1000, 1000) + `placement:
  bounded_load: 0
  groups: [{client_id: '^(?P<group>worker)-\d+$'}]
`})
	type facts struct {
		Backend   string `json:"backend"`
		Reason    string `json:"reason"`
		Group     string `json:"group"`
		Otherwise []struct {
			Backend string `json:"backend"`
			Reason  string `json:"reason"`
		} `json:"otherwise"`
		Members *struct {
			Members  int `json:"members"`
			Backends []struct {
				Backend string `json:"backend"`
				Members int    `json:"members"`
			} `json:"backends"`
		} `json:"members"`
		Connected *struct {
			Backend string `json:"backend"`
			Reason  string `json:"reason"`
		} `json:"connected"`
	}
	explain := func(id string) (f facts) {
		l.get(t, "/api/v1/explain", url.Values{"client_id": {id}}, &f)
		return f
	}
	ids := []string{"sensor 17", "größe/µ", "-flag", strings.Repeat("x", 300), "with\"quotes\\", "worker-1x"}
	for i := range 40 {
		ids = append(ids, fmt.Sprint("any-", i))
	}
	before := make(map[string]facts)
	for _, id := range ids {
		before[id] = explain(id)
	}
	s := swarmOf(t, l, len(ids), manners{named: ids})
	for _, id := range ids {
		was, is := before[id], explain(id)
		if is.Connected == nil || is.Connected.Backend != was.Backend || is.Connected.Reason != was.Reason {
			t.Errorf("client %q was to come to %s, %s; it is on %+v", id, was.Backend, was.Reason, is.Connected)
		}
		if len(was.Otherwise) != 3 || was.Otherwise[0].Backend == was.Backend || was.Otherwise[0].Reason == "" || was.Group != "" {
			t.Errorf("client %q: %+v", id, was)
		}
	}

	workers := swarmOf(t, l, 6, manners{prefix: "worker"})
	for i := range 6 {
		f := explain(fmt.Sprint("worker-", i))
		if f.Group != "worker" || f.Members == nil || f.Members.Members != 6 || len(f.Members.Backends) != 4 || f.Connected == nil {
			t.Errorf("worker %d: %+v", i, f)
		}
	}
	status, out := command(t, "explain", "worker-7", "--admin", l.socket)
	for _, want := range []string{"member of group worker", "6 members", "goes to", "because", "otherwise", " left, then "} {
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("exit status %d, no %q in:\n%s", status, want, out)
		}
	}

	r.list(names[1:]...)
	inTime(t, patience, "the first broker is empty and has left", func() bool {
		return l.phases(t)[names[0]] == "" && s.present() == len(ids) && workers.present() == 6
	})
	homes, gone := l.homes(t), 0
	for _, id := range ids {
		want := before[id].Backend
		if want == names[0] {
			want = before[id].Otherwise[0].Backend
			gone++
		}
		if homes[id] != want {
			t.Errorf("client %q is on %s, want %s: it was explained as %s, otherwise %v", id, homes[id], want, before[id].Backend, before[id].Otherwise)
		}
	}
	if gone == 0 {
		t.Error("nobody was on the broker that has left")
	}
}

// Whoever may only look moves nobody.
func TestOnlyWhoMayWriteMovesClients(t *testing.T) {
	t.Parallel()
	token := strings.Repeat("t", 40)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, s, names, _ := uneven(t, file)
	for _, path := range []string{
		"/api/v1/clusters/brokers/rebalance",
		"/api/v1/clusters/brokers/state",
		"/api/v1/clusters/brokers/backends/" + names[0] + "/drain",
		"/api/v1/clusters/brokers/backends/" + names[0] + "/resume",
	} {
		for name, c := range map[string]struct {
			method, socket, token string
			want                  []int
		}{
			"by_GET":               {http.MethodGet, l.socket, "", []int{405}},
			"by_GET_with_a_token":  {http.MethodGet, "", token, []int{405}},
			"by_TCP_without_token": {http.MethodPost, "", "", []int{401, 403}},
			"with_a_wrong_token":   {http.MethodPost, "", token + "x", []int{401, 403}},
		} {
			if status, body := l.ask(t, c.method, path, c.socket, c.token); !slices.Contains(c.want, status) || !strings.Contains(body, `{"error":`) {
				t.Errorf("%s %s: status %d, want one of %v: %s", path, name, status, c.want, body)
			}
		}
	}
	for _, args := range [][]string{{"drain", names[0]}, {"rebalance"}, {"state", "degraded"}} {
		if status, out := command(t, append(args, "--admin", "http://"+l.admin)...); status != 1 || !strings.HasPrefix(out, "mqttlb: ") {
			t.Errorf("%v without a token: exit status %d:\n%s", args, status, out)
		}
	}
	time.Sleep(time.Second) // moves would have begun
	if n := len(s.cuts()); n > 0 || l.cluster(t).State == "degraded" {
		t.Errorf("%d clients were moved", n)
	}
	if status, out := command(t, "drain", names[0], "--admin", "http://"+l.admin, "--token-file", file); status != 0 {
		t.Errorf("with the token: exit status %d:\n%s", status, out)
	}
	inTime(t, patience, "with the token, clients are moved", func() bool { return len(s.cuts()) > 0 })
}
