package main

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A cell is one measurement: one system under one load in one round.
type cell struct {
	Scenario string     `json:"scenario"`
	System   string     `json:"system"`
	Round    int        `json:"round"`
	Result   loadResult `json:"result"`
}

// results are all measurements of a run.
type results []cell

// median of a figure over the rounds; NaN when the scenario was not measured with this system.
func (r results) median(scenario, system string, figure func(loadResult) float64) float64 {
	var values []float64
	for _, c := range r {
		if c.Scenario == scenario && c.System == system {
			values = append(values, figure(c.Result))
		}
	}
	return median(values)
}

// rounds are the numbers of the rounds in which a scenario was measured with a system.
func (r results) rounds(scenario, system string) []int {
	var rounds []int
	for _, c := range r {
		if c.Scenario == scenario && c.System == system {
			rounds = append(rounds, c.Round)
		}
	}
	return rounds
}

// only is r with nothing of the system but one round.
func (r results) only(system string, round int) results {
	var kept results
	for _, c := range r {
		if c.System != system || c.Round == round {
			kept = append(kept, c)
		}
	}
	return kept
}

// median is the middle value, or the mean of the two in the middle; NaN of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// The figures of one measurement.

// cpuPerWork is the proxy's CPU time per round trip, connection or byte, in seconds.
func cpuPerWork(r loadResult) float64 { return r.CPU.Seconds() / r.Work }

func workPerSecond(r loadResult) float64 { return r.Work / r.Elapsed.Seconds() }

// coreShare is the part of one core that the proxy used.
func coreShare(r loadResult) float64 { return r.CPU.Seconds() / r.Elapsed.Seconds() }

func p50(r loadResult) float64 { return r.P50.Seconds() }

func p99(r loadResult) float64 { return r.P99.Seconds() }

// named is a figure of a scenario that has a measure of its own.
func named(name string) func(loadResult) float64 {
	return func(r loadResult) float64 {
		if v, known := r.Figures[name]; known {
			return v
		}
		return math.NaN()
	}
}

func residentPerSession(r loadResult) float64 {
	if r.Memory == nil {
		return math.NaN()
	}
	return r.Memory.residentPerSession()
}

func residentInAll(r loadResult) float64 {
	if r.Memory == nil {
		return math.NaN()
	}
	return float64(r.Memory.More.Resident)
}

func kernelPerSession(r loadResult) float64 {
	if r.Memory == nil {
		return math.NaN()
	}
	return r.Memory.kernelPerSession()
}

// A quality says how far the machine was the measurement's own.
type quality struct {
	Others    float64 `json:"others"`    // cores used by other processes, median
	Stolen    float64 `json:"stolen"`    // cores taken by the hypervisor, median
	Disturbed int     `json:"disturbed"` // measurements in which the two together took more than acceptableOthers
	ClockGap  float64 `json:"clock_gap"` // the largest relative difference between the two readings of a proxy's CPU time
}

func (r results) quality() quality {
	var q quality
	var others, stolen []float64
	for _, c := range r {
		others = append(others, c.Result.Others)
		stolen = append(stolen, c.Result.Stolen)
		if c.Result.disturbance() > acceptableOthers {
			q.Disturbed++
		}
		// Below a second the coarse clock's own steps, one at either end for each process, are too large a part.
		if c.Result.CPU > time.Second {
			gap := math.Abs(float64(c.Result.Ticks-c.Result.CPU)) / float64(c.Result.CPU)
			q.ClockGap = max(q.ClockGap, gap)
		}
	}
	if len(r) > 0 {
		q.Others, q.Stolen = median(others), median(stolen)
	}
	return q
}

// text says it in two sentences.
func (q quality) text(measurements int) string {
	return fmt.Sprintf("Other processes used %.2f of the cores meanwhile, the hypervisor took %.2f (medians). %d of %d measurements were disturbed.",
		q.Others, q.Stolen, q.Disturbed, measurements)
}
