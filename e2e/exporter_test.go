//go:build linux

package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// An exporter reports the load of brokers as Prometheus reads it, each below its name, or behaves badly.
type exporter struct {
	address string
	began   time.Time

	mu     sync.Mutex
	load   map[string]float64 // by broker, 0…1
	level  map[string]int     // of overload
	faults map[string]string  // by broker
	asked  map[string]int     // by broker
}

// The faults of an exporter.
const (
	hangs    = "no answer"
	drips    = "body in single bytes"
	floods   = "100 MiB"
	notANum  = "NaN"
	negative = "negative"
	resets   = "counter reset"
	breaks   = "500"
)

func newExporter(t *testing.T, load map[string]float64) *exporter {
	t.Helper()
	e := &exporter{
		began: time.Now(), load: load, level: make(map[string]int),
		faults: make(map[string]string), asked: make(map[string]int),
	}
	e.address = serveHTTP(t, e)
	return e
}

// source is the YAML that makes mqttlb read the load: busy is a gauge, busy_seconds_total a counter.
func (e *exporter) source(figure string) string {
	return fmt.Sprintf("load: {url: \"http://%s/{name}\", interval: 1s, figures: [{metric: %q}], hot: {metric: overload_level}}\n", e.address, figure)
}

// behave begins a fault of what is reported of a broker; the empty one ends it.
func (e *exporter) behave(broker, fault string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults[broker] = fault
}

// overload sets the overload level of a broker.
func (e *exporter) overload(broker string, level int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.level[broker] = level
}

// questions is how often the load of a broker was asked for.
func (e *exporter) questions(broker string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.asked[broker]
}

// ServeHTTP implements http.Handler.
func (e *exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	broker := strings.TrimPrefix(r.URL.Path, "/")
	e.mu.Lock()
	e.asked[broker]++
	load, level, fault := e.load[broker], e.level[broker], e.faults[broker]
	e.mu.Unlock()
	lasts := func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.faults[broker] == fault
	}
	busy, seconds := fmt.Sprint(load), fmt.Sprint(1000+load*time.Since(e.began).Seconds())
	switch fault {
	case hangs:
		<-r.Context().Done()
		return
	case breaks:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case drips:
		drip(w, r, "busy 0\n", lasts)
		return
	case floods:
		for line := strings.Repeat("busy_seconds_total{core=\"0\"} 1\n", 1000); ; {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	case notANum:
		busy, seconds = "NaN", "NaN"
	case negative:
		busy, seconds = "-1", "-1"
	case resets:
		seconds = fmt.Sprint(load * float64(time.Now().UnixNano()%1e6) / 1e9) // it goes up and down
	}
	fmt.Fprintf(w, "# TYPE busy gauge\nbusy %s\nbusy_seconds_total %s\noverload_level %d\n", busy, seconds, level)
}

// forecast is how long it may take until a load that is reported weighs: two readings of a broker do not
// count, and there is a forecast every 15 s.
const forecast = 45 * time.Second
