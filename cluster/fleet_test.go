package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

const (
	step = 100 * time.Millisecond // as RunMoves does
	quit = 200 * time.Millisecond // what an eviction takes
)

// A fleet is clients and a proxy that carries them: a Carrier. It lives by the clock of its rig, in steps.
type fleet struct {
	*rig
	t       *testing.T
	clients map[string]*client
	seats   map[proxy.Handle]*client
	last    proxy.Handle
	looks   int // calls of Sittings
	events  []cluster.Event

	returns  time.Duration                 // how long clients are away
	never    func(id string) bool          // clients that do not come again
	keep     func(proxy.Eviction) keepWhat // nil carries everything out
	evicted  []eviction
	maxAway  int
	pending  []pending
	stepped  int
	stranger proxy.Sitting // of another cluster
}

// keepWhat is what becomes of an eviction.
type keepWhat struct {
	kept bool
	why  proxy.Kept
}

type client struct {
	id         string
	connect    mqttparse.ConnectOptions
	will       balancer.Will
	persistent bool
	target     proxy.Target
	handle     proxy.Handle // 0 while it is away
	since      int64
	leaving    bool
}

type eviction struct {
	proxy.Eviction
	at   int64
	from string
}

type pending struct {
	at int64
	do func()
}

func newFleet(t *testing.T, o cluster.Options, n int, backends ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, clients: make(map[string]*client), seats: make(map[proxy.Handle]*client), returns: 500 * time.Millisecond}
	o.Events = func(e cluster.Event) { f.events = append(f.events, e) }
	f.rig = newRig(t, o)
	f.advance(time.Second)
	f.Apply(set(backends...))
	f.stranger = proxy.Sitting{Handle: 1 << 60, ClientID: "stranger", Age: time.Hour, Target: proxy.Target{Backend: &proxy.Backend{Cluster: "other", Name: backends[0]}}}
	for i := range n {
		f.add(&client{id: fmt.Sprint("device-", i)})
	}
	return f
}

// add lets a client come.
func (f *fleet) add(c *client) {
	f.t.Helper()
	c.connect.ClientID = c.id
	f.clients[c.id] = c
	f.come(c)
}

func (f *fleet) come(c *client) {
	f.t.Helper()
	target, err := f.Place(requestOf(&c.connect))
	if err != nil {
		f.t.Fatalf("client %q: got error %v, want a place", c.id, err)
	}
	f.last++
	c.target, c.handle, c.since, c.leaving = target, f.last, f.time.Load(), false
	f.seats[c.handle] = c
}

// leave ends the connection of a client.
func (f *fleet) leave(c *client, o proxy.Outcome) {
	delete(f.seats, c.handle)
	c.handle = 0
	f.Release(c.id, c.target, o)
}

// Sittings implements cluster.Carrier.
func (f *fleet) Sittings(want func(*proxy.Sitting) bool) []proxy.Sitting {
	f.looks++
	list := []proxy.Sitting{}
	if want(&f.stranger) {
		f.t.Error("a session of another cluster is wanted")
	}
	for _, h := range slices.Sorted(maps.Keys(f.seats)) {
		c := f.seats[h]
		s := proxy.Sitting{
			Handle: h, ClientID: c.id, Persistent: c.persistent, Target: c.target, Will: c.will,
			Age: time.Duration(f.time.Load() - c.since),
		}
		if !c.leaving && want(&s) {
			list = append(list, s)
		}
	}
	return list
}

// Evict implements cluster.Carrier.
func (f *fleet) Evict(list []proxy.Eviction, kept func(proxy.Eviction, proxy.Kept)) {
	for _, e := range list {
		c := f.seats[e.Session]
		if c == nil || c.id != e.ClientID {
			f.later(quit, func() { kept(e, proxy.KeptGone) })
			continue
		}
		if f.keep != nil {
			if what := f.keep(e); what.kept {
				f.later(quit, func() { kept(e, what.why) })
				continue
			}
		}
		c.leaving = true
		f.evicted = append(f.evicted, eviction{e, f.time.Load(), c.target.Backend.Name})
		f.later(quit, func() {
			f.leave(c, proxy.Moved)
			if f.never == nil || !f.never(c.id) {
				f.later(f.returns, func() { f.come(c) })
			}
		})
	}
}

func (f *fleet) later(d time.Duration, do func()) {
	f.pending = append(f.pending, pending{f.time.Load() + int64(d), do})
}

// run lets time pass.
func (f *fleet) run(d time.Duration) {
	f.t.Helper()
	for range int(d / step) {
		f.advance(step)
		now := f.time.Load()
		due := f.pending
		f.pending = nil
		for _, p := range due {
			if p.at > now {
				f.pending = append(f.pending, p)
			} else {
				p.do()
			}
		}
		if f.stepped++; f.stepped%10 == 0 {
			f.Tick()
		}
		f.Move(f)
		away := 0
		for _, c := range f.clients {
			if c.handle == 0 || c.leaving {
				away++
			}
		}
		f.maxAway = max(f.maxAway, away)
	}
}

// on counts the clients on a backend.
func (f *fleet) on(backend string) int {
	n := 0
	for _, c := range f.seats {
		if c.target.Backend.Name == backend {
			n++
		}
	}
	return n
}

// pace is the evictions per second from the first to the last one.
func (f *fleet) pace() float64 {
	f.t.Helper()
	if len(f.evicted) < 2 {
		f.t.Fatalf("got %d evictions, want more", len(f.evicted))
	}
	return float64(len(f.evicted)-1) / time.Duration(f.evicted[len(f.evicted)-1].at-f.evicted[0].at).Seconds()
}

// withinRate checks that in no window more clients were evicted than the rate allows, with a burst.
func (f *fleet) withinRate(rate, burst float64) {
	f.t.Helper()
	for i := range f.evicted {
		for j := i; j < len(f.evicted); j++ {
			window := time.Duration(f.evicted[j].at - f.evicted[i].at).Seconds()
			if n := float64(j - i + 1); n > rate*window+burst+1e-6 {
				f.t.Fatalf("got %v evictions within %v s, want at most %v per second and a burst of %v", n, window, rate, burst)
			}
		}
	}
}

// nobodyTwice checks that nobody was evicted twice within ten minutes.
func (f *fleet) nobodyTwice() {
	f.t.Helper()
	last := make(map[string]int64)
	for _, e := range f.evicted {
		if at, before := last[e.ClientID]; before && e.at-at < int64(10*time.Minute) {
			f.t.Fatalf("client %q was evicted again after %v", e.ClientID, time.Duration(e.at-at))
		}
		last[e.ClientID] = e.at
	}
}

// told are the events of a kind, without those of clients.
func (f *fleet) told(kind string) []string {
	var list []string
	for _, e := range f.events {
		if e.Kind == kind {
			list = append(list, strings.Join(slices.DeleteFunc([]string{e.Backend, e.From, e.To, e.Reason}, func(s string) bool { return s == "" }), "|"))
		}
	}
	return list
}

// mine are options without hurry: everything may be moved at any rate.
func mine(o cluster.MoveOptions) cluster.Options {
	return cluster.Options{Strategy: "adaptive", Placement: balancer.Options{BoundedLoad: 1.25}, Moves: o}
}

func near(got, want, tolerance float64) bool {
	return got >= want*(1-tolerance) && got <= want*(1+tolerance)
}

func number(i int) string { return strconv.Itoa(i) }
