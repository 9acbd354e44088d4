package config

import (
	"reflect"
	"time"
)

// maxScrapes is how many readings of the load may fall into a window: all of
// them are kept.
const maxScrapes = 1000

// Enabled reports whether the load of the brokers is to be read.
func (l *BrokerLoad) Enabled() bool {
	return l.Preset != "" || len(l.Figures) > 0 || l.Hot.Metric != "" || l.Version != BrokerVersion{}
}

// Enabled reports whether the brokers are to be checked.
func (h *Health) Enabled() bool { return h.Interval > 0 }

// validateLoad checks what does not need to know the presets and the syntax of
// metrics, which Options.Check looks at.
func validateLoad(path string, l *BrokerLoad, r *report) {
	const example = "http://{host}:9399/metrics"
	if !l.Enabled() {
		var off BrokerLoad
		setDefaults(reflect.ValueOf(&off).Elem())
		deriveLoad("", &off, newReport(""))
		if !reflect.DeepEqual(*l, off) {
			r.at(path, "does not say what to read; write preset: hivemq, or url and figures: [{metric: NAME, scale: VALUE}]")
		}
		return
	}
	switch {
	case l.URL != "":
		checkURL(path+".url", l.URL, example, backendPlaceholders(), r)
	case l.Preset == "" && r.sound(path+".preset"):
		r.at(path+".url", "is missing, and there is no preset that has it; write url: %q", example)
	}
	checkTimeout(path, l.Timeout, l.Interval, r)
	if r.sound(path+".interval") && r.sound(path+".window") && (l.Window < l.Interval || l.Window > maxScrapes*l.Interval) {
		r.at(path+".window", "must be %s..%s, from the interval to %d times that, got %s",
			durationText(l.Interval), durationText(maxScrapes*l.Interval), maxScrapes, durationText(l.Window))
	}
	switch v := &l.Version; {
	case l.Preset != "" || !r.sound(path+".preset"): // which may have what is missing
	case v.Metric == "" && v.Label != "" && r.sound(path+".version.metric"):
		r.at(path+".version.metric", "is missing: the metric whose label %s is the version, such as rabbitmq_build_info", v.Label)
	case v.Metric != "" && v.Label == "" && r.sound(path+".version.label"):
		r.at(path+".version.label", "is missing: the label of %s that is the version, such as rabbitmq_version", v.Metric)
	}
	if r.sound(path+".hot.enter") && l.Hot.Leave >= l.Hot.Enter {
		r.at(path+".hot.leave", "must be below enter, which is %s, got %s; between the two a broker stays as it is",
			floatText(l.Hot.Enter), floatText(l.Hot.Leave))
	}
}

func validateHealth(path string, h *Health, r *report) {
	checkChoice(path, []choice{{"mqtt", h.MQTT != nil}, {"http", h.HTTP != nil}, {"tcp", h.TCP != nil}}, r)
	if h.Enabled() {
		checkTimeout(path, h.Timeout, h.Interval, r)
	}
	if h.MQTT != nil {
		checkClientID(path+".mqtt.client_id", h.MQTT.ClientID, r)
	}
	if h.HTTP != nil {
		checkURL(path+".http.url", h.HTTP.URL, "http://{host}:8889/api/v1/health/readiness", probePlaceholders(), r)
	}
}

// checkTimeout checks that what happens at every interval is over before the
// next one.
func checkTimeout(path string, timeout, interval time.Duration, r *report) {
	if r.sound(path+".interval") && r.sound(path+".timeout") && timeout > interval {
		r.at(path+".timeout", "must be at most the interval, which is %s, got %s", durationText(interval), durationText(timeout))
	}
}
