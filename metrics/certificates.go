package metrics

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificates is what is reported about the certificates of listeners.
type certificates struct {
	expiry  *prometheus.GaugeVec
	reloads *prometheus.CounterVec
}

func newCertificates() certificates {
	c := certificates{
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mqttlb_certificate_expiry_timestamp_seconds",
			Help: "When a certificate of a listener expires, by its first name; of several with the same name, the first that does.",
		}, []string{"listener", "name"}),
		reloads: counters("certificate_reloads_total",
			"Changed files of certificates, authorities and ticket keys that were taken over, or could not be, by result.", "result"),
	}
	for _, result := range []string{"success", "failure"} {
		c.reloads.WithLabelValues(result)
	}
	return c
}

func (c *certificates) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.expiry, c.reloads}
}

// CertificatesExpire says which certificates a listener has, and when they expire; none for a listener without.
func (m *Metrics) CertificatesExpire(listener string, names map[string]time.Time) {
	m.certificates.expiry.DeletePartialMatch(prometheus.Labels{"listener": listener})
	for name, at := range maps.All(names) {
		m.certificates.expiry.WithLabelValues(listener, name).Set(float64(at.Unix()))
	}
}

// CertificatesReloaded counts changed files of one listener or cluster.
func (m *Metrics) CertificatesReloaded(ok bool) {
	result := "success"
	if !ok {
		result = "failure"
	}
	m.certificates.reloads.WithLabelValues(result).Inc()
}
