package main

import (
	"fmt"
	"time"

	"github.com/mqttlb/mqttlb/simulation"
)

// showSimulation writes a table with a line for each contender.
func showSimulation(e *environment, o simulateOptions, results []*simulation.Result) error {
	s := o.scenario
	fmt.Fprintf(e.out, "%d backends, %s clients, %s groups of %d, %s load; event %s",
		s.Backends, count(s.Clients), count(s.Groups), s.GroupSize, o.load, s.Event)
	if s.Surge {
		fmt.Fprint(e.out, " with a surge")
	}
	fmt.Fprintf(e.out, "; up to %s evicted; watched for %s\n\n", o.rate.String(), span(s.Duration.Seconds()))
	rows := make([][]string, len(results))
	for i, r := range results {
		rows[i] = []string{
			r.Contender, count(r.Disconnects), timesMinimum(r), count(r.MovedTwice), fmt.Sprintf("%.2f", r.PeakLoad),
			within(r), percent(r.SameNode), count(r.GroupSpread),
		}
	}
	return writeTable(e.out, []column{
		{name: "CONTENDER"},
		{"DISCONNECTS", true},
		{"× MINIMUM", true},
		{"MOVED TWICE", true},
		{"PEAK LOAD", true},
		{"WITHIN 5%", true},
		{"SAME NODE", true},
		{"GROUP SPREAD", true},
	}, rows)
}

// timesMinimum is how many disconnects there were for each that is needed, empty where none is.
func timesMinimum(r *simulation.Result) string {
	if r.Minimum == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", float64(r.Disconnects)/float64(r.Minimum))
}

func within(r *simulation.Result) string {
	if !r.Balanced {
		return "never"
	}
	return span(r.Within.Seconds())
}

// simulated is what --json shows.
type simulated struct {
	Scenario simulatedScenario `json:"scenario"`
	Results  []simulatedResult `json:"results"`
}

type simulatedScenario struct {
	Backends         int     `json:"backends"`
	Clients          int     `json:"clients"`
	Groups           int     `json:"groups"`
	GroupSize        int     `json:"group_size"`
	Load             string  `json:"load"`
	Wills            float64 `json:"wills"`
	Event            string  `json:"event"`
	Rate             float64 `json:"rate_per_second"`
	ReconnectSeconds float64 `json:"reconnect_seconds"`
	Surge            bool    `json:"surge"`
	DurationSeconds  float64 `json:"duration_seconds"`
	Seed             uint64  `json:"seed"`
}

type simulatedResult struct {
	*simulation.Result
	// WithinSeconds is null when the brokers never became even.
	WithinSeconds *float64 `json:"within_seconds"`
}

func simulatedOf(o simulateOptions, results []*simulation.Result) simulated {
	s := o.scenario
	out := simulated{Scenario: simulatedScenario{
		Backends: s.Backends, Clients: s.Clients, Groups: s.Groups, GroupSize: s.GroupSize, Load: o.load,
		Wills: s.Wills, Event: o.event, Rate: s.Rate, ReconnectSeconds: seconds(s.Reconnect), Surge: s.Surge,
		DurationSeconds: seconds(s.Duration), Seed: s.Seed,
	}}
	for _, r := range results {
		x := simulatedResult{Result: r}
		if r.Balanced {
			after := seconds(r.Within)
			x.WithinSeconds = &after
		}
		out.Results = append(out.Results, x)
	}
	return out
}

func seconds(d time.Duration) float64 { return d.Seconds() }
