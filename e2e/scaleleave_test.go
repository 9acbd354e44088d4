//go:build linux

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A broker is taken out of the list while it has its share of 300 clients. They are moved at the rate, and then it is
// gone. When it is in the list again it is the one that it was: its clients are at home there.
func TestABrokerThatIsTakenOutOfTheListIsEmptied(t *testing.T) {
	t.Parallel()
	const clients = 300
	j := journey{rate: 30, inFlight: 100} // of which one broker loses half
	names, port := hosts(t, 3)
	halls := make(map[string]*hall)
	for _, name := range names {
		halls[name] = openHall(t, name, hostPort(name, port))
	}
	leaving := names[1]
	rest := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name == leaving })
	r := newListFile(t)
	r.list(names...)
	l := startLB(t, settings{discovery: r.source(port), log: quietly, cluster: brisk("0s") + moving(j.rate, j.inFlight) + unbounded})
	s := swarmOf(t, l, clients, manners{prefix: "tenant"})
	tenants := halls[leaving].clients()
	if len(tenants) < 60 {
		t.Fatalf("the broker has %d clients", len(tenants))
	}

	r.list(rest...)
	inTime(t, time.Minute, "the broker is empty", func() bool { return halls[leaving].present() == 0 && s.present() == clients })
	inTime(t, patience, "it is not shown any more", func() bool {
		status, out := command(t, "backends", "--admin", l.socket)
		if status != 0 {
			t.Fatalf("exit status %d:\n%s", status, out)
		}
		return !strings.Contains(out, leaving) && strings.Contains(out, rest[0]) && strings.Contains(out, rest[1])
	})
	cuts := s.moved()
	for _, id := range tenants {
		if cuts[id] != 1 {
			t.Errorf("client %s of the broker was cut %d times", id, cuts[id])
		}
	}
	if len(cuts) != len(tenants) {
		t.Errorf("%d clients were cut, the broker had %d", len(cuts), len(tenants))
	}
	j.rate /= 2
	j.keptPace(t, s.cuts())

	r.list(names...)
	l.reach(t, patience, "ready", names...)
	s.again()
	inTime(t, patience, "all are here again", func() bool { return s.present() == clients })
	got := halls[leaving].clients()
	slices.Sort(got)
	slices.Sort(tenants)
	if !slices.Equal(got, tenants) {
		t.Errorf("the broker has %d clients when it is back, and had %d others", len(got), len(tenants))
	}
}

// A broker that is in the list again before it is empty keeps the clients that it still has.
func TestABrokerThatIsInTheListAgainKeepsWhoIsLeft(t *testing.T) {
	t.Parallel()
	const clients = 200
	names, port := hosts(t, 2)
	stays, wavers := openHall(t, names[0], hostPort(names[0], port)), openHall(t, names[1], hostPort(names[1], port))
	r := newListFile(t)
	r.list(names...)
	l := startLB(t, settings{discovery: r.source(port), log: quietly, cluster: brisk("0s") + moving(40, 100)})
	s := swarmOf(t, l, clients, manners{prefix: "tenant"})
	had := wavers.present()

	r.list(names[0])
	inTime(t, patience, "some clients are moved", func() bool { return len(s.cuts()) >= 20 })
	r.list(names...)
	l.reach(t, patience, "ready", names...)
	moved := len(s.cuts())
	time.Sleep(3 * time.Second) // a new plan would have begun
	if n := len(s.cuts()); n > moved {
		t.Errorf("%d clients were moved after the broker was in the list again", n-moved)
	}
	if wavers.present() != had-moved || stays.present() != clients-had+moved || moved >= had {
		t.Errorf("%d of %d clients were moved; the brokers have %d and %d", moved, had, wavers.present(), stays.present())
	}
	views := l.cluster(t)
	if n := len(views.Backends); n != 2 {
		t.Errorf("mqttlb knows %d brokers", n)
	}
	for _, b := range views.Backends {
		if b.Name == names[1] && (b.Placed < had || b.Connections != had-moved) {
			t.Errorf("the broker has taken %d clients and has %d, want %d and %d", b.Placed, b.Connections, had, had-moved)
		}
	}
}
