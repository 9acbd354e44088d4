package cluster

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The histogram agrees with a list of everything, within its steps.
func TestLatenciesAgainstAList(t *testing.T) {
	t.Parallel()
	type sample struct {
		d  time.Duration
		at int64
	}
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 5))
		var l latencies
		var list []sample
		now := int64(time.Hour)
		for i := range 1500 {
			now += rng.Int64N(int64(40 * time.Millisecond))
			if i%500 == 0 {
				now += rng.Int64N(int64(40 * time.Second))
			}
			d := time.Duration(rng.ExpFloat64() * float64(10*time.Millisecond<<(seed%8)))
			l.add(d, now)
			list = append(list, sample{d, now})
			list = slices.DeleteFunc(list, func(s sample) bool { return s.at/latencyLength <= now/latencyLength-latencyParts })
			got, ok := l.p95(now)
			if ok != (len(list) >= leastAnswers) {
				t.Fatalf("got an answer: %t with %d samples of the last half minute", ok, len(list))
			}
			if !ok {
				continue
			}
			all := make([]time.Duration, len(list))
			for i, s := range list {
				all[i] = s.d
			}
			slices.Sort(all)
			want := max(all[(len(all)*19+19)/20-1], time.Millisecond/2) // nearest rank
			if ratio := float64(got) / float64(want); want < 30*time.Second && (ratio < 0.70 || ratio > 1.42) {
				t.Fatalf("got %v of %d samples, want %v within a step", got, len(all), want)
			}
		}
		if _, ok := l.p95(now + latencyParts*latencyLength); ok {
			t.Error("got an answer half a minute after the last sample, want none")
		}
	}
}

func TestLatencySteps(t *testing.T) {
	t.Parallel()
	last := 0
	for d := time.Duration(0); d < time.Hour; d += d/8 + 1 {
		step := latencyStep(d)
		if step < last || step > last+1 || step >= latencySteps {
			t.Fatalf("got step %d for %v after step %d", step, d, last)
		}
		last = step
	}
	if last != latencySteps-1 {
		t.Errorf("got step %d for an hour, want the last", last)
	}
}

func TestUsualLatency(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		want time.Duration
		of   []time.Duration
	}{
		{0, nil},
		{0, []time.Duration{9}},
		{2, []time.Duration{9, 2}},
		{3, []time.Duration{9, 2, 3}},
		{3, []time.Duration{4, 9, 2, 3}},
	} {
		if got := usual(slices.Clone(test.of)); got != test.want {
			t.Errorf("%v: got %d, want %d", test.of, got, test.want)
		}
	}
}
