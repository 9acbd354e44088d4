package scrape

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestPresets reads two pages of each broker, 15 s apart. Those of RabbitMQ come from a real one (3.10.8),
// 28 s apart by its own clock, with the alarm put in.
func TestPresets(t *testing.T) {
	t.Parallel()
	tests := []struct {
		preset, hot string
		load        [2]float64 // NaN: none yet
		level       [2]float64
	}{
		{preset: "hivemq", hot: "com_hivemq_overload_protection_level", load: [2]float64{0.415, 0.6325}, level: [2]float64{2, 6}},
		{preset: "emqx", load: [2]float64{0.076669163995887715, 0.885}},
		{preset: "rabbitmq", load: [2]float64{math.NaN(), (2773. - 2582) / (37195 - 9116) / 2}, level: [2]float64{0, 10}},
		{preset: "vernemq", load: [2]float64{0.27, 0.9}},
		{preset: "prometheus", load: [2]float64{math.NaN(), 10.5 / 30}},
	}
	var names []string
	for _, test := range tests {
		names = append(names, test.preset)
		o := Options{Preset: test.preset, Hot: test.hot, Clock: func() int64 { return 1 }, OnReading: func(Reading) {}}
		s, err := New(o)
		if err != nil {
			t.Errorf("%s: %v", test.preset, err)
			continue
		}
		target := &target{name: "n", history: history{counters: make(map[*term]*counters), load: window{length: 300e9, reach: 30e9}}}
		for i, file := range []string{"_1.txt", "_2.txt"} {
			text, err := os.ReadFile("testdata/" + test.preset + file)
			if err != nil {
				t.Fatal(err)
			}
			page, err := readPage(strings.NewReader(string(text)), s.plan.names, 100)
			if err != nil {
				t.Fatalf("%s%s: %v", test.preset, file, err)
			}
			r := s.read(target, &fetched{page: page, at: int64(1+15*i) * 1e9})
			if r.Err != nil {
				t.Errorf("%s%s: %v", test.preset, file, r.Err)
			}
			switch want := test.load[i]; {
			case math.IsNaN(want):
				if r.Util.At != 0 || r.Load.At != 0 {
					t.Errorf("%s%s: got load %+v of one page", test.preset, file, r.Util)
				}
			case r.Util.At != r.At || math.Abs(r.Util.Value-want) > 1e-9:
				t.Errorf("%s%s: got load %+v, want %g", test.preset, file, r.Util, want)
			}
			if r.Level.Value != test.level[i] || (r.Level.At != 0) != (s.plan.hot != nil) {
				t.Errorf("%s%s: got level %+v, want %g", test.preset, file, r.Level, test.level[i])
			}
		}
	}
	if !slices.Equal(Presets(), names) {
		t.Errorf("there are presets %v, tested are %v", Presets(), names)
	}
}
