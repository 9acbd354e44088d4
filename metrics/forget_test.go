package metrics_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mqttlb/mqttlb/metrics"
)

// Nothing names a cluster or a listener that was forgotten, and the others stay. Whoever adds a metric with one of
// these labels adds a call here.
func TestForget(t *testing.T) {
	t.Parallel()
	m := metrics.New(metrics.Sources{})
	for _, name := range []string{"stays", "goes"} {
		listener, cluster := name+"-listener", name+"-cluster"
		m.Answered(listener, cluster, 0, time.Millisecond)
		m.Answered(listener, cluster, 0x87, time.Millisecond)
		m.Refused(listener, "connections")
		m.Cut(listener, "packet_size")
		m.Contested(listener)
		m.Redirected(listener, cluster)
		m.Lost(listener)
		m.Placed(cluster, "client-hash", "home")
		m.DialFailed(cluster, "b", "refused")
		m.Evicted(cluster, "emptying", "moved")
		m.Returned(cluster, time.Second)
		m.Discovering(cluster)
		m.Discovered(cluster, 3, 1, time.Now())
		m.DiscoveryFailed(cluster)
	}
	show := func() string {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
		return w.Body.String()
	}
	before := show()
	m.ForgetCluster("goes-cluster")
	m.ForgetListener("goes-listener")
	m.ForgetListener("never was")
	after := show()
	if strings.Contains(after, `"goes-`) {
		t.Errorf("got something of what was forgotten in\n%s", after)
	}
	if got, want := strings.Count(after, `"stays-`), strings.Count(before, `"stays-`); got != want || want < 15 {
		t.Errorf("got %d series of those that stay, want %d", got, want)
	}
}
