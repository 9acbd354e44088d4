package main

import "math"

// A row of the table is one figure of every system.
type row struct {
	scenario string // it stands below this scenario's title
	label    string
	unit     string
	more     bool // more is better, as of rates
	growth   bool // shown among the lines of growth and not among the bars
	figure   func(r results, system string) float64
	targets  []target
}

// A target is what mqttlb is to reach: a ratio to another system in the same run, or a value by itself.
type target struct {
	against string // empty: none, the limit is the value's own
	limit   float64
}

// against and own make targets.
func against(system string, limit float64) target { return target{against: system, limit: limit} }

func own(limit float64) target { return target{limit: limit} }

// Units, as factors from seconds and bytes.
const (
	nano    = 1e9
	micro   = 1e6
	milli   = 1e3
	percent = 100
	giga    = 1e9
	mega    = 1.0 / (1 << 20)

	// messagesPerTrip is how many messages a proxy forwards for one round trip.
	messagesPerTrip = 2
)

// of is a figure's median over the rounds.
func of(scenario string, figure func(loadResult) float64, factor float64) func(results, string) float64 {
	return func(r results, system string) float64 { return r.median(scenario, system, figure) * factor }
}

// proxyOnly leaves out direct, where there is no proxy.
func proxyOnly(figure func(results, string) float64) func(results, string) float64 {
	return func(r results, system string) float64 {
		if system == direct {
			return math.NaN()
		}
		return figure(r, system)
	}
}

// perMessage is the proxy's CPU time per forwarded message in microseconds.
func perMessage(scenario string) func(results, string) float64 {
	return proxyOnly(of(scenario, cpuPerWork, micro/messagesPerTrip))
}

func perSecond(scenario string) func(results, string) float64 {
	return of(scenario, workPerSecond, 1e-3)
}

// added is what the proxy adds to direct's median in the same run.
func added(scenario string, figure func(loadResult) float64, factor float64) func(results, string) float64 {
	total := of(scenario, figure, factor)
	return proxyOnly(func(r results, system string) float64 { return total(r, system) - total(r, direct) })
}

// growth is the ratio of the CPU times per message in two scenarios.
func growth(many, few string) func(results, string) float64 {
	return func(r results, system string) float64 {
		return perMessage(many)(r, system) / perMessage(few)(r, system)
	}
}

// met says whether a target is met; known is false when something that it takes was not measured.
func (t target) met(r results, w row) (met, known bool) {
	value := w.figure(r, mqttlb)
	if t.against != "" {
		value = ratio(value, w.figure(r, t.against))
	}
	if math.IsNaN(value) {
		return false, false
	}
	return value <= t.limit, true
}

// ratio of two figures, NaN unless both are above zero: an added latency that noise has turned negative has no ratio.
func ratio(a, b float64) float64 {
	if !(a > 0 && b > 0) {
		return math.NaN()
	}
	return a / b
}
