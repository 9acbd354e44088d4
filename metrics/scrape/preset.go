package scrape

import "strings"

// A preset is what one kind of broker exports about its load.
type preset struct {
	name, url string
	figures   []FigureOptions
	// hot is a metric for the hot level; hotTop is its value that means level 10, on HiveMQ's scale from 0
	// to 10, so that enter 5 and leave 3 suit all presets.
	hot    string
	hotTop float64
	// version is where the version of the broker is.
	version VersionOptions
}

// presets holds all presets. What each of them rests on stands in the comment; "seen" is a page of a real
// broker, "source" is the code of the broker or of an exporter's consumer, "documented" its documentation.
func presets() []preset {
	return []preset{
		// HiveMQ Platform with the Prometheus extension (hivemq.md, 3). The CPU of the whole host in percent:
		// the name is that of HiveMQ's own dashboard, the unit was seen in public samples (5.0, 10.3, 7.5) and
		// not measured here. In a container that may use a part of the host only, take instead
		// com_hivemq_system_system_cpu_load, documented as 0…1. The path /metrics works with images that
		// configure /, too: a server of paths answers for all below (source: PrometheusHttpServer).
		//
		// No hot metric: com_hivemq_overload_protection_level is the obvious one, but whether it is the node's
		// own level or the highest of the cluster is open (hivemq.md, 3.3). If it is the latter, one overloaded
		// node would turn all of them hot (algorithms.md, 6). Whoever has seen it differ between the nodes of a
		// cluster sets hot.metric.
		//
		// Community Edition exports no CPU (hivemq.md, 2.4): figures must be set, or node_exporter be used.
		{
			name: "hivemq", url: "http://{host}:9399/metrics",
			figures: []FigureOptions{{Metric: "com_hivemq_system_os_global_cpu_total_total", Scale: 100}},
		},
		// EMQX 5 and 6, on the port of the dashboard; with prometheus.enable_basic_auth it wants an API key as
		// user name and password. Source: emqx_prometheus.erl, emqx_prometheus_api.erl; the documentation shows
		// emqx_vm_cpu_use in percent. A url with mode=all_nodes_… would sum up the whole cluster.
		{
			name: "emqx", url: "http://{host}:18083/api/v5/prometheus/stats",
			figures: []FigureOptions{{Metric: "emqx_vm_cpu_use", Scale: 100}},
		},
		// RabbitMQ with the plugin rabbitmq_prometheus. Seen: 3.10.8. The CPU that the Erlang VM has used, as a
		// part of its schedulers; measured, it is user time only, so that 1 is not quite reached. The alarm is
		// the node's own and means that it blocks publishers: level 10.
		{
			name: "rabbitmq", url: "http://{host}:15692/metrics",
			figures: []FigureOptions{{Metric: "rate(erlang_vm_statistics_runtime_milliseconds)" +
				" / rate(erlang_vm_statistics_wallclock_time_milliseconds) / erlang_vm_schedulers_online"}},
			hot: "rabbitmq_alarms_memory_used_watermark", hotTop: 1,
			version: VersionOptions{Metric: "rabbitmq_build_info", Label: "rabbitmq_version"},
		},
		// VerneMQ, on its HTTP listener. Source: vmq_metrics.erl (mean utilisation of the schedulers in
		// percent), vmq_metrics_http.erl.
		{
			name: "vernemq", url: "http://{host}:8888/metrics",
			figures: []FigureOptions{{Metric: "system_utilization", Scale: 100}},
		},
		// Any host with the Prometheus node_exporter: the part of all CPUs' time that was not idle. Documented;
		// waiting for a disk counts as idle, as another process could run.
		{
			name: "prometheus", url: "http://{host}:9100/metrics",
			figures: []FigureOptions{{
				Metric: `rate(node_cpu_seconds_total{mode!~"idle|iowait"}) / rate(node_cpu_seconds_total)`,
			}},
		},
	}
}

// Presets are the names of all presets.
func Presets() []string {
	var names []string
	for _, p := range presets() {
		names = append(names, p.name)
	}
	return names
}

// presetOf is the preset of a name; the name "" has an empty one.
func presetOf(name string) (preset, *FieldError) {
	if name == "" {
		return preset{}, nil
	}
	for _, p := range presets() {
		if p.name == name {
			return p, nil
		}
	}
	return preset{}, fieldErrorf("preset", "%q is none; the presets are %s", name, strings.Join(Presets(), ", "))
}
