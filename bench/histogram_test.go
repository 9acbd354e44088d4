package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestHistogramBuckets(t *testing.T) {
	t.Parallel()
	previous := -1
	for _, v := range []uint64{0, 1, 2, 127, 128, 255, 256, 257, 258, 511, 512, 1 << 20, 1<<20 + 1<<13, 1 << 40, math.MaxInt64} {
		b := bucketOf(v)
		if b < previous {
			t.Errorf("bucketOf(%d): got %d, want at least %d, the bucket of a smaller value", v, b, previous)
		}
		previous = b
		end := bucketEnd(b)
		if end < v || float64(end-v) > float64(v)/(1<<histogramPrecision) {
			t.Errorf("bucketEnd(bucketOf(%d)): got %d, want at most 1/128 more", v, end)
		}
	}
	if last := len(histogram{}.buckets) - 1; previous > last {
		t.Errorf("bucketOf(the largest duration): got %d, want at most %d", previous, last)
	}
}

func TestHistogramQuantile(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var h histogram
	values := make([]time.Duration, 10_000)
	for i := range values {
		values[i] = time.Duration(random.ExpFloat64() * float64(100*time.Microsecond))
		h.record(values[i])
	}
	slices.Sort(values)
	for _, q := range []float64{0.001, 0.5, 0.9, 0.99, 0.9999, 1} {
		want := values[int(math.Ceil(q*float64(len(values))))-1]
		got := h.quantile(q)
		if got < want || float64(got) > float64(want)*(1+1.0/128)+1 {
			t.Errorf("quantile(%v): got %v, want %v or slightly more", q, got, want)
		}
	}
}

func TestHistogramEdges(t *testing.T) {
	t.Parallel()
	var h histogram
	if got := h.quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing: got %v, want 0", got)
	}
	h.record(-time.Second)
	if got := h.quantile(1); got != 0 {
		t.Errorf("quantile of a negative value: got %v, want 0", got)
	}
	h.reset()
	h.record(time.Millisecond)
	for _, q := range []float64{0, 0.5, 1} {
		if got := h.quantile(q); got != time.Millisecond {
			t.Errorf("quantile(%v) of one value: got %v, want %v", q, got, time.Millisecond)
		}
	}
}
