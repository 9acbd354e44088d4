package cluster

import (
	"math"
	"slices"
	"time"
)

// latencies are how long a broker took from CONNECT to CONNACK lately: a histogram of the last half minute, in
// steps of √2, that forgets five seconds at a time. It has a fixed size and allocates nothing.
type latencies struct {
	parts [latencyParts]latencyPart
	last  int64 // when the latest was added
}

// A latencyPart is a part of the time.
type latencyPart struct {
	number int64 // time by length of a part; another number means that it is empty
	counts [latencySteps]uint32
}

const (
	latencyParts  = 6
	latencyLength = int64(5 * time.Second) // of a part
	latencySteps  = 32                     // the first is up to 1 ms, the last from 33 s
	leastAnswers  = 10                     // fewer say nothing about the slowest twentieth

	// leastLatency stands for all that are shorter when backends are compared: where all of them answer within a few
	// milliseconds, several times as much is still nothing.
	leastLatency = 20 * time.Millisecond
)

func (l *latencies) add(d time.Duration, now int64) {
	number := now / latencyLength
	p := &l.parts[number%latencyParts]
	if p.number != number {
		*p = latencyPart{number: number}
	}
	p.counts[latencyStep(d)]++
	l.last = now
}

// latencyStep is the step that a latency falls into.
func latencyStep(d time.Duration) int {
	if d <= time.Millisecond {
		return 0
	}
	return min(1+int(2*math.Log2(float64(d)/float64(time.Millisecond))), latencySteps-1)
}

// p95 is the latency that all but a twentieth keep below; false if there were too few.
func (l *latencies) p95(now int64) (time.Duration, bool) {
	var sum [latencySteps]uint32
	all := uint32(0)
	for i := range l.parts {
		if p := &l.parts[i]; p.number > now/latencyLength-latencyParts {
			for step, n := range p.counts {
				sum[step] += n
				all += n
			}
		}
	}
	if all < leastAnswers {
		return 0, false
	}
	below := uint32(0)
	for step, n := range sum {
		if below += n; below*20 >= all*19 {
			return time.Duration(math.Exp2((float64(step)-.5)/2) * float64(time.Millisecond)), true // the middle of the step
		}
	}
	return 0, false // cannot be: all is the sum
}

// usual is the latency of the backend in the middle, 0 if there are less than two. With an even number it is the lower
// one of the two in the middle: of two backends, the slow one is to be seen.
func usual(p95s []time.Duration) time.Duration {
	if len(p95s) < 2 {
		return 0
	}
	slices.Sort(p95s)
	return p95s[(len(p95s)-1)/2]
}
