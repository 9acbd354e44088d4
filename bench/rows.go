package main

import "math"

// A row of the table is one figure of every system.
type row struct {
	scenario string // it stands below this scenario's title
	label    string
	unit     string
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
	micro   = 1e6
	milli   = 1e3
	percent = 100
	giga    = 1e9
	mega    = 1.0 / (1 << 20)

	// messagesPerTrip is how many messages a proxy forwards for one round trip.
	messagesPerTrip = 2
)

// rows is the whole table.
var rows = []row{
	{scenario: "pingpong-50", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-50")},
	{scenario: "pingpong-50", label: "round trips", unit: "k/s", figure: perSecond("pingpong-50")},

	{
		scenario: "pingpong-1000", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-1000"),
		targets: []target{against(haproxy, 0.85), against(nginx, 1)},
	},
	{scenario: "pingpong-1000", label: "round trips", unit: "k/s", figure: perSecond("pingpong-1000")},
	{scenario: "pingpong-1000", label: "latency, p50", unit: "ms", figure: of("pingpong-1000", p50, milli)},
	{scenario: "pingpong-1000", label: "latency, p99", unit: "ms", figure: of("pingpong-1000", p99, milli)},
	{
		scenario: "pingpong-1000", label: "added latency, p50", unit: "ms", figure: added("pingpong-1000", p50, milli),
		targets: []target{against(haproxy, 1)},
	},
	{
		scenario: "pingpong-1000", label: "added latency, p99", unit: "ms", figure: added("pingpong-1000", p99, milli),
		targets: []target{against(haproxy, 1)},
	},

	{scenario: "pingpong-5000", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-5000")},
	{scenario: "pingpong-5000", label: "round trips", unit: "k/s", figure: perSecond("pingpong-5000")},
	{
		scenario: "pingpong-5000", label: "CPU per message, 5000 to 50", unit: "×", figure: growth("pingpong-5000", "pingpong-50"),
		targets: []target{own(1.25)},
	},

	{
		scenario: "paced-200", label: "CPU per message", unit: "µs", figure: perMessage("paced-200"),
		targets: []target{against(haproxy, 1)},
	},
	{scenario: "paced-200", label: "CPU", unit: "% of a core", figure: proxyOnly(of("paced-200", coreShare, percent))},
	{scenario: "paced-200", label: "latency, p50", unit: "µs", figure: of("paced-200", p50, micro)},

	{
		scenario: "paced-2000", label: "CPU per message", unit: "µs", figure: perMessage("paced-2000"),
		targets: []target{against(haproxy, 1)},
	},
	{scenario: "paced-2000", label: "CPU", unit: "% of a core", figure: proxyOnly(of("paced-2000", coreShare, percent))},
	{scenario: "paced-2000", label: "latency, p50", unit: "µs", figure: of("paced-2000", p50, micro)},
	{scenario: "paced-2000", label: "latency, p99", unit: "µs", figure: of("paced-2000", p99, micro)},
	{
		scenario: "paced-2000", label: "added latency, p50", unit: "µs", figure: added("paced-2000", p50, micro),
		targets: []target{against(haproxy, 1)},
	},
	{
		scenario: "paced-2000", label: "added latency, p99", unit: "µs", figure: added("paced-2000", p99, micro),
		targets: []target{against(haproxy, 1)},
	},

	{scenario: "paced-20000", label: "CPU per message", unit: "µs", figure: perMessage("paced-20000")},
	{scenario: "paced-20000", label: "latency, p50", unit: "µs", figure: of("paced-20000", p50, micro)},
	{scenario: "paced-20000", label: "latency, p99", unit: "µs", figure: of("paced-20000", p99, micro)},
	{scenario: "paced-20000", label: "added latency, p50", unit: "µs", figure: added("paced-20000", p50, micro)},
	{scenario: "paced-20000", label: "added latency, p99", unit: "µs", figure: added("paced-20000", p99, micro)},

	{
		scenario: "connect", label: "CPU per connection", unit: "µs", figure: proxyOnly(of("connect", cpuPerWork, micro)),
		targets: []target{against(haproxy, 0.9)},
	},
	{scenario: "connect", label: "connections", unit: "k/s", figure: perSecond("connect")},
	{scenario: "connect", label: "connect to CONNACK, p50", unit: "µs", figure: of("connect", p50, micro)},

	{
		scenario: "bulk", label: "CPU per GB forwarded", unit: "s", figure: proxyOnly(of("bulk", cpuPerWork, giga)),
		targets: []target{against(haproxy, 0.75)},
	},
	{scenario: "bulk", label: "forwarded", unit: "GB/s", figure: of("bulk", workPerSecond, 1/giga)},

	{
		scenario: "idle", label: "CPU", unit: "% of a core", figure: proxyOnly(of("idle", coreShare, percent)),
		targets: []target{own(0.5)},
	},
	{
		scenario: "idle", label: "resident, per further session", unit: "B", figure: proxyOnly(of("idle", residentPerSession, 1)),
		targets: []target{own(800)},
	},
	{scenario: "idle", label: "resident, in all", unit: "MiB", figure: proxyOnly(of("idle", residentInAll, mega))},
	{scenario: "idle", label: "kernel, per further session", unit: "B", figure: added("idle", kernelPerSession, 1)},

	{
		scenario: "tls-connect", label: "CPU per connection", unit: "µs", figure: proxyOnly(of("tls-connect", cpuPerWork, micro)),
		targets: []target{against(nginx, 1)},
	},
	{scenario: "tls-connect", label: "connections per CPU second", unit: "k", figure: perCPUSecond("tls-connect")},
	{scenario: "tls-connect", label: "connect to CONNACK, p50", unit: "µs", figure: of("tls-connect", p50, micro)},
	{scenario: "tls-connect-12", label: "CPU per connection", unit: "µs", figure: of("tls-connect-12", cpuPerWork, micro)},
	{scenario: "tls-connect-12", label: "connections per CPU second", unit: "k", figure: perCPUSecond("tls-connect-12")},
	{scenario: "tls-connect-rsa", label: "CPU per connection", unit: "µs", figure: of("tls-connect-rsa", cpuPerWork, micro)},
	{scenario: "tls-connect-rsa", label: "connections per CPU second", unit: "k", figure: perCPUSecond("tls-connect-rsa")},
	{scenario: "tls-connect-mlkem", label: "CPU per connection", unit: "µs", figure: of("tls-connect-mlkem", cpuPerWork, micro)},
	{scenario: "tls-connect-mlkem", label: "connections per CPU second", unit: "k", figure: perCPUSecond("tls-connect-mlkem")},

	{scenario: "tls-pingpong", label: "CPU per message", unit: "µs", figure: perMessage("tls-pingpong")},
	{scenario: "tls-pingpong", label: "round trips", unit: "k/s", figure: perSecond("tls-pingpong")},

	{scenario: "tls-idle", label: "CPU", unit: "% of a core", figure: proxyOnly(of("tls-idle", coreShare, percent))},
	{
		scenario: "tls-idle", label: "resident, per further session", unit: "B", figure: proxyOnly(of("tls-idle", residentPerSession, 1)),
		targets: []target{against(haproxy, 0.5)},
	},
	{scenario: "tls-idle", label: "resident, in all", unit: "MiB", figure: proxyOnly(of("tls-idle", residentInAll, mega))},
	{scenario: "tls-idle", label: "kernel, per further session", unit: "B", figure: added("tls-idle", kernelPerSession, 1)},
	{scenario: "tls-idle-mlkem", label: "resident, per further session", unit: "B", figure: of("tls-idle-mlkem", residentPerSession, 1)},
	{scenario: "tls-idle-mlkem", label: "resident, in all", unit: "MiB", figure: of("tls-idle-mlkem", residentInAll, mega)},
}

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

// perCPUSecond is how much work, in thousands, a second of the proxy's CPU time does.
func perCPUSecond(scenario string) func(results, string) float64 {
	cpu := proxyOnly(of(scenario, cpuPerWork, 1))
	return func(r results, system string) float64 { return 1e-3 / cpu(r, system) }
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
