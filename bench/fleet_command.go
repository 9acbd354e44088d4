package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"
)

// A fleet is a number of clients, the brokers that they are connected to, and the proxy between.
type fleet struct {
	variant string
	size    fleetSize
	brokers *fleetBrokers
	clients *fleetClients
	proxy   *fleetProxy // nil: direct
}

// A fleetSize says how many clients there are and how long things take in a scenario.
type fleetSize struct {
	brokers int // in use at the beginning
	spare   int // further brokers
	clients int // without a group
	groups  int
	members int // of each group
	plan    fleetPlan
	history string // file for the CONNECTs; empty: none

	quiet   time.Duration // before anything happens
	observe time.Duration // balance: at most
	down    time.Duration // rolling: how long a broker is away
	apart   time.Duration // rolling: from the return of a broker to the end of the next
	settle  time.Duration // rolling: from the last of all to the figures
}

// fleetSizes are the sizes of a full run, by scenario.
var fleetSizes = map[string]fleetSize{
	scenarioStorm: {brokers: 3, clients: 5000, quiet: time.Second, plan: fleetPlan{atOnce: true}},
	scenarioBalance: {
		brokers: 3, spare: 1, clients: 1500, quiet: 6 * time.Second, observe: 32 * time.Second,
		plan: fleetPlan{lifetime: 100 * time.Second},
	},
	scenarioRolling: {
		brokers: 3, clients: 600, groups: 20, members: 6, quiet: 6 * time.Second,
		down: 3 * time.Second, apart: 11 * time.Second, settle: 8 * time.Second,
	},
}

// quickFleetSizes are those of a quick run.
var quickFleetSizes = map[string]fleetSize{
	scenarioStorm: {brokers: 3, clients: 600, quiet: 200 * time.Millisecond, plan: fleetPlan{atOnce: true}},
	scenarioBalance: {
		brokers: 3, spare: 1, clients: 60, quiet: 300 * time.Millisecond, observe: 3 * time.Second,
		plan: fleetPlan{lifetime: 5 * time.Second},
	},
	scenarioRolling: {
		brokers: 3, clients: 30, groups: 5, members: 6, quiet: 300 * time.Millisecond,
		down: 500 * time.Millisecond, apart: time.Second, settle: 500 * time.Millisecond,
	},
}

// ids are the client identifiers of the fleet.
func (z fleetSize) ids() []string {
	var ids []string
	for n := range z.clients {
		ids = append(ids, fmt.Sprintf("%sdevice-%04d", fleetPrefix, n))
	}
	for g := range z.groups {
		for m := range z.members {
			ids = append(ids, memberID(g, m))
		}
	}
	return ids
}

// play starts brokers, the proxy and the clients, plays the scenario, and ends them all.
func (z fleetSize) play(ctx context.Context, scenario, variant string, startProxy func([]netip.AddrPort) (*fleetProxy, error)) (_ map[string]float64, err error) {
	brokers, err := newFleetBrokers(z.brokers + z.spare)
	if err != nil {
		return nil, err
	}
	defer brokers.close()
	f := &fleet{variant: variant, size: z, brokers: brokers}
	target := brokers.addresses()[0]
	if startProxy != nil {
		if f.proxy, err = startProxy(brokers.addresses()); err != nil {
			return nil, err
		}
		defer f.proxy.stop()
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w%s", err, f.proxy.tail())
			}
		}()
		target = f.proxy.address()
	}
	defer f.connect(ctx, z, target)()
	if err := f.awaitAll(ctx); err != nil {
		return nil, err
	}
	if z.history != "" {
		defer func() { err = errors.Join(err, writeHistory(z.history, brokers.history())) }()
	}
	switch scenario {
	case scenarioStorm:
		return f.storm(ctx)
	case scenarioBalance:
		return f.balance(ctx)
	case scenarioRolling:
		return f.rolling(ctx)
	}
	return nil, fmt.Errorf("%w: no fleet scenario %q", errUsage, scenario)
}

// connect begins to connect the clients. The returned function ends them and returns when they are gone.
func (f *fleet) connect(ctx context.Context, z fleetSize, target netip.AddrPort) (end func()) {
	plan := z.plan
	plan.ids = z.ids()
	f.clients = newFleetClients(plan, target)
	ctx, cancel := context.WithCancel(ctx)
	var living sync.WaitGroup
	living.Go(func() { f.clients.run(ctx) })
	return func() {
		cancel()
		living.Wait()
	}
}

// awaitAll returns when every client has been connected.
func (f *fleet) awaitAll(ctx context.Context) error {
	for deadline := time.Now().Add(establishTimeout); ; {
		up, _ := upSince(f.clients.history(), time.Time{})
		if up == len(f.clients.ids) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d clients are connected: %w", up, len(f.clients.ids), errTooSlow)
		}
		if err := f.pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// pause lets time pass; it returns early, with an error, when ctx ends or the proxy does.
func (f *fleet) pause(ctx context.Context, d time.Duration) error {
	var ended chan struct{}
	if f.proxy != nil {
		ended = f.proxy.exited
	}
	select {
	case <-time.After(d):
		return nil
	case <-ended:
		return errors.New("the proxy ended by itself")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pids are the processes of the proxy.
func (f *fleet) pids() []int {
	if f.proxy == nil {
		return nil
	}
	return f.proxy.pids()
}

// fleetCommand is `bench fleet`, one scenario with one system. It prints its figures as one JSON object.
func fleetCommand(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("fleet", flag.ContinueOnError)
	scenario := flags.String("scenario", scenarioStorm, "what happens: storm, balance or rolling")
	s := system{}
	flags.StringVar(&s.name, "system", direct, "direct, haproxy, nginx or mqttlb")
	flags.StringVar(&s.binary, "binary", "", "`path` of the system's program")
	flags.StringVar(&s.module, "module", "", "nginx: `path` of its stream module")
	variant := flags.String("variant", variantOwn, "own, leastconn, roundrobin, limited or drain")
	threads := flags.Int("threads", 2, "threads, workers or cores of the proxy")
	folder := flags.String("folder", "", "where to write files")
	quick := flags.Bool("quick", false, "few clients, short times")
	history := flags.String("history", "", "`file` to write every CONNECT to that a broker has got: seconds, client, broker")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	size, known := fleetSizes[*scenario]
	minAge := 5
	if *quick {
		size, minAge = quickFleetSizes[*scenario], 1
	}
	if !known || s.name != direct && (fleetTemplates[s.name] == nil || s.binary == "") {
		return fmt.Errorf("%w: fleet wants a -scenario, a -system and its -binary", errUsage)
	}
	var startProxy func([]netip.AddrPort) (*fleetProxy, error)
	if s.name != direct {
		startProxy = func(backends []netip.AddrPort) (*fleetProxy, error) {
			return startFleetProxy(ctx, s, fleetConfig{
				proxyConfig: proxyConfig{Backends: backends, Threads: *threads, Folder: *folder},
				Variant:     *variant, Active: size.brokers, MinAge: minAge,
			})
		}
	}
	size.history = *history
	figures, err := size.play(ctx, *scenario, *variant, startProxy)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(figures)
}

func writeHistory(path string, connects []fleetConnect) error {
	var text bytes.Buffer
	for _, c := range connects {
		fmt.Fprintf(&text, "%.3f %s %d\n", c.at.Sub(connects[0].at).Seconds(), c.client, c.broker)
	}
	return os.WriteFile(path, text.Bytes(), 0o644)
}
