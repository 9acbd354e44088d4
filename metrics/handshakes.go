package metrics

import (
	"crypto/tls"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// handshakes is what is reported about the TLS handshakes with clients and with backends.
type handshakes struct {
	total    *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	backends *prometheus.CounterVec
}

func newHandshakes() handshakes {
	return handshakes{
		total: counters("tls_handshakes_total",
			"TLS handshakes with clients by result: full, resumed, or the reason of the failure; and by version, which is empty for those that have failed.",
			"listener", "result", "version"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mqttlb_tls_handshake_seconds",
			Help:    "Time from the complete ClientHello to the end of handshakes that went well; most of it is the way to the client and back.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"listener"}),
		backends: counters("backend_tls_handshakes_total",
			"TLS handshakes with brokers by result: full, resumed, or the reason of the failure; and by version, which is empty for those that have failed.",
			"cluster", "result", "version"),
	}
}

func (h *handshakes) collectors() []prometheus.Collector {
	return []prometheus.Collector{h.total, h.seconds, h.backends}
}

// Handshook counts a TLS handshake with a client that has ended. failure is the reason why it has failed, empty if it
// has not; version is that of crypto/tls.
func (m *Metrics) Handshook(listener, failure string, version uint16, resumed bool, took time.Duration) {
	if failure != "" {
		m.handshakes.total.WithLabelValues(listener, failure, "").Inc()
		return
	}
	m.handshakes.total.WithLabelValues(listener, resultName(resumed), versionName(version)).Inc()
	m.handshakes.seconds.WithLabelValues(listener).Observe(took.Seconds())
}

// HandshookBackend is the same for one with a backend.
func (m *Metrics) HandshookBackend(cluster, failure string, version uint16, resumed bool) {
	if failure != "" {
		m.handshakes.backends.WithLabelValues(cluster, failure, "").Inc()
		return
	}
	m.handshakes.backends.WithLabelValues(cluster, resultName(resumed), versionName(version)).Inc()
}

func resultName(resumed bool) string {
	if resumed {
		return "resumed"
	}
	return "full"
}

func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return "other"
}
