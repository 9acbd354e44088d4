//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rabbitScripts is where Debian puts RabbitMQ's own scripts. Those on the PATH insist on the user
// rabbitmq and its folders.
const rabbitScripts = "/usr/lib/rabbitmq/bin"

// A rabbit is a RabbitMQ node of its own: nothing in it is shared with another one on this host.
type rabbit struct {
	*broker
	node    string // its name in the cluster
	metrics int    // port
	env     []string
}

// startRabbitMQ runs a node with its MQTT listener expecting PROXY headers.
func startRabbitMQ(t *testing.T) *rabbit {
	t.Helper()
	return startRabbits(t, "127.0.0.1")[0]
}

// startRabbits runs a node on each of these addresses, all with the same ports for MQTT and for metrics. They
// form a cluster.
func startRabbits(t *testing.T, hosts ...string) []*rabbit {
	t.Helper()
	if _, err := os.Stat(rabbitScripts + "/rabbitmq-server"); err != nil {
		lacks(t, "rabbitmq-server")
	}
	need(t, "epmd")
	port, metrics, epmd := freePort(t), freePort(t), fmt.Sprint(freePort(t))
	start(t, newLogBook(), exec.Command("epmd", "-port", epmd, "-address", "127.0.0.1")) // else Erlang leaves one behind
	var nodes []*rabbit
	members := ""
	for i := range hosts {
		name := fmt.Sprintf("e2e%d-%d@localhost", port, i)
		members += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = %s\n", i+1, name)
		nodes = append(nodes, &rabbit{node: name, metrics: metrics})
	}
	for i, r := range nodes {
		r.broker = &broker{address: hostPort(hosts[i], port), log: newLogBook()}
		r.run(t, epmd, members)
	}
	for _, r := range nodes {
		r.waitUntilUp(t, time.Minute)
	}
	return nodes
}

// run starts the node.
func (r *rabbit) run(t *testing.T, epmd, members string) {
	t.Helper()
	folder := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(folder, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	host, port, _ := net.SplitHostPort(r.address)
	configuration := write("rabbitmq.conf", fmt.Sprintf(`
listeners.tcp = none
mqtt.listeners.tcp.1 = %s:%s
mqtt.proxy_protocol = true
mqtt.allow_anonymous = true
prometheus.tcp.ip = %s
prometheus.tcp.port = %d
log.console = true
log.file = false
cluster_formation.peer_discovery_backend = classic_config
%s`, host, port, host, r.metrics, members))
	write(".erlang.cookie", "e2e"+epmd)
	if err := os.Chmod(filepath.Join(folder, ".erlang.cookie"), 0o400); err != nil {
		t.Fatal(err)
	}
	r.env = append(os.Environ(),
		"HOME="+folder, // of the cookie
		"RABBITMQ_NODENAME="+r.node,
		fmt.Sprint("RABBITMQ_DIST_PORT=", freePort(t)),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}",
		"RABBITMQ_CONFIG_FILE="+configuration,
		"RABBITMQ_ENABLED_PLUGINS_FILE="+write("enabled_plugins", "[rabbitmq_mqtt,rabbitmq_prometheus]."),
		"RABBITMQ_CONF_ENV_FILE="+write("rabbitmq-env.conf", ""),
		"RABBITMQ_MNESIA_BASE="+filepath.Join(folder, "mnesia"),
		"RABBITMQ_LOG_BASE="+filepath.Join(folder, "log"),
		"RABBITMQ_GENERATED_CONFIG_DIR="+filepath.Join(folder, "config"),
		"RABBITMQ_PID_FILE="+filepath.Join(folder, "pid"),
		"ERL_EPMD_PORT="+epmd,
		"ERL_EPMD_ADDRESS=127.0.0.1",
	)
	server := exec.Command(rabbitScripts + "/rabbitmq-server")
	server.Env, server.Dir = r.env, folder
	r.process = start(t, r.log, server)
}

// ctl runs rabbitmqctl.
func (r *rabbit) ctl(t *testing.T, args ...string) string {
	t.Helper()
	return r.tool(t, "rabbitmqctl", append([]string{"--quiet"}, args...)...)
}

// tool runs one of RabbitMQ's commands for this node.
func (r *rabbit) tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(rabbitScripts+"/"+name, args...)
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func TestRabbitMQLearnsTheClientsAddress(t *testing.T) {
	t.Parallel()
	r := startRabbitMQ(t)
	l := startLB(t, settings{backends: []backend{{"rabbit", r.address}}, cluster: proxyOn})
	const from = "127.0.0.77"
	c := connect(t, l, opening{id: "real"}, from)

	send(t, c, packet(0x82, append(text([]byte{0, 1}, "e2e"), 1)))
	expect(t, c, []byte{0x90, 3, 0, 1, 1})
	message := publish("e2e", []byte("through the proxy"))
	send(t, c, message)
	got, err := readPacket(c)
	if err != nil || !strings.HasSuffix(string(got), "through the proxy") {
		t.Fatalf("got %q, error %v, want the message %q", got, err, message)
	}

	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	list := r.ctl(t, "list_mqtt_connections", "client_id", "peer_host", "peer_port", "protocol")
	for _, want := range []string{"real", from, port} {
		if !strings.Contains(list, want) {
			t.Errorf("RabbitMQ knows these connections, want one with %s:\n%s", want, list)
		}
	}
}
