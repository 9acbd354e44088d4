package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A scenario is one load that every system gets.
type scenario struct {
	name    string
	title   string
	mode    string
	args    []string // of the load generator, beside the times
	stretch int      // the measured time in units of -duration; seldom messages need more of it
}

// The scenarios, in the order of the table.
var scenarios = []scenario{
	{
		name: "pingpong-50", title: "50 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "50"}, stretch: 1,
	},
	{
		name: "pingpong-1000", title: "1000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "1000"}, stretch: 1,
	},
	{
		name: "pingpong-5000", title: "5000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "5000"}, stretch: 1,
	},
	{
		name: "paced-200", title: "200 round trips/s over 200 connections", mode: modePaced,
		args: []string{"-connections", "200", "-rate", "200"}, stretch: 4,
	},
	{
		name: "paced-2000", title: "2000 round trips/s over 1000 connections", mode: modePaced,
		args: []string{"-connections", "1000", "-rate", "2000"}, stretch: 2,
	},
	{
		name: "paced-20000", title: "20 000 round trips/s over 1000 connections", mode: modePaced,
		args: []string{"-connections", "1000", "-rate", "20000"}, stretch: 1,
	},
	{
		name: "connect", title: "connect, CONNECT, CONNACK, DISCONNECT, close; 16 at a time", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1,
	},
	{
		name: "bulk", title: "messages of 64 KiB over 2 connections", mode: modeBulk, stretch: 1,
	},
	{
		name: "idle", title: "5000 idle sessions", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"},
	},
}

// idleRounds bounds the rounds of the idle scenario, which lasts long and varies little.
const idleRounds = 3

// A plan is what one run measures.
type plan struct {
	scenarios []scenario
	systems   []string
	rounds    int
	warmup    time.Duration
	duration  time.Duration
	idle      time.Duration // how long idle sessions are watched
	retries   int           // how often a measurement is repeated that others have disturbed
}

// fullPlan and quickPlan are the two sets of times; only the first gives figures to rely on.
func fullPlan() plan {
	return plan{
		scenarios: scenarios, systems: systemNames,
		rounds: 5, warmup: 300 * time.Millisecond, duration: 1500 * time.Millisecond, idle: 10 * time.Second,
		retries: 2,
	}
}

func quickPlan() plan {
	p := fullPlan()
	p.rounds, p.warmup, p.duration, p.idle = 1, 100*time.Millisecond, 300*time.Millisecond, 2*time.Second
	p.retries = 0
	return p
}

// narrow keeps the scenarios and systems in a comma-separated list; a mode stands for all its scenarios, and a list
// without any scenario, or any system, keeps all of them.
func (p *plan) narrow(list string) error {
	var systems []string
	var kept []scenario
	for word := range strings.SplitSeq(list, ",") {
		if slices.Contains(systemNames, word) {
			systems = append(systems, word)
			continue
		}
		before := len(kept)
		for _, s := range scenarios {
			if s.name == word || s.mode == word {
				kept = append(kept, s)
			}
		}
		if len(kept) == before {
			return fmt.Errorf("%w: -only does not know %q; it knows %s", errUsage, word, strings.Join(knownWords(), " "))
		}
	}
	if len(systems) > 0 {
		p.systems = slices.DeleteFunc(slices.Clone(systemNames), func(s string) bool { return !slices.Contains(systems, s) })
	}
	if len(kept) > 0 {
		p.scenarios = kept
	}
	return nil
}

func knownWords() []string {
	words := slices.Clone(systemNames)
	for _, s := range scenarios {
		if s.name != s.mode && !slices.Contains(words, s.mode) {
			words = append(words, s.mode)
		}
		words = append(words, s.name)
	}
	return words
}

// roundsOf is how often the scenario is measured.
func (p *plan) roundsOf(s scenario) int {
	if s.mode == modeIdle {
		return min(p.rounds, idleRounds)
	}
	return p.rounds
}

// loadArgs are the arguments of the load generator.
func (p *plan) loadArgs(s scenario) []string {
	duration := p.duration * time.Duration(s.stretch)
	if s.mode == modeIdle {
		duration = p.idle
	}
	args := append([]string{"load", s.mode}, s.args...)
	return append(args, "-warmup", p.warmup.String(), "-duration", duration.String())
}

// measured is how long one measurement of the scenario lasts, without opening its connections.
func (p *plan) measured(s scenario) time.Duration {
	if s.mode == modeIdle {
		return p.idle + 2*memorySettle
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
