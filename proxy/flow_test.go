package proxy

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// near tells whether a rate is as wanted, within 2 %.
func near(got, want float64) bool { return math.Abs(got-want) <= 0.02*want }

// The rate of a session that carries evenly is known after 15 s, whenever it began.
func TestRateOfASteadySession(t *testing.T) {
	t.Parallel()
	const second = int64(time.Second)
	for _, began := range []int64{0, 1, 7, 14} {
		s := &session{accepted: began * second}
		for now, last := 15*second, int64(0); now <= 120*second; now, last = now+15*second, now {
			s.client.bytes = uint64(now-s.accepted) / uint64(second) * 300
			s.backend.bytes = 2 * s.client.bytes
			rate := s.measure(last, now, forgotten(now-last))
			if now > 15*second && !near(rate, 900) || now == 15*second && rate > 901 || !near(s.measure(now, now, 1), rate) {
				t.Errorf("began at %d s: got %v bytes/s at %d s, want 900", began, rate, now/second)
			}
		}
	}
}

// What is remembered of a client fades within a minute, and its first bytes do not count for more than they are.
func TestRateOfAClientThatIsRemembered(t *testing.T) {
	t.Parallel()
	const second = int64(time.Second)
	s := &session{target: Target{Rate: 1000, Noted: true}}
	for at := int64(1); at <= 60; at++ {
		s.measure((at-1)*second, at*second, forgotten(second))
	}
	if got := float64(s.target.Rate); !near(got, 1000/math.E) {
		t.Errorf("got %v bytes/s after a silent minute, want %v", got, 1000/math.E)
	}
	burst := &session{accepted: 99 * second}
	burst.client.bytes = 30_000
	if got := burst.measure(0, 100*second, forgotten(100*second)); !near(got, 2000) {
		t.Errorf("got %v bytes/s for 30 kB within the first second, want them spread over 15 s: 2000", got)
	}
}

// ledger is what Flows says, without rates, in a fixed order.
func ledger(f Flows) string {
	slices.SortFunc(f.Backends, func(a, b BackendFlow) int { return cmp.Compare(a.Backend, b.Backend) })
	slices.SortFunc(f.Clients, func(a, b ClientFlow) int { return cmp.Compare(a.ClientID, b.ClientID) })
	text := ""
	for _, b := range f.Backends {
		text += fmt.Sprintf("%s/%s %d, ", b.Cluster, b.Backend, b.Sessions)
	}
	for _, c := range f.Clients {
		text += fmt.Sprintf("%s on %s/%s ", c.ClientID, c.Cluster, c.Backend)
	}
	return text
}

// Flows lists whoever is at the floor, and once more when it has fallen below.
func TestFlows(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{loops: 2})
	quiet, _ := r.session()
	client := r.dial()
	write(t, client, connect("busy"))
	broker := r.accept(0)
	expect(t, broker, connect("busy"))
	write(t, broker, connack())
	expect(t, client, connack())

	none := map[string]float64{}
	if got, want := ledger(r.proxy.Flows(none)), "cluster/a 2, "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	payload := publish(2_000_000)
	go func() { _, _ = client.Write(payload) }()
	expect(t, broker, payload)
	floors := map[string]float64{"cluster": 20_000, "other": 0}
	f := r.proxy.Flows(floors)
	if got, want := ledger(f), "cluster/a 2, busy on cluster/a "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// It began within the last 15 s, and its two million bytes are spread over that.
	if rate := f.Clients[0].Rate; rate < 20_000 || rate > 140_000 || f.Backends[0].Rate < rate {
		t.Errorf("got %v bytes/s of %v, want about 133 kB/s and a little more", rate, f.Backends[0].Rate)
	}
	floors["cluster"] = 1e9
	for _, want := range []string{"cluster/a 2, busy on cluster/a ", "cluster/a 2, "} {
		if got := ledger(r.proxy.Flows(floors)); got != want {
			t.Errorf("got %q with a floor out of reach, want %q", got, want)
		}
	}
	_, _ = quiet.Close(), client.Close()
	r.record()
	r.record()
	if got := ledger(r.proxy.Flows(floors)); got != "" {
		t.Errorf("got %q without sessions, want nothing", got)
	}
}

// A client of which the Placer remembers much is told of however little it carries, and one without an id is not.
func TestFlowsOfClientsThatAreRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.placer.remember(5e6)
	_, _ = r.session()
	f := r.proxy.Flows(map[string]float64{"cluster": 1e12})
	if got, want := ledger(f), "cluster/a 1, c on cluster/a "; got != want || !near(f.Clients[0].Rate, 5e6) {
		t.Errorf("got %q with %v bytes/s, want %q with 5 MB/s", got, f.Backends[0].Rate, want)
	}
	r.placer.remember(0)
	client := r.dial()
	write(t, client, connect(""))
	write(t, r.accept(0), connack())
	expect(t, client, connack())
	if got, want := ledger(r.proxy.Flows(map[string]float64{"cluster": 0})), "cluster/a 2, c on cluster/a "; got != want {
		t.Errorf("got %q with a floor of 0, want %q: nobody can recognise a client without an id", got, want)
	}
}

// manySessions is a loop with so many sessions on 6 backends, of which 1 % are heavy.
func manySessions(n int) *loop {
	var backends [6]*Backend
	for i := range backends {
		backends[i] = &Backend{Cluster: "cluster", Name: string(rune('a' + i))}
	}
	l := &loop{now: int64(time.Minute)}
	for i := range n {
		s := l.sessions.take()
		s.state, s.clientID, s.accepted = stateRelaying, fmt.Sprint("client-", i), int64(i)
		s.target.Backend = backends[i*7919%6]
		if s.client.bytes = 1000; i%100 == 0 {
			s.client.bytes = 1e6
		}
	}
	return l
}

// BenchmarkFlows measures 20 000 sessions of one loop. A loop does no more than one visit without a break.
func BenchmarkFlows(b *testing.B) {
	const sessions = 20_000
	l := manySessions(sessions)
	slots := uint32(len(l.sessions.chunks) * slabSize)
	for b.Loop() {
		m := measurement{floors: map[string]float64{"cluster": 1000}, last: l.now, sums: make(map[*Backend]*backendSum)}
		l.now += int64(15 * time.Second)
		for from := uint32(0); from < slots; from += slotsPerVisit {
			l.measure(&m, from, min(from+slotsPerVisit, slots))
		}
		if f := m.flows(); len(f.Backends) != 6 {
			b.Fatalf("got %d backends, want 6", len(f.Backends))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sessions, "ns/session")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/sessions*slotsPerVisit, "µs/visit")
}
