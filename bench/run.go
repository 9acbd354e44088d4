package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// runOptions are the flags of `bench run`.
type runOptions struct {
	plan    plan
	mqttlb  string // path
	threads int
	results string // folder; empty: nothing is stored
	asked   bool   // for the folder, so that it takes what there is
}

func parseRun(args []string) (runOptions, error) {
	var o runOptions
	full := fullPlan()
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	quick := flags.Bool("quick", false, "one short round of everything, to see that it works; the figures mean little")
	only := flags.String("only", "", "comma-separated `names` of scenarios and systems: "+strings.Join(knownWords(), " "))
	rounds := flags.Int("rounds", full.rounds, "how often to measure each")
	duration := flags.Duration("duration", full.duration, "how long to measure each time")
	retries := flags.Int("retries", full.retries, "how often to repeat a measurement that other processes have disturbed")
	idle := flags.Duration("idle", full.idle, "how long to watch idle sessions")
	flags.StringVar(&o.mqttlb, "mqttlb", "", "`path` of the mqttlb binary (default: build "+mqttlbSource+")")
	flags.IntVar(&o.threads, "threads", 2, "threads, workers or cores of each proxy")
	flags.StringVar(&o.results, "results", "", "`folder` for the page, the plots and the measurements (default: "+resultsFolder+
		" when all is measured and not -quick, else none)")
	if err := parseFlags(flags, args); err != nil {
		return o, err
	}
	o.plan = full
	if *quick {
		o.plan = quickPlan()
	}
	flags.Visit(func(f *flag.Flag) {
		switch f.Name {
		case "rounds":
			o.plan.rounds = *rounds
		case "retries":
			o.plan.retries = *retries
		case "duration":
			o.plan.duration = *duration
		case "idle":
			o.plan.idle = *idle
		case "results":
			o.asked = true
		}
	})
	if o.plan.rounds < 1 || o.plan.retries < 0 || o.plan.duration <= 0 || o.plan.idle <= 0 || o.threads < 1 {
		return o, fmt.Errorf("%w: counts and times want to be positive", errUsage)
	}
	if *only == "" {
		if o.results == "" && !*quick {
			o.results = resultsFolder
		}
		return o, nil
	}
	return o, o.plan.narrow(*only)
}

// resultsFolder is where the results of a whole run are, seen from the folder of this module.
const resultsFolder = "results"

// errIncomplete is the end of a run in which a measurement failed. A target that is missed is no failure.
var errIncomplete = errors.New("not everything could be measured")

// runCommand is `bench run`. The table goes to stdout, what happens meanwhile to stderr.
func runCommand(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseRun(args)
	if err != nil {
		return err
	}
	b, remove, err := newBench(o.threads)
	if err != nil {
		return err
	}
	defer remove()
	// Building may need the host's network, so it comes before the first namespace.
	systems, err := findSystems(ctx, o.plan.systems, o.mqttlb, b.folder)
	if err != nil {
		return err
	}
	net, err := enterNetwork()
	if err != nil {
		return err
	}
	head := newHeader(ctx, net, systems)
	head.write(stderr)

	began := time.Now()
	measured, failed := b.measureAll(ctx, &o.plan, systems, stderr)
	head.Took = time.Since(began)
	found := &book{head: head, plan: &o.plan, measured: measured}
	if err := found.publish(o.results, o.asked || ctx.Err() == nil && failed == 0, stdout); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted")
	case failed > 0:
		return fmt.Errorf("%w: %d failed", errIncomplete, failed)
	}
	return nil
}

// measureAll goes through the plan. Within a scenario the systems take turns, and every other round in reverse, so that a
// machine that grows faster or slower in the meantime does so for all of them.
func (b *bench) measureAll(ctx context.Context, p *plan, systems []system, progress io.Writer) (measured results, failed int) {
	for _, s := range p.scenarios {
		broken := make(map[string]bool)
		for round := range p.roundsOf(s) {
			order := slices.Clone(systems)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, sys := range order {
				if sys.missing != "" || broken[sys.name] || !s.takes(sys.name) {
					continue
				}
				began := time.Now()
				result, err := b.measureUndisturbed(ctx, sys, s, p)
				if ctx.Err() != nil {
					return measured, failed
				}
				if err != nil {
					// Once is enough: the other rounds would end alike, and slowly.
					fmt.Fprintf(progress, "%s, %s: %v\n", s.name, sys.name, err)
					broken[sys.name] = true
					failed++
					continue
				}
				measured = append(measured, cell{Scenario: s.name, System: sys.name, Round: round + 1, Result: result})
				fmt.Fprintf(progress, "%-14s round %d/%d  %-8s %s  (%.1f s)\n", s.name, round+1, p.roundsOf(s), sys.name,
					result.summary(), time.Since(began).Seconds())
			}
		}
	}
	return measured, failed
}

// acceptableOthers is how many cores others may have used for a measurement to count as undisturbed.
const acceptableOthers = 0.1

// measureUndisturbed repeats a measurement that others have disturbed and returns the least disturbed. What was measured
// has no say in that.
func (b *bench) measureUndisturbed(ctx context.Context, sys system, s scenario, p *plan) (loadResult, error) {
	var best loadResult
	for try := range 1 + p.retries {
		began := time.Now()
		result, err := b.once(ctx, sys, s, p)
		if err != nil {
			return loadResult{}, err
		}
		if try == 0 || result.disturbance() < best.disturbance() {
			best = result
		}
		if try > 0 {
			b.repeating += time.Since(began)
		}
		if best.disturbance() <= acceptableOthers || b.repeating > p.patience {
			break
		}
	}
	return best, nil
}

// once is one measurement of the scenario.
func (b *bench) once(ctx context.Context, sys system, s scenario, p *plan) (loadResult, error) {
	if s.measure != nil {
		return s.measure(ctx, b, sys, p)
	}
	if s.oneCore {
		b = b.onOneCore()
	}
	return b.measure(ctx, sys, s.tls, p.loadArgs(s, sys.name), p.measured(s))
}

// summary is a result in half a line, for the impatient.
func (r loadResult) summary() string {
	if r.Figures != nil {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(r.Figures)) {
			parts = append(parts, name+" "+format(r.Figures[name]))
		}
		return strings.Join(parts, ", ")
	}
	if r.Memory != nil {
		return fmt.Sprintf("CPU %5.2f %%  %6.0f B resident and %6.0f B in the kernel per session",
			percent*coreShare(r), residentPerSession(r), kernelPerSession(r))
	}
	return fmt.Sprintf("%9.4g/s  CPU %5.1f %%  p50 %-9v p99 %-9v", workPerSecond(r), percent*coreShare(r),
		r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond))
}
