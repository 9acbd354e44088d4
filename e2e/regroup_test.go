//go:build linux

package e2e

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// consuming are consumers of the shared subscription of a group, whom nothing but SUBSCRIBE gives away.
func consuming(group string) manners {
	return manners{prefix: group, wish: func(version byte) []byte {
		body := []byte{0, 1} // packet identifier
		if version == v5 {
			body = append(body, 0) // no properties
		}
		return packet(0x82, append(text(body, "$share/"+group+"/jobs/#"), 0))
	}}
}

// sits are how many members of a group each broker has, in order.
func (l *lb) sits(t *testing.T, group string, brokers []string) []int {
	t.Helper()
	seats := l.seats(t, group)
	n := make([]int, len(brokers))
	for _, broker := range seats {
		n[slices.Index(brokers, broker)]++
	}
	slices.Sort(n)
	return n
}

// events follows what mqttlb tells about its clients' moves, until the end of the test.
func (l *lb) events(t *testing.T) *logBook {
	t.Helper()
	book := newLogBook()
	start(t, book, exec.Command(mqttlb, "events", "--json", "--kind", "eviction,lost", "--admin", l.socket))
	return book
}

// Twelve consumers of one group were there when there was only one broker. When two more join, as few of them move as
// can be, one after the other: the group never lacks two.
func TestASkewedGroupIsRepairedOneMemberAtATime(t *testing.T) {
	t.Parallel()
	const members, least = 12, 8
	names, port := hosts(t, 3)
	for _, name := range names {
		startMosquittoOn(t, hostPort(name, port))
	}
	r := newListFile(t)
	r.list(names[0])
	l := startLB(t, settings{discovery: r.source(port), log: quietly, cluster: brisk("0s") + moving(100, 100) + "placement: {groups: [{learn: true}]}\n"})
	s := swarmOf(t, l, members, consuming("billing"))
	swarmOf(t, l, 3, manners{prefix: "bystander"})
	inTime(t, patience, "SUBSCRIBE has given them away", func() bool { return l.members(t, "billing") == "12 0 0" })
	told := l.events(t)

	r.list(names...)
	inTime(t, time.Minute, "the group is even", func() bool {
		return slices.Equal(l.sits(t, "billing", names), []int{4, 4, 4}) && s.present() == members
	})
	time.Sleep(3 * time.Second) // a new plan would have begun
	if got := l.sits(t, "billing", names); !slices.Equal(got, []int{4, 4, 4}) {
		t.Errorf("the brokers have %v members of the group", got)
	}
	if got := l.members(t, "billing"); got != "12 0 0" {
		t.Errorf("members, leases and spread are %s, want 12 0 0", got)
	}
	if n := len(s.cuts()); n != least {
		t.Errorf("%d members were moved, %d would do", n, least)
	}
	for id, n := range s.moved() {
		if n > 1 {
			t.Errorf("member %s was moved %d times", id, n)
		}
	}
	if away := mostAway(s.happened()); away != 1 {
		t.Errorf("up to %d members were away at the same time", away)
	}
	evictions := 0
	for line := range strings.Lines(told.String()) {
		var e struct {
			Kind   string `json:"kind"`
			Client string `json:"client_id"`
			From   string `json:"from"`
			To     string `json:"to"`
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in the event %s", err, line)
		}
		if e.Kind != "eviction" || !strings.HasPrefix(e.Client, "billing-") {
			continue
		}
		evictions++
		if home := l.homes(t)[e.Client]; e.From != names[0] || e.To != home || e.Reason == "" {
			t.Errorf("client %s is on %s, and the event is %s", e.Client, home, line)
		}
	}
	if evictions != least {
		t.Errorf("the events tell of %d moved members:\n%s", evictions, told)
	}
}
