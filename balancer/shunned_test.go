package balancer

import (
	"fmt"
	"testing"
)

// threeAtWork is a brain with three backends, whose clients all belong to somebody.
func threeAtWork(t *testing.T, o BrainOptions) *Brain {
	t.Helper()
	b, err := NewBrain(o, 0)
	if err != nil {
		t.Fatal(err)
	}
	b.Join([]Backend{{Name: "a"}, {Name: "b"}, {Name: "c"}}, 0)
	return b
}

// Whatever the strategy, a shunned backend gets nobody while another one can take the client, and somebody if there is
// nobody else.
func TestShunnedBackendsAreTheLastChoice(t *testing.T) {
	t.Parallel()
	for _, strategy := range Names() {
		for _, group := range []string{"", "g"} {
			b := threeAtWork(t, BrainOptions{Strategy: strategy})
			b.Shun([]string{"a", "nobody"})
			for i := range 60 {
				client := Client{ID: fmt.Sprint("c", i), Group: group}
				at, why := b.Place(client, nil, 0)
				if at < 0 || b.Snapshot().Backends[at].Name == "a" {
					t.Fatalf("%s: client %d went to %d (%s), want b or c", strategy, i, at, why)
				}
			}
			if at, why := b.Place(Client{ID: "last", Group: group}, []string{"b", "c"}, 0); at != 0 {
				t.Errorf("%s: got %d (%s), want the shunned one: there is nobody else", strategy, at, why)
			}
			b.Shun(nil)
			found := false
			for i := range 60 {
				at, _ := b.Place(Client{ID: fmt.Sprint("d", i), Group: group}, nil, 0)
				found = found || at == 0
			}
			if !found {
				t.Errorf("%s: nobody went to a after it was not shunned any more", strategy)
			}
		}
	}
}

// Whatever the strategy, no backend has more connections than it may, and all places are used before anybody is
// turned away.
func TestNoBackendHasMoreThanItsLimit(t *testing.T) {
	t.Parallel()
	const most = 7
	for _, strategy := range Names() {
		for _, group := range []string{"", "g"} {
			b := threeAtWork(t, BrainOptions{Strategy: strategy, Most: most})
			for i := range 3 * most {
				if at, why := b.Place(Client{ID: fmt.Sprint("c", i), Group: group}, nil, 0); at < 0 {
					t.Fatalf("%s: client %d has no place: %s", strategy, i, why)
				}
			}
			for _, name := range []string{"a", "b", "c"} {
				if n := b.Connections(name); n != most {
					t.Errorf("%s: %s has %d connections, want %d", strategy, name, n, most)
				}
			}
			for _, ask := range []func(Client, []string, int64) (int, Reason){b.Preview, b.Place} {
				if at, why := ask(Client{ID: "late", Group: group}, nil, 0); at >= 0 || why.Cause != AllFull {
					t.Errorf("%s: got %d (%s), want nobody because all are full", strategy, at, why)
				}
			}
			b.Release(Client{ID: "c0", Group: group}, "a", Left, 0)
			if at, why := b.Place(Client{ID: "late", Group: group}, nil, 0); at != 0 {
				t.Errorf("%s: got %d (%s), want the place that is free", strategy, at, why)
			}
			if at, why := b.Place(Client{ID: "later", Group: group}, []string{"a", "b", "c"}, 0); at >= 0 || why.Cause != NoBackend {
				t.Errorf("%s: got %d (%s), want nobody because all were tried", strategy, at, why)
			}
			b.Join([]Backend{{Name: "a"}, {Name: "b"}, {Name: "c"}, {Name: "d"}}, 0)
			if at, why := b.Place(Client{ID: "later", Group: group}, nil, 0); at != 3 {
				t.Errorf("%s: got %d (%s), want the new backend", strategy, at, why)
			}
		}
	}
}

// The reason says what has kept a client away from home.
func TestReasonsOfShunnedAndFull(t *testing.T) {
	t.Parallel()
	b := threeAtWork(t, BrainOptions{Strategy: "client-hash"})
	home, _ := b.Preview(Client{ID: "x"}, nil, 0)
	name := b.Snapshot().Backends[home].Name
	b.Shun([]string{name})
	if _, why := b.Preview(Client{ID: "x"}, nil, 0); why.Cause != Shunned || why.Other != name {
		t.Errorf("got %s, want the open circuit of %s", why, name)
	}
	b.Shun(nil)
	if err := b.Reconfigure(BrainOptions{Strategy: "client-hash", Most: 1}, 0); err != nil {
		t.Fatal(err)
	}
	b.Place(Client{ID: "x"}, nil, 0)
	if _, why := b.Preview(Client{ID: "x"}, nil, 0); why.Cause != Full || why.Other != name {
		t.Errorf("got %s, want the limit of %s", why, name)
	}
}
