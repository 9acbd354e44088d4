// Package metrics is what mqttlb reports about itself, for Prometheus. All names begin with mqttlb_, use
// base units, and never carry a client id or a topic as a label: the number of series depends on the
// configuration alone.
//
//	m := metrics.New(metrics.Sources{…})
//	m.Answered("mqtt", "hivemq", 0, 12*time.Millisecond)
//	http.Handle("/metrics", m.Handler())
//
// There are two kinds. Events are counted as they happen, by the methods of Metrics, which may be called
// from any goroutine and never block. States (connections, bytes, weights) are read from Sources when
// somebody scrapes, so that the data path pays nothing for them.
//
// What brokers report about themselves is read by the package scrape below this one.
package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics counts events.
type Metrics struct {
	registry *prometheus.Registry

	connects       *prometheus.CounterVec
	connectSeconds *prometheus.HistogramVec
	refused        *prometheus.CounterVec
	contested      *prometheus.CounterVec
	redirects      *prometheus.CounterVec
	connack        *prometheus.CounterVec
	placements     *prometheus.CounterVec
	dialFailures   *prometheus.CounterVec
	evictions      *prometheus.CounterVec
	returnSeconds  *prometheus.HistogramVec
	reloads        *prometheus.CounterVec
	reloadOK       prometheus.Gauge
	reloadTime     prometheus.Gauge
	discovery      discovery
	certificates   certificates
	handshakes     handshakes
}

// New registers everything. The Go runtime's and the process's own metrics are included.
func New(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		connects: counters("connects_total",
			"Connections by result: accepted or rejected by the broker, refused by mqttlb, redirected to the broker, or lost before CONNACK.", "listener", "result"),
		connectSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mqttlb_connect_seconds",
			Help:    "Time from accept to the broker's CONNACK.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"cluster"}),
		refused: counters("refused_total", "Connections that mqttlb itself closed, by reason.", "listener", "reason"),
		contested: counters("takeovers_total",
			"CONNECT packets with a client id that two addresses have used in turn at least six times within a minute: two devices share it.", "listener"),
		redirects: counters("redirects_total",
			"MQTT 5 clients that were told to go to their backend without mqttlb.", "cluster"),
		connack: counters("connack_total", "CONNACK packets from brokers, by return or reason code.", "cluster", "code"),
		placements: counters("placements_total",
			"Decisions of the placement, by strategy and reason.", "cluster", "strategy", "reason"),
		dialFailures: counters("backend_connect_failures_total",
			"Attempts to use a backend that did not lead to a connection, by reason.", "cluster", "backend", "reason"),
		evictions: counters("evictions_total",
			"Moves of clients that were begun, by reason, and result: moved, or why the client has stayed.", "cluster", "reason", "result"),
		returnSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mqttlb_evicted_return_seconds",
			Help:    "Time that clients were away that were moved and have come again.",
			Buckets: []float64{.01, .1, .5, 1, 2, 5, 10, 30, 60, 120, 300},
		}, []string{"cluster"}),
		reloads: counters("config_reloads_total", "Reloads of the configuration, by result.", "result"),
		reloadOK: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqttlb_config_last_reload_successful", Help: "1 if the last reload of the configuration worked: it was valid, and every listener could be opened.",
		}),
		reloadTime: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mqttlb_config_last_reload_success_timestamp_seconds", Help: "When a configuration was last taken over.",
		}),
		discovery:    newDiscovery(),
		certificates: newCertificates(),
		handshakes:   newHandshakes(),
	}
	m.registry.MustRegister(m.discovery.collectors()...)
	m.registry.MustRegister(m.certificates.collectors()...)
	m.registry.MustRegister(m.handshakes.collectors()...)
	m.registry.MustRegister(m.connects, m.connectSeconds, m.refused, m.contested, m.redirects, m.connack, m.placements, m.dialFailures, m.evictions, m.returnSeconds, m.reloads, m.reloadOK, m.reloadTime,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), &stateCollector{s})
	return m
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mqttlb_" + name, Help: help}, labels)
}

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: 10 * time.Second})
}

// Answered counts a broker's CONNACK. accepted means return or reason code 0.
func (m *Metrics) Answered(listener, cluster string, code byte, after time.Duration) {
	result := "accepted"
	if code != 0 {
		result = "rejected"
	}
	m.connects.WithLabelValues(listener, result).Inc()
	m.connack.WithLabelValues(cluster, codes[code]).Inc()
	m.connectSeconds.WithLabelValues(cluster).Observe(after.Seconds())
}

// Declined counts a broker's CONNACK that the client does not get, because another broker is asked.
func (m *Metrics) Declined(cluster string, code byte) {
	m.connack.WithLabelValues(cluster, codes[code]).Inc()
}

// PassedLate counts a client that got a CONNACK that was Declined before: no other broker has taken it.
func (m *Metrics) PassedLate(listener, cluster string, after time.Duration) {
	m.connects.WithLabelValues(listener, "rejected").Inc()
	m.connectSeconds.WithLabelValues(cluster).Observe(after.Seconds())
}

// Refused counts a connection that mqttlb closed.
func (m *Metrics) Refused(listener, reason string) {
	m.connects.WithLabelValues(listener, "refused").Inc()
	m.refused.WithLabelValues(listener, reason).Inc()
}

// Cut counts a connection that mqttlb closed after a broker had answered, which counted it already.
func (m *Metrics) Cut(listener, reason string) { m.refused.WithLabelValues(listener, reason).Inc() }

// Redirected counts a client that was told to go to its backend without mqttlb.
func (m *Metrics) Redirected(listener, cluster string) {
	m.connects.WithLabelValues(listener, "redirected").Inc()
	m.redirects.WithLabelValues(cluster).Inc()
}

// Contested counts a CONNECT with a client id that two devices share.
func (m *Metrics) Contested(listener string) { m.contested.WithLabelValues(listener).Inc() }

// PassedThrough counts a client whose bytes are not decrypted: its broker has begun to answer.
func (m *Metrics) PassedThrough(listener, cluster string, after time.Duration) {
	m.connects.WithLabelValues(listener, "accepted").Inc()
	m.connectSeconds.WithLabelValues(cluster).Observe(after.Seconds())
}

// Lost counts a connection that ended before the broker's CONNACK without mqttlb's doing.
func (m *Metrics) Lost(listener string) { m.connects.WithLabelValues(listener, "lost").Inc() }

// Placed counts a decision.
func (m *Metrics) Placed(cluster, strategy, reason string) {
	m.placements.WithLabelValues(cluster, strategy, reason).Inc()
}

// DialFailed counts an attempt that did not lead to a connection.
func (m *Metrics) DialFailed(cluster, backend, reason string) {
	m.dialFailures.WithLabelValues(cluster, backend, reason).Inc()
}

// Evicted counts a move of a client that was begun.
func (m *Metrics) Evicted(cluster, reason, result string) {
	m.evictions.WithLabelValues(cluster, reason, result).Inc()
}

// Returned counts a client that was moved and has come again, after so long.
func (m *Metrics) Returned(cluster string, after time.Duration) {
	m.returnSeconds.WithLabelValues(cluster).Observe(after.Seconds())
}

// Reloaded counts the reading of a configuration; the first one counts too.
func (m *Metrics) Reloaded(ok bool, at time.Time) {
	if !ok {
		m.reloads.WithLabelValues("failure").Inc()
		m.reloadOK.Set(0)
		return
	}
	m.reloads.WithLabelValues("success").Inc()
	m.reloadOK.Set(1)
	m.reloadTime.Set(float64(at.UnixNano()) / 1e9)
}

// codes are the label values of CONNACK codes, as the standards write them: decimal for 3.x, and
// hexadecimal for the codes of MQTT 5.
var codes = func() (c [256]string) {
	for i := range c {
		c[i] = strconv.Itoa(i)
		if i >= 0x80 {
			c[i] = "0x" + strconv.FormatUint(uint64(i), 16)
		}
	}
	return c
}()
