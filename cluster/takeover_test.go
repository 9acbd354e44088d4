package cluster

import (
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/proxy"
)

// Whoever adds an option decides whether Reconfigure takes it over: this test fails until takeOver does, or the option
// is listed here among those that stay.
func TestReconfigureTakesOverEveryOption(t *testing.T) {
	t.Parallel()
	fixed := []string{"Name", "Observer", "Events", "Log", "Clock"}
	next := Options{
		Rules: []GroupRule{{Learn: true}}, Members: func([]balancer.Backend) {}, Events: func(Event) {},
		Header: new(proxy.Header), TLS: new(proxy.BackendTLS), Sources: proxy.NewSources([]netip.Addr{netip.MustParseAddr("10.0.0.5")}), Log: slog.New(slog.DiscardHandler), Clock: func() int64 { return 1 },
	}
	set := reflect.ValueOf(&next).Elem()
	for _, field := range set.Fields() {
		fill(field)
	}
	var got Options
	got.takeOver(&next)
	for field, value := range reflect.ValueOf(got).Fields() {
		if taken := !value.IsZero(); taken == slices.Contains(fixed, field.Name) {
			t.Errorf("%s: got taken over %t, want %t", field.Name, taken, !taken)
		}
	}
}

// fill makes a value that is zero another one, as far as that is possible.
func fill(v reflect.Value) {
	switch v.Kind() { //nolint:exhaustive // the others are filled already
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Struct:
		fill(v.Field(0))
	}
}
