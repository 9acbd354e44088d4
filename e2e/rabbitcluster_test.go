//go:build linux

package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// Two nodes of RabbitMQ, which insist on the PROXY header, from probes too, and speak no MQTT 5.
func TestARabbitMQClusterIsReadAndDrained(t *testing.T) {
	t.Parallel()
	nodes := startRabbits(t, "127.0.1.1", "127.0.1.2")
	l := startLB(t, settings{
		backends: []backend{{"a", nodes[0].address}, {"b", nodes[1].address}},
		cluster: quick + proxyOn +
			fmt.Sprintf("load: {preset: rabbitmq, url: \"http://{host}:%d/metrics\", interval: 1s}\n", nodes[0].metrics),
	})
	l.reach(t, patience, "ready", "a", "b")

	all := make(herd)
	for i := range 30 {
		id := fmt.Sprint("device-", i)
		all[id] = connect(t, l, opening{id: id}, fmt.Sprintf("127.0.2.%d", i+1))
	}
	homes := l.homes(t)
	atLeast(t, homes, "device", []string{"a", "b"}, 5)
	list := nodes[0].ctl(t, "list_mqtt_connections", "client_id", "peer_host", "peer_port", "protocol")
	for id, c := range all {
		host, port, _ := net.SplitHostPort(c.LocalAddr().String())
		if !strings.Contains(list, strings.Join([]string{id, host, port}, "\t")+"\t") {
			t.Errorf("RabbitMQ does not know client %s as %s port %s:\n%s", id, host, port, list)
		}
	}
	all.ping(t)

	for _, name := range []string{"a", "b"} { // it is not quite idle while it is asked
		eventually(t, patience, "the load of broker "+name+" is read", func() bool { return l.views(t)[name].Load.Util > 0 })
		if v := l.views(t)[name]; v.Load.Util > 1.5 || v.Load.Error != "" {
			t.Errorf("the load of broker %s is %v", name, v.Load)
		}
		want := strings.TrimSpace(nodes[0].ctl(t, "eval", `io:format("~s~n", [rabbit_misc:version()]).`))
		want, _, _ = strings.Cut(want, "\n") // the rest is what io:format returns
		if v := l.views(t)[name]; v.Labels["version"] != want || want == "" {
			t.Errorf("the labels of broker %s are %v, want version %q", name, v.Labels, want)
		}
	}

	// RabbitMQ 3.10 closes its listeners and ends the connections of its clients; with MQTT, those of the whole
	// cluster. All come back at once.
	nodes[0].tool(t, "rabbitmq-upgrade", "drain")
	for _, c := range all {
		expectClosed(t, c, patience)
	}
	all.join(t, l, all.ids())
	l.reach(t, patience, "down", "a")
	gather(t, l, "late", 10)
	for id, home := range l.homes(t) {
		if home != "b" {
			t.Errorf("client %s is on broker %s, which is drained", id, home)
		}
	}
	all.ping(t)

	nodes[0].tool(t, "rabbitmq-upgrade", "revive")
	l.reach(t, patience, "ready", "a", "b")
	late := gather(t, l, "last", 40)
	atLeast(t, l.homes(t), "last", []string{"a", "b"}, 5)
	late.ping(t)
}
