package metrics

import "github.com/prometheus/client_golang/prometheus"

// ForgetCluster drops what was counted for a cluster that does not exist any more: the number of series depends on
// the configuration alone, not on how often it has changed. One that comes again begins with 0.
func (m *Metrics) ForgetCluster(name string) {
	of := prometheus.Labels{"cluster": name}
	for _, v := range []*prometheus.CounterVec{m.connack, m.redirects, m.placements, m.dialFailures, m.evictions, m.handshakes.backends} {
		v.DeletePartialMatch(of)
	}
	m.connectSeconds.DeletePartialMatch(of)
	m.returnSeconds.DeletePartialMatch(of)
	m.DiscoveryEnded(name)
}

// ForgetListener is the same for a listener.
func (m *Metrics) ForgetListener(name string) {
	of := prometheus.Labels{"listener": name}
	for _, v := range []*prometheus.CounterVec{m.connects, m.refused, m.contested, m.handshakes.total} {
		v.DeletePartialMatch(of)
	}
	m.handshakes.seconds.DeletePartialMatch(of)
	m.CertificatesExpire(name, nil)
}
