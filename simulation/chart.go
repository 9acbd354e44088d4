package simulation

import (
	"fmt"
	"io"
	"math"
	"strings"
)

// Sizes of a chart, in pixels.
const (
	chartWidth  = 760
	chartLeft   = 56
	chartRight  = 130 // room for the legend
	chartTop    = 44
	chartPanel  = 150 // height of the plot of one contender
	chartGap    = 46  // between two plots: a title and the numbers of the axis
	chartLegend = 9   // brokers that the legend has room for
)

// chartColours are apart from each other and from light and dark grounds alike.
func chartColours() []string {
	return []string{"#3b82c4", "#d97b29", "#3f9e5b", "#c94f5b", "#8a6fc4", "#a0764b", "#cf6fae", "#7d8794", "#a3a02c", "#2ba3b0"}
}

// Chart draws the load of every broker over time, one plot for each result, as an SVG picture. The scales of
// all plots are the same. The ground is transparent; letters and lines follow a light or dark theme.
func Chart(out io.Writer, s Scenario, results []*Result) error {
	c := chart{top: chartTop, most: 0.1}
	for _, r := range results {
		for _, at := range r.Samples {
			for _, load := range at.Loads {
				c.most = max(c.most, load)
			}
		}
	}
	c.step = nice(100*c.most/5, 1, 2, 5) / 100
	c.most = c.step * math.Ceil(c.most/c.step)
	c.seconds = s.Duration.Seconds()
	height := chartTop + len(results)*(chartPanel+chartGap)
	c.f(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-label="load of each broker over time">`+"\n",
		chartWidth, height, chartWidth, height)
	c.f("%s", `<style>
text { font: 12px system-ui, sans-serif; fill: #404040 }
.title { font-weight: 600 }
.grid { stroke: #808080; stroke-opacity: 0.25 }
.axis { stroke: #808080 }
polyline { fill: none; stroke-width: 1.6 }
@media (prefers-color-scheme: dark) { text { fill: #d0d0d0 } }
</style>
`)
	c.f(`<text x="%d" y="20">load of each broker, %% of its capacity, over the minutes after the event: %s</text>`+"\n", chartLeft, s.Event)
	for _, r := range results {
		c.panel(r)
		c.top += chartPanel + chartGap
	}
	c.f("</svg>\n")
	_, err := io.WriteString(out, c.b.String())
	return err
}

// A chart is the picture as far as it is drawn.
type chart struct {
	b          strings.Builder
	top        float64 // of the present plot
	most, step float64 // of the loads: the upper end of the axis, and between two lines of the grid
	seconds    float64 // the right end
}

func (c *chart) f(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// x and y are where a moment and a load are in the picture.
func (c *chart) x(seconds float64) float64 {
	return chartLeft + seconds/c.seconds*(chartWidth-chartLeft-chartRight)
}

func (c *chart) y(load float64) float64 { return c.top + chartPanel*(1-load/c.most) }

// panel draws the plot of one result.
func (c *chart) panel(r *Result) {
	right := float64(chartWidth - chartRight)
	c.f(`<text class="title" x="%d" y="%.1f">%s: %d disconnects</text>`+"\n", chartLeft, c.top-8, r.Contender, r.Disconnects)
	for k := 0; float64(k)*c.step <= c.most*1.001; k++ {
		y := c.y(float64(k) * c.step)
		c.f(`<line class="grid" x1="%d" y1="%.1f" x2="%.1f" y2="%.1f"/>`, chartLeft, y, right, y)
		c.f(`<text x="%d" y="%.1f" text-anchor="end">%.0f</text>`+"\n", chartLeft-8, y+4, float64(k)*c.step*100)
	}
	minutes := nice(c.seconds/60/8, 1, 2, 5, 10)
	for m := 0.0; m*60 <= c.seconds; m += minutes {
		x := c.x(m * 60)
		c.f(`<line class="grid" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x, c.top, x, c.top+chartPanel)
		c.f(`<text x="%.1f" y="%.1f" text-anchor="middle">%.4g</text>`+"\n", x, c.top+chartPanel+16, m)
	}
	c.f(`<line class="axis" x1="%d" y1="%.1f" x2="%.1f" y2="%.1f"/>`+"\n", chartLeft, c.top+chartPanel, right, c.top+chartPanel)
	colours := chartColours()
	for b, name := range r.Brokers {
		colour := colours[b%len(colours)]
		dash := ""
		if round := b / len(colours); round > 0 {
			dash = fmt.Sprintf(` stroke-dasharray="%d 3"`, 2*round+1)
		}
		c.f(`<polyline stroke="%s"%s points="`, colour, dash)
		for _, s := range r.Samples {
			if b < len(s.Loads) {
				c.f("%.1f,%.1f ", c.x(float64(s.Seconds)), c.y(s.Loads[b]))
			}
		}
		c.f(`"/>` + "\n")
		c.legend(b, len(r.Brokers), name, colour, dash)
	}
}

// legend names broker b of n, as far as there is room.
func (c *chart) legend(b, n int, name, colour, dash string) {
	row := b
	if n > chartLegend && b >= chartLegend-2 {
		switch b {
		case n - 1: // a broker that has joined is the last one
			row = chartLegend - 1
		case chartLegend - 2:
			name, colour = fmt.Sprintf("… %d more", n-chartLegend+1), "none"
		default:
			return
		}
	}
	x, y := chartWidth-chartRight+12, c.top+8+float64(row)*16
	c.f(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="%s" stroke-width="2"%s/>`, x, y, x+18, y, colour, dash)
	c.f(`<text x="%d" y="%.1f">%s</text>`+"\n", x+24, y+4, name)
}

// nice is the least number of the form factor × 10^k that is not below least.
func nice(least float64, factors ...float64) float64 {
	for scale := math.Pow(10, math.Floor(math.Log10(least))); ; scale *= 10 {
		for _, f := range factors {
			if f*scale >= least*0.999 {
				return f * scale
			}
		}
	}
}
