package main

import (
	"io"
	"math"
	"strconv"
)

const ratiosTitle = "What the others need, mqttlb = 1"

// The layout of the ratios.
const (
	ratiosWidth = 1000
	labelWidth  = 430 // of the rows' names
	plotEnd     = 940 // the axis ends here; a bar's number may stand behind
	barHeight   = 9
	rowGap      = 8
	scenarioGap = 30
	axisEvery   = 2 // the axis is logarithmic: a line for each factor
)

// The axis reaches from a quarter to 32; what lies beyond is cut and has its number.
const (
	leastRatio = 0.25
	mostRatio  = 32
)

// axisX is the place of a ratio.
func axisX(v float64) float64 {
	v = min(max(v, leastRatio), mostRatio)
	return labelWidth + (plotEnd-labelWidth)*math.Log(v/leastRatio)/math.Log(mostRatio/leastRatio)
}

// A ratioBar is one comparison: how much more the other needs, or for rates how much less it does.
type ratioBar struct {
	system string
	factor spread
}

// bars are the row's comparisons, each so that more than 1 is in mqttlb's favour.
func (w row) bars(r results) []ratioBar {
	var bars []ratioBar
	for _, other := range rivals {
		s := w.ratioSpread(r, other)
		if !finite(s.Median) {
			continue
		}
		if !w.more {
			s = spread{Median: 1 / s.Median, Low: 1 / s.High, High: 1 / s.Low}
		}
		bars = append(bars, ratioBar{other, s})
	}
	return bars
}

// plotRatios draws a bar for each row and other system: to the right of the line mqttlb is ahead, to the left behind.
func (b *book) plotRatios(w io.Writer) {
	d := &drawing{width: ratiosWidth}
	const top = 96
	y := float64(top)
	scenario := ""
	for _, row := range b.plan.rows() {
		bars := row.bars(b.measured)
		if len(bars) == 0 || row.growth {
			continue
		}
		if row.scenario != scenario {
			scenario = row.scenario
			y += scenarioGap
			d.text(10, y-12, "heading", fromStart, b.title(scenario))
		}
		height := barHeight * float64(len(bars))
		d.text(labelWidth-10, y+height/2+4, "", toEnd, row.label)
		for _, bar := range bars {
			d.ratio(bar, row, y)
			y += barHeight
		}
		y += rowGap
	}
	d.height = y + 40
	axis := &drawing{}
	for v := leastRatio; v <= mostRatio; v *= axisEvery {
		class := "grid"
		if v == 1 {
			class = "axis"
		}
		axis.line(axisX(v), top, axisX(v), y, class)
		for _, at := range []float64{top - 6, y + 16} {
			axis.text(axisX(v), at, "faint", centred, strconv.FormatFloat(v, 'g', -1, 64)+" ×")
		}
	}
	axis.text(10, 26, "title", fromStart, ratiosTitle)
	axis.text(10, 46, "faint", fromStart, "The other's cost divided by mqttlb's; of rates, mqttlb's divided by the other's. "+
		"Right of 1 ×: mqttlb is ahead. Thin lines: least and most of the rounds.")
	axis.legend(10, 70, b.comparedSystems())
	bars := d.body.String()
	d.body.Reset()
	d.body.WriteString(axis.body.String() + bars)
	d.write(w, ratiosTitle)
}

func (d *drawing) ratio(bar ratioBar, w row, y float64) {
	about := titles[bar.system] + ": " + bar.factor.text() + " (" + w.label + ")"
	d.bar(axisX(1), axisX(bar.factor.Median), y, barHeight-1, "bar-"+bar.system, about)
	if bar.factor.Low < bar.factor.High {
		middle := y + (barHeight-1)/2.0
		d.line(axisX(bar.factor.Low), middle, axisX(bar.factor.High), middle, "range")
	}
	if bar.factor.Median > mostRatio || bar.factor.Median < leastRatio {
		d.text(plotEnd+6, y+barHeight-1, "small", fromStart, format(bar.factor.Median))
	}
}

func (b *book) title(scenario string) string {
	for _, s := range b.plan.scenarios {
		if s.name == scenario {
			return s.title
		}
	}
	return scenario
}

// comparedSystems are the others that have been measured.
func (b *book) comparedSystems() []string {
	var compared []string
	for _, sys := range rivals {
		for _, c := range b.measured {
			if c.System == sys {
				compared = append(compared, sys)
				break
			}
		}
	}
	return compared
}
