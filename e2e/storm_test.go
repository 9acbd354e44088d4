//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Fault B4: a broker is killed with a thousand clients. All of them are closed within a second, they come to the
// others, and nothing of the old connections is left.
func TestFaultB4AKilledBrokerWithAThousandClients(t *testing.T) {
	t.Parallel()
	const clients = 3000
	names, port := hosts(t, 3)
	victim := startMosquittoOn(t, hostPort(names[0], port))
	others := []*hall{openHall(t, names[1], hostPort(names[1], port)), openHall(t, names[2], hostPort(names[2], port))}
	r := newListFile(t)
	r.list(names...)
	l := startLB(t, settings{
		discovery: r.source(port), log: quietly,
		cluster: "health: {interval: 1s, fall: 5}\n",
	})
	l.reach(t, patience, "ready", names...)
	idle := l.descriptors(t)
	s := swarmOf(t, l, clients, manners{prefix: "orphan"})
	full := l.descriptors(t)
	orphans := counts(l.homes(t), "orphan")[names[0]]
	if orphans < 900 {
		t.Fatalf("the broker has %d clients", orphans)
	}

	killed := time.Now()
	victim.kill(t)
	inTime(t, patience, "its clients are on the others", func() bool {
		return s.returns() >= orphans && s.present() == clients
	})
	cuts := s.cuts()
	if n := len(cuts); n != orphans {
		t.Errorf("%d clients were cut, the broker had %d", n, orphans)
	}
	took, longest := cuts[len(cuts)-1].Sub(killed), slices.Max(s.absences())
	t.Logf("all %d were closed within %v, and back within %v", orphans, took, longest)
	if took > time.Second {
		t.Errorf("it took %v until all clients of the killed broker were closed", took)
	}
	if n := others[0].present() + others[1].present(); n != clients {
		t.Errorf("the others have %d of %d clients", n, clients)
	}
	inTime(t, patience, "there are as many descriptors as before", func() bool { return l.descriptors(t) <= full+4 })
	s.end()
	inTime(t, patience, "all descriptors are given back", func() bool { return l.descriptors(t) <= idle+4 })
}

// Fault E5, the half of it that is caused by mqttlb: clients that come again at once do not arrive at the brokers
// faster than they are sent away. And the half that is not: five thousand that are cut by their broker and come
// again at once are all served, none of them late.
//
// Not parallel: it takes the machine for itself.
func TestFaultE5ReconnectStorm(t *testing.T) {
	descriptors(t, 20_000)
	const clients, first, rate = 6000, 800, 400
	names, port := hosts(t, 3)
	victim := startMosquittoOn(t, hostPort(names[0], port))
	r := newListFile(t)
	r.list(names[0])
	l := startLB(t, settings{
		discovery: r.source(port), log: quietly,
		cluster: "health: {interval: 1s, rise: 1, fall: 5}\nsettle: 0s\nramp: 0s\nrebalance: {auto: false}\n" + moving(rate, 1000),
	})
	s := swarmOf(t, l, clients, manners{prefix: "hasty", delay: atOnce})
	others := []*hall{openHall(t, names[1], hostPort(names[1], port)), openHall(t, names[2], hostPort(names[2], port))}
	r.list(names...)
	l.reach(t, patience, "ready", names...)
	arrivals := func(since time.Time) []time.Time { return slices.Concat(others[0].came(since), others[1].came(since)) }

	began := time.Now()
	if status, out := command(t, "drain", names[0], "--rate", fmt.Sprint(rate, "/s"), "--admin", l.socket); status != 0 {
		t.Fatalf("exit status %d:\n%s", status, out)
	}
	eventually(t, patience, "some have been moved", func() bool { return len(arrivals(began)) >= first })
	if status, out := command(t, "resume", names[0], "--admin", l.socket); status != 0 {
		t.Fatalf("exit status %d:\n%s", status, out)
	}
	for _, span := range []time.Duration{100 * time.Millisecond, time.Second} {
		const late = 0.25                           // seconds that an arrival may be noted late
		most := rate*(span.Seconds()+late) + rate/5 // a fifth of a second's worth goes at once
		n := rush(arrivals(began), span)
		t.Logf("at most %d clients arrived at the brokers within %v, %.0f may", n, span, most)
		if float64(n) > most {
			t.Errorf("%d clients arrived at the brokers within %v, want at most %.0f", n, span, most)
		}
	}
	if wait := s.absences(); wait[len(wait)-1] > 5*time.Second {
		t.Errorf("a client that was moved was away for %v", wait[len(wait)-1])
	}

	inTime(t, patience, "nobody is away", func() bool { return l.cluster(t).Moves.InFlight == 0 && s.present() == clients })
	moved := len(s.cuts())
	killed := time.Now()
	victim.kill(t)
	inTime(t, time.Minute, "everybody is back", func() bool { return s.returns() >= clients && s.present() == clients })
	wait := s.absences()
	t.Logf("%d clients were cut at once; the last one was back after %v", clients-moved, time.Since(killed))
	if longest := wait[len(wait)-1]; longest > 30*time.Second {
		t.Errorf("a client was without a broker for %v", longest)
	}
	if n := others[0].present() + others[1].present(); n != clients {
		t.Errorf("the brokers have %d of %d clients", n, clients)
	}
	for id, n := range s.moved() {
		if n > 1 {
			t.Errorf("client %s was cut %d times", id, n)
		}
	}
}

// Fault E6: mqttlb is told to stop with a thousand clients. It says first that it is not ready; after the grace it
// ends the sessions evenly and in the middle of nothing, and its exit status is 0 in time.
func TestFaultE6StoppingWithAThousandClients(t *testing.T) {
	t.Parallel()
	const clients, grace, drain = 1000, time.Second, 4 * time.Second
	brokers := halls(t, 2)
	for _, b := range brokers {
		b.parting = publish("last/words", make([]byte, 500))
	}
	l := startLB(t, settings{
		backends: []backend{brokers[0].backend(), brokers[1].backend()}, log: quietly,
		shutdown: fmt.Sprintf("{grace: %v, drain: %v}", grace, drain),
	})
	s := swarmOf(t, l, clients, manners{prefix: "calm"})
	s.stay()

	began := time.Now()
	l.signal(t, syscall.SIGTERM)
	eventually(t, grace/2, "readiness fails", func() bool {
		status, _ := l.ask(t, http.MethodGet, "/readyz", "", "")
		return status == http.StatusServiceUnavailable
	})
	if n := len(s.cuts()); n > 0 {
		t.Errorf("%d clients were cut before readiness failed", n)
	}
	connect(t, l, opening{id: "late"}, "").Close() // until the grace is over, clients still come in
	status := l.exit(t, grace+drain+10*time.Second)
	took := time.Since(began)
	if status != 0 || took > grace+drain+2*time.Second {
		t.Errorf("exit status %d after %v", status, took)
	}
	if strings.Contains(l.log.String(), "sessions are cut off") {
		t.Error("sessions were cut off")
	}

	var quarters [4]int
	inTime(t, time.Second, "all clients have noticed", func() bool { return s.present() == 0 })
	for _, n := range s.happened() {
		after := n.at.Sub(began)
		switch {
		case n.what == torn:
			t.Errorf("client %s got RST", n.id)
		case n.what == cut && n.received != len(brokers[0].parting):
			t.Errorf("client %s got %d bytes of its broker's last %d", n.id, n.received, len(brokers[0].parting))
		case n.what == cut && after < grace-50*time.Millisecond:
			t.Errorf("client %s was cut %v after the signal, within the grace", n.id, after)
		case n.what == cut:
			quarters[min(3, max(0, after-grace)/(drain/4))]++
		}
	}
	t.Logf("exit after %v; sessions that ended in each quarter: %v", took, quarters)
	for _, n := range quarters {
		if n < clients/20 || n > clients*3/5 { // the first are late, because they have to be quiet for a while
			t.Errorf("sessions that ended in each quarter of the drain: %v, want them even", quarters)
			break
		}
	}
}
