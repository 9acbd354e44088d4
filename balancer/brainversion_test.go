package balancer

import (
	"testing"
)

// The version that a broker reports is its label from the next Tick on, unless the source names one; it stays while
// the same process is there.
func TestBrainVersion(t *testing.T) {
	t.Parallel()
	for _, watched := range []bool{false, true} {
		b := newTestBrain(t, BrainOptions{Watched: watched}, 0)
		now := int64(0)
		set := named("a", "b")
		set[0].Labels = map[string]string{"zone": "x"}
		set[1].Labels = map[string]string{VersionLabel: "9"}
		for i := range set {
			set[i].Address = "10.0.0.1:1883"
		}
		expect := func(what, name, want string, generations uint64) {
			t.Helper()
			before := b.Snapshot()
			now += second
			b.Tick(now)
			s := b.Snapshot()
			if got := s.Backends[s.Index(name)].Labels[VersionLabel]; got != want || s.Generation-before.Generation != generations {
				t.Errorf("%s (watched %t): %s has version %q after %d new snapshots, want %q after %d", what, watched, name, got,
					s.Generation-before.Generation, want, generations)
			}
		}
		b.Join(set, now)
		b.Version("a", "4")
		if got := b.Snapshot().Backends[0].Labels[VersionLabel]; got != "" {
			t.Errorf("got version %q before the next tick, want none", got)
		}
		expect("reported", "a", "4", 1)
		if s := b.Snapshot(); s.Backends[0].Labels["zone"] != "x" || len(set[0].Labels) != 1 {
			t.Errorf("got labels %v, and the source's %v, want both of the first and one of the second", s.Backends[0].Labels, set[0].Labels)
		}
		b.Version("a", "4")
		expect("the same again", "a", "4", 0)
		b.Version("b", "3")
		expect("another one than the source's", "b", "9", 0)
		b.Version("unheard-of", "3")

		b.Version("a", "5")
		expect("updated in place", "a", "5", 1)
		if got := b.State().Cluster; got != Rolling {
			t.Errorf("got state %v while there are versions 5 and 9, want rolling", got)
		}
		b.Join(set, now)
		expect("joined again", "a", "5", 0)
		set[0].Labels = map[string]string{VersionLabel: "6"}
		b.Join(set, now)
		expect("named by the source", "a", "6", 0)
		set[0].Labels = nil
		b.Join(set, now)
		expect("not named any more", "a", "5", 0)
		b.Version("a", "")
		expect("not read any more", "a", "", 1)

		b.Version("a", "5")
		expect("read again", "a", "5", 1)
		set[0].Address = "10.0.0.2:1883"
		b.Join(set, now)
		expect("a new address", "a", "", 0)

		b.Version("a", "5")
		expect("read there", "a", "5", 1)
		for b.Connections("a") == 0 { // so that it stays when it leaves
			b.Place(Client{}, nil, now)
		}
		b.Join(set[1:], now)
		b.Version("a", "7")
		expect("left", "a", "5", 0)
		b.Join(set, now)
		if s := b.Snapshot(); s.Backends[0].Labels[VersionLabel] != "" {
			t.Errorf("got labels %v of one that has returned, want none", s.Backends[0].Labels)
		}
	}
}
