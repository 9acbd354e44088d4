package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A scenario is one load that every system gets, or something that happens to every system.
type scenario struct {
	name    string
	title   string
	mode    string   // of the load generator; -only takes it for all scenarios that have it
	group   string   // another word by which -only takes them
	args    []string // of the load generator, beside the times
	stretch int      // the measured time in units of -duration; seldom messages need more of it
	rounds  int      // at most so many; 0: as many as the plan has
	tls     *overTLS // nil: without TLS
	only    []string // systems; empty: all
	oneCore bool     // client, proxy and broker share one core, or the figure tells where the scheduler woke whom

	// measure takes the load generator's place, for what is more than one load on one proxy; nil: the load generator.
	// Like bench.measure it begins and ends with the empty machine. What it finds goes into loadResult.Figures, and the
	// rows that show it ask for named(...); the usage is filled in as far as it means something.
	measure func(ctx context.Context, b *bench, s system, p *plan) (loadResult, error)
}

// overTLS says how the clients of a scenario come. The system direct has no TLS.
type overTLS struct {
	key     string // of the certificate
	version string
	group   string // of the key exchange
}

// takes says whether the scenario is measured with this system.
func (s scenario) takes(system string) bool {
	return len(s.only) == 0 || slices.Contains(s.only, system)
}

// wordTLS stands for all scenarios over TLS.
const wordTLS = "tls"

// A plan is what one run measures.
type plan struct {
	scenarios []scenario
	systems   []string
	rounds    int
	warmup    time.Duration
	duration  time.Duration
	idle      time.Duration // how long idle sessions are watched
	settle    time.Duration // how long idle sessions are left alone before
	retries   int           // how often a measurement is repeated that others have disturbed
	patience  time.Duration // how long repeating may take in all
	quick     bool          // fleet scenarios: few clients, short times
}

// fullPlan and quickPlan are the two sets of times; only the first gives figures to rely on.
func fullPlan() plan {
	return plan{
		scenarios: scenarios, systems: systemNames,
		rounds: 5, warmup: 300 * time.Millisecond, duration: time.Second, idle: 5 * time.Second, settle: memorySettle,
		retries: 2, patience: 2 * time.Minute,
	}
}

func quickPlan() plan {
	p := fullPlan()
	p.rounds, p.warmup, p.duration, p.idle = 1, 50*time.Millisecond, 200*time.Millisecond, 500*time.Millisecond
	p.retries, p.quick, p.settle = 0, true, 300*time.Millisecond
	return p
}

// words are those by which -only takes the scenario: its name, its mode when it is without TLS, tls when it is not, its group.
func (s scenario) words() []string {
	words := []string{s.name, s.mode}
	if s.tls != nil {
		words[1] = wordTLS
	}
	if s.group != "" {
		words = append(words, s.group)
	}
	return words
}

// narrow keeps the scenarios and systems in a comma-separated list. A list without any scenario, or any system, keeps all
// of them.
func (p *plan) narrow(list string) error {
	words := strings.Split(list, ",")
	known := knownWords()
	for _, word := range words {
		if !slices.Contains(known, word) {
			return fmt.Errorf("%w: -only does not know %q; it knows %s", errUsage, word, strings.Join(known, " "))
		}
	}
	wanted := func(word string) bool { return slices.Contains(words, word) }
	if slices.ContainsFunc(systemNames, wanted) {
		p.systems = slices.DeleteFunc(slices.Clone(systemNames), func(s string) bool { return !wanted(s) })
	}
	kept := slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !slices.ContainsFunc(s.words(), wanted) })
	if len(kept) > 0 {
		p.scenarios = kept
	}
	return nil
}

func knownWords() []string {
	words := slices.Clone(systemNames)
	for _, s := range scenarios {
		for _, word := range s.words() {
			if !slices.Contains(words, word) {
				words = append(words, word)
			}
		}
	}
	return words
}

// rows are the rows of the plan's scenarios, in the order of the table.
func (p *plan) rows() []row {
	var of []row
	for _, s := range p.scenarios {
		for _, w := range rows {
			if w.scenario == s.name {
				of = append(of, w)
			}
		}
	}
	return of
}

// roundsOf is how often the scenario is measured.
func (p *plan) roundsOf(s scenario) int {
	if s.rounds > 0 {
		return min(p.rounds, s.rounds)
	}
	return p.rounds
}

// loadArgs are the arguments of the load generator.
func (p *plan) loadArgs(s scenario, system string) []string {
	duration := p.duration * time.Duration(s.stretch)
	args := append([]string{"load", s.mode}, s.args...)
	if s.mode == modeIdle || s.mode == modeGrow {
		duration = p.idle
		args = append(args, "-settle", p.settle.String())
	}
	if s.tls != nil && system != direct {
		args = append(args, "-tls", s.tls.version, "-group", s.tls.group)
	}
	return append(args, "-warmup", p.warmup.String(), "-duration", duration.String())
}

// measured is how long one measurement of the scenario lasts, without opening its connections.
func (p *plan) measured(s scenario) time.Duration {
	switch s.mode {
	case modeIdle:
		return p.idle + 2*p.settle
	case modeGrow:
		return p.idle + time.Duration(len(growthSizes))*p.settle
	}
	return p.warmup + p.duration*time.Duration(s.stretch)
}

// String is the plan in a line of the header.
func (p *plan) String() string {
	var names []string
	for _, s := range p.scenarios {
		names = append(names, s.name+" × "+strconv.Itoa(p.roundsOf(s)))
	}
	return fmt.Sprintf("%v per measurement (%v idle); medians of: %s", p.duration, p.idle, strings.Join(names, ", "))
}
