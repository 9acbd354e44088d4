package main

import (
	"slices"
	"time"
)

// The figures of the fleet scenarios as functions of what was noted.

// A fleetSample is how many clients each broker had at one moment.
type fleetSample struct {
	at     time.Duration
	counts []int
}

// fullShare is which part of its fair share makes a new broker count as used.
const fullShare = 0.9

// shareOf is what a broker has, in terms of the mean of all.
func shareOf(counts []int, broker int) float64 {
	total := sum(counts)
	if total == 0 {
		return 0
	}
	return float64(counts[broker]*len(counts)) / float64(total)
}

// timeToShare is when the broker had its share for good: the first sample from which on it never had less than
// fullShare. It is false when it had less at the end.
func timeToShare(series []fleetSample, broker int) (time.Duration, bool) {
	for i, s := range slices.Backward(series) {
		if shareOf(s.counts, broker) < fullShare {
			if i+1 == len(series) {
				return 0, false
			}
			return series[i+1].at, true
		}
	}
	if len(series) == 0 {
		return 0, false
	}
	return series[0].at, true
}

// maxOverMean is the fullest broker in terms of the mean.
func maxOverMean(counts []int) float64 {
	most := 0.0
	for i := range counts {
		most = max(most, shareOf(counts, i))
	}
	return most
}

// worstSecond is the largest number of times that lie within one second.
func worstSecond(times []time.Time) int {
	worst, first := 0, 0
	for i, at := range times {
		for at.Sub(times[first]) >= time.Second {
			first++
		}
		worst = max(worst, i-first+1)
	}
	return worst
}

// A groupSpread is how evenly groups of the same size sit.
type groupSpread struct {
	worstSkew float64 // the most members of one group on one broker, in terms of its fair share
	together  int     // groups that are on one broker as a whole
	majority  int     // groups with more than half of their members on one broker
}

// spreadOf looks at the members on each broker, one slice for each group.
func spreadOf(groups [][]int) groupSpread {
	var s groupSpread
	for _, counts := range groups {
		s.worstSkew = max(s.worstSkew, maxOverMean(counts))
		most, all := slices.Max(counts), sum(counts)
		if most == all {
			s.together++
		}
		if 2*most > all {
			s.majority++
		}
	}
	return s
}

// countEvents is how often something has happened since a time, and how many clients it has happened to twice or more.
func countEvents(events []fleetEvent, kind fleetEventKind, since time.Time) (total, twice int) {
	times := make(map[string]int)
	for _, e := range events {
		if e.kind == kind && !e.at.Before(since) {
			total++
			if times[e.client]++; times[e.client] == 2 {
				twice++
			}
		}
	}
	return total, twice
}

// strayed is, of the times that a client has connected again since a time, the part that has brought it to another
// broker than before, other than the given one. It is 0 when nobody has.
func strayed(connects []fleetConnect, since time.Time, except int) float64 {
	last := make(map[string]int)
	all, others := 0, 0
	for _, c := range connects {
		before, known := last[c.client]
		last[c.client] = c.broker
		if !known || c.at.Before(since) {
			continue
		}
		all++
		if c.broker != before && c.broker != except {
			others++
		}
	}
	if all == 0 {
		return 0
	}
	return float64(others) / float64(all)
}

func sum(values []int) int {
	total := 0
	for _, v := range values {
		total += v
	}
	return total
}
