package main

import (
	"math"
	"strconv"
)

// A spread is a figure's median and its range over the rounds.
type spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// spread is the row's figure of a system, each round taken by itself against the other systems' medians.
func (w row) spread(r results, system string) spread {
	s := spread{Median: w.figure(r, system), Low: math.NaN(), High: math.NaN()}
	for _, round := range r.rounds(w.scenario, system) {
		v := w.figure(r.only(system, round), system)
		if !(v >= s.Low) {
			s.Low = v
		}
		if !(v <= s.High) {
			s.High = v
		}
	}
	return s
}

// ratioSpread is mqttlb's figure divided by another's: of the medians, and the range over the rounds, in each of which the
// two were measured soon after each other.
func (w row) ratioSpread(r results, other string) spread {
	s := spread{Median: ratio(w.figure(r, mqttlb), w.figure(r, other)), Low: math.NaN(), High: math.NaN()}
	for _, round := range r.rounds(w.scenario, mqttlb) {
		v := ratio(w.figure(r.only(mqttlb, round), mqttlb), w.figure(r.only(other, round), other))
		if math.IsNaN(v) {
			continue
		}
		if !(v >= s.Low) {
			s.Low = v
		}
		if !(v <= s.High) {
			s.High = v
		}
	}
	return s
}

// A standing says where mqttlb is in a row beside another system.
type standing int

const (
	unknown standing = iota
	ahead
	level // by so little that the rounds of the two overlap
	behind
)

// levelRatio is how far medians may be apart and still count as level.
const levelRatio = 1.1

// standing compares mqttlb's figure with another system's.
func (w row) standing(r results, other string) standing {
	ours, theirs := w.spread(r, mqttlb), w.spread(r, other)
	if w.more {
		ours, theirs = theirs, ours // as if it were a cost
	}
	switch {
	case math.IsNaN(ours.Median) || math.IsNaN(theirs.Median):
		return unknown
	case ours.Median < theirs.Median:
		return ahead
	case ours.Median == theirs.Median:
		return level
	case ours.Median <= theirs.Median*levelRatio && ours.Low < ours.High && ours.Low <= theirs.High:
		return level
	}
	return behind
}

// behindText says by how much mqttlb is behind or level with a system, such as "HAProxy: 12 % more".
func (w row) behindText(r results, other string) string {
	by := ratio(w.figure(r, mqttlb), w.figure(r, other))
	if math.IsNaN(by) {
		return titles[other] + ": " + format(w.figure(r, mqttlb)) + " to " + format(w.figure(r, other))
	}
	word := " % more"
	if by < 1 {
		word = " % less"
	}
	const large = 2
	if by >= large {
		return titles[other] + ": " + format(by) + " times"
	}
	return titles[other] + ": " + strconv.FormatFloat(math.Abs(by-1)*percent, 'f', 0, 64) + word
}

// key names the row in the notes.
func (w row) key() string { return w.scenario + ": " + w.label }
