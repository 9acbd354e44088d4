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
	tls     *overTLS // nil: without TLS
	only    []string // systems; empty: all
}

// overTLS says how the clients of a scenario come. The system direct has no TLS.
type overTLS struct {
	key     string // of the certificate
	version string
	group   string // of the key exchange
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
	{
		name: "tls-connect", title: "TLS 1.3, ECDSA: connect, full handshake, CONNECT, CONNACK, DISCONNECT, close; 16 at a time", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, tls: &overTLS{keyECDSA, "1.3", groupX25519},
	},
	{
		name: "tls-connect-12", title: "the same with TLS 1.2, ECDSA", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, tls: &overTLS{keyECDSA, "1.2", groupX25519}, only: proxies,
	},
	{
		name: "tls-connect-rsa", title: "the same with TLS 1.3, RSA-2048", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, tls: &overTLS{keyRSA, "1.3", groupX25519}, only: proxies,
	},
	{
		name: "tls-connect-mlkem", title: "the same with TLS 1.3, ECDSA, and X25519MLKEM768, which only mqttlb has", mode: modeConnect,
		args: []string{"-connections", "16"}, stretch: 1, tls: &overTLS{keyECDSA, "1.3", groupMLKEM}, only: []string{mqttlb},
	},
	{
		name: "tls-pingpong", title: "TLS 1.3: 1000 connections, one message under way on each", mode: modePingPong,
		args: []string{"-connections", "1000"}, stretch: 1, tls: &overTLS{keyECDSA, "1.3", groupX25519}, only: proxies,
	},
	{
		name: "tls-idle", title: "TLS 1.3: 5000 idle sessions", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"}, tls: &overTLS{keyECDSA, "1.3", groupX25519},
	},
	{
		name: "tls-idle-mlkem", title: "the same with X25519MLKEM768", mode: modeIdle,
		args: []string{"-connections", "5000", "-fewer", "1000"}, tls: &overTLS{keyECDSA, "1.3", groupMLKEM}, only: []string{mqttlb},
	},
}

// takes says whether the scenario is measured with this system.
func (s scenario) takes(system string) bool {
	return len(s.only) == 0 || slices.Contains(s.only, system)
}

// wordTLS stands for all scenarios over TLS.
const wordTLS = "tls"

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

// narrow keeps the scenarios and systems in a comma-separated list; a mode stands for all its scenarios without TLS, tls
// for those with it, and a list without any scenario, or any system, keeps all of them.
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
			if s.name == word || s.tls == nil && s.mode == word || s.tls != nil && word == wordTLS {
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
		if s.tls != nil && !slices.Contains(words, wordTLS) {
			words = append(words, wordTLS)
		}
		if s.tls == nil && s.name != s.mode && !slices.Contains(words, s.mode) {
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
func (p *plan) loadArgs(s scenario, system string) []string {
	duration := p.duration * time.Duration(s.stretch)
	if s.mode == modeIdle {
		duration = p.idle
	}
	args := append([]string{"load", s.mode}, s.args...)
	if s.tls != nil && system != direct {
		args = append(args, "-tls", s.tls.version, "-group", s.tls.group)
	}
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
