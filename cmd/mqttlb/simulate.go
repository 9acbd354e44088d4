package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/mqttlb/mqttlb/simulation"
)

// simulateOptions are the flags.
type simulateOptions struct {
	scenario   simulation.Scenario
	load       string
	event      string
	rate       simulateRate
	contenders []string
	asJSON     bool
	svg        string
}

func simulateCommand(e *environment) *cobra.Command {
	o := simulateOptions{rate: 100}
	s := &o.scenario
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Play through what would happen to your fleet: a broker joins, leaves, is updated, runs hot",
		Long: `Play through what would happen to a fleet of clients if a broker joined, left, was updated or ran hot, with
mqttlb and with others. Nothing is connected to anything: clients and brokers are a model, time is virtual,
and the same flags give the same figures. mqttlb itself is the code that mqttlb run uses.

  contenders  mqttlb; round-robin, least-connections and hash, each with random evictions until the brokers are
              even; emqx, the coordinated eviction of EMQX behind least connections
  loads       equal; heavy: one client in a hundred is 50 times as busy; pareto: a long tail
  events      join, leave, rolling (every broker is restarted, --surge adds one meanwhile), hot (one broker has
              1.5 times the mean load), none

DISCONNECTS are forced: evictions, and clients whose broker stopped. MINIMUM is what the event needs at least;
for rolling it assumes an even end. PEAK LOAD is the greatest load of a broker in terms of the mean before.
WITHIN 5% is the time after the event until all brokers have 95 to 105 % of the mean of connections (hot: until
none has more than 105 % of the mean load). SAME NODE is the part of clients that come back to their broker
when they drop by themselves later. GROUP SPREAD is the most that two brokers differed in members of a
shared-subscription group. How it is modelled: docs/placement.md.`,
		Example: `  mqttlb simulate
  mqttlb simulate --event rolling --surge --backends 5 --clients 60000
  mqttlb simulate --event hot --load pareto --contenders mqttlb,round-robin --svg hot.svg`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			return simulate(e, o)
		},
	}
	f := c.Flags()
	f.IntVar(&s.Backends, "backends", 6, "number of brokers before the event")
	f.IntVar(&s.Clients, "clients", 20_000, "number of clients")
	f.IntVar(&s.Groups, "groups", 20, "number of shared-subscription groups among the clients")
	f.IntVar(&s.GroupSize, "group-size", 5, "members of each group")
	f.StringVar(&o.load, "load", "equal", "traffic of the clients: "+strings.Join(simulation.Loads(), ", "))
	f.Float64Var(&s.Wills, "wills", 0, "part of the clients that have a last will, 0 to 1; mqttlb evicts these only to empty a broker")
	f.StringVar(&o.event, "event", string(simulation.Join), "what happens: "+simulateEvents())
	f.Var(&o.rate, "rate", "clients that may be evicted per second")
	f.DurationVar(&s.Reconnect, "reconnect", 0, "mean time until a client drops and comes back by itself; 0 is never")
	f.BoolVar(&s.Surge, "surge", false, "add a broker for the time of a rolling update")
	f.DurationVar(&s.Duration, "duration", time.Hour, "time from the event on")
	f.Uint64Var(&s.Seed, "seed", 1, "another seed gives another fleet and another course of chance")
	f.StringSliceVar(&o.contenders, "contenders", simulation.Contenders(), "who is compared")
	f.BoolVar(&o.asJSON, "json", false, "print JSON, with the course of connections and loads")
	f.StringVar(&o.svg, "svg", "", "file for a picture of the brokers' loads over time")
	return c
}

func simulateEvents() string {
	var names []string
	for _, e := range simulation.Events() {
		names = append(names, string(e))
	}
	return strings.Join(names, ", ")
}

// complete turns the flags into a scenario, or says which flag is wrong.
func (o *simulateOptions) complete() error {
	var err error
	if o.scenario.Load, err = simulation.LoadNamed(o.load); err != nil {
		return usagef("--%w", err)
	}
	o.scenario.Event, o.scenario.Rate = simulation.Event(o.event), float64(o.rate)
	if err := o.scenario.Check(); err != nil {
		return usagef("--%w", err)
	}
	if len(o.contenders) == 0 {
		return usagef("--contenders: name at least one of %s", strings.Join(simulation.Contenders(), ", "))
	}
	for i, name := range o.contenders {
		if !slices.Contains(simulation.Contenders(), name) {
			return usagef("--contenders: %q is unknown; known are %s", name, strings.Join(simulation.Contenders(), ", "))
		}
		if slices.Contains(o.contenders[:i], name) {
			return usagef("--contenders: %q is named twice", name)
		}
	}
	return nil
}

// simulate plays the scenario for everybody and shows what became of it.
func simulate(e *environment, o simulateOptions) error {
	var results []*simulation.Result
	bar := newSimulateProgress(e.err, len(o.contenders))
	for _, name := range o.contenders {
		r, err := simulation.Run(o.scenario, name, func(part float64) { bar.show(name, part) })
		if err != nil {
			bar.close()
			return err
		}
		bar.done++
		results = append(results, r)
	}
	bar.close()
	if o.svg != "" {
		if err := writeChart(o.svg, o.scenario, results); err != nil {
			return err
		}
	}
	if o.asJSON {
		return writeJSON(e.out, simulatedOf(o, results))
	}
	return showSimulation(e, o, results)
}

// writeChart writes the picture, and reports an error even if only closing the file fails.
func writeChart(name string, s simulation.Scenario, results []*simulation.Result) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("--svg: %w", err)
	}
	defer func() {
		if closing := f.Close(); err == nil {
			err = closing
		}
	}()
	return simulation.Chart(f, s, results)
}

// A simulateRate is a number of clients per second. It is written as 100/s, and understood without /s.
type simulateRate float64

// String implements pflag.Value.
func (r *simulateRate) String() string { return fmt.Sprintf("%g/s", float64(*r)) }

// Type implements pflag.Value.
func (r *simulateRate) Type() string { return "rate" }

// Set implements pflag.Value.
func (r *simulateRate) Set(text string) error {
	number, _ := strings.CutSuffix(text, "/s")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return fmt.Errorf("must be a rate such as 100/s")
	}
	*r = simulateRate(v)
	return nil
}

// A simulateProgress tells on a terminal how far it is.
type simulateProgress struct {
	out     io.Writer // nil: not a terminal
	n, done int
	last    int
}

func newSimulateProgress(w io.Writer, n int) *simulateProgress {
	p := &simulateProgress{n: n, last: -1}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.out = w
	}
	return p
}

func (p *simulateProgress) show(name string, part float64) {
	percent := int(100 * (float64(p.done) + part) / float64(p.n))
	if p.out == nil || percent == p.last {
		return
	}
	p.last = percent
	fmt.Fprintf(p.out, "\r\x1b[Ksimulating %s, %d %%", name, percent)
}

// close takes the line away again.
func (p *simulateProgress) close() {
	if p.out != nil && p.last >= 0 {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}
