package health

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// circuits is what the circuits are: "a:open b:closed".
func circuits(o *Outliers, at int64) string {
	list := o.Circuits(at, nil)
	slices.SortFunc(list, func(a, b Circuit) int { return strings.Compare(a.Backend, b.Backend) })
	words := make([]string, 0, len(list))
	for _, c := range list {
		word := c.Backend + ":" + c.State.String()
		if c.Busy {
			word += "(busy)"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestCircuits(t *testing.T) {
	t.Parallel()
	type step struct {
		at      float64 // seconds
		events  string  // as for observe; "ag" is a client that goes to a
		want    string
		shunned string
	}
	for name, steps := range map[string][]step{
		"nothing happened": {{1, "", "a:closed b:closed", ""}},
		"five failures in a row open it, at once": {
			{1, "ax*4", "a:closed b:closed", ""}, {1, "ax", "a:open b:closed", "a"}, {5.9, "", "a:open b:closed", "a"},
		},
		"then one client a second may try": {
			{1, "ax*5", "a:open b:closed", "a"},
			{6, "", "a:half_open b:closed", ""},
			{6, "ag", "a:half_open b:closed", "a"},
			{6.9, "", "a:half_open b:closed", "a"},
			{7, "", "a:half_open b:closed", ""},
		},
		"if it is served the circuit closes": {{1, "ax*5", "a:open b:closed", "a"}, {6, "ag ao", "a:closed b:closed", ""}},
		"if it fails the circuit opens again": {
			{1, "ax*5", "a:open b:closed", "a"},
			{6, "ag ax", "a:open b:closed", "a"},
			{10.9, "", "a:open b:closed", "a"},
			{11, "ag ao", "a:closed b:closed", ""},
		},
		"one client's failure is enough for that": {
			{1, "as1 as2 as3 as4 as5", "a:open b:closed", "a"}, {6, "ag as5", "a:open b:closed", "a"},
		},
		"an answer while it is open is not enough":    {{1, "ax*5", "a:open b:closed", "a"}, {3, "ao*50", "a:open b:closed", "a"}},
		"failures while it is open do not prolong it": {{1, "ax*5", "a:open b:closed", "a"}, {5, "ax*5", "a:open b:closed", "a"}, {6, "", "a:half_open b:closed", ""}},
		"most of twenty, without a run": {
			{1, "ax*2 ao ax*2 ao ax*2 ao ax*2 ao ax*2 ao ax*2 ao", "a:closed b:closed", ""}, {2, "ax*2", "a:open b:closed", "a"},
		},
		"refused credentials never count":   {{1, "ao*1000", "a:closed b:closed", ""}},
		"one client alone opens nothing":    {{1, "as1*50 ae1*50 ab1*50", "a:closed b:closed", ""}},
		"five clients that find it busy do": {{1, "ab1 ab2 ab3 ab4", "a:closed b:closed", ""}, {2, "ab5", "a:open(busy) b:closed", "a"}},
		"but not with others in between":    {{1, "ab1 ab2 ab3 ab4 ao ab5 ab6 ab7 ab8", "a:closed b:closed", ""}},
		"still busy, and then not": {
			{1, "ab1 ab2 ab3 ab4 ab5", "a:open(busy) b:closed", "a"}, {6, "ag ab6", "a:open(busy) b:closed", "a"}, {11, "ag ao", "a:closed b:closed", ""},
		},
		"it may open on all of them": {{1, "ax*5 bx*5", "a:open b:open", "a b"}},
		"nobody knows them":          {{1, "zx*5 zg", "a:closed b:closed", ""}},
		"going to a closed one":      {{1, "ax*5 bg", "a:open b:closed", "a"}},
		"a clock that is behind":     {{20, "ax*5", "a:open b:closed", "a"}, {8, "ag ao", "a:open b:closed", "a"}, {25, "", "a:half_open b:closed", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := NewOutliers(OutlierRules{})
			o.Set([]string{"a", "b"})
			for _, s := range steps {
				at := int64(s.at * second)
				for word := range strings.FieldsSeq(s.events) {
					if strings.HasSuffix(word, "g") {
						o.Goes(word[:1], at)
						continue
					}
					observe(t, o, at, word)
				}
				if got := circuits(o, at); got != s.want {
					t.Errorf("at %v s: got %s, want %s", s.at, got, s.want)
				}
				shunned := o.Shunned(at, nil)
				slices.Sort(shunned)
				if got := strings.Join(shunned, " "); got != s.shunned {
					t.Errorf("at %v s: %q are shunned, want %q", s.at, got, s.shunned)
				}
			}
		})
	}
}

// The rules are those that say when traffic takes a backend out of service, and how long a circuit is open.
func TestCircuitRules(t *testing.T) {
	t.Parallel()
	o := NewOutliers(OutlierRules{Failures: 2, Open: 3 * second})
	o.Set([]string{"a"})
	observe(t, o, second, "ax*2")
	if got := circuits(o, 4*second-1) + " " + circuits(o, 4*second); got != "a:open a:half_open" {
		t.Errorf("got %s, want it open for 3 s after 2 failures", got)
	}
	o = NewOutliers(OutlierRules{Open: -1})
	o.Set([]string{"a"})
	observe(t, o, second, "ax*50 ab*50")
	if got := circuits(o, second); got != "a:closed" {
		t.Errorf("got %s, want no circuits", got)
	}
}

// What is forgotten has a closed circuit, and costs nothing any more.
func TestCircuitsAreForgottenAndForgiven(t *testing.T) {
	t.Parallel()
	o := NewOutliers(OutlierRules{})
	for name, forget := range map[string]func(){"forgiven": o.Forgive, "forgotten": func() { o.Set(nil); o.Set([]string{"a"}) }} {
		o.Set([]string{"a"})
		observe(t, o, second, "ax*5")
		if got := o.tripped.Load(); got != 1 {
			t.Errorf("%s: got %d circuits that are not closed, want 1", name, got)
		}
		forget()
		if got := circuits(o, second); got != "a:closed" || o.tripped.Load() != 0 || len(o.Shunned(second, nil)) != 0 {
			t.Errorf("%s: got %s, and %d that are not closed, want none", name, got, o.tripped.Load())
		}
	}
}

// Whatever happens: an open circuit lets nobody in before its time, a half-open one at most one client a second, and
// what counts the circuits that are not closed is right. The wanted times are worked out from the states alone.
func TestCircuitsLetFewClientsIn(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 6))
		o := NewOutliers(OutlierRules{})
		o.Set([]string{"a", "b", "c"})
		now := int64(second)
		opened, probed := map[string]int64{}, map[string]int64{} // by backend
		before := map[string]CircuitState{}
		for step := range 2000 {
			now += rng.Int64N(second / 2)
			name := string(rune('a' + rng.IntN(3)))
			shunned := slices.Contains(o.Shunned(now, nil), name)
			for _, c := range o.Circuits(now, nil) {
				before[c.Backend] = c.State
			}
			switch {
			case before[name] == CircuitClosed && shunned:
				t.Fatalf("seed %d, step %d: a closed circuit shuns", seed, step)
			case before[name] == CircuitOpen && !shunned:
				t.Fatalf("seed %d, step %d: an open circuit does not shun", seed, step)
			case before[name] != CircuitClosed && !shunned && now-opened[name] < 5*second:
				t.Fatalf("seed %d, step %d: a client after %d ns, want it open for 5 s", seed, step, now-opened[name])
			case before[name] == CircuitHalfOpen && !shunned && now-probed[name] < second:
				t.Fatalf("seed %d, step %d: two clients within %d ns", seed, step, now-probed[name])
			}
			if !shunned {
				o.Goes(name, now)
				probed[name] = now
			}
			kind := []Event{ConnectFailed, Silent, ServerFailed, Busy, Answered, Answered}[rng.IntN(6)]
			if step/100%2 == 0 && kind == Answered { // in bad times
				kind = ConnectFailed
			}
			o.Observe(name, kind, rng.Uint64N(100), now)
			open := 0
			for _, c := range o.Circuits(now, nil) {
				if c.State == CircuitOpen && before[c.Backend] != CircuitOpen {
					opened[c.Backend] = now
				}
				if c.State != CircuitClosed {
					open++
				}
				if (c.State == CircuitClosed) != (c.Since == 0) {
					t.Fatalf("seed %d, step %d: %s since %d", seed, step, c.State, c.Since)
				}
			}
			if got := int(o.tripped.Load()); got != open {
				t.Fatalf("seed %d, step %d: counts %d circuits that are not closed, want %d", seed, step, got, open)
			}
		}
		if len(opened) != 3 {
			t.Fatalf("seed %d: only %d circuits have ever opened", seed, len(opened))
		}
	}
}

func TestCircuitStateNames(t *testing.T) {
	t.Parallel()
	got := fmt.Sprint(CircuitClosed, CircuitOpen, CircuitHalfOpen, CircuitHalfOpen+1)
	if got != "closed open half_open unknown" {
		t.Errorf("got %s", got)
	}
}
