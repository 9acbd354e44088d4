package cluster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/mqttparse"
	"github.com/mqttlb/mqttlb/proxy"
)

// names of the backends of these tests; their addresses are those of set.
var names = []string{"a", "b", "c", "d", "e"}

// subset is a random membership, not empty, in all kinds of phases.
func subset(rng *rand.Rand) []balancer.Backend {
	list := set(names...)
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:1+rng.IntN(len(list))]
}

// A place is a client on a backend.
type place struct {
	id string
	proxy.Target
}

// book is a book-keeper who writes down everything and knows no algorithm.
type book struct {
	t          *testing.T
	r          *rig
	held       []place
	current    map[string]bool // the membership
	live       map[string]int  // connections by backend
	generation uint64
}

// connect lets a client try backends until one takes it, or it has none left. Each fails with this chance.
func (b *book) connect(rng *rand.Rand, o *mqttparse.ConnectOptions, failing float64, check func(p proxy.Target, tried []string)) {
	b.t.Helper()
	var tried []string
	for {
		target, err := b.r.Place(requestOf(o, tried...))
		if err != nil {
			if !errors.Is(err, proxy.ErrNoBackend) || len(tried) == 0 && len(b.current) > 0 {
				b.t.Fatalf("got error %v after %v, with backends %v", err, tried, b.current)
			}
			return
		}
		if !b.current[target.Backend.Name] || slices.Contains(tried, target.Backend.Name) {
			b.t.Fatalf("got a place on %s after %v, want one of %v", target.Backend.Name, tried, b.current)
		}
		if rng.Float64() >= failing {
			check(target, tried)
			b.held = append(b.held, place{o.ClientID, target})
			b.live[target.Backend.Name]++
			return
		}
		b.r.Release(o.ClientID, target, []proxy.Outcome{proxy.Refused, proxy.TimedOut, proxy.NoPort}[rng.IntN(3)])
		tried = append(tried, target.Backend.Name)
	}
}

func (b *book) release(i int, o proxy.Outcome) {
	p := b.held[i]
	b.held = slices.Delete(b.held, i, i+1)
	b.live[p.Backend.Name]--
	if b.live[p.Backend.Name] == 0 && !b.current[p.Backend.Name] {
		b.generation++ // it vanishes
	}
	b.r.Release(p.id, p.Target, o)
}

func (b *book) apply(set []balancer.Backend) {
	b.r.Apply(set)
	if len(set) == 0 {
		return
	}
	b.generation++
	clear(b.current)
	for _, s := range set {
		b.current[s.Name] = true
	}
}

// check compares a status with the book.
func (b *book) check() {
	b.t.Helper()
	s := b.r.Status()
	if s.Connections != len(b.held) || s.Generation != b.generation {
		b.t.Fatalf("got %d connections in generation %d, want %d in %d", s.Connections, s.Generation, len(b.held), b.generation)
	}
	shown := make(map[string]bool)
	for _, backend := range s.Backends {
		shown[backend.Name] = true
		if backend.Connections != b.live[backend.Name] || backend.Removed == b.current[backend.Name] {
			b.t.Fatalf("got %+v, want %d connections, and left to be %t", backend, b.live[backend.Name], !b.current[backend.Name])
		}
	}
	for _, name := range names {
		if want := b.current[name] || b.live[name] > 0; shown[name] != want {
			b.t.Fatalf("got %s shown: %t, want %t; it has %d connections", name, shown[name], want, b.live[name])
		}
	}
}

// checkGroups compares the members of groups with the book. It holds as long as no client is connected twice.
func (b *book) checkGroups() {
	b.t.Helper()
	want := make(map[string]int) // members by group and backend
	for _, p := range b.held {
		if p.Reason.Group != "" {
			want[p.Reason.Group]++
			if b.current[p.Backend.Name] {
				want[p.Reason.Group+" "+p.Backend.Name]++
			} else {
				want[p.Reason.Group+" elsewhere"]++
			}
		}
	}
	got := make(map[string]int)
	count := func(key string, n int) {
		if n != 0 {
			got[key] = n
		}
	}
	list, more := b.r.Groups(1000)
	for _, g := range list {
		count(g.Name, g.Members)
		count(g.Name+" elsewhere", g.Elsewhere)
		for _, share := range g.Backends {
			count(g.Name+" "+share.Backend, share.Members)
		}
	}
	if more || fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Fatalf("got members %v, want %v", got, want)
	}
}

// TestAccounting compares the counts with those of a simple book-keeper, while clients come and go, backends fail
// them, and the membership changes under them. In the end nothing is left: no connection, no member, no seat.
func TestAccounting(t *testing.T) {
	t.Parallel()
	const lease = 10 * time.Second
	for seed, strategy := range balancer.Names() {
		for _, takeovers := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s takeovers=%t", strategy, takeovers), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(uint64(seed), 2))
				r := newRig(t, cluster.Options{
					Outliers: health.OutlierRules{Open: -1}, // the model knows no circuits
					Strategy: strategy, Rules: workers(seed%2 == 0), Groups: balancer.GroupOptions{Hold: int64(lease)},
					Placement: balancer.Options{BoundedLoad: 1.25, NodeScope: strategy == "client-hash"},
				})
				b := &book{t: t, r: r, current: make(map[string]bool), live: make(map[string]int)}
				for range 2_000 {
					r.advance(time.Duration(rng.Int64N(int64(lease / 100))))
					switch action := rng.IntN(100); {
					case action < 48:
						o := &mqttparse.ConnectOptions{ClientID: fmt.Sprint("c", rng.IntN(300)), CleanStart: rng.IntN(3) > 0}
						if rng.IntN(2) == 0 {
							o.ClientID = fmt.Sprintf("%c-%d", 'g'+rune(rng.IntN(3)), rng.IntN(60))
						}
						if !takeovers && slices.ContainsFunc(b.held, func(p place) bool { return p.id == o.ClientID }) {
							continue
						}
						b.connect(rng, o, 0.2, func(p proxy.Target, tried []string) {
							member := strings.Contains(o.ClientID, "-") && (strategy != "client-hash" || o.CleanStart)
							if (p.Reason.Group != "") != member {
								t.Fatalf("client %s: got reason %+v, want a group: %t", o.ClientID, p.Reason, member)
							}
							if strategy != "least-connections" || member {
								return
							}
							for name := range b.current {
								if b.live[name] < b.live[p.Backend.Name] && !slices.Contains(tried, name) {
									t.Fatalf("got a place on %s, want one on %s: they hold %v", p.Backend.Name, name, b.live)
								}
							}
						})
					case action < 93 && len(b.held) > 0:
						b.release(rng.IntN(len(b.held)), proxy.Outcome(rng.IntN(9)))
					case action < 94:
						b.apply(nil)
					case action < 95:
						r.Tick()
					case action < 96:
						r.Explain(fmt.Sprint("g-", rng.IntN(60)), false)
					default:
						b.apply(subset(rng))
					}
					b.check()
					if !takeovers {
						b.checkGroups()
					}
				}
				for len(b.held) > 0 {
					b.release(0, proxy.Served)
				}
				b.check()
				r.advance(lease + time.Second)
				if list, _ := r.Groups(10); len(list) > 0 {
					t.Errorf("got groups %+v after everybody has left for longer than a lease, want none", list)
				}
				if s := r.Status(); s.Groups != 0 || s.GroupMembers != 0 {
					t.Errorf("got %d groups with %d members in the end, want none", s.Groups, s.GroupMembers)
				}
			})
		}
	}
}

// TestConcurrency lets many goroutines do everything at once; the race detector watches, and in the end the
// books must be even.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	const clients, rounds = 4, 2000
	r := newRig(t, cluster.Options{
		Strategy: "adaptive", Placement: balancer.Options{BoundedLoad: 1.25}, Watched: true,
		Rules:   append(workers(true), cluster.GroupRule{Learn: true}),
		Groups:  balancer.GroupOptions{Hold: int64(time.Second)},
		Members: func(set []balancer.Backend) { _ = len(set) },
	})
	r.time.Store(int64(time.Hour))
	r.Apply(set(names...))
	var all, placing sync.WaitGroup
	stop := make(chan struct{})
	for g := range clients {
		placing.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 3))
			var held []place
			for i := range rounds {
				id := fmt.Sprint("c", rng.IntN(50))
				switch i % 5 {
				case 0:
					id = ""
				case 1, 2:
					id = fmt.Sprintf("%c-%d", 'g'+rune(rng.IntN(3)), rng.IntN(50))
				}
				switch target, err := r.Place(request(id)); {
				case err == nil:
					held = append(held, place{id, target})
				case !errors.Is(err, proxy.ErrNoBackend): // all may be new, or have failed
					t.Errorf("got error %v, want a place", err)
				}
				if len(held) > 10 {
					r.Release(held[0].id, held[0].Target, proxy.Outcome(i%9))
					held = held[1:]
				}
			}
			for _, p := range held {
				r.Release(p.id, p.Target, proxy.Served)
			}
		})
	}
	until := func(f func()) {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					f()
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(9, 3))
	until(func() { r.Apply(subset(rng)) })
	until(func() {
		if s := r.Status(); s.Connections > clients*11 || s.Connections < 0 {
			t.Errorf("got %d connections, want 0 to %d", s.Connections, clients*11)
		}
		r.Ready()
	})
	until(func() {
		if e := r.Explain("g-1", false); e.Group != "g" {
			t.Errorf("got %+v, want group g", e)
		}
	})
	until(func() {
		r.advance(time.Millisecond)
		r.Tick()
		r.Learn("c1", "learned")
	})
	until(func() {
		for i, name := range names {
			r.Checked(health.Report{Backend: name, Address: fmt.Sprintf("10.0.0.%d:1883", i+1), Up: true, Passed: true, At: time.Now()})
			r.Scraped(scrape.Reading{Backend: name, Load: balancer.Figure{Value: float64(i) / 8, At: r.Now()}, At: r.Now()})
			r.Answered(&proxy.Answer{Cluster: "hivemq", Backend: name, ClientID: name, Version: 5, Code: byte(0x80 * (i % 2)), Took: time.Millisecond})
		}
	})
	until(func() {
		f := &proxy.Flows{Clients: []proxy.ClientFlow{{ClientID: "c1", Cluster: "hivemq", Backend: "a", Rate: r.HeavyFloor()}}}
		for _, name := range names {
			f.Backends = append(f.Backends, proxy.BackendFlow{Cluster: "hivemq", Backend: name, Sessions: 10, Rate: 1000})
		}
		r.Carried(f)
	})
	until(func() {
		r.GroupSpread()
		if list, _ := r.Groups(3); len(list) > 3 {
			t.Errorf("got %d groups, want 3 at most", len(list))
		}
	})
	placing.Wait()
	close(stop)
	all.Wait()
	r.advance(2 * time.Second)
	r.Groups(1) // leases end when somebody looks
	s := r.Status()
	if s.Connections != 0 || s.Groups != 0 || s.GroupMembers != 0 {
		t.Errorf("got %d connections, %d groups and %d members in the end, want none", s.Connections, s.Groups, s.GroupMembers)
	}
	decisions := 0
	for _, n := range r.heard.causes {
		decisions += n
	}
	if decisions != clients*rounds {
		t.Errorf("got told of %d decisions, want %d", decisions, clients*rounds)
	}
}
