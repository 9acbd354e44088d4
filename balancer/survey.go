package balancer

import (
	"slices"
	"strconv"
	"strings"
)

// VersionLabel is the label that carries the version of a backend.
const VersionLabel = "version"

// Survey sums up the situation of a cluster. forecast may be nil. terminating counts the backends that
// the orchestrator takes away: the phase alone does not tell who wanted it. Backends that have left count for nothing
// here: they are neither missing, nor of another version, nor does an update last until they are empty.
func Survey(s *Snapshot, seats *Seats, forecast *Forecast, terminating int) Situation {
	sit := Situation{Members: s.members, Terminating: terminating, Healthy: 1, Imbalance: 1}
	var weight, capacity, healthy float64
	live := 0
	for i := range s.Backends {
		b := &s.Backends[i]
		if b.Left {
			continue
		}
		capacity += b.capacity()
		if b.Phase == Down {
			continue
		}
		healthy += b.capacity()
		if v := b.Labels[VersionLabel]; v != "" && !slices.Contains(sit.Versions, v) {
			sit.Versions = append(sit.Versions, v)
		}
		switch b.Phase {
		case Joining, Ramping:
			sit.Coming++
		case Draining:
			sit.Draining++
		case Hot:
			sit.Hot++
		case Ready, Down:
		}
		if b.Phase.Serves() {
			sit.Serving++
			weight += s.weights[i]
			live += seats.Live[i]
		}
	}
	slices.SortFunc(sit.Versions, compareVersions)
	if capacity > 0 {
		sit.Healthy = healthy / capacity
	}
	if forecast != nil && forecast.Reporting > 0 {
		sit.Stale = float64(forecast.Stale) / float64(forecast.Reporting)
	}
	for i := range s.Backends {
		if !s.Backends[i].Phase.Serves() {
			continue
		}
		// One connection more than the fair share is as even as it gets, however few there are.
		if fair := float64(live) * s.weights[i] / weight; fair > 0 && float64(seats.Live[i]) > fair+1 {
			sit.Imbalance = max(sit.Imbalance, float64(seats.Live[i])/fair)
		}
	}
	return sit
}

// compareVersions orders versions as people do: 4.9.1 before 4.10.0.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			m, errM := strconv.ParseUint(a[:x], 10, 64)
			n, errN := strconv.ParseUint(b[:y], 10, 64)
			if errM == nil && errN == nil && m != n {
				if m < n {
					return -1
				}
				return 1
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return strings.Compare(a[:1], b[:1])
		}
		a, b = a[1:], b[1:]
	}
	return len(a) - len(b)
}

// digits is the length of the number that s begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
