package balancer

import "testing"

// A client whose session is known to be somewhere goes there while that backend would take any client; where sessions live
// on one broker, as long as it takes anybody at all. Its group counts more.
func TestPlaceWhereTheSessionIs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		phase   Phase // of the backend with the session
		node    bool
		group   string
		tried   []string
		resumed bool
	}{
		{name: "ready", phase: Ready, resumed: true},
		{name: "ramping", phase: Ramping, resumed: true},
		{name: "hot", phase: Hot},
		{name: "draining", phase: Draining},
		{name: "down", phase: Down},
		{name: "it has failed the client", phase: Ready, tried: []string{"n2"}},
		{name: "member of a group", phase: Ready, group: "g"},
		{name: "node, hot", phase: Hot, node: true, resumed: true},
		{name: "node, draining", phase: Draining, node: true, resumed: true},
		{name: "node, down", phase: Down, node: true},
		{name: "node, member of a group", phase: Ready, node: true, group: "g", resumed: true},
	} {
		b, err := NewBrain(BrainOptions{Strategy: "client-hash", Placement: Options{NodeScope: c.node}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		b.Join([]Backend{{Name: "n1"}, {Name: "n2", Phase: c.phase}, {Name: "n3"}}, 1)
		client := Client{ID: "auto-1", Group: c.group, Ordinal: -1, Persistent: true, At: "n2"}
		before, said := b.Preview(client, c.tried, 1)
		at, why := b.Place(client, c.tried, 1)
		if got := b.Snapshot().Backends[at].Name; (why.Cause == Resumed) != c.resumed || c.resumed && got != "n2" {
			t.Errorf("%s: got %s (%v), want resumed %v", c.name, got, why, c.resumed)
		}
		if before != at || said.Cause != why.Cause {
			t.Errorf("%s: preview says %d (%v), place %d (%v)", c.name, before, said, at, why)
		}
		client.At = "gone"
		if _, why := b.Place(client, nil, 1); why.Cause == Resumed {
			t.Errorf("%s: got %v for a backend that is not there", c.name, why)
		}
	}
}
