package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// placedYAML is appYAML with these settings of the placement.
func placedYAML(placement string, backends ...string) string {
	return strings.Replace(appYAML("", backends...), "{name: test, ", "{name: test, placement: "+placement+", ", 1)
}

// The rules of the configuration reach the placement, and what they lead to is seen everywhere.
func TestAppSpreadsGroups(t *testing.T) {
	t.Parallel()
	a := startApp(t, placedYAML(
		`{strategy: client-hash, groups: [{client_id: '^(?P<group>worker)-(?P<ord>\d+)$'}, {username: '^(?P<group>svc)$'}]}`,
		startBroker(t).Addr(), startBroker(t).Addr(), startBroker(t).Addr()))
	var conns []net.Conn
	for i := range 9 {
		conns = append(conns, enter(t, a.address, fmt.Sprint("worker-", i)))
	}
	enter(t, a.address, "device")
	a.wantMetric(`mqttlb_groups{cluster="test"} 1`)
	a.wantMetric(`mqttlb_group_members{cluster="test"} 9`)
	a.wantMetric(`mqttlb_group_spread_max{cluster="test"} 0`)
	a.wantMetric(`mqttlb_placements_total{cluster="test",reason="ordinal_seat",strategy="group-spread"} 9`)
	a.wantMetric(`mqttlb_placements_total{cluster="test",reason="home",strategy="client-hash"} 1`)
	a.wantMetric(`mqttlb_cluster_state{cluster="test",state="balanced"} 1`)
	a.wantMetric(`mqttlb_cluster_state{cluster="test",state="rolling"} 0`)
	_, body := a.get("/api/v1/clusters/test/groups")
	if !strings.Contains(body, `"group":"worker","members":9,"leased":0,"spread":0,"backends":[{"backend":"b0","members":3,`) {
		t.Errorf("got groups %s, want 3 of 9 workers on each backend", body)
	}
	if _, body := a.get("/api/v1/clients?group=worker"); strings.Count(body, `"group":"worker"`) != 9 || strings.Contains(body, "device") {
		t.Errorf("got members %s, want the 9 workers", body)
	}
	// A member that drops keeps its seat, 30 s unless configured.
	_ = conns[0].Close()
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 9`)
	if _, body := a.get("/api/v1/clusters/test/groups"); !strings.Contains(body, `"members":8,"leased":1,`) {
		t.Errorf("got groups %s, want one seat kept", body)
	}
	enter(t, a.address, "worker-0")
	a.wantMetric(`mqttlb_placements_total{cluster="test",reason="seat_lease",strategy="group-spread"} 1`)
}

// seat_lease: 0 keeps nothing.
func TestAppWithoutLeases(t *testing.T) {
	t.Parallel()
	a := startApp(t, placedYAML(`{groups: [{client_id: '^(?P<group>worker)-'}], seat_lease: 0}`, startBroker(t).Addr()))
	_ = enter(t, a.address, "worker-0").Close()
	a.wantMetric(`mqttlb_connections{listener="mqtt"} 0`)
	a.wantMetric(`mqttlb_groups{cluster="test"} 0`)
}

// Several instances begin at different backends, so that the first members of their groups do not meet.
func TestAppRotatesByInstance(t *testing.T) {
	t.Parallel()
	brokers := []string{startBroker(t).Addr(), startBroker(t).Addr(), startBroker(t).Addr()}
	for g := range 5 {
		seen := make(map[string]bool)
		for i := range 3 {
			yaml := placedYAML(`{groups: [{client_id: '^(?P<group>g\d)-'}]}`, append([]string(nil), brokers...)...)
			a := startApp(t, yaml+fmt.Sprintf("instance: {index: %d, count: 3}\n", i))
			enter(t, a.address, fmt.Sprintf("g%d-%d", g, i))
			for _, b := range a.clusters()[0].Status().Backends {
				if b.Connections > 0 {
					seen[b.Name] = true
				}
			}
		}
		if len(seen) != 3 {
			t.Errorf("group %d: got its first members of 3 instances on %v, want 3 backends", g, seen)
		}
	}
}

// session_scope: node takes clients with a session out of their group.
func TestAppWithSessionsOnNodes(t *testing.T) {
	t.Parallel()
	a := startApp(t, placedYAML(`{session_scope: node, groups: [{client_id: '^(?P<group>worker)-'}]}`, startBroker(t).Addr()))
	if _, body := a.get("/api/v1/explain?client_id=worker-1&persistent=true"); !strings.Contains(body, `"kind":"persistent"`) || !strings.Contains(body, `"home by hash"`) {
		t.Errorf("got %s, want home by hash", body)
	}
	if _, body := a.get("/api/v1/explain?client_id=worker-1"); !strings.Contains(body, `"kind":"grouped"`) {
		t.Errorf("got %s, want a member of a group", body)
	}
}

// The state of the cluster follows the time: two versions are a rolling update, at the first tick.
func TestAppFollowsTheState(t *testing.T) {
	t.Parallel()
	yaml := strings.Replace(appYAML("", "127.0.0.1:1", "127.0.0.1:2"), "{name: b0, ", "{name: b0, labels: {version: one}, ", 1)
	a := startApp(t, strings.Replace(yaml, "{name: b1, ", "{name: b1, labels: {version: two}, ", 1))
	a.wantLog(`msg="the cluster's state has changed" instance=host cluster=test from=balanced to=rolling`)
	a.wantMetric(`mqttlb_cluster_state{cluster="test",state="rolling"} 1`)
	a.wantMetric(`mqttlb_cluster_state{cluster="test",state="balanced"} 0`)
}
