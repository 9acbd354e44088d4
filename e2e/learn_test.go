//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tellsBySubscribing finds groups in SUBSCRIBE, and nowhere else. Without a bound clients go where the hash says.
const tellsBySubscribing = `placement:
  bounded_load: 0
  groups: [{learn: true}]
`

// mosquittos are real brokers a, b, c and so on.
func mosquittos(t *testing.T, n int) (list []backend) {
	t.Helper()
	for i := range n {
		list = append(list, backend{string(rune('a' + i)), startMosquitto(t).address})
	}
	return list
}

// enter connects a client to a real broker, whose CONNACK has what properties it likes.
func enter(t *testing.T, l *lb, o opening) *net.TCPConn {
	t.Helper()
	c := dial(t, l.address, "")
	send(t, c, o.bytes())
	if answer, err := readPacket(c); err != nil || answer[0] != 0x20 || answer[3] != 0 {
		t.Fatalf("got %x and %v instead of CONNACK", answer, err)
	}
	return c
}

// share subscribes to a shared subscription and waits until the broker has granted it.
func share(t *testing.T, c *net.TCPConn, version byte, id byte, filter string) {
	t.Helper()
	request(t, c, 0x82, version, id, text(nil, filter), []byte{1})
}

// unshare is the end of a shared subscription.
func unshare(t *testing.T, c *net.TCPConn, version byte, id byte, filter string) {
	t.Helper()
	request(t, c, 0xa2, version, id, text(nil, filter), nil)
}

// request sends SUBSCRIBE or UNSUBSCRIBE, in two pieces, and waits for the answer.
func request(t *testing.T, c *net.TCPConn, first, version, id byte, filter, options []byte) {
	t.Helper()
	body := []byte{0, id}
	if version == v5 {
		body = append(body, 0)
	}
	b := packet(first, slices.Concat(body, filter, options))
	cut := rand.IntN(len(b))
	send(t, c, b[:cut])
	time.Sleep(moment)
	send(t, c, b[cut:])
	answer, err := readPacket(c)
	if err != nil || answer[0]&0xf0 != first&0xf0+0x10 || answer[3] != id || answer[len(answer)-1] >= 0x80 && len(answer) > 4 {
		t.Fatalf("got %x and %v instead of an answer to %x", answer, err, b)
	}
}

// consumers are connected clients whose ids tell nothing, six on broker a, four on b and two on c, as the hash wants.
func consumers(t *testing.T, l *lb) (conns map[string]*net.TCPConn, versions map[string]byte) {
	t.Helper()
	conns, versions = make(map[string]*net.TCPConn), make(map[string]byte)
	for wanted := (map[string]int{"a": 6, "b": 4, "c": 2}); len(conns) < 12; {
		id := fmt.Sprintf("%016x", rand.Uint64())
		broker := homeOf(t, l, id)
		if wanted[broker] == 0 {
			continue
		}
		wanted[broker]--
		versions[id] = []byte{v311, v5}[len(conns)%2]
		conns[id] = enter(t, l, opening{id: id, version: versions[id]})
	}
	return conns, versions
}

// apart is how far the brokers are apart in members of a group, and how many members there are.
func (l *lb) apart(t *testing.T, group string) (spread, members int) {
	t.Helper()
	seats := l.seats(t, group)
	n := map[string]int{"a": 0, "b": 0, "c": 0}
	for _, broker := range seats {
		n[broker]++
	}
	counts := slices.Collect(maps.Values(n))
	return slices.Max(counts) - slices.Min(counts), len(seats)
}

// wantMembers waits until a group has so many members, so far apart.
func (l *lb) wantMembers(t *testing.T, group string, members, spread int) {
	t.Helper()
	what := fmt.Sprintf("group %s has %d members, %d apart", group, members, spread)
	eventually(t, patience, what, func() bool {
		s, n := l.apart(t, group)
		return n == members && s == spread
	})
}

func TestConsumersThatOnlySubscribeTellsAreSpreadAtTheirSecondConnect(t *testing.T) {
	t.Parallel()
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprint("together=", together), func(t *testing.T) {
			t.Parallel()
			l := startLB(t, settings{backends: mosquittos(t, 3), cluster: tellsBySubscribing})
			conns, versions := consumers(t, l)
			for id, c := range conns {
				share(t, c, versions[id], 1, "$share/workers/jobs/#")
			}
			l.wantMembers(t, "workers", 12, 4)
			if got := l.members(t, "workers"); got != "12 0 4" {
				t.Errorf("groups shows members, leases and spread %s, want 12 0 4", got)
			}
			if n := l.metric(t, `mqttlb_learned_clients{cluster="brokers"}`); n != 12 {
				t.Errorf("the metric tells of %v learned clients, want 12", n)
			}
			if !together {
				for id, c := range conns {
					offset := len(l.log.String())
					c.Close()
					l.ended(t, id, offset)
					share(t, enter(t, l, opening{id: id, version: versions[id]}), versions[id], 1, "$share/workers/jobs/#")
				}
			} else {
				offset := len(l.log.String())
				for id, c := range conns {
					c.Close()
					l.ended(t, id, offset)
				}
				for id := range conns {
					share(t, enter(t, l, opening{id: id, version: versions[id]}), versions[id], 1, "$share/workers/jobs/#")
				}
			}
			l.wantMembers(t, "workers", 12, 0)
			for id := range conns {
				status, out := command(t, "explain", id, "--admin", l.socket)
				if status != 0 || !strings.Contains(out, "member of group workers, learned from SUBSCRIBE") {
					t.Fatalf("explain: exit status %d\n%s", status, out)
				}
				break
			}
		})
	}
}

func TestAMemberLeavesItsGroupWithItsLastFilter(t *testing.T) {
	t.Parallel()
	for _, version := range []byte{v311, v5} {
		t.Run(fmt.Sprint("level=", version), func(t *testing.T) {
			t.Parallel()
			l := startLB(t, settings{backends: mosquittos(t, 1), cluster: tellsBySubscribing})
			c := enter(t, l, opening{id: "c", version: version})
			share(t, c, version, 1, "$share/workers/a")
			share(t, c, version, 2, "$share/workers/b")
			share(t, c, version, 3, "$share/others/a")
			unshare(t, c, version, 4, "$share/workers/a")
			eventually(t, patience, "the client is a worker", func() bool { return l.members(t, "workers") == "1 0 0" })
			unshare(t, c, version, 5, "$share/workers/b")
			eventually(t, patience, "the client is one of the others", func() bool { return l.members(t, "others") == "1 0 0" && l.members(t, "workers") == "none" })
			unshare(t, c, version, 6, "$share/others/a")
			eventually(t, patience, "the client is in no group", func() bool { return l.members(t, "others") == "none" })
			c.Close()
			l.ended(t, "c", 0)
			enter(t, l, opening{id: "c", version: version})
			if got := l.members(t, "others"); got != "none" {
				t.Errorf("group others has %s when the client comes again, want none", got)
			}
		})
	}
}

// A client that resumes its session does not subscribe again, and is a member all the same.
func TestAResumedSessionIsStillAMember(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: mosquittos(t, 1), cluster: tellsBySubscribing})
	c := enter(t, l, opening{id: "c", keep: true})
	share(t, c, v311, 1, "$share/workers/a")
	c.Close()
	l.ended(t, "c", 0)
	c = dial(t, l.address, "")
	send(t, c, opening{id: "c", keep: true}.bytes())
	expect(t, c, []byte{0x20, 2, 1, 0}) // the session is there
	eventually(t, patience, "the client is a worker", func() bool { return l.members(t, "workers") == "1 0 0" })
	unshare(t, c, v311, 2, "$share/workers/a")
	eventually(t, patience, "the client is in no group", func() bool { return l.members(t, "workers") == "none" })
}

func TestWhatWasLearnedSurvivesARestart(t *testing.T) {
	t.Parallel()
	state := filepath.Join(t.TempDir(), "state")
	l := startLB(t, settings{backends: mosquittos(t, 3), cluster: tellsBySubscribing, state: state})
	conns, versions := consumers(t, l)
	for id, c := range conns {
		share(t, c, versions[id], 1, "$share/workers/jobs/#")
	}
	l.wantMembers(t, "workers", 12, 4)
	for _, c := range conns {
		c.Close() // or mqttlb would wait for them
	}
	l.signal(t, syscall.SIGTERM)
	if status := l.exit(t, patience); status != 0 {
		t.Fatalf("mqttlb ended with status %d", status)
	}
	again := restart(t, l)
	for id := range conns {
		conns[id] = enter(t, again, opening{id: id, version: versions[id]})
	}
	again.wantMembers(t, "workers", 12, 0)

	for _, c := range conns {
		c.Close()
	}
	again.signal(t, syscall.SIGTERM)
	again.exit(t, patience)
	if err := os.WriteFile(state, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	last := restart(t, again)
	last.logged(t, 0, "the state file cannot be used; what was learned before is lost")
	enter(t, last, opening{id: "c"})
}
