package main

import (
	"fmt"
	"strings"
)

// demoSummary says in a few lines what has happened.
func demoSummary(p *demoState) []string {
	t := p.Totals
	lines := []string{fmt.Sprintf("%s, %d brokers, %.0f s", demoClients(p.Clients), len(p.Brokers), p.At.Seconds())}
	say := func(label, format string, args ...any) {
		lines = append(lines, fmt.Sprintf("  %-10s ", label)+fmt.Sprintf(format, args...))
	}
	say("spread", "%s", demoSpread(p))
	say("connects", "%s, %s of them to the same broker as before; %s connections were lost",
		count(t.Connects), count(t.Faithful), count(t.Lost))
	for _, o := range p.Outages {
		say("outage", "%s", demoOutcome(o))
	}
	say("moved", "%s while their broker was away, %s because it was full; %s came home again",
		count(t.Fled), count(t.Spilled), count(t.Returned))
	say("messages", "%s", demoMessages(t))
	return lines
}

func demoSpread(p *demoState) string {
	most, words := 0, make([]string, len(p.Brokers))
	for i, b := range p.Brokers {
		most = max(most, b.Clients)
		words[i] = count(b.Clients)
	}
	if p.Seated == 0 {
		return "nobody is connected"
	}
	home := "all are at home"
	if p.AtHome < p.Seated {
		home = fmt.Sprintf("%s of %s are at home", count(p.AtHome), count(p.Seated))
	}
	mean := float64(p.Seated) / float64(len(p.Brokers))
	return fmt.Sprintf("%s, the fullest has %.2f times the mean; %s", strings.Join(words, " / "), float64(most)/mean, home)
}

func demoOutcome(o demoOutage) string {
	if o.Recovered == 0 {
		return fmt.Sprintf("%s left with %s, and not all of them were served again", o.Broker, demoClients(o.Clients))
	}
	text := fmt.Sprintf("%s left with %s; all were served again after %.1f s", o.Broker, demoClients(o.Clients), o.Recovered.Seconds())
	if o.Home {
		text += ", and went home later"
	}
	return text
}

func demoMessages(t demoTotals) string {
	text := fmt.Sprintf("%s published, %s delivered, %s of them from one broker to another", count(t.Published), count(t.Delivered), count(t.Crossed))
	if missed := t.Published - t.Delivered; missed > 0 {
		text += fmt.Sprintf("; %s while their receiver reconnected", count(missed))
	}
	return text
}
