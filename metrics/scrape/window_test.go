package scrape

import (
	"math"
	"math/rand/v2"
	"testing"
)

// naiveMean looks at every nanosecond of the window and asks which value stands for it.
func naiveMean(samples []part, length, reach int64) float64 {
	now := samples[len(samples)-1].to
	sum, count := 0.0, 0
	for at := now - length + 1; at <= now; at++ {
		for i := 1; i < len(samples); i++ {
			if samples[i-1].to < at && at <= samples[i].to {
				if at > samples[i].to-reach {
					sum += samples[i].value
					count++
				}
				break
			}
		}
	}
	if count == 0 {
		return samples[len(samples)-1].value
	}
	return sum / float64(count)
}

func TestWindowAgainstModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := window{length: 1 + r.Int64N(100), reach: 1 + r.Int64N(40)}
		var samples []part
		at := r.Int64N(1000)
		for range 60 {
			value := r.Float64()
			w.add(value, at)
			samples = append(samples, part{to: at, value: value})
			if r.IntN(5) == 0 {
				w.add(1e9, at-r.Int64N(3)) // out of order
			}
			got, since := w.mean()
			want := naiveMean(samples, w.length, w.reach)
			if math.Abs(got-want) > 1e-9 {
				t.Fatalf("seed %d, at %d: got mean %g, want %g", seed, at, got, want)
			}
			if since > at || since < at-w.length || since < samples[0].to {
				t.Fatalf("seed %d, at %d: the mean begins at %d", seed, at, since)
			}
			at += 1 + r.Int64N([]int64{3, 20, 200}[r.IntN(3)])
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	t.Parallel()
	w := window{length: math.MaxInt64 / 2, reach: 10}
	for at := range int64(5 * maxParts) {
		w.add(float64(at), at)
	}
	if len(w.parts) > maxParts || cap(w.parts) > 2*maxParts {
		t.Errorf("%d parts, room for %d", len(w.parts), cap(w.parts))
	}
	if mean, _ := w.mean(); math.Abs(mean-4.5*maxParts) > 1 {
		t.Errorf("mean of the newest is %g", mean)
	}
}
