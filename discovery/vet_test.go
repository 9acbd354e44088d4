package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
)

func TestVet(t *testing.T) {
	t.Parallel()
	labels := func(n int) map[string]string {
		m := make(map[string]string)
		for i := range n {
			m[fmt.Sprint("k", i)] = "v"
		}
		return m
	}
	for _, c := range []struct {
		b    balancer.Backend
		want string // name, host and address, or the complaint
	}{
		{balancer.Backend{Name: "a", Address: "10.0.0.1:1883"}, "a 10.0.0.1 10.0.0.1:1883"},
		{balancer.Backend{Address: "10.0.0.1:1883"}, "10.0.0.1:1883 10.0.0.1 10.0.0.1:1883"},
		{balancer.Backend{Name: "a", Address: "Broker-1.Example.:1883"}, "a broker-1.example broker-1.example:1883"},
		{balancer.Backend{Name: "a", Address: "tasks.my_service:1883"}, "a tasks.my_service tasks.my_service:1883"},
		{balancer.Backend{Name: "a", Address: "[2001:DB8:0::1]:01883"}, "a 2001:db8::1 [2001:db8::1]:1883"},
		{balancer.Backend{Name: "a", Address: "[::ffff:10.0.0.1]:1883"}, "a 10.0.0.1 10.0.0.1:1883"},
		{balancer.Backend{Name: "a", Address: "[fe80::1%eth0]:1883"}, "a fe80::1%eth0 [fe80::1%eth0]:1883"},
		{balancer.Backend{Name: "a", Host: "shown", Address: "10.0.0.1:1883"}, "a shown 10.0.0.1:1883"},
		{balancer.Backend{Name: "brøker-ü", Address: "h:1"}, "brøker-ü h h:1"},
		{balancer.Backend{Name: strings.Repeat("n", 128), Address: "h:1"}, strings.Repeat("n", 128) + " h h:1"},
		{balancer.Backend{Name: strings.Repeat("n", 129), Address: "h:1"}, "its name has 129 bytes, more than 128"},
		{balancer.Backend{Name: "a b", Address: "h:1"}, `its name contains ' '; use letters, digits, dots and dashes`},
		{balancer.Backend{Name: "a/b", Address: "h:1"}, `its name contains '/'; use letters, digits, dots and dashes`},
		{balancer.Backend{Name: "a\n", Address: "h:1"}, `its name contains '\n'; use letters, digits, dots and dashes`},
		{balancer.Backend{Name: "a\x1b[1m", Address: "h:1"}, `its name contains '\x1b'; use letters, digits, dots and dashes`},
		{balancer.Backend{Name: "a\xff", Address: "h:1"}, `its name contains '�'; use letters, digits, dots and dashes`},
		{balancer.Backend{Name: "a", Address: "10.0.0.256:1"}, `"10.0.0.256" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: "10.1:1"}, `"10.1" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: ":1"}, `"" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: "a..b:1"}, `"a..b" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: "-a:1"}, `"-a" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: "a b:1"}, `"a b" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: strings.Repeat("a", 64) + ":1"}, `"` + strings.Repeat("a", 64) + `" is neither an IP address nor a host name`},
		{balancer.Backend{Name: "a", Address: "h:65536"}, `invalid port "65536"; it must be from 1 to 65535`},
		{balancer.Backend{Name: "a", Address: "h:+1"}, `invalid port "+1"; it must be from 1 to 65535`},
		{balancer.Backend{Name: "a", Address: "h"}, `its address must be host:port, got "h"`},
		{balancer.Backend{Name: "a", Address: "0.0.0.0:1"}, "0.0.0.0 is not the address of a host"},
		{balancer.Backend{Name: "a", Address: "[::]:1"}, ":: is not the address of a host"},
		{balancer.Backend{Name: "a", Address: "224.0.0.1:1"}, "224.0.0.1 is not the address of a host"},
		{balancer.Backend{Name: "a", Address: "255.255.255.255:1"}, "255.255.255.255 is not the address of a host"},
		{balancer.Backend{Name: "a", Address: "[fe80::1%e\n]:1"}, `the zone of "fe80::1%e\n" is not the name of an interface`},
		{balancer.Backend{Name: "a", Address: "h:1", Capacity: -1}, "capacity -1 is not between 0 and 1e+06"},
		{balancer.Backend{Name: "a", Address: "h:1", Capacity: math.NaN()}, "capacity NaN is not between 0 and 1e+06"},
		{balancer.Backend{Name: "a", Address: "h:1", Capacity: math.Inf(1)}, "capacity +Inf is not between 0 and 1e+06"},
		{balancer.Backend{Name: "a", Address: "h:1", Labels: labels(32)}, "a h h:1"},
		{balancer.Backend{Name: "a", Address: "h:1", Labels: labels(33)}, "33 labels are more than 32"},
		{balancer.Backend{Name: "a", Address: "h:1", Labels: map[string]string{"zone": "my zone"}}, "a h h:1"},
		{balancer.Backend{Name: "a", Address: "h:1", Labels: map[string]string{"zone": "a\r\nb"}}, `the label "zone" contains a character that cannot be printed`},
		{balancer.Backend{Name: "a", Address: "h:1", Labels: map[string]string{"k": strings.Repeat("v", 257)}}, `the label "k" has more than 256 bytes`},
	} {
		good, left := vet(answer{backends: []balancer.Backend{c.b}})
		got := ""
		if len(good) == 1 && len(left) == 0 {
			got = good[0].Name + " " + good[0].Host + " " + good[0].Address
		} else if len(good) == 0 && len(left) == 1 {
			got = left[0].why.Error()
		}
		if got != c.want {
			t.Errorf("%+v: got %s, want %s", c.b, got, c.want)
		}
	}
}

// Of two with the same name or address, the first is the one; what is left out takes no place.
func TestVetDuplicates(t *testing.T) {
	t.Parallel()
	good, left := vet(answer{
		backends: []balancer.Backend{
			{Name: "a", Address: "nowhere"},
			{Name: "a", Address: "h:1"},
			{Name: "a", Address: "h:2"},
			{Name: "b", Address: "H.:1"},
			{Name: "c", Address: "h:2"},
		},
		where: []string{"1:1", "2:1", "3:1", "4:1", "5:1"},
	})
	var got []string
	for i := range good {
		got = append(got, good[i].Name+"="+good[i].Address)
	}
	for i := range left {
		got = append(got, left[i].where+" "+left[i].why.Error())
	}
	want := `[a=h:1 c=h:2 1:1 its address must be host:port, got "nowhere" 3:1 another backend has the same name 4:1 a has the same address]`
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// More backends than a source may have are no set, however good each of them is.
func TestTooMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		n.Store(3)
		var log strings.Builder
		r := &refresher{
			source: "test", interval: time.Minute, most: 3, journal: journal{log: slog.New(slog.NewTextHandler(&log, nil))},
			fetch: func(context.Context) (answer, error) {
				var a answer
				for i := range n.Load() {
					a.backends = append(a.backends, balancer.Backend{Address: fmt.Sprintf("10.0.0.%d:1883", i+1)})
				}
				return a, nil
			},
		}
		ctx, stop := context.WithCancel(t.Context())
		sets, ended := make(chan []balancer.Backend), make(chan error)
		go func() { ended <- r.run(ctx, sets) }()
		if set := <-sets; len(set) != 3 {
			t.Errorf("got %d backends, want 3", len(set))
		}
		synctest.Wait()
		n.Store(4)
		select {
		case set := <-sets:
			t.Errorf("got %v, want no set", set)
		case <-time.After(time.Hour):
		}
		synctest.Wait()
		n.Store(2)
		if set := <-sets; len(set) != 2 {
			t.Errorf("got %d backends, want 2", len(set))
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("got error %v", err)
		}
		if want := "4 backends are more than the 3 that are accepted from this source"; !strings.Contains(log.String(), want) {
			t.Errorf("got no %s in\n%s", want, log.String())
		}
	})
}

// A source that never comes back from asking is given up after a minute.
func TestFetchIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := make(chan error, 1)
		r := &refresher{
			interval: time.Hour, most: 1, journal: journal{log: slog.New(slog.DiscardHandler)}, observer: failures(failed),
			fetch: func(ctx context.Context) (answer, error) { <-ctx.Done(); return answer{}, ctx.Err() },
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		begin := time.Now()
		go func() { ended <- r.run(ctx, nil) }()
		if err := <-failed; err == nil || time.Since(begin) != time.Minute {
			t.Errorf("got %v after %v, want a failure after a minute", err, time.Since(begin))
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("got error %v", err)
		}
	})
}

type failures chan error

func (f failures) Succeeded(int, int) {}
func (f failures) Failed(err error)   { f <- err }

// Complaints are bounded in number and length, whatever comes.
func TestComplaintsAreBounded(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	j := &journal{log: slog.New(slog.NewTextHandler(&log, nil))}
	var list []complaint
	long := errors.New(strings.Repeat("\x00", 10000))
	for i := range 5000 {
		list = append(list, complaint{backend: fmt.Sprint(i) + strings.Repeat("é", 500), where: strings.Repeat("\x1b", 500), why: long})
	}
	j.leftOut("test", list)
	j.failed("test", long, 0)
	if n := strings.Count(log.String(), "\n"); n != maxComplaints+2 {
		t.Errorf("got %d lines, want %d", n, maxComplaints+2)
	}
	if log.Len() > 64<<10 {
		t.Errorf("got %d bytes of log, want few", log.Len())
	}
	if !strings.Contains(log.String(), "count=4980") {
		t.Errorf("got no number of the others in %s", log.String()[log.Len()-200:])
	}
	log.Reset()
	j.leftOut("test", list[:3000])
	if log.Len() > 0 {
		t.Errorf("got the same complaints again: %s", log.String())
	}
}

func TestPauses(t *testing.T) {
	t.Parallel()
	for failures := range 100 {
		d := backoff(failures, 24*time.Hour)
		if d <= 0 || d > 24*time.Hour || failures > 0 && failures < 17 && d != time.Second<<(failures-1) {
			t.Errorf("got a pause of %v after %d failures", d, failures)
		}
	}
	if d := backoff(1, 20*time.Millisecond); d != 20*time.Millisecond {
		t.Errorf("got %v, want never more than the interval", d)
	}
	low, high := time.Hour, time.Duration(0)
	for range 10000 {
		d := around(100 * time.Second)
		low, high = min(low, d), max(high, d)
	}
	if low < 90*time.Second || low > 91*time.Second || high > 110*time.Second || high < 109*time.Second {
		t.Errorf("got pauses from %v to %v, want them from 90 s to 110 s", low, high)
	}
}
