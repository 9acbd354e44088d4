//go:build linux

package e2e

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// workers makes clients with ids like worker-17 members of the group worker.
const workers = `placement:
  groups: [{client_id: '^(?P<group>[a-z]+\d*)-\d+$'}]
`

type groupList struct {
	Groups []struct {
		Group    string `json:"group"`
		Members  int    `json:"members"`
		Leased   int    `json:"leased"`
		Spread   int    `json:"spread"`
		Backends []struct {
			Backend string `json:"backend"`
			Members int    `json:"members"`
		} `json:"backends"`
	} `json:"groups"`
}

// members asks for the groups and returns those of one as "members leased spread".
func (l *lb) members(t *testing.T, group string) string {
	t.Helper()
	var list groupList
	l.get(t, "/api/v1/clusters/brokers/groups", url.Values{"limit": {"10000"}}, &list)
	for _, g := range list.Groups {
		sum := 0
		for _, b := range g.Backends {
			sum += b.Members
		}
		if g.Group == group {
			if sum != g.Members {
				t.Errorf("group %s has %d members, and %d on all brokers", group, g.Members, sum)
			}
			return fmt.Sprintf("%d %d %d", g.Members, g.Leased, g.Spread)
		}
	}
	return "none"
}

// seats are the brokers of the members of a group, by client id.
func (l *lb) seats(t *testing.T, group string) map[string]string {
	t.Helper()
	var list clientList
	l.get(t, "/api/v1/clients", url.Values{"group": {group}, "limit": {"10000"}}, &list)
	seats := make(map[string]string)
	for _, c := range list.Clients {
		seats[c.ClientID] = c.Backend
	}
	return seats
}

// spread is how far the brokers are apart in connections.
func spread(brokers []*greeter) int {
	var counts []int
	for _, b := range brokers {
		counts = append(counts, b.present())
	}
	return slices.Max(counts) - slices.Min(counts)
}

func TestMembersOfAGroupAreNeverMoreThanOneApartWhileTheyArrive(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: workers})
	for i := range 40 {
		connect(t, l, opening{id: fmt.Sprint("worker-", i)}, "")
		if n := spread(brokers); n > 1 {
			t.Fatalf("after %d arrivals the brokers are %d apart", i+1, n)
		}
		want := fmt.Sprintf("%d 0 %d", i+1, min((i+1)%3, 1))
		if got := l.members(t, "worker"); got != want {
			t.Fatalf("after %d arrivals the API has members, leases and spread %s, want %s", i+1, got, want)
		}
	}
	if n := l.metric(t, `mqttlb_group_spread_max{cluster="brokers"}`); n != 1 {
		t.Errorf("the metric of the spread is %v, want 1", n)
	}
	if n := l.metric(t, `mqttlb_placements_total{cluster="brokers",reason="emptiest",strategy="group-spread"}`); n != 40 {
		t.Errorf("%v members were placed where their group was emptiest, want 40", n)
	}
}

func TestMembersThatArriveTogetherAreSpreadTheSame(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: workers})
	var arriving sync.WaitGroup
	for k := range 8 {
		arriving.Go(func() {
			for i := range 5 {
				c, err := net.Dial("tcp", l.address)
				if err != nil {
					t.Error(err)
					return
				}
				adopt(t, c)
				if _, err := c.Write(opening{id: fmt.Sprintf("worker-%d%d", k, i)}.bytes()); err != nil {
					t.Error(err)
				}
				if _, err := readPacket(c); err != nil {
					t.Error(err)
				}
			}
		})
	}
	arrived := make(chan struct{})
	go func() { arriving.Wait(); close(arrived) }()
	for looking := true; looking; {
		select {
		case <-arrived:
			looking = false
		default:
		}
		if got := l.members(t, "worker"); got != "none" && !strings.HasSuffix(got, " 0") && !strings.HasSuffix(got, " 1") {
			t.Fatalf("members, leases and spread are %s while they arrive", got)
		}
	}
	if got := l.members(t, "worker"); got != "40 0 1" || spread(brokers) != 1 {
		t.Errorf("members, leases and spread are %s in the end, and the brokers are %d apart", got, spread(brokers))
	}
}

func TestTwoMembersNeverMeetOnABroker(t *testing.T) {
	t.Parallel()
	const groups = 200
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: workers})
	for m := range 2 {
		for g := range groups {
			connect(t, l, opening{id: fmt.Sprintf("pair%d-%d", g, m)}, "")
		}
	}
	for _, b := range brokers {
		met := 0
		for g := range groups {
			if b.visits(fmt.Sprintf("pair%d-0", g))+b.visits(fmt.Sprintf("pair%d-1", g)) > 1 {
				met++
			}
		}
		if met > 0 {
			t.Errorf("%d of %d groups have both members on broker %s", met, groups, b.name)
		}
	}
	if n := l.metric(t, `mqttlb_groups{cluster="brokers"}`); n != groups {
		t.Errorf("there are %v groups, want %d", n, groups)
	}
}

func TestMembersThatDropFindTheirBrokerAgain(t *testing.T) {
	t.Parallel()
	l := startLB(t, settings{backends: behind(greeters(t, 3)), cluster: workers})
	conns := make(map[string]*net.TCPConn)
	for i := range 40 {
		id := fmt.Sprint("worker-", i)
		conns[id] = connect(t, l, opening{id: id}, "")
	}
	before := l.seats(t, "worker")
	gone := slices.Sorted(maps.Keys(conns))[:12]
	for i, id := range gone {
		if i%2 == 0 {
			conns[id].Close()
		} else {
			reset(t, conns[id])
		}
	}
	eventually(t, patience, "28 members and 12 leases", func() bool { return strings.HasPrefix(l.members(t, "worker"), "28 12 ") })
	for i := range 5 {
		connect(t, l, opening{id: fmt.Sprint("worker-", 100+i)}, "") // newcomers do not get their seats
	}
	slices.Reverse(gone)
	for _, id := range gone {
		connect(t, l, opening{id: id}, "")
	}
	after := l.seats(t, "worker")
	for id, broker := range before {
		if after[id] != broker {
			t.Errorf("client %s is on broker %s, before it dropped on %s", id, after[id], broker)
		}
	}
	if n := l.metric(t, `mqttlb_placements_total{cluster="brokers",reason="seat_lease",strategy="group-spread"}`); n != 12 {
		t.Errorf("%v members came back to their seats, want 12", n)
	}
}

func TestAMemberThatTakesItsSessionOverComesToTheSameBroker(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: workers})
	for i := range 10 {
		connect(t, l, opening{id: fmt.Sprint("worker-", i)}, "")
	}
	connect(t, l, opening{id: "worker-3"}, "")
	for _, b := range brokers {
		if n := b.visits("worker-3"); n == 1 {
			t.Error("the two connections of worker-3 are on different brokers")
		}
	}
	if got := l.members(t, "worker"); got != "10 0 1" {
		t.Errorf("members, leases and spread are %s with one member connected twice, want 10 0 1", got)
	}
}

func TestMembersOfAFailedBrokerAreSpreadOverTheOthers(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: workers})
	brokers[0].ln.Close()
	for i := range 12 {
		connect(t, l, opening{id: fmt.Sprint("worker-", i)}, "")
		if n := spread(brokers[1:]); n > 1 {
			t.Fatalf("after %d arrivals the two others are %d apart", i+1, n)
		}
	}
	if n := l.metric(t, `mqttlb_backend_connect_failures_total{backend="a",cluster="brokers",reason="refused"}`); n == 0 {
		t.Error("nobody tried the failed broker")
	}
}

func TestGroupsAreFoundInUserNamesAndProperties(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers), cluster: `placement:
  groups:
    - {username: '^(?P<group>svc)-'}
    - {user_property: lb-group}
`})
	for i := range 6 {
		connect(t, l, opening{id: fmt.Sprint("a", i), username: fmt.Sprint("svc-", i)}, "")
		connect(t, l, opening{id: fmt.Sprint("b", i), version: v5, group: "ingest"}, "")
		connect(t, l, opening{version: v5, group: "nameless"}, "")
		connect(t, l, opening{id: fmt.Sprint("c", i), version: v311, group: "ingest"}, "")
	}
	for group, want := range map[string]string{"svc": "6 0 0", "ingest": "6 0 0", "nameless": "6 0 0"} {
		if got := l.members(t, group); got != want {
			t.Errorf("group %s has members, leases and spread %s, want %s", group, got, want)
		}
	}
}

func TestHeaderNamesTheGroup(t *testing.T) {
	t.Parallel()
	broker := newStub(t, "a")
	l := startLB(t, settings{backends: []backend{broker.backend()}, cluster: workers + `proxy_protocol:
  version: 2
  custom: [{type: 0xE4, value: "{group}"}, {type: 0xE5, value: "by {strategy}"}]
`})
	for id, want := range map[string]string{"worker-1": "worker", "device": ""} {
		o := opening{id: id}
		c := dial(t, l.address, "")
		send(t, c, o.bytes())
		h := readHeader(t, broker.accept(t), o.bytes())
		if got, found := h.tlvs[0xE4]; got != want || found != (want != "") {
			t.Errorf("client %s: the header names group %q, want %q", id, got, want)
		}
		if got, want := h.tlvs[0xE5], map[string]string{"worker": "by group-spread", "": "by client-hash"}[want]; got != want {
			t.Errorf("client %s: the header says %q, want %q", id, got, want)
		}
	}
}

func TestEveryStrategyPlacesClientsAndGroups(t *testing.T) {
	t.Parallel()
	for strategy, by := range map[string]string{
		"adaptive": "client-hash", "client-hash": "client-hash", "maglev": "maglev", "metric-wrr": "metric-wrr",
		"least-connections": "least-connections", "round-robin": "round-robin", "random": "random",
	} {
		t.Run(strategy, func(t *testing.T) {
			t.Parallel()
			brokers := greeters(t, 3)
			l := startLB(t, settings{backends: behind(brokers), cluster: workers + "  strategy: " + strategy})
			for i := range 60 {
				connect(t, l, opening{id: fmt.Sprint("device", i)}, "")
			}
			for _, b := range brokers {
				if n := b.present(); n < 5 || n > 35 {
					t.Errorf("broker %s has %d of 60 clients", b.name, n)
				}
			}
			for i := range 9 {
				connect(t, l, opening{id: fmt.Sprint("worker-", i)}, "")
			}
			if got := l.members(t, "worker"); got != "9 0 0" {
				t.Errorf("members, leases and spread are %s, want 9 0 0", got)
			}
			connect(t, l, opening{id: "last"}, "").Close()
			if r, _ := l.ended(t, "last", 0); r["strategy"] != by {
				t.Errorf("placed by %s, want %s", r["strategy"], by)
			}
			status, out := command(t, "explain", "next", "--admin", l.socket)
			if status != 0 || !strings.Contains(out, "strategy "+strategy) || !strings.Contains(out, "goes to   ") {
				t.Errorf("exit status %d:\n%s", status, out)
			}
		})
	}
}
