package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// discovery is what is reported about the sources of backends.
type discovery struct {
	backends, skipped, succeeded *prometheus.GaugeVec
	failures                     *prometheus.CounterVec
}

func newDiscovery() discovery {
	gauges := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mqttlb_" + name, Help: help}, []string{"cluster"})
	}
	return discovery{
		backends: gauges("discovery_backends", "Backends that discovery names."),
		skipped: gauges("discovery_skipped",
			"Backends that discovery had to leave out, or that keep an address which could not be confirmed."),
		succeeded: gauges("discovery_last_success_timestamp_seconds", "When discovery last changed or confirmed the backends."),
		failures:  counters("discovery_failures_total", "Refreshes of discovery that gave no list of backends; the last known ones stay.", "cluster"),
	}
}

func (d *discovery) collectors() []prometheus.Collector {
	return []prometheus.Collector{d.backends, d.skipped, d.succeeded, d.failures}
}

// Discovering is called when the discovery of a cluster starts: from then on its figures are there, 0 if
// nothing is known yet. Those of one that starts again stay.
func (m *Metrics) Discovering(cluster string) {
	m.discovery.backends.WithLabelValues(cluster)
	m.discovery.skipped.WithLabelValues(cluster)
	m.discovery.failures.WithLabelValues(cluster)
}

// Discovered counts a refresh that changed or confirmed the backends of a cluster.
func (m *Metrics) Discovered(cluster string, backends, skipped int, at time.Time) {
	m.discovery.backends.WithLabelValues(cluster).Set(float64(backends))
	m.discovery.skipped.WithLabelValues(cluster).Set(float64(skipped))
	m.discovery.succeeded.WithLabelValues(cluster).Set(float64(at.UnixNano()) / 1e9)
}

// DiscoveryFailed counts a refresh that gave no list of backends.
func (m *Metrics) DiscoveryFailed(cluster string) {
	m.discovery.failures.WithLabelValues(cluster).Inc()
}

// DiscoveryEnded forgets a cluster that is not there any more.
func (m *Metrics) DiscoveryEnded(cluster string) {
	for _, v := range []*prometheus.GaugeVec{m.discovery.backends, m.discovery.skipped, m.discovery.succeeded} {
		v.DeleteLabelValues(cluster)
	}
	m.discovery.failures.DeleteLabelValues(cluster)
}
