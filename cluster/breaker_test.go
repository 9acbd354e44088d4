package cluster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// spread places n clients and returns on how many backends of each name, then gives the places back.
func (r *rig) spread(n int) map[string]int {
	r.t.Helper()
	counts := make(map[string]int)
	for i := range n {
		id := fmt.Sprint("seen", i)
		target := r.place(id)
		counts[target.Backend.Name]++
		r.Release(id, target, proxy.ClientLeft)
	}
	return counts
}

// What fails or declines clients opens the circuit of a backend at once and without any health check, is seen and
// logged, and closes again with the first client that is served.
func TestCircuit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		happens func(r *rig)
		why     string // empty: no circuit opens
	}{
		"refused":        {func(r *rig) { r.fail("a", 5, proxy.Refused, true) }, "5 of 5 clients failed, the last: refused"},
		"silent":         {func(r *rig) { r.fail("a", 5, proxy.Stalled, false) }, "5 of 5 clients failed, the last: stalled"},
		"one client":     {func(r *rig) { r.fail("a", 9, proxy.Stalled, true) }, ""},
		"server error":   {func(r *rig) { r.answer("a", 5, 5, 0x80, 1) }, "5 of 5 clients failed, the last: rejected"},
		"busy":           {func(r *rig) { r.answer("a", 5, 5, 0x88, 1) }, "5 clients in a row found the broker busy"},
		"busy, MQTT 3":   {func(r *rig) { r.answer("a", 5, 4, 3, 1) }, "5 clients in a row found the broker busy"},
		"wrong password": {func(r *rig) { r.answer("a", 50, 5, 0x87, 1); r.answer("a", 50, 4, 5, 1) }, ""},
		"no local port":  {func(r *rig) { r.fail("a", 9, proxy.NoPort, false) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, cluster.Options{Strategy: "client-hash"})
			r.Apply(set("a", "b", "c"))
			r.Tick()
			test.happens(r)
			counts, b := r.spread(60), r.backend("a")
			if test.why == "" {
				if counts["a"] == 0 || b.Circuit.State != "" {
					t.Errorf("got places %v and circuit %+v, want some on a, and a closed one", counts, b.Circuit)
				}
				return
			}
			if counts["a"] != 0 || b.Circuit != (cluster.CircuitStatus{State: "open", Why: test.why}) {
				t.Errorf("got places %v and circuit %+v, want none on a, open: %s", counts, b.Circuit, test.why)
			}
			if b.Phase != balancer.Ready.String() {
				t.Errorf("got phase %s, want it ready: nobody checks", b.Phase)
			}
			if target := r.place("last", "b", "c"); target.Backend.Name != "a" || target.Another {
				t.Errorf("got %s, another %t, want a: there is nobody else", target.Backend.Name, target.Another)
			}
			r.ticks(1)
			r.advance(5 * time.Second)
			if counts := r.spread(60); counts["a"] != 1 {
				t.Errorf("5 s later: got places %v, want one on a", counts)
			}
			r.answer("a", 1, 5, 0, 1)
			if counts, b := r.spread(60), r.backend("a"); counts["a"] < 5 || b.Circuit.State != "" {
				t.Errorf("after an answer: got places %v and circuit %+v, want a to be as before", counts, b.Circuit)
			}
			r.ticks(1)
			want := `level=WARN msg="a backend's circuit is open: clients go elsewhere if they can" cluster=hivemq backend=a reason="` + test.why + `"` + "\n" +
				`level=INFO msg="a backend's circuit is closed again" cluster=hivemq backend=a` + "\n"
			if got := r.logged("circuit"); got != want {
				t.Errorf("got log\n%swant\n%s", got, want)
			}
		})
	}
}

// A CONNACK that was held back is learned once, though it is told of twice when it is passed on after all.
func TestLateAnswersAreNotLearnedTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{})
	r.Apply(set("a", "b"))
	for i := range 4 {
		id := fmt.Sprint("c", i)
		target := r.place(id, "b")
		answer := proxy.Answer{Cluster: "hivemq", Backend: "a", ClientID: id, Version: 5, Code: 0x88, Swallowed: true}
		r.Answered(&answer)
		r.Release(id, target, proxy.Busy)
		answer.Swallowed, answer.Late = false, true
		r.Answered(&answer)
	}
	b := r.backend("a")
	if b.Failures["busy"] != 4 || len(b.Failures) != 1 || b.Circuit.State != "" || b.Connections != 0 {
		t.Errorf("got failures %v, circuit %+v and %d connections, want busy 4 times, closed, none", b.Failures, b.Circuit, b.Connections)
	}
}

// The limit of a backend is one: who finds no place gets the error that says so.
func TestLimitOfConnections(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Most: 2})
	r.Apply(set("a", "b"))
	var last proxy.Target
	for i := range 4 {
		last = r.place(fmt.Sprint("c", i))
	}
	if _, err := r.Place(request("late")); !errors.Is(err, proxy.ErrBackendFull) || !errors.Is(err, proxy.ErrNoBackend) {
		t.Errorf("got %v, want that all are full", err)
	}
	if e := r.Explain("late", false); !strings.Contains(e.Reason, "as many connections as they may") {
		t.Errorf("got %q, want the limit", e.Reason)
	}
	r.Release("c3", last, proxy.Served)
	if target := r.place("late"); target.Backend.Name != last.Backend.Name || target.Another {
		t.Errorf("got %s, another %t, want the only free place", target.Backend.Name, target.Another)
	}
	if err := r.Reconfigure(cluster.Options{Name: "hivemq", Most: 3}); err != nil {
		t.Fatal(err)
	}
	if target := r.place("later"); !target.Another {
		t.Error("with a higher limit the other backend is no candidate")
	}
}

// Retries are limited: a tenth of the clients that come, and ten a second besides.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Outliers: health.OutlierRules{Open: -1}})
	r.Apply(set("a", "b", "c"))
	retried := func(n int) (done int) {
		for i := range n {
			target, err := r.Place(request(fmt.Sprint("c", i), "a"))
			switch {
			case err == nil:
				done++
				r.Release(fmt.Sprint("c", i), target, proxy.Served)
			case !errors.Is(err, proxy.ErrRetryBudget):
				t.Fatalf("got %v, want that the budget is used up", err)
			}
		}
		return done
	}
	if got := retried(200); got != 100 {
		t.Errorf("at first: got %d retries, want 100", got)
	}
	if target := r.place("new"); target.Another {
		t.Error("a client may be offered to another backend although no retry is left")
	}
	r.advance(2 * time.Second)
	if got := retried(200); got != 20 {
		t.Errorf("2 s later: got %d retries, want 20", got)
	}
	r.spread(500)
	if got := retried(200); got != 50 {
		t.Errorf("after 500 clients: got %d retries, want 50", got)
	}
	r.advance(time.Hour)
	if got := retried(200); got != 100 {
		t.Errorf("an hour later: got %d retries, want 100", got)
	}
}

// Whether a client may be offered to another backend depends on who is left, and on the client.
func TestAnother(t *testing.T) {
	t.Parallel()
	r := newRig(t, cluster.Options{Strategy: "client-hash", Placement: balancer.Options{NodeScope: true}})
	r.Apply(set("a", "b", "c", "d"))
	for tried, want := range map[string]bool{"": true, "a": true, "a b": false, "a b c": false} {
		target, err := r.Place(request("c", strings.Fields(tried)...))
		if err == nil && target.Another != want || err != nil && tried != "a b c" {
			t.Errorf("tried %q: got another %t and %v, want %t: three attempts are allowed", tried, target.Another, err, want)
		}
	}
	target, err := r.Place(requestOf(&mqttparse.ConnectOptions{ClientID: "kept"}))
	if err != nil || target.Another {
		t.Errorf("got another %t and %v for a session that lives on one broker, want none", target.Another, err)
	}
	one := newRig(t, cluster.Options{})
	one.Apply(set("a"))
	if target := one.place("c"); target.Another {
		t.Error("got another backend than the only one")
	}
}
