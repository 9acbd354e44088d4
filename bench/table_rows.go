package main

import "slices"

// rows is the whole table. A row stands below its scenario's title, so the order matters only within a scenario.
var rows = slices.Concat(loadRows, tlsRows, growthRows, fleetRows)

var loadRows = []row{
	{scenario: "pingpong-1", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-1")},
	{scenario: "pingpong-1", label: "latency, p50", unit: "µs", figure: of("pingpong-1", p50, micro)},

	{scenario: "pingpong-50", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-50")},
	{scenario: "pingpong-50", label: "round trips", unit: "k/s", more: true, figure: perSecond("pingpong-50")},

	{
		scenario: "pingpong-1000", label: "CPU per message", unit: "µs", figure: perMessage("pingpong-1000"),
		targets: []target{against(haproxy, 0.85), against(nginx, 1)},
	},
	{scenario: "pingpong-1000", label: "round trips", unit: "k/s", more: true, figure: perSecond("pingpong-1000")},
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
	{scenario: "pingpong-5000", label: "round trips", unit: "k/s", more: true, figure: perSecond("pingpong-5000")},
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
	{scenario: "connect", label: "connections", unit: "k/s", more: true, figure: perSecond("connect")},
	{scenario: "connect", label: "connect to CONNACK, p50", unit: "µs", figure: of("connect", p50, micro)},

	{
		scenario: "bulk", label: "CPU per GB forwarded", unit: "s", figure: proxyOnly(of("bulk", cpuPerWork, giga)),
		targets: []target{against(haproxy, 0.75)},
	},
	{scenario: "bulk", label: "forwarded", unit: "GB/s", more: true, figure: of("bulk", workPerSecond, 1/giga)},

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
}

var tlsRows = []row{
	{
		scenario: "tls-connect", label: "CPU per connection", unit: "µs", figure: proxyOnly(of("tls-connect", cpuPerWork, micro)),
		targets: []target{against(nginx, 1)},
	},
	{scenario: "tls-connect", label: "connect to CONNACK, p50", unit: "µs", figure: of("tls-connect", p50, micro)},
	{scenario: "tls-connect-12", label: "CPU per connection", unit: "µs", figure: of("tls-connect-12", cpuPerWork, micro)},
	{scenario: "tls-connect-rsa", label: "CPU per connection", unit: "µs", figure: of("tls-connect-rsa", cpuPerWork, micro)},
	{scenario: "tls-connect-mlkem", label: "CPU per connection", unit: "µs", figure: of("tls-connect-mlkem", cpuPerWork, micro)},

	{scenario: "tls-pingpong", label: "CPU per message", unit: "µs", figure: perMessage("tls-pingpong")},
	{scenario: "tls-pingpong", label: "round trips", unit: "k/s", more: true, figure: perSecond("tls-pingpong")},

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
