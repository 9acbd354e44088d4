package main

import (
	"math/bits"
	"time"
)

// histogramPrecision is how many leading bits of a value tell buckets apart: a quantile is at most 1/128 too large.
const histogramPrecision = 7

// A histogram counts durations in buckets that grow with the value, so that recording costs a few instructions and no
// memory whatever the range. The zero value is empty.
type histogram struct {
	buckets [(64 - histogramPrecision) << histogramPrecision]uint64
	count   uint64
	largest time.Duration
}

// bucketOf is the bucket of a value: below 2^(precision+1) each value has its own.
func bucketOf(v uint64) int {
	shift := max(bits.Len64(v)-histogramPrecision-1, 0)
	return shift<<histogramPrecision + int(v>>shift)
}

// bucketEnd is the largest value in a bucket.
func bucketEnd(bucket int) uint64 {
	shift := max(bucket>>histogramPrecision-1, 0)
	return (uint64(bucket-shift<<histogramPrecision)+1)<<shift - 1
}

// record counts one duration; a negative one, which clocks can produce, counts as zero.
func (h *histogram) record(d time.Duration) {
	h.buckets[bucketOf(uint64(max(d, 0)))]++
	h.count++
	h.largest = max(h.largest, d)
}

// quantile is the duration that the fraction q of all recorded ones does not exceed; 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := uint64(q * float64(h.count))
	if float64(rank) < q*float64(h.count) {
		rank++
	}
	rank = min(max(rank, 1), h.count)
	var sum uint64
	for i, n := range h.buckets {
		if sum += n; sum >= rank {
			return min(time.Duration(bucketEnd(i)), h.largest)
		}
	}
	return h.largest
}

func (h *histogram) reset() { *h = histogram{} }
