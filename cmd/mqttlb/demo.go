package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/internal/testbroker"
	"github.com/mqttlb/mqttlb/proxy"
)

// The demo is a small play with real actors: brokers of internal/testbroker, clients of the Paho
// libraries, and between them the mqttlb that run would start.
//
//	demo.go         the command, and the stage: who is started and stopped in which order
//	demostory.go    what happens: a broker leaves, a broker comes back; demopace.go says when
//	demoseats.go    who sits where, as the brokers report it; demostage.go the whole picture
//	democlients.go  the clients, demopaho.go the two MQTT libraries behind them
//	demoview.go     from the state to lines of text, demosummary.go the closing words
//	demoscreen.go   how lines get to a terminal, or to a file

// demoOptions are the flags.
type demoOptions struct {
	brokers, clients int
	duration         time.Duration // 0 = until somebody stops it
	log              string
	admin            string
}

const (
	demoMinDuration = 5 * time.Second
	demoMaxBrokers  = 16
	demoMinClients  = 10
	demoMaxClients  = 10_000
)

func demoCommand(e *environment) *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "See a whole cluster in one process: brokers, mqttlb and clients",
		Long: `See a whole cluster in one process: brokers, clients, and mqttlb between them. A table shows who sits
where. The clients send each other messages and reconnect now and then, as devices do: each comes back to
the broker that it had. After a third of the time one broker leaves, and the others serve its clients as
soon as they reconnect, each after a random moment of up to a second. After another third it comes back,
and its clients, and only they, return to it.

Nothing has to be installed, and your own clients are welcome: the address of mqttlb is in the first
line. Ctrl-C ends the demo with its summary.

Exit status: 0 when every client was served as it should be, 1 when not.`,
		Example: `  mqttlb demo
  mqttlb demo --brokers 5 --clients 1000
  mqttlb demo --duration 20s | tee demo.txt    # plain lines instead of a live table`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(demoDescriptors()); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal ends the process at once
			return runDemo(ctx, o, newDemoPace(o.duration), e)
		},
	}
	c.Flags().IntVar(&o.brokers, "brokers", 3, "number of brokers")
	c.Flags().IntVar(&o.clients, "clients", 300, "number of clients")
	c.Flags().DurationVar(&o.duration, "duration", 45*time.Second, "how long the demo takes; 0 is until Ctrl-C")
	c.Flags().StringVar(&o.log, "log", "", "file for the log of mqttlb")
	c.Flags().StringVar(&o.admin, "admin", "127.0.0.1:0", `address of mqttlb's web page and API; "" turns them off`)
	return c
}

// check refuses what cannot be shown. descriptors is how many this process may open.
func (o demoOptions) check(descriptors int) error {
	switch {
	case o.brokers < 2:
		return usagef("--brokers %d: the demo needs at least 2, so that one can leave", o.brokers)
	case o.brokers > demoMaxBrokers:
		return usagef("--brokers %d: the table has room for %d", o.brokers, demoMaxBrokers)
	case o.clients < demoMinClients:
		return usagef("--clients %d: the demo needs at least %d, so that there is something to see", o.clients, demoMinClients)
	case o.clients > demoMaxClients:
		return usagef("--clients %d: more than %d are a load test, not a demo", o.clients, demoMaxClients)
	case o.duration < 0 || o.duration > 0 && o.duration < demoMinDuration:
		return usagef("--duration %s: the story needs at least %s; 0 is until Ctrl-C", o.duration, demoMinDuration)
	}
	// Everything is in one process: a session is two sockets of mqttlb, one of the client and one of the
	// broker. The rest is for listeners, event loops, and connections that end while their successors begin.
	const perClient, others = 4, 200
	if need := o.clients*perClient + others; need > descriptors {
		return usagef("--clients %d: this needs about %d file descriptors, and this process may open %d; use at most %d clients, or raise the limit (ulimit -n %d)",
			o.clients, need, descriptors, max(0, descriptors-others)/perClient, need)
	}
	return nil
}

// demoDescriptors is how many descriptors this process may open. The Go runtime has already raised the
// soft limit to the hard one.
func demoDescriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 1 << 30
	}
	return int(limit.Cur)
}

// demoFrame is the time between two looks at the stage.
const demoFrame = 100 * time.Millisecond

// runDemo plays the story, until its end or that of ctx.
func runDemo(ctx context.Context, o demoOptions, pace demoPace, e *environment) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(proxy.Procs(runtime.NumCPU()))) // as run does
	log, closeLog, err := demoLog(o.log)
	if err != nil {
		return err
	}
	defer closeLog()

	seats, err := newDemoSeats(o.brokers, o.clients)
	if err != nil {
		return err
	}
	mesh, err := testbroker.StartMesh(o.brokers, testbroker.Options{
		Connected:    func(b *testbroker.Broker, id string) { seats.connected(b.Name(), id) },
		Disconnected: func(_ *testbroker.Broker, id string) { seats.disconnected(id) },
	})
	if err != nil {
		return err
	}
	defer mesh.Stop()

	cfg, err := demoConfig(mesh.Brokers(), o, e)
	if err != nil {
		return err
	}
	a, err := newApp(cfg, &environment{in: e.in, out: e.out, err: log, hostname: e.hostname}, nil)
	if err != nil {
		return err
	}
	a.start()
	defer a.close()
	at, _ := a.proxy.Addr(cfg.Listeners[0].Name)
	stage := &demoStage{seats: seats, brokers: mesh.Brokers(), cluster: a.clusters()[0], address: at.String(), admin: demoAdmin(a)}

	// The clients outlive ctx by a moment, so that the summary finds them where they were.
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	fleet := newDemoFleet(at, pace, seats)
	fleet.start(alive)
	defer fleet.wait()
	defer end()

	story := newDemoStory(pace, stage, fleet)
	screen := newDemoScreen(e.out)
	story.play(ctx, screen.show)
	screen.close(demoSummary(stage.picture(story)))
	if story.err != nil {
		return demoFailure(story.err, log)
	}
	return nil
}

// demoConfig is a configuration as users write it. There are no checks: a broker that comes back would have to settle
// and to ramp up first, and the story has no time for that.
func demoConfig(brokers []*testbroker.Broker, o demoOptions, e *environment) (*config.Config, error) {
	var y strings.Builder
	level := "warn"
	if o.log != "" {
		level = "info"
	}
	fmt.Fprintf(&y, `instance: {name: demo}
log: {level: %s}
admin: {address: %q, socket: ""}
listeners: [{address: "127.0.0.1:0"}]
clusters:
  - name: demo
    placement: {strategy: client-hash}
    health: {interval: 0s}
    discovery:
      static:
`, level, o.admin)
	for _, b := range brokers {
		fmt.Fprintf(&y, "        - {name: %s, address: %q}\n", b.Name(), b.Addr())
	}
	return config.Parse("demo.yaml", []byte(y.String()), e.configOptions())
}

// demoAdmin is where the admin API is, empty if it is off.
func demoAdmin(a *app) string {
	if a.admin == nil || a.admin.Addr() == nil {
		return ""
	}
	return a.admin.Addr().String()
}

// demoLog returns where mqttlb logs to: the file with this name, or a memory of the last warnings.
func demoLog(name string) (log *demoTail, closeLog func(), err error) {
	if name == "" {
		return &demoTail{}, func() {}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, nil, usagef("--log: %w", err)
	}
	return &demoTail{to: f}, func() { _ = f.Close() }, nil
}

// demoFailure joins what went wrong with what mqttlb had to say about it.
func demoFailure(err error, log *demoTail) error {
	if said := log.String(); said != "" {
		return fmt.Errorf("%w\nthe last warnings of mqttlb:\n%s", err, said)
	}
	return err
}

// errDemoStuck is why a story ends before its end.
var errDemoStuck = errors.New("the demo did not go as it should")
