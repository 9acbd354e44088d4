package main

import "slices"

// Names of the figures of the fleet scenarios.
const (
	figureAllBack   = "all_back_s"
	figureCPU       = "cpu_s"
	figurePeak      = "peak_bytes"
	figureConnects  = "connects_in_a_second"
	figureOneBroker = "connects_in_a_second_at_one_broker"
	figureFailed    = "failed_attempts"
	figureFull      = "new_broker_full_s"
	figureShare     = "new_broker_share"
	figureMax       = "max_over_mean"
	figureCuts      = "disconnects"
	figureTwice     = "disconnected_twice"
	figureStrayed   = "reconnects_astray"
	figureSkew      = "worst_group_skew"
	figureTogether  = "groups_on_one_broker"
	figureMajority  = "groups_with_majority"
)

// fleetRows are the fleet scenarios' part of the table: all figures with the system's own way, and those that tell of it
// with another.
var fleetRows = slices.Concat(
	fleetRowsOf(scenarioStorm, variantOwn, "", stormLabels),
	fleetRowsOf(scenarioStorm, variantLimited, ", limited to 500 CONNECTs/s", stormLabels),

	fleetRowsOf(scenarioBalance, variantOwn, "", balanceLabels),
	fleetRowsOf(scenarioBalance, variantLeastConn, ", others: least connections", balanceLabels, figureFull, figureShare, figureStrayed),
	fleetRowsOf(scenarioBalance, variantRoundRobin, ", others: round robin", balanceLabels, figureFull, figureShare, figureStrayed),

	fleetRowsOf(scenarioRolling, variantOwn, "", rollingLabels),
	fleetRowsOf(scenarioRolling, variantLeastConn, ", others: least connections", rollingLabels, figureMajority, figureMax, figureCuts),
	fleetRowsOf(scenarioRolling, variantRoundRobin, ", others: round robin", rollingLabels, figureMajority, figureMax, figureCuts),
	fleetRowsOf(scenarioRolling, variantDrain, ", drained before", rollingLabels, figureSkew, figureMajority, figureMax, figureCuts),
	fleetRowsOf(scenarioRolling, variantUpdate, ", drained, with versions", rollingLabels, figureSkew, figureMajority, figureMax, figureCuts),
)

// A fleetLabel is a figure's name in the results, and what stands for it in the table.
type fleetLabel struct {
	figure, label, unit string
	factor              float64
	more                bool
}

// fleetRowsOf are the rows of one variant, all of them or those with the given figures.
func fleetRowsOf(scenario, variant, suffix string, labels []fleetLabel, only ...string) []row {
	var rows []row
	for _, l := range labels {
		if len(only) > 0 && !slices.Contains(only, l.figure) {
			continue
		}
		rows = append(rows, row{
			scenario: scenario, label: l.label + suffix, unit: l.unit, more: l.more,
			figure: fleetFigure(scenario, l.figure, variant, l.factor),
		})
	}
	return rows
}

var stormLabels = []fleetLabel{
	{figure: figureAllBack, label: "all have CONNACK again after", unit: "s", factor: 1},
	{figure: figureCPU, label: "CPU of the proxy", unit: "s", factor: 1},
	{figure: figurePeak, label: "peak resident", unit: "MiB", factor: mega},
	{figure: figureConnects, label: "most CONNECTs in a second, all brokers", unit: "", factor: 1},
	{figure: figureOneBroker, label: "most CONNECTs in a second, one broker", unit: "", factor: 1},
	{figure: figureFailed, label: "failed attempts", unit: "", factor: 1},
}

var balanceLabels = []fleetLabel{
	{figure: figureFull, label: "new broker has 90 % of its share after", unit: "s", factor: 1},
	{figure: figureShare, label: "its share in the end", unit: "%", factor: percent, more: true},
	{figure: figureMax, label: "fullest broker to the mean in the end", unit: "×", factor: 1},
	{figure: figureCuts, label: "disconnects", unit: "", factor: 1},
	{figure: figureTwice, label: "clients disconnected twice", unit: "", factor: 1},
	{figure: figureStrayed, label: "reconnects to another old broker", unit: "%", factor: percent},
}

var rollingLabels = []fleetLabel{
	{figure: figureSkew, label: "most of a group on one broker, to its share", unit: "×", factor: 1},
	{figure: figureTogether, label: "groups of 20 on one broker as a whole", unit: "", factor: 1},
	{figure: figureMajority, label: "groups of 20 with the most on one broker", unit: "", factor: 1},
	{figure: figureMax, label: "fullest broker to the mean", unit: "×", factor: 1},
	{figure: figureCuts, label: "disconnects per client", unit: "", factor: 1},
	{figure: figureTwice, label: "clients disconnected twice or more", unit: "%", factor: percent},
	{figure: figureFailed, label: "failed attempts per client", unit: "", factor: 1},
}
