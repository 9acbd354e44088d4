//go:build linux

package e2e

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// brisk makes brokers join in little time. Checks are patient: on a busy machine a hurried one fails now and then,
// and that is not what this is about.
func brisk(ramp string) string {
	return "health: {interval: 1s, rise: 1, fall: 5}\nsettle: 1s\nramp: " + ramp + "\n"
}

// quietly leaves out of the log what happens to each client.
const quietly = "{level: info, clients: false}"

// unbounded sends clients where the hash says, however many are there.
const unbounded = "placement: {bounded_load: 0}\n"

// moving is the pace at which clients are moved, however young they are. A broker that is missing for a second has left.
func moving(rate, inFlight int) string {
	return fmt.Sprintf("drain: {rate: %d/s, in_flight: %d, min_age: 0s, absence: 1s}\n", rate, inFlight)
}

// A clusterView is what mqttlb thinks of its cluster.
type clusterView struct {
	State       string `json:"state"`
	Connections int    `json:"connections"`
	Backends    []struct {
		Name        string `json:"name"`
		Phase       string `json:"phase"`
		Connections int    `json:"connections"`
		Placed      int    `json:"placed"`
	} `json:"backends"`
	Moves struct {
		Pending  int    `json:"pending"`
		InFlight int    `json:"in_flight"`
		Moved    int    `json:"moved"`
		Returned int    `json:"returned"`
		Lost     int    `json:"lost"`
		Paused   string `json:"paused"`
	} `json:"moves"`
}

func (l *lb) cluster(t *testing.T) clusterView {
	t.Helper()
	var v clusterView
	l.get(t, "/api/v1/clusters/brokers", nil, &v)
	return v
}

// connections are those of each broker.
func (v *clusterView) connections() map[string]int {
	n := make(map[string]int)
	for _, b := range v.Backends {
		n[b.Name] = b.Connections
	}
	return n
}

// within asserts that each of the brokers has its fair share, give or take 5 %.
func within(counts map[string]int, brokers []string) bool {
	total := 0
	for _, n := range counts {
		total += n
	}
	fair := float64(total) / float64(len(brokers))
	return !slices.ContainsFunc(brokers, func(name string) bool { return math.Abs(float64(counts[name])-fair) > fair/20 })
}

// fewest is how many clients have to move when a broker joins these, until all have their fair share, give or take
// 5 %.
func fewest(counts map[string]int) int {
	total, over := 0, 0
	for _, n := range counts {
		total += n
	}
	fair := float64(total) / float64(len(counts)+1)
	for _, n := range counts {
		over += max(0, n-int(1.05*fair))
	}
	return max(over, int(math.Ceil(0.95*fair)))
}

// A journey is the whole of the moves that a test looks at.
type journey struct {
	clients, rate, inFlight int
	ramp                    string
}

// A broker joins three. It gets its share with the fewest disconnects there are, nobody is disturbed twice, and the
// pace is the one that was asked for.
func (j journey) join(t *testing.T, open func(name, address string)) {
	t.Helper()
	names, port := hosts(t, 4)
	for _, name := range names {
		open(name, hostPort(name, port))
	}
	r := newListFile(t)
	r.list(names[:3]...)
	l := startLB(t, settings{
		discovery: r.source(port), log: quietly,
		cluster: brisk(j.ramp) + moving(j.rate, j.inFlight),
	})
	s := swarmOf(t, l, j.clients, manners{prefix: "device"})
	before, view := l.homes(t), l.cluster(t)
	least := fewest(view.connections())
	if n := len(s.cuts()); n > 0 {
		t.Fatalf("%d clients were cut before anything has happened", n)
	}

	r.list(names...)
	inTime(t, time.Minute, "all brokers have their share", func() bool {
		view = l.cluster(t)
		return view.Connections == j.clients && within(view.connections(), names)
	})
	moved := len(s.cuts())
	time.Sleep(3 * time.Second) // a new plan would have begun
	if n := len(s.cuts()); n != moved {
		t.Errorf("%d more clients were cut when all brokers had their share", n-moved)
	}
	if n := s.present(); n != j.clients {
		t.Errorf("%d of %d clients are connected", n, j.clients)
	}

	after := l.homes(t)
	if n := counts(after, "device"); !within(n, names) || len(after) != j.clients {
		t.Errorf("the clients are on %v", n)
	}
	cuts := s.moved()
	t.Logf("%d clients were moved, %d are the fewest; %v", moved, least, counts(after, "device"))
	if float64(moved) > 1.05*float64(least) {
		t.Errorf("%d clients were cut, the fewest that would do are %d", moved, least)
	}
	for id, home := range after {
		switch n := cuts[id]; {
		case n > 1:
			t.Errorf("client %s was cut %d times", id, n)
		case n == 1 && home == before[id]:
			t.Errorf("client %s was cut and is on %s, as before", id, home)
		case n == 0 && home != before[id]:
			t.Errorf("client %s is on %s, was on %s, and was not moved", id, home, before[id])
		}
	}
	if v := l.cluster(t); v.Moves.Moved != moved || v.Moves.Returned != moved || v.Moves.Lost != 0 || v.Moves.InFlight != 0 {
		t.Errorf("%d clients were cut and came back; mqttlb says %+v", moved, v.Moves)
	}
	j.keptPace(t, s.cuts())
}

// keptPace asserts that connections were ended at the rate: never more in any span of time than it allows together
// with a burst of one second's worth, and as many, give or take 15 %, when that burst is over, until in the end only one
// broker has clients to give, which loses no more than half. On a busy machine clients notice up to a second late.
func (j journey) keptPace(t *testing.T, cuts []time.Time) {
	t.Helper()
	const burst = 2 * time.Second // until it is used up
	rate := float64(j.rate)
	for _, span := range []time.Duration{time.Second, 4 * time.Second} {
		if n := rush(cuts, span); float64(n) > rate*(span.Seconds()+2) {
			t.Errorf("%d clients were cut within %v at %v per second", n, span, rate)
		}
	}
	first, last := cuts[0], cuts[len(cuts)*9/10]
	n := 0
	for _, at := range cuts {
		if at.Sub(first) > burst && at.Before(last) {
			n++
		}
	}
	got := float64(n) / last.Sub(first.Add(burst)).Seconds()
	t.Logf("%d clients in %v, %.1f per second when the burst is over", len(cuts), cuts[len(cuts)-1].Sub(first), got)
	if math.Abs(got-rate) > 0.15*rate {
		t.Errorf("%.1f clients were cut per second, want %v", got, rate)
	}
}

func TestABrokerThatJoinsGetsItsShareWithTheFewestDisconnects(t *testing.T) {
	t.Parallel()
	journey{1200, 30, 200, "1s"}.join(t, func(_, address string) { startMosquittoOn(t, address) })
}

// Not parallel: it needs nearly all descriptors that a process gets.
func TestNineThousandClientsAreSharedOutAnew(t *testing.T) {
	descriptors(t, 20_000)
	journey{9000, 250, 1000, "0s"}.join(t, func(name, address string) { openHall(t, name, address) })
}

// descriptors ends the test unless a process may open so many.
func descriptors(t *testing.T, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < n {
		cannotRun(t, fmt.Sprintf("the limit of open files is %d and has to be %d; see ulimit -n", limit.Cur, n))
	}
}
