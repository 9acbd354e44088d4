package main

import (
	"math"
	"strconv"
	"strings"
)

// growthSizes are the numbers of connections at which growth is watched. A proxy has two descriptors for each session, and
// many systems allow a process 20 000.
var growthSizes = []int{1000, 2000, 4000, 8000}

// wordGrowth stands for all scenarios that show growth.
const wordGrowth = "growth"

// A growthSeries is a figure at each of the sizes.
type growthSeries struct {
	title    string
	unit     string
	scenario func(size int) string
	figure   func(size int) func(results, string) float64
}

// growthFigures are what is watched.
var growthFigures = []growthSeries{
	{
		title: "resident memory per connection", unit: "B", scenario: growthIdle,
		figure: func(size int) func(results, string) float64 {
			return proxyOnly(of(growthIdle(size), named(sized(residentAt, size)), 1))
		},
	},
	{
		title: "kernel memory per connection", unit: "B", scenario: growthIdle,
		figure: func(size int) func(results, string) float64 {
			return added(growthIdle(size), named(sized(kernelAt, size)), 1)
		},
	},
	{
		title: "CPU per idle connection", unit: "ns/s", scenario: growthIdle,
		figure: func(size int) func(results, string) float64 {
			return proxyOnly(of(growthIdle(size), named(sized(idleCPUAt, size)), 1))
		},
	},
	{
		title: "CPU per message, 2000 round trips/s", unit: "µs", scenario: growthPaced,
		figure: func(size int) func(results, string) float64 { return perMessage(growthPaced(size)) },
	},
	{
		title: "CPU per message, ping-pong", unit: "µs", scenario: growthPingPong,
		figure: func(size int) func(results, string) float64 { return perMessage(growthPingPong(size)) },
	},
}

// The scenarios by size. Those with 1000 connections have rows of their own in the table.

func growthIdle(int) string { return "growth-idle" }

func growthPaced(size int) string {
	if size == growthSizes[0] {
		return "paced-2000"
	}
	return "paced-2000-on-" + strconv.Itoa(size)
}

func growthPingPong(size int) string { return "pingpong-" + strconv.Itoa(size) }

// growthScenarios show what more connections change.
var growthScenarios = makeGrowthScenarios()

func makeGrowthScenarios() []scenario {
	var sizes []string
	for _, size := range growthSizes {
		sizes = append(sizes, strconv.Itoa(size))
	}
	made := []scenario{{
		name: growthIdle(0), title: "growth: more and more idle sessions", mode: modeGrow, group: wordGrowth,
		args: []string{"-sizes", strings.Join(sizes, ",")}, rounds: twoRounds,
	}}
	for _, size := range sizes[1:] {
		made = append(made, scenario{
			name: "paced-2000-on-" + size, title: "growth: 2000 round trips/s over " + size + " connections", mode: modePaced,
			group: wordGrowth, args: []string{"-connections", size, "-rate", "2000"}, stretch: 1, rounds: twoRounds, only: proxies,
		})
	}
	for _, size := range sizes[1:] {
		made = append(made, scenario{
			name: "pingpong-" + size, title: "growth: " + size + " connections, one message under way on each", mode: modePingPong,
			group: wordGrowth, args: []string{"-connections", size}, stretch: 1, rounds: twoRounds, only: proxies,
		})
	}
	return made
}

// growthRows are the figures at each size, without those that the table has anyway.
var growthRows = makeGrowthRows()

func makeGrowthRows() []row {
	var made []row
	for _, f := range growthFigures {
		for _, size := range growthSizes {
			one := row{scenario: f.scenario(size), label: "CPU per message", unit: f.unit, figure: f.figure(size), growth: true}
			switch {
			case one.scenario == growthIdle(size):
				one.label = f.title + ", " + strconv.Itoa(size)
			case size == growthSizes[0]:
				continue
			}
			made = append(made, one)
		}
	}
	return made
}

// points are a system's figures at each size, NaN where there is none.
func (f growthSeries) points(r results, system string) []float64 {
	points := make([]float64, len(growthSizes))
	for i, size := range growthSizes {
		points[i] = f.figure(size)(r, system)
		if math.IsInf(points[i], 0) {
			points[i] = math.NaN()
		}
	}
	return points
}
