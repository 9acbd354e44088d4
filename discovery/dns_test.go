package discovery_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/discovery"
)

// ask runs a DNS source against a server, quickly.
func ask(t *testing.T, s *nameserver, d *discovery.DNS) *running {
	t.Helper()
	j := newJournal()
	d.Server, d.Interval, d.Log, d.Observer = s.addr(), 5*time.Millisecond, j.logger(), j
	if d.Timeout == 0 {
		d.Timeout = patience
	}
	return run(t, d, j)
}

// Each address is a backend by itself, in order, once.
func TestDNSAddresses(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	s.set("A brokers.test.", a("10.0.0.9"), a("10.0.0.10"), a("10.0.0.2"), a("10.0.0.9"))
	s.set("AAAA brokers.test.", aaaa("2001:db8::2"), aaaa("2001:db8::1"))
	r := ask(t, s, &discovery.DNS{Name: "brokers.test.", Port: 1884})
	set := r.set(patience)
	want(t, show(set), "10.0.0.2=10.0.0.2:1884 10.0.0.9=10.0.0.9:1884 10.0.0.10=10.0.0.10:1884")
	if set[0].Host != "10.0.0.2" {
		t.Errorf("got host %q", set[0].Host)
	}
	r.confirms(3)
	s.set("A brokers.test.", a("10.0.0.10"), a("10.0.0.9"), a("10.0.0.2")) // another order is no change
	r.confirms(3)
	s.set("A brokers.test.", a("10.0.0.2"), a("10.0.0.11"))
	want(t, r.next(patience), "10.0.0.2=10.0.0.2:1884 10.0.0.11=10.0.0.11:1884")
	r.end()

	r = ask(t, s, &discovery.DNS{Name: "brokers.test.", Type: "AAAA"})
	want(t, r.next(patience), "2001:db8::1=[2001:db8::1]:1883 2001:db8::2=[2001:db8::2]:1883")
	r.end()
}

// Addresses that no broker can have are left out.
func TestDNSOddAddresses(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	s.set("A brokers.test.", a("0.0.0.0"), a("10.0.0.1"), a("224.0.0.1"), a("192.0.2.1"))
	r := ask(t, s, &discovery.DNS{Name: "brokers.test.", Allowed: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	r.end()
	r.logs("0.0.0.0 is not the address of a host", "224.0.0.1 is not the address of a host", "192.0.2.1 is in none of the networks")
}

// Targets of SRV records are resolved, and named without the final dot and without capitals.
func TestDNSServices(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	for i, host := range []string{"n1", "n2", "n3", "backup"} {
		s.set("A "+host+".test.", a(fmt.Sprintf("10.0.0.%d", i+1)))
	}
	s.set("AAAA n1.test.", aaaa("2001:db8::1"))
	s.set("SRV _mqtt._tcp.test.", srv(10, 0, 1883, "N2.test."), srv(10, 0, 1884, "n1.Test."), srv(20, 9, 1883, "backup.test."), srv(10, 0, 1884, "n1.test."))
	r := ask(t, s, &discovery.DNS{Name: "_mqtt._tcp.test.", Type: "SRV", Port: 9})
	set := r.set(patience)
	want(t, show(set), "n1.test=10.0.0.1:1884 n2.test=10.0.0.2:1883")
	if set[0].Capacity != 1 || set[1].Capacity != 1 || set[0].Host != "n1.test" {
		t.Errorf("got %+v, want capacities of 1 and the host", set)
	}
	s.set("A n1.test.", a("10.0.0.101"))
	want(t, r.next(patience), "n1.test=10.0.0.101:1884 n2.test=10.0.0.2:1883")
	s.set("SRV _mqtt._tcp.test.", srv(10, 30, 1883, "n1.test."), srv(10, 10, 1883, "n2.test."), srv(10, 20, 1883, "n3.test."))
	set = r.set(patience)
	want(t, show(set), "n1.test=10.0.0.101:1883 n2.test=10.0.0.2:1883 n3.test=10.0.0.3:1883")
	want(t, capacities(set), "1.5 0.5 1 ")
	s.set("SRV _mqtt._tcp.test.", srv(10, 0, 1883, "n1.test."), srv(10, 10, 1883, "n2.test."), srv(10, 5, 1883, "n1.test."))
	want(t, capacities(r.set(patience)), "0.6666666666666666 1.3333333333333333 ")
	s.set("SRV _mqtt._tcp.test.", srv(10, 0, 1883, "n1.test."), srv(10, 10, 1883, "n2.test."))
	want(t, capacities(r.set(patience)), "0.001 2 ")
	s.set("SRV _mqtt._tcp.test.", srv(1, 0, 1883, "n1.test."), srv(1, 0, 1884, "n1.test."), srv(1, 0, 1883, "n2.test."))
	want(t, r.next(patience), "n1.test:1883=10.0.0.101:1883 n1.test:1884=10.0.0.101:1884 n2.test=10.0.0.2:1883")
	s.set("SRV _mqtt._tcp.test.", srv(0, 0, 0, "."))
	r.fails(2)
	r.end()
}

func capacities(set []balancer.Backend) string {
	var b strings.Builder
	for i := range set {
		fmt.Fprint(&b, set[i].Capacity, " ")
	}
	return b.String()
}

// A target that cannot be resolved keeps its address, or waits until it has one; it takes nobody with it.
func TestDNSTargets(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	s.set("A n1.test.", a("10.0.0.1"))
	s.set("AAAA n3.test.", aaaa("2001:db8::3"))
	s.set("SRV mqtt.test.", srv(0, 0, 1883, "n1.test."), srv(0, 0, 1883, "n2.test."), srv(0, 0, 1883, "n3.test."))
	r := ask(t, s, &discovery.DNS{Name: "mqtt.test.", Type: "SRV"})
	want(t, r.next(patience), "n1.test=10.0.0.1:1883 n3.test=[2001:db8::3]:1883")
	s.set("A n2.test.", a("10.0.0.2"))
	want(t, r.next(patience), "n1.test=10.0.0.1:1883 n2.test=10.0.0.2:1883 n3.test=[2001:db8::3]:1883")
	s.set("A n1.test.")
	r.until("a complaint about one", func() bool { last, _, _ := r.heard(); return last == "ok 3 left 1" })
	r.confirms(3)
	r.end()
	r.logs(`msg="a backend is left out" source=dns backend=n2.test where=n2.test error="lookup n2.test: no such host`,
		`msg="a backend keeps its last address" source=dns backend=n1.test where=n1.test error="lookup n1.test: no such host`)
}

// Whatever a server does wrong, the last good set stays in force, until there is a good answer again.
func TestDNSFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		behave behaviour
		says   string
	}{
		{"SERVFAIL", fails, "lookup brokers.test.: server misbehaving"},
		{"REFUSED", refuses, "lookup brokers.test.: server misbehaving"},
		{"silence", hangs, "lookup brokers.test.: no answer in time"},
		{"garbage", garbage, "lookup brokers.test.: no answer in time"},
		{"wrong id", wrongID, "lookup brokers.test.: no answer in time"},
		{"wrong name", wrongName, "lookup brokers.test.: no answer in time"},
		{"half an answer", cutShort, "lookup brokers.test.: "},
		{"a name that leads to itself", loops, "lookup brokers.test.: "},
		{"TCP closed early", drops, "lookup brokers.test.: "},
	} {
		for _, kind := range []string{"A", "SRV"} {
			t.Run(c.name+" "+kind, func(t *testing.T) {
				t.Parallel()
				s := newNameserver(t)
				s.set("A brokers.test.", a("10.0.0.1"))
				s.set("SRV brokers.test.", srv(0, 0, 1883, "brokers.test."))
				r := ask(t, s, &discovery.DNS{Name: "brokers.test.", Type: kind, Timeout: 250 * time.Millisecond})
				r.next(patience)
				s.do(c.behave)
				r.fails(2)
				s.do(answers)
				r.confirms(1)
				s.set("A brokers.test.", a("10.0.0.2"))
				if got := r.next(patience); !strings.HasSuffix(got, "=10.0.0.2:1883") {
					t.Errorf("got %s, want the new address", got)
				}
				r.end()
				r.logs(`msg="discovery failed; the last known backends stay" source=dns backends=1`, c.says)
			})
		}
	}
}

// Answers without a record, and no such name: the same.
func TestDNSNobody(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	r := ask(t, s, &discovery.DNS{Name: "brokers.test."})
	r.fails(2)
	s.set("AAAA brokers.test.", aaaa("2001:db8::1")) // the name is there, the type is not
	r.fails(2)
	s.set("A brokers.test.", a("10.0.0.1"))
	want(t, r.next(patience), "10.0.0.1=10.0.0.1:1883")
	s.set("A brokers.test.")
	r.fails(3)
	s.mu.Lock()
	clear(s.records)
	s.mu.Unlock()
	r.fails(3)
	r.end()
	r.logs("lookup brokers.test.: no such host, or no record of the type")
}

// An answer that does not fit into a packet comes over TCP.
func TestDNSOverTCP(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	s.do(truncates)
	s.set("A brokers.test.", a("10.0.0.1"))
	s.set("SRV brokers.test.", srv(0, 0, 1883, "brokers.test."))
	for _, kind := range []string{"A", "SRV"} {
		_, before := s.asked()
		r := ask(t, s, &discovery.DNS{Name: "brokers.test.", Type: kind})
		if got := r.next(patience); !strings.HasSuffix(got, "=10.0.0.1:1883") {
			t.Errorf("got %s", got)
		}
		r.end()
		if _, after := s.asked(); after == before {
			t.Errorf("got no question of type %s over TCP", kind)
		}
	}
}

// 200 backends are a cluster, 5000 are a mistake or an attack.
func TestDNSHugeAnswers(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"A", "SRV"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newNameserver(t)
			fill := func(n int) {
				var list []dnsmessage.ResourceBody
				for i := range n {
					ip := fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)
					if kind == "A" {
						list = append(list, a(ip))
						continue
					}
					list = append(list, srv(0, 0, uint16(i+1), "n.test."))
				}
				s.set(kind+" brokers.test.", list...)
			}
			s.set("A n.test.", a("10.0.0.1"))
			fill(200)
			r := ask(t, s, &discovery.DNS{Name: "brokers.test.", Type: kind})
			if n := len(r.set(patience)); n != 200 {
				t.Errorf("got %d backends, want 200", n)
			}
			fill(map[string]int{"A": 4000, "SRV": 2500}[kind]) // 64 KiB do not hold more
			r.fails(2)
			if got := r.failure(); !strings.Contains(got, "are more than the 256 that are accepted") {
				t.Errorf("got %s", got)
			}
			fill(256)
			if n := len(r.set(patience)); n != 256 {
				t.Errorf("got %d backends, want 256", n)
			}
			r.end()
		})
	}
}

// The end does not wait for a server that does not answer.
func TestDNSEndWhileAsking(t *testing.T) {
	t.Parallel()
	s := newNameserver(t)
	s.do(hangs)
	r := ask(t, s, &discovery.DNS{Name: "brokers.test."})
	for udp := 0; udp == 0; udp, _ = s.asked() {
		time.Sleep(time.Millisecond)
	}
	r.end()
	if last, _, _ := r.heard(); last != "" {
		t.Errorf("got the report %q, want none about a question that was given up", last)
	}
}

// Options that make no sense are an error at once.
func TestDNSOptions(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]*discovery.DNS{
		"needs a name": {},
		`knows the types A, AAAA and SRV, not "MX"`:              {Name: "h", Type: "MX"},
		`must be an IP address, with or without a port, such as`: {Name: "h", Server: "dns.example:53"},
		`such as 10.0.0.2:53, got "10.0.0.2:0"`:                  {Name: "h", Server: "10.0.0.2:0"},
		`such as 10.0.0.2:53, got "10.0.0.2:port"`:               {Name: "h", Server: "10.0.0.2:port"},
	} {
		if err := d.Run(context.Background(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	for _, d := range []*discovery.DNS{
		{Name: "h", Type: "srv", Server: "10.0.0.2"},
		{Name: "h", Type: "aaaa", Server: "2001:db8::53"},
		{Name: "h", Server: "[2001:db8::53]"},
		{Name: "h", Type: "a", Server: "[2001:db8::53]:5353"},
	} {
		if err := d.Run(ended, nil); err != nil {
			t.Errorf("got %v for %+v", err, d)
		}
	}
}
