package main

import (
	"io"
	"math"
	"strconv"
)

const growthTitle = "Growth with the number of connections"

// The layout of the growth: panels in two columns.
const (
	growthWidth  = 900
	panelColumns = 2
	panelWidth   = 440
	panelHeight  = 250
	panelsTop    = 70
)

// plotGrowth draws a panel for each figure, with a line for each system.
func (b *book) plotGrowth(w io.Writer) {
	panels := len(growthFigures)
	d := &drawing{
		width:  growthWidth,
		height: panelsTop + panelHeight*float64((panels+panelColumns-1)/panelColumns) + 10,
	}
	d.text(10, 26, "title", fromStart, growthTitle)
	d.legend(10, 52, append(b.comparedSystems(), mqttlb))
	for i, f := range growthFigures {
		left := 10 + panelWidth*float64(i%panelColumns)
		top := panelsTop + panelHeight*float64(i/panelColumns)
		b.panel(d, f, left, top)
	}
	d.write(w, growthTitle)
}

// panel draws one figure. Each size is twice the one before, so the axis of connections is logarithmic; the other is linear
// and begins at zero.
func (b *book) panel(d *drawing, f growthSeries, left, top float64) {
	const marginLeft, marginTop, marginRight, marginBottom = 56, 34, 24, 40
	x1, x2 := left+marginLeft, left+panelWidth-marginRight
	y1, y2 := top+panelHeight-marginBottom, top+marginTop
	d.text(x1, top+20, "heading", fromStart, f.title+" ("+f.unit+")")

	most := 0.0
	lines := make(map[string][]float64)
	for _, sys := range proxies {
		lines[sys] = f.points(b.measured, sys)
		for _, v := range lines[sys] {
			if v > most { // never so of a NaN
				most = v
			}
		}
	}
	step := axisStep(most)
	axisTop := step * max(math.Ceil(most/step), 1)
	placeY := func(v float64) float64 { return y1 + (y2-y1)*v/axisTop }
	placeX := func(i int) float64 { return x1 + (x2-x1)*float64(i)/float64(len(growthSizes)-1) }

	for v := 0.0; v <= axisTop*1.001; v += step {
		d.line(x1, placeY(v), x2, placeY(v), "grid")
		d.text(x1-6, placeY(v)+4, "faint", toEnd, strconv.FormatFloat(v, 'g', 6, 64))
	}
	for i, size := range growthSizes {
		d.line(placeX(i), y1, placeX(i), y1+4, "axis")
		d.text(placeX(i), y1+17, "faint", centred, strconv.Itoa(size))
	}
	d.line(x1, y1, x2, y1, "axis")
	d.text((x1+x2)/2, y1+32, "faint", centred, "connections")
	for _, sys := range proxies {
		var points [][2]float64
		for i, v := range lines[sys] {
			if math.IsNaN(v) {
				continue
			}
			// Noise may turn the kernel's memory negative; the line then lies on the axis.
			points = append(points, [2]float64{placeX(i), placeY(max(v, 0))})
		}
		if len(points) > 0 {
			d.path(points, sys)
		}
	}
}

// axisStep is a round step that divides an axis up to most into four to eight parts.
func axisStep(most float64) float64 {
	if !(most > 0) {
		return 1
	}
	const parts = 4
	step := math.Pow(10, math.Floor(math.Log10(most/parts)))
	for _, factor := range []float64{5, 2} {
		if most/(step*factor) >= parts {
			return step * factor
		}
	}
	return step
}
