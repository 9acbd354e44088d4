//go:build linux

package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// layOut writes a configuration with these listeners and clusters, each one line of YAML.
func (l *lb) layOut(t *testing.T, listeners, clusters []string, more ...string) {
	t.Helper()
	var y strings.Builder
	fmt.Fprintf(&y, "shutdown: {grace: 0s, drain: 1s}\nadmin: {address: %q, socket: %q}\n", l.admin, l.socket)
	for _, line := range more {
		fmt.Fprintln(&y, line)
	}
	fmt.Fprintf(&y, "listeners:\n  - %s\nclusters:\n  - %s\n", strings.Join(listeners, "\n  - "), strings.Join(clusters, "\n  - "))
	l.write(t, y.String())
}

// listening is a listener in YAML, and leadingTo a cluster: without checks, and its backends take clients at once.
func listening(name, address, cluster, more string) string {
	return fmt.Sprintf("{name: %s, address: %q, cluster: %s%s}", name, address, cluster, more)
}

func leadingTo(name, more string, backends ...string) string {
	return fmt.Sprintf("{name: %s, health: {interval: 0s}%s, discovery: {static: [%s]}}", name, more, strings.Join(backends, ", "))
}

func weighing(b backend, capacity int) string {
	return fmt.Sprintf("{name: %s, address: %q, capacity: %d}", b.name, b.address, capacity)
}

// The two ways to have mqttlb reload. They return what they said, and whether it worked.
var reloads = []struct {
	name string
	ask  func(t *testing.T, l *lb) (string, bool)
}{
	{"HUP", func(t *testing.T, l *lb) (string, bool) {
		t.Helper()
		offset := len(l.log.String())
		l.signal(t, syscall.SIGHUP)
		line, _ := l.log.wait(t, offset, patience, "the end of the reload", func(line string) bool {
			r := parseRecord(line)
			return r["msg"] == reloaded || strings.HasSuffix(r["msg"], "nothing has changed")
		})
		r := parseRecord(line)
		return r["error"], r["msg"] == reloaded
	}},
	{"command", func(t *testing.T, l *lb) (string, bool) {
		t.Helper()
		status, out := command(t, "reload", "--admin", l.socket)
		if ok := status == 0; ok != (out == "reloaded\n") || !ok && status != 1 {
			t.Errorf("exit status %d, said:\n%s", status, out)
		}
		return out, status == 0
	}},
}

// at is mqttlb as clients of another of its listeners see it.
func (l *lb) at(address string) *lb {
	other := *l
	other.address = address
	return &other
}

// visit connects a client for a moment and returns the backend that it went to.
func visit(t *testing.T, l *lb, id string) string {
	t.Helper()
	offset := len(l.log.String())
	connect(t, l, opening{id: id}, "").Close()
	r, _ := l.ended(t, id, offset)
	return r["backend"]
}

// Subscribers are two clients that stay, mosquitto_sub and paho: every message must reach them over the connections
// that they have from the start.
type subscribers struct {
	out      *logBook
	received chan string
	lost     atomic.Bool
}

func subscribe(t *testing.T, l *lb) *subscribers {
	t.Helper()
	need(t, "mosquitto_sub", "mosquitto_pub", "stdbuf")
	s := &subscribers{out: newLogBook(), received: make(chan string, 100)}
	host, port, _ := net.SplitHostPort(l.address)
	start(t, s.out, exec.Command("stdbuf", "-oL", "mosquitto_sub", "-h", host, "-p", port, "-i", "stays", "-t", "reload", "-q", "1", "-d", "-F", "received %p"))
	s.out.wait(t, 0, patience, "mosquitto_sub has subscribed", func(line string) bool { return strings.HasPrefix(line, "Subscribed") })
	paho := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + l.address).SetClientID("paho-stays").SetAutoReconnect(false).
		SetConnectRetry(false).SetConnectionLostHandler(func(mqtt.Client, error) { s.lost.Store(true) }))
	done := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	done(paho.Connect())
	done(paho.Subscribe("reload", 1, func(_ mqtt.Client, m mqtt.Message) { s.received <- string(m.Payload()) }))
	t.Cleanup(func() { paho.Disconnect(100) })
	return s
}

// check publishes at the brokers themselves, and expects both to get it.
func (s *subscribers) check(t *testing.T, message string, brokers ...*broker) {
	t.Helper()
	for _, b := range brokers {
		host, port, _ := net.SplitHostPort(b.address)
		if out, err := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-t", "reload", "-q", "1", "-m", message).CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v\n%s", err, out)
		}
	}
	s.out.wait(t, 0, patience, message, func(line string) bool { return strings.TrimSpace(line) == "received "+message })
	for {
		select {
		case got := <-s.received:
			if got == message {
				if n := strings.Count(s.out.String(), "sending CONNECT\n"); n != 1 || s.lost.Load() {
					t.Errorf("after %q: mosquitto_sub has connected %d times, paho was cut off: %t", message, n, s.lost.Load())
				}
				return
			}
		case <-time.After(patience):
			t.Fatalf("paho has not received %q", message)
		}
	}
}

// Listeners, limits, strategies, weights and clusters come, change and go under the feet of two clients that do not
// notice, and everybody who comes later is treated as the configuration of that moment says.
func TestReloadChangesEverythingButOpenConnections(t *testing.T) {
	t.Parallel()
	for _, how := range reloads {
		t.Run(how.name, func(t *testing.T) {
			t.Parallel()
			a, b, c := startMosquitto(t), startMosquitto(t), startMosquitto(t)
			named := func(name string, b *broker, capacity int) string {
				return weighing(backend{name, b.address}, capacity)
			}
			l := startLB(t, settings{backends: []backend{{"a", a.address}, {"b", b.address}}})
			subscribed := subscribe(t, l)
			second, third := l.at(loopback(t)), l.at(loopback(t))
			main, others := leadingTo("brokers", "", named("a", a, 1), named("b", b, 1)), leadingTo("others", "", named("c", c, 1))
			turn := func(a, b string) string { return leadingTo("brokers", ", placement: {strategy: round-robin}", a, b) }
			spread := func(l *lb, prefix string, n int) map[string]int {
				got := make(map[string]int)
				for i := range n {
					got[visit(t, l, fmt.Sprint(prefix, i))]++
				}
				return got
			}
			for _, step := range []struct {
				name                string
				listeners, clusters []string
				check               func()
			}{
				{"a listener comes", []string{listening("mqtt", l.address, "brokers", ""), listening("second", second.address, "brokers", "")}, []string{main}, func() {
					if home := homeOf(t, l, "device"); visit(t, second, "device") != home {
						t.Error("another home over the second listener")
					}
				}},
				{
					"limits change",
					[]string{listening("mqtt", l.address, "brokers", ", limits: {connections: 2}"), listening("second", second.address, "brokers", ", limits: {connect_size: 256B}")},
					[]string{main},
					func() {
						expectClosed(t, dial(t, l.address, ""), patience) // the two subscribers are all that there may be
						l.refused(t, "connections")
						s := dial(t, second.address, "")
						send(t, s, opening{id: strings.Repeat("x", 300)}.bytes())
						expectClosed(t, s, patience)
						l.refused(t, "connect_size")
					},
				},
				{
					"the strategy changes",
					[]string{listening("mqtt", l.address, "brokers", "")},
					[]string{turn(named("a", a, 1), named("b", b, 1))},
					func() {
						if c, err := net.Dial("tcp", second.address); err == nil {
							c.Close()
							t.Error("the second listener is still open")
						}
						if got := spread(l, "turn-", 10); got["a"] != 5 || got["b"] != 5 {
							t.Errorf("10 clients in turn went to %v", got)
						}
					},
				},
				{
					"weights change",
					[]string{listening("mqtt", l.address, "brokers", "")},
					[]string{turn(named("a", a, 1), named("b", b, 4))},
					func() {
						if got := spread(l, "weighed-", 10); got["a"] != 2 || got["b"] != 8 {
							t.Errorf("10 clients with weights 1 and 4 went to %v", got)
						}
					},
				},
				{
					"a cluster comes",
					[]string{listening("mqtt", l.address, "brokers", ""), listening("third", third.address, "others", "")},
					[]string{main, others},
					func() {
						if got := visit(t, third, "guest"); got != "c" {
							t.Errorf("a client of the new cluster went to %q", got)
						}
						if got := l.metric(t, `mqttlb_discovery_backends{cluster="others"}`); got != 1 {
							t.Errorf("%v backends of the new cluster in the metrics", got)
						}
					},
				},
				{
					"the listener leads to the other cluster, and gets another name",
					[]string{listening("renamed", l.address, "others", "")},
					[]string{main, others},
					func() {
						if got := visit(t, l, "guest"); got != "c" {
							t.Errorf("a client of the new cluster went to %q", got)
						}
						if got := l.metric(t, `mqttlb_connections{listener="mqtt"}`); got != 2 {
							t.Errorf("%v connections under the old name, want the two subscribers", got)
						}
					},
				},
				{
					"their own cluster goes", []string{listening("renamed", l.address, "others", "")}, []string{others}, func() {
						if status, body := l.ask(t, http.MethodGet, "/api/v1/clients?cluster=brokers", "", ""); status != http.StatusOK || !strings.Contains(body, "paho-stays") {
							t.Errorf("status %d: %s; want the clients that are left there", status, body)
						}
					},
				},
				{"everything is as in the beginning", []string{listening("mqtt", l.address, "brokers", "")}, []string{main}, func() {
					if home := homeOf(t, l, "device"); visit(t, l, "device") != home {
						t.Error("another home than before")
					}
				}},
			} {
				l.layOut(t, step.listeners, step.clusters)
				if said, ok := how.ask(t, l); !ok {
					t.Fatalf("%s: %s", step.name, said)
				}
				step.check()
				subscribed.check(t, step.name, a, b)
			}
			for _, id := range []string{"stays", "paho-stays"} {
				if strings.Contains(l.log.String(), "client="+id+" ") {
					t.Errorf("the connection of %s has ended", id)
				}
			}
		})
	}
}

// What is wrong is told with its place in the file, and everything goes on as it was.
func TestReloadOfAnInvalidConfigurationChangesNothing(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", loopback(t))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers[:1])})
	kept := connect(t, l, opening{id: "kept"}, "")
	idle := l.descriptors(t)
	free := loopback(t)
	good := listening("mqtt", l.address, "brokers", ", limits: {connections: 1}")
	more := listening("more", free, "brokers", "")
	cluster := leadingTo("brokers", "", weighing(brokers[1].backend(), 1))
	failures := 0
	for name, c := range map[string]struct {
		listeners []string
		more      string
		says      string
	}{
		"not YAML":      {[]string{good, more}, "log: [", `mqttlb\.yaml:\d+:\d+: `},
		"unknown key":   {[]string{good, more}, "shutdwn: {grace: 1s}", `mqttlb\.yaml:3:1: unknown key "shutdwn".*did you mean "shutdown"`},
		"not a value":   {[]string{good, more, listening("bad", loopback(t), "brokers", ", refuse: politely")}, "", `mqttlb\.yaml:7:\d+: listeners\[2\]\.refuse`},
		"no cluster":    {[]string{good, more, listening("bad", loopback(t), "borkers", "")}, "", `mqttlb\.yaml:7:\d+: listeners\[2\]\.cluster.*did you mean "brokers"`},
		"a port in use": {[]string{good, more, listening("bad", taken.Addr().String(), "brokers", "")}, "", `mqttlb\.yaml:7:26: listeners\[2\]\.address is ` + regexp.QuoteMeta(fmt.Sprintf("%q", taken.Addr().String())) + `, and listener bad cannot listen there: address already in use`},
		"not our address": {
			[]string{good, more, listening("bad", "192.0.2.1:1883", "brokers", "")},
			"",
			`mqttlb\.yaml:7:26: listeners\[2\]\.address is "192\.0\.2\.1:1883", and listener bad cannot listen there: cannot assign requested address; this host has no such address`,
		},
	} {
		for _, how := range reloads {
			l.layOut(t, c.listeners, []string{cluster}, c.more)
			said, ok := how.ask(t, l)
			if failures++; ok || !regexp.MustCompile(c.says).MatchString(said) {
				t.Errorf("%s by %s: worked: %t, said:\n%s\nwant a match of %s", name, how.name, ok, said, c.says)
			}
			if c, err := net.Dial("tcp", free); err == nil {
				c.Close()
				t.Errorf("%s: a listener of an invalid configuration is open", name)
			}
			connect(t, l, opening{id: "next"}, "").Close() // no limit
			alive(t, []*net.TCPConn{kept})
		}
	}
	if n := brokers[1].visits("next"); n != 0 {
		t.Errorf("%d clients on the broker of an invalid configuration", n)
	}
	if got := l.metric(t, `mqttlb_config_reloads_total{result="failure"}`); got != float64(failures) {
		t.Errorf("%v failed reloads in the metrics, want %d", got, failures)
	}
	if got := l.metric(t, "mqttlb_config_last_reload_successful"); got != 0 {
		t.Errorf("the last reload is %v in the metrics, want 0", got)
	}
	eventually(t, patience, "all descriptors are given back", func() bool { return l.descriptors(t) <= idle })

	l.layOut(t, []string{good, more}, []string{cluster})
	if said, ok := reloads[0].ask(t, l); !ok {
		t.Fatalf("the valid part of it is refused too: %s", said)
	}
	connect(t, l.at(free), opening{id: "after"}, "").Close()
	if got := l.metric(t, "mqttlb_config_last_reload_successful"); got != 1 {
		t.Errorf("the last reload is %v in the metrics, want 1", got)
	}
}

// Fifty reloads that change all around a listener refuse none of the clients that come there all the time, and leave
// no descriptor behind.
func TestReloadRefusesNobody(t *testing.T) {
	t.Parallel()
	const times, clients = 50, 4
	brokers := greeters(t, 3)
	l := startLB(t, settings{backends: behind(brokers[:2]), log: "{level: info, clients: false}"})
	strategies := []string{"adaptive", "client-hash", "maglev", "round-robin", "least-connections"}
	addresses := []string{loopback(t), loopback(t), loopback(t)}
	variant := func(i int) {
		listeners := []string{listening("mqtt", l.address, "brokers", fmt.Sprintf(", limits: {connections: %d}", 1000+i))}
		list := []string{leadingTo("brokers", fmt.Sprintf(", placement: {strategy: %s, bounded_load: 1.%d}", strategies[i%len(strategies)], i%9+1),
			weighing(brokers[0].backend(), 1+i%3), weighing(brokers[1].backend(), 1))}
		for n := range i % 4 {
			listeners = append(listeners, listening(fmt.Sprint("more-", n), addresses[n], "more", ""))
		}
		if i%4 > 0 {
			list = append(list, leadingTo("more", "", weighing(brokers[2].backend(), 1)))
		}
		l.layOut(t, listeners, list, "log: {clients: false}")
		if status, body := l.ask(t, http.MethodPost, "/api/v1/reload", l.socket, ""); status != http.StatusOK {
			t.Fatalf("reload %d: status %d: %s", i, status, body)
		}
	}
	variant(0)
	idle := l.descriptors(t)
	var busy sync.WaitGroup
	var served atomic.Int64
	stop := make(chan struct{})
	for g := range clients {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.DialTimeout("tcp", l.address, patience)
				if err != nil {
					t.Errorf("client %d-%d: %v", g, n, err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				o := opening{id: fmt.Sprint("busy-", g, "-", n)}
				_, err = c.Write(o.bytes())
				var answer []byte
				if err == nil {
					answer, err = readPacket(c.(*net.TCPConn))
				}
				if err != nil || !slices.Equal(answer, connack(o.version, 0)) {
					t.Errorf("client %d-%d: got %x and %v, want CONNACK", g, n, answer, err)
				}
				_ = c.(*net.TCPConn).SetLinger(0) // spares ports
				c.Close()
				served.Add(1)
			}
		})
	}
	for i := range times {
		variant(i + 1)
		for before := served.Load(); served.Load() < before+10 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	variant(0)
	close(stop)
	busy.Wait()
	eventually(t, patience, "all descriptors are given back", func() bool { return l.descriptors(t) <= idle })
	if got := l.metric(t, `mqttlb_config_reloads_total{result="success"}`); got != times+3 {
		t.Errorf("%v reloads in the metrics, want %d", got, times+3)
	}
	t.Logf("%d clients were served during %d reloads", served.Load(), times)
}

// A cluster and a listener that are not configured any more vanish from the API and the metrics with their last
// connection, and not before.
func TestReloadForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	brokers := greeters(t, 2)
	l := startLB(t, settings{backends: behind(brokers[:1])})
	other := l.at(loopback(t))
	main := leadingTo("brokers", "", weighing(brokers[0].backend(), 1))
	guests := leadingTo("guests", "", weighing(brokers[1].backend(), 1))
	l.layOut(t, []string{listening("mqtt", l.address, "brokers", ""), listening("other", other.address, "guests", "")}, []string{main, guests})
	if said, ok := reloads[0].ask(t, l); !ok {
		t.Fatal(said)
	}
	guest := connect(t, other, opening{id: "guest"}, "")
	l.layOut(t, []string{listening("mqtt", l.address, "brokers", "")}, []string{main})
	if said, ok := reloads[0].ask(t, l); !ok {
		t.Fatal(said)
	}
	names := func() string {
		_, metrics := l.ask(t, http.MethodGet, "/metrics", "", "")
		_, clusters := l.ask(t, http.MethodGet, "/api/v1/status", "", "")
		return metrics + clusters
	}
	alive(t, []*net.TCPConn{guest})
	for _, want := range []string{`mqttlb_connections{listener="other"} 1`, `mqttlb_backend_connections{backend="b",cluster="guests"} 1`, `"name":"guests"`} {
		if text := names(); !strings.Contains(text, want) {
			t.Errorf("no %s while there is a connection", want)
		}
	}
	guest.Close()
	eventually(t, patience, "nothing names them any more", func() bool {
		text := names()
		return !strings.Contains(text, `"guests"`) && !strings.Contains(text, `"other"`)
	})
	l.logged(t, 0, "a removed cluster has no connections any more")
}
