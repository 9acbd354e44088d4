package health

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

const second = 1_000_000_000

// observe notes events: a word per event, of a letter for the backend and one for the kind, and perhaps
// the number of a client: "ax" a connect to a that failed, "as7" client 7 got no answer, "ae7" an error,
// "ab" busy, "ao" answered. "ax*5" is five of them.
func observe(t *testing.T, o *Outliers, at int64, events string) {
	t.Helper()
	for word := range strings.FieldsSeq(events) {
		word, times, _ := strings.Cut(word, "*")
		n, client := 1, uint64(0)
		fmt.Sscan(times, &n)
		fmt.Sscan(word[2:], &client)
		kind := strings.IndexByte("xseb", word[1])
		if kind < 0 {
			kind = int(Answered)
		}
		for range n {
			o.Observe(word[:1], Event(kind), client, at)
		}
	}
}

// judged is what Judge says: "a:3 b:5 c:4!", failures by backend, with a mark for the spared.
func judged(o *Outliers, at int64, serving func(string) bool) string {
	var words []string
	for _, v := range o.Judge(at, serving, nil) {
		word := fmt.Sprintf("%s:%d", v.Backend, v.Failures)
		if v.Spared {
			word += "!"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestOutliers(t *testing.T) {
	t.Parallel()
	type step struct {
		at     float64 // seconds
		events string
		want   string
	}
	for _, test := range []struct {
		name     string
		backends string
		steps    []step
	}{
		{"nothing happened", "a b", []step{{1, "", "a:0 b:0"}}},
		{"five failed connects in a row", "a b", []step{{1, "ax*4", "a:4 b:0"}, {2, "ax", "a:5 b:0"}}},
		{"a success resets", "a b", []step{{1, "ax*4 ao", "a:0 b:0"}, {2, "ax", "a:1 b:0"}, {3, "ax*4", "a:5 b:0"}}},
		{"they count for ten seconds", "a b", []step{{0.5, "ax*3", "a:3 b:0"}, {9.5, "ax*2", "a:5 b:0"}, {10.5, "", "a:2 b:0"}, {19.5, "", "a:0 b:0"}}},
		{"slow enough is no outlier", "a b", []step{{1, "ax*2", "a:2 b:0"}, {6, "ax", "a:3 b:0"}, {12, "ax", "a:2 b:0"}, {17, "ax*3", "a:4 b:0"}}},
		{"five in a row among many that went well are not enough", "a b", []step{{1, "ao*50", "a:0 b:0"}, {2, "ax*10", "a:4 b:0"}}},
		{"but more than twenty in a row are", "a b", []step{{1, "ao*500", "a:0 b:0"}, {2, "ax*21", "a:21 b:0"}}},
		{"most of twenty, without a run", "a b", []step{{1, "ax*2 ao ax*2 ao ax*2 ao ax*2 ao ax*2 ao ax*2 ao", "a:0 b:0"}, {2, "ax*2", "a:5 b:0"}}},
		{"half of twenty is not most", "a b", []step{{1, "ax ao ax ao ax ao ax ao ax ao ax ao ax ao ax ao ax ao ax ao ax ao ax ao", "a:0 b:0"}}},
		{"silence counts, of different clients", "a b", []step{{1, "as1 as2 as3 as4 as5", "a:5 b:0"}}},
		{"one client alone counts once", "a b", []step{{1, "as1*50 ae1*50", "a:1 b:0"}, {2, "as2*50", "a:2 b:0"}}},
		{"clients that are not known count each", "a b", []step{{1, "as*5", "a:5 b:0"}}},
		{"one client in the middle of the others'", "a b", []step{{1, strings.Repeat("as1*9 ao ", 30) + "as1", "a:1 b:0"}}},
		{"errors of the broker count", "a b", []step{{1, "ae1 ae2 ae3 ae4 ae5", "a:5 b:0"}}},
		{"busy neither counts nor resets", "a b", []step{{1, "ax*4 ab", "a:4 b:0"}, {2, "ax", "a:5 b:0"}, {3, "ab*100", "a:4 b:0"}}},
		{"busy alone is nothing", "a b", []step{{1, "ab*1000", "a:0 b:0"}}},
		{"never the only one", "a", []step{{1, "ax*100", "a:4!"}}},
		{"one of two, the worse", "a b", []step{{1, "ax*5 bx*6", "a:4! b:6"}}},
		{"one of three", "a b c", []step{{1, "ax*5 bx*5 cx*5", "a:5 b:4! c:4!"}}},
		{"two of four", "a b c d", []step{{1, "ax*5 bx*6 cx*7 dx*8", "a:4! b:4! c:7 d:8"}}},
		{"who is out stays out while it fails", "a b", []step{{1, "ax*5", "a:5 b:0"}, {2, "bx*50", "a:5 b:4!"}, {5, "ax", "a:6 b:4!"}}},
		{"then there is room for another", "a b", []step{{1, "ax*5", "a:5 b:0"}, {2, "ao bx*5", "a:0 b:5"}}},
		{"nobody knows them", "a b", []step{{1, "zx*50", "a:0 b:0"}}},
		{"a clock that is behind", "a b", []step{{20, "ax*2", "a:2 b:0"}, {8, "ax*3", "a:5 b:0"}, {29.5, "", "a:5 b:0"}, {30, "", "a:0 b:0"}}},
		{"long quiet, and the ring's old parts are empty", "a b", []step{{1, "ax*5", "a:5 b:0"}, {1001, "ax", "a:1 b:0"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := NewOutliers(OutlierRules{})
			o.Set(strings.Fields(test.backends))
			for _, s := range test.steps {
				at := int64(s.at * second)
				observe(t, o, at, s.events)
				if got := judged(o, at, nil); got != s.want {
					t.Errorf("at %v s: got %s, want %s", s.at, got, s.want)
				}
			}
		})
	}
}

// What was taken out counts until it serves again, long after its failures have left the window: or one
// after the other would be out.
func TestOutliersStayOutUntilTheyServe(t *testing.T) {
	t.Parallel()
	o := NewOutliers(OutlierRules{})
	o.Set([]string{"a", "b", "c", "d"})
	down := map[string]bool{}
	serving := func(name string) bool { return !down[name] }
	step := func(at int64, events, want string) {
		t.Helper()
		observe(t, o, at*second, events)
		if got := judged(o, at*second, serving); got != want {
			t.Errorf("at %d s: got %s, want %s", at, got, want)
		}
	}
	step(1, "ax*5 bx*5", "a:5 b:5 c:0 d:0")
	down["a"], down["b"] = true, true
	step(20, "cx*9", "a:0 b:0 c:4! d:0")
	down["a"] = false
	step(21, "", "a:0 b:0 c:9 d:0")
	down["c"] = true
	step(22, "dx*9", "a:0 b:0 c:9 d:4!")

	// Backends that are down for other reasons are not there to be relied on: of the two that serve, one may
	// go. And a backend that is down anyway costs no room.
	o.Forgive()
	down = map[string]bool{"a": true, "b": true}
	step(40, "", "a:0 b:0 c:0 d:0")
	o.Set([]string{"a", "c", "d", "e"})
	down = map[string]bool{"a": true, "e": true}
	step(41, "ax*5 cx*5 dx*5", "a:5 c:5 d:4! e:0")
}

func TestOutliersForgetAndForgive(t *testing.T) {
	t.Parallel()
	o := NewOutliers(OutlierRules{Failures: 3})
	o.Set([]string{"a", "b"})
	observe(t, o, second, "ax*3 bx")
	o.Set([]string{"b", "c"})
	observe(t, o, second, "ax*3 bx")
	if got := judged(o, second, nil); got != "b:2 c:0" {
		t.Errorf("got %s, want b to be kept", got)
	}
	o.Set([]string{"a", "b"})
	if got := judged(o, second, nil); got != "a:0 b:2" {
		t.Errorf("got %s, want a to begin anew", got)
	}
	o.Forgive()
	if got := judged(o, second, nil); got != "a:0 b:0" {
		t.Errorf("got %s, want all to be forgiven", got)
	}
	if got := o.Judge(second, nil, []Opinion{{Backend: "z"}}); len(got) != 3 || got[0].Backend != "z" || got[1].Backend != "a" {
		t.Errorf("got %v, want the opinions behind what was there", got)
	}
}

func TestConnackEvents(t *testing.T) {
	t.Parallel()
	for version, events := range map[byte]map[Event][]byte{
		5: {
			Answered:     {0, 0x81, 0x82, 0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90, 0x95, 0x99, 0x9A, 0x9B},
			Busy:         {0x88, 0x89, 0x97, 0x9C, 0x9D, 0x9F},
			ServerFailed: {0x80, 0x83, 1, 3, 5, 0x8B, 0xFF},
		},
		4: {Answered: {0, 1, 2, 4, 5}, Busy: {3}, ServerFailed: {6, 0x80, 0x87, 0xFF}},
		3: {Answered: {0, 1, 2, 4, 5}, Busy: {3}, ServerFailed: {6}},
	} {
		for want, codes := range events {
			for _, code := range codes {
				if got := ConnackEvent(version, code); got != want {
					t.Errorf("version %d, code %#02x: got event %d, want %d", version, code, got, want)
				}
			}
		}
	}
}

// A dumb is Outliers without a ring: it keeps every event of every backend, and goes through all of them
// for each question.
type dumb struct {
	now     int64
	events  map[string][]dumbEvent
	ejected map[string]bool
}

type dumbEvent struct {
	kind   Event
	client uint64
	second int64
}

func (d *dumb) window(name string) (since []dumbEvent, all []dumbEvent) {
	for _, e := range d.events[name] {
		if e.second <= d.now/second-10 {
			continue
		}
		all = append(all, e)
		if since = append(since, e); e.kind == Answered {
			since = nil
		}
	}
	return since, all
}

func (d *dumb) Observe(name string, e Event, client uint64, now int64) {
	d.now = max(d.now, now)
	if client %= 64; e == Silent || e == ServerFailed {
		run, _ := d.window(name)
		for _, old := range run {
			if client != 0 && old.client == client && (old.kind == Silent || old.kind == ServerFailed) {
				return
			}
		}
	}
	d.events[name] = append(d.events[name], dumbEvent{e, client, d.now / second})
}

func (d *dumb) Judge(now int64, serving func(string) bool) []Opinion {
	d.now = max(d.now, now)
	var all []Opinion
	worst := map[string]int{}
	served, out := 0, 0
	for name := range d.events {
		run, window := d.window(name)
		v := Opinion{Backend: name, Attempts: len(window)}
		clients := map[uint64]bool{}
		strangers := 0
		for _, e := range run {
			switch e.kind {
			case ConnectFailed:
				v.Failures++
			case Silent, ServerFailed:
				v.Failures++
				clients[e.client] = true
				if e.client == 0 {
					strangers = 2
				}
			case Busy, Answered:
			}
		}
		for _, e := range window {
			if e.kind <= ServerFailed {
				v.Failed++
			}
		}
		failed, attempts := v.Failed, v.Attempts
		if len(clients)+strangers == 1 {
			failed, attempts = failed-1, attempts-1
		}
		most := 2*failed > attempts
		if most && (v.Failures >= 5 || attempts >= 20) || v.Failures > 20 {
			worst[name] = max(v.Failures, 1)
		}
		if serving(name) && worst[name] == 0 {
			d.ejected[name] = false
		}
		if d.ejected[name] {
			out++
		} else if serving(name) {
			served++
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b Opinion) int {
		return cmp.Or(cmp.Compare(b.Failures, a.Failures), cmp.Compare(a.Backend, b.Backend))
	})
	room := (served+out)/2 - out
	for i := range all {
		v := &all[i]
		switch {
		case worst[v.Backend] == 0:
			v.Failures = min(v.Failures, 4)
		case d.ejected[v.Backend] || !serving(v.Backend):
			v.Failures = max(v.Failures, 5)
		case room <= 0:
			v.Failures, v.Spared = 4, true
		default:
			room--
			d.ejected[v.Backend] = true
			v.Failures = max(v.Failures, 5)
		}
	}
	slices.SortFunc(all, func(a, b Opinion) int { return cmp.Compare(a.Backend, b.Backend) })
	return all
}

// The ring against the dumb one, over random stories; and never more than half of those that would serve
// are out because of traffic.
func TestOutliersAgainstADumbOne(t *testing.T) {
	t.Parallel()
	names := strings.Fields("a b c d e f")
	ejections, spared := 0, 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 1))
		fast := NewOutliers(OutlierRules{})
		slow := &dumb{events: make(map[string][]dumbEvent), ejected: make(map[string]bool)}
		n := 1 + r.IntN(len(names))
		fast.Set(names[:n])
		for _, name := range names[:n] {
			slow.events[name] = nil
		}
		down := map[string]int64{} // until when
		well := make([]float64, n) // how probable it is that a client is served
		for i := range well {
			well[i] = []float64{0, 0.1, 0.4, 0.99}[r.IntN(4)]
		}
		now := r.Int64N(100 * second)
		for range 600 {
			now += r.Int64N(second / 2)
			i := r.IntN(n)
			e := Event(r.IntN(5))
			if r.Float64() < well[i] {
				e = Answered
			}
			client, at := uint64(r.IntN(6)), now-r.Int64N(second/5)
			fast.Observe(names[i], e, client, at)
			slow.Observe(names[i], e, client, at)
			if r.IntN(3) > 0 {
				continue
			}
			serving := func(name string) bool { return down[name] <= now }
			got, want := fast.Judge(now, serving, nil), slow.Judge(now, serving)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d: got %+v, want %+v", seed, got, want)
			}
			for _, v := range got {
				if v.Failures >= 5 && down[v.Backend] <= now {
					down[v.Backend] = now + 40*second
					ejections++
				}
				if v.Spared {
					spared++
				}
			}
			out := 0
			for _, until := range down {
				if until > now {
					out++
				}
			}
			if out > n/2 {
				t.Fatalf("seed %d: %d of %d are out", seed, out, n)
			}
		}
	}
	if ejections < 100 || spared < 100 {
		t.Errorf("%d were taken out, %d spared: the stories test too little", ejections, spared)
	}
}

func TestOutliersAllocateNothing(t *testing.T) {
	o := NewOutliers(OutlierRules{})
	o.Set([]string{"a", "b"})
	opinions := make([]Opinion, 0, 2)
	now := int64(0)
	if n := testing.AllocsPerRun(1000, func() {
		now += second / 7
		o.Observe("a", ConnackEvent(5, 0x80), uint64(now), now)
		o.Observe("a", ConnackEvent(4, 0), uint64(now), now)
		o.Observe("nobody", Silent, 0, now)
		opinions = o.Judge(now, nil, opinions[:0])
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

// Many event loops and a judge at the same time.
func TestOutliersFromEverywhere(t *testing.T) {
	t.Parallel()
	o := NewOutliers(OutlierRules{})
	names := strings.Fields("a b c d")
	o.Set(names)
	var loops sync.WaitGroup
	for i := range uint64(4) {
		loops.Go(func() {
			for n := range uint64(2000) {
				o.Observe(names[n%4], Event(n%5), i*n, int64(n)*second/100)
			}
		})
	}
	loops.Go(func() {
		for n := range int64(200) {
			o.Judge(n*second/10, nil, nil)
			o.Set(names[:2+n%3])
		}
	})
	loops.Wait()
	if got := len(o.Judge(20*second, nil, nil)); got != 3 {
		t.Errorf("got %d opinions, want 3", got)
	}
}

func BenchmarkObserve(b *testing.B) {
	o := NewOutliers(OutlierRules{})
	o.Set([]string{"a", "b", "c", "d", "e", "f"})
	for name, event := range map[string]Event{"answered": Answered, "silent": Silent} {
		b.Run("event="+name, func(b *testing.B) {
			b.ReportAllocs()
			now := int64(0)
			for b.Loop() {
				now += 100_000
				o.Observe("d", event, uint64(now), now)
			}
		})
	}
}
