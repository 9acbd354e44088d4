package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/discovery"
)

// IP addresses are sent at once, in the order of the list, once and for all.
func TestLiterals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := &resolver{}
		r := static(t, &discovery.Static{
			Backends: named("b", "10.0.0.2:1883", "a", "[2001:db8::1]:1884", "c", "10.0.0.2:1"),
			Lookup:   dns.lookup,
		})
		want(t, r.next(0), "b=10.0.0.2:1883 a=[2001:db8::1]:1884 c=10.0.0.2:1")
		r.quiet(time.Hour)
		if n := dns.questions(); n != 0 {
			t.Errorf("got %d lookups of IP addresses, want 0", n)
		}
		r.end()
	})
}

// Everything else about a backend is passed on as it was configured, and Host tells how.
func TestBackendsKeepWhatTheyAre(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := []balancer.Backend{
			{Name: "a", Address: "broker.example:1883", Capacity: 2.5, Labels: map[string]string{"zone": "b"}, Phase: balancer.Draining},
			{Name: "b", Address: "[2001:db8::1]:1883"},
		}
		r := static(t, &discovery.Static{Backends: list, Lookup: newResolver(map[string][]string{"broker.example": {"10.0.0.1"}}).lookup})
		set := <-r.sets
		for i, host := range []string{"broker.example", "2001:db8::1"} {
			if set[i].Host != host {
				t.Errorf("got host %q, want %q", set[i].Host, host)
			}
		}
		if a := set[0]; a.Capacity != 2.5 || a.Labels["zone"] != "b" || a.Phase != balancer.Draining {
			t.Errorf("got %+v, want capacity, labels and phase as in %+v", a, list[0])
		}
		if list[0].Address != "broker.example:1883" || list[0].Host != "" {
			t.Errorf("got the source's own list changed to %+v", list[0])
		}
		r.end()
	})
}

// Names are resolved again after each interval. A change sends a new set, the same answer nothing.
func TestNames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}, "two": {"10.0.0.2"}})
		r := static(t, &discovery.Static{Backends: named("a", "one:1883", "b", "two:1884", "c", "10.0.0.3:1883"), Interval: time.Minute, Lookup: dns.lookup})
		want(t, r.next(0), "a=10.0.0.1:1883 b=10.0.0.2:1884 c=10.0.0.3:1883")
		r.quiet(10 * time.Minute)
		if n := dns.questions(); n < 2*10 || n > 2*12 {
			t.Errorf("got %d lookups of two names in ten minutes, want 20 to 24", n)
		}
		dns.set("two", "10.9.9.9")
		want(t, r.next(66*time.Second), "a=10.0.0.1:1883 b=10.9.9.9:1884 c=10.0.0.3:1883")
		r.quiet(10 * time.Minute)
		r.end()
	})
}

func TestDefaultInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}})
		r := static(t, &discovery.Static{Backends: named("a", "one:1883"), Lookup: dns.lookup})
		r.next(0)
		dns.set("one", "10.0.0.2")
		r.quiet(26 * time.Second)
		want(t, r.next(7*time.Second), "a=10.0.0.2:1883")
		r.end()
	})
}

// Of several addresses the lowest counts, IPv4 before IPv6, in whatever order they come: the same on every
// instance. An IPv4 address in IPv6 clothes is one of IPv4.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"2001:db8::1", "10.0.0.9", "10.0.0.10", "192.0.2.1"}})
		r := static(t, &discovery.Static{Backends: named("a", "one:1883"), Interval: time.Minute, Lookup: dns.lookup})
		want(t, r.next(0), "a=10.0.0.9:1883")
		dns.set("one", "192.0.2.1", "10.0.0.10", "10.0.0.9", "2001:db8::1")
		r.quiet(5 * time.Minute)
		dns.set("one", "::ffff:10.0.0.9")
		r.quiet(5 * time.Minute)
		dns.set("one", "2001:db8::2", "2001:db8::1")
		want(t, r.next(66*time.Second), "a=[2001:db8::1]:1883")
		r.end()
	})
}

// A name that fails keeps its last address, and so does one that has no address any more; the other names go
// on. Nobody sees the outage but the log.
func TestFailureKeepsTheLastAddress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}, "two": {"10.0.0.2"}})
		r := static(t, &discovery.Static{Backends: named("a", "one:1883", "b", "two:1883"), Interval: time.Minute, Lookup: dns.lookup})
		r.next(0)
		dns.remove("one")
		r.quiet(5 * time.Minute)
		dns.set("two")
		r.quiet(5 * time.Minute)
		if last, _, bad := r.heard(); last != "ok 2 left 2" || bad > 0 {
			t.Errorf("got %q and %d failures, want two backends, both with a complaint, and no failure", last, bad)
		}
		dns.set("two", "10.0.0.22")
		want(t, r.next(66*time.Second), "a=10.0.0.1:1883 b=10.0.0.22:1883")
		dns.set("one", "10.0.0.11")
		want(t, r.next(66*time.Second), "a=10.0.0.11:1883 b=10.0.0.22:1883")
		r.end()
		r.logs(
			`level=WARN msg="a backend keeps its last address" source=static backend=a where=one error="lookup one: no such host"`,
			`level=WARN msg="a backend keeps its last address" source=static backend=b where=two error="the name has no address"`,
		)
		if n := strings.Count(r.text(), "no such host"); n != 1 {
			t.Errorf("got the same complaint %d times, want it once", n)
		}
	})
}

// A name that was never resolved is left out until it is; while there is nothing at all, nothing is sent.
func TestNothingIsSentWhenNothingResolves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(make(map[string][]string))
		r := static(t, &discovery.Static{Backends: named("a", "one:1883", "b", "two:1883"), Interval: time.Minute, Lookup: dns.lookup})
		r.quiet(10 * time.Minute)
		if last, good, bad := r.heard(); last != "failed" || good > 0 || bad < 14 {
			t.Errorf("got %q, %d successes and %d failures, want failures only, 6 in the first minute", last, good, bad)
		}
		dns.set("two", "10.0.0.2")
		want(t, r.next(66*time.Second), "b=10.0.0.2:1883")
		dns.set("one", "10.0.0.1")
		want(t, r.next(66*time.Second), "a=10.0.0.1:1883 b=10.0.0.2:1883")
		r.end()
	})
}

// A resolver that does not answer is given up after a while, and the others are asked all the same.
func TestLookupIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := &resolver{hangs: true}
		r := static(t, &discovery.Static{Backends: named("a", "one:1883", "b", "10.0.0.2:1883"), Interval: time.Minute, Lookup: dns.lookup})
		want(t, r.next(5*time.Second), "b=10.0.0.2:1883")
		r.end()
		r.logs(context.DeadlineExceeded.Error())
	})
}

// Names are resolved side by side: one after the other, 40 that do not answer would take 200 s. All of them
// together are given up after 15 s.
func TestLookupsInParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := named("z", "10.0.0.2:1883")
		for i := range 100 {
			list = append(list, balancer.Backend{Name: fmt.Sprint("n", i), Address: fmt.Sprintf("host-%d:1883", i)})
		}
		r := static(t, &discovery.Static{Backends: list[:1+16], Interval: time.Minute, Lookup: (&resolver{hangs: true}).lookup})
		want(t, r.next(5*time.Second), "z=10.0.0.2:1883")
		r.end()
		begin := time.Now()
		r = static(t, &discovery.Static{Backends: list, Interval: time.Minute, Lookup: (&resolver{hangs: true}).lookup})
		want(t, r.next(15*time.Second), "z=10.0.0.2:1883")
		if took := time.Since(begin); took != 15*time.Second {
			t.Errorf("got the set after %v, want it after 15 s", took)
		}
		r.end()
	})
}

// Backends on one host cost one question.
func TestOneQuestionForEachHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}})
		list := named("a", "one:1883", "b", "ONE.:1884", "c", "one:1885")
		for i := range 1000 { // the answer is there long before the last one is looked at
			list = append(list, balancer.Backend{Name: fmt.Sprint(i), Address: fmt.Sprintf("one:%d", 2000+i)})
		}
		r := static(t, &discovery.Static{Backends: list, Lookup: dns.lookup})
		set := r.set(0)
		want(t, show(set[:3]), "a=10.0.0.1:1883 b=10.0.0.1:1884 c=10.0.0.1:1885")
		want(t, show(set[1002:]), "999=10.0.0.1:2999")
		if n := dns.questions(); n != 1 {
			t.Errorf("got %d questions, want 1", n)
		}
		r.end()
	})
}

// After a failure the next attempts come after 1, 2, 4, … seconds, until the interval is reached.
func TestBackOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(make(map[string][]string))
		r := static(t, &discovery.Static{Backends: named("a", "one:1883"), Interval: 30 * time.Second, Lookup: dns.lookup})
		last := time.Now()
		for i, pause := range []float64{0, 1, 2, 4, 8, 16, 30, 30, 30} {
			r.fails(1)
			if took := time.Since(last).Seconds(); took < 0.9*pause || took > 1.1*pause {
				t.Errorf("got attempt %d after %v s, want it after %v s", i, took, pause)
			}
			last = time.Now()
		}
		dns.set("one", "10.0.0.1")
		r.next(33 * time.Second)
		dns.remove("one")
		r.quiet(26 * time.Second) // and success begins anew
		r.end()
		r.logs(`msg="discovery failed; the last known backends stay" source=static backends=0 for=0s error="no backend that can be used: 1 are left out, the first because of: lookup one: no such host"`,
			`msg="discovery works again" source=static backends=1`)
		if n := strings.Count(r.text(), "discovery failed"); n != 1 {
			t.Errorf("got %d lines about the same failure within two minutes, want 1", n)
		}
	})
}

// A failure that lasts is logged again now and then, and one that changes at once.
func TestFailuresAreNotRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{})
		r := static(t, &discovery.Static{Backends: named("a", "one:1883"), Interval: 30 * time.Second, Lookup: dns.lookup})
		r.quiet(time.Hour + time.Minute)
		if n := strings.Count(r.text(), "discovery failed"); n < 6 || n > 7 {
			t.Errorf("got %d lines in an hour, want one every ten minutes", n)
		}
		before := strings.Count(r.text(), "discovery failed")
		dns.set("one")
		r.quiet(time.Minute)
		if n := strings.Count(r.text(), "discovery failed"); n != before+1 {
			t.Errorf("got %d more lines for another failure, want 1", n-before)
		}
		r.end()
	})
}

// Only what is in the allowed networks becomes a backend, by whatever name it comes.
func TestAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := newResolver(map[string][]string{"one": {"10.0.0.1"}, "two": {"8.8.8.8"}})
		r := static(t, &discovery.Static{
			Backends: named("a", "one:1883", "b", "two:1883", "c", "192.0.2.1:1883", "d", "[fd00::1]:1883"), Interval: time.Minute,
			Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}, Lookup: dns.lookup,
		})
		want(t, r.next(0), "a=10.0.0.1:1883 d=[fd00::1]:1883")
		r.logs("8.8.8.8 is in none of the networks", "192.0.2.1 is in none of the networks")
		r.end()
	})
}

// Every refresh that changes nothing is told to the Observer, even of a list without host names.
func TestConfirmation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := static(t, &discovery.Static{Backends: named("a", "10.0.0.1:1883", "b", "nowhere")})
		r.next(0)
		synctest.Wait()
		begin := time.Now()
		r.confirms(10)
		if took := time.Since(begin); took < 270*time.Second || took > 330*time.Second {
			t.Errorf("got ten confirmations after %v, want them after ten intervals of 30 s", took)
		}
		if last, _, _ := r.heard(); last != "ok 1 left 1" {
			t.Errorf("got %q, want one backend and one left out", last)
		}
		r.end()
	})
}

// A source ends with its context, whatever it does: while it resolves, while nobody takes its set, while it
// waits.
func TestEnd(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*discovery.Static{
		"resolving":          {Backends: named("a", "one:1883"), Lookup: (&resolver{hangs: true}).lookup},
		"sending":            {Backends: named("a", "10.0.0.1:1883")},
		"waiting for a name": {Backends: named("a", "one:1883"), Lookup: (&resolver{}).lookup},
		"nothing to do":      {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := static(t, s)
				synctest.Wait()
				r.end()
			})
		})
	}
}

// An address without host and port is left out and logged; it is the configuration's business to forbid it.
func TestInvalidAddresses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := named("good", "10.0.0.1:1883")
		for i, address := range []string{"", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:mqtt", "2001:db8::1:1883", "10.0.0.1:-1"} {
			list = append(list, balancer.Backend{Name: fmt.Sprint("bad", i), Address: address})
		}
		r := static(t, &discovery.Static{Backends: list})
		want(t, r.next(0), "good=10.0.0.1:1883")
		r.end()
		if got, want := strings.Count(r.text(), "level=WARN msg=\"a backend is left out\""), len(list)-1; got != want {
			t.Errorf("got %d complaints, want %d in\n%s", got, want, r.text())
		}
	})
}

// Without a Lookup the system's resolver answers; localhost needs no network.
func TestSystemResolver(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	sets, ended := make(chan []balancer.Backend), make(chan error, 1)
	s := &discovery.Static{Backends: named("a", "localhost:1883"), Log: slog.New(slog.DiscardHandler)}
	go func() { ended <- s.Run(ctx, sets) }()
	select {
	case set := <-sets:
		if at := netip.MustParseAddrPort(set[0].Address); !at.Addr().IsLoopback() || at.Port() != 1883 {
			t.Errorf("got %v, want a loopback address", at)
		}
	case <-time.After(10 * time.Second):
		t.Error("got no set")
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
