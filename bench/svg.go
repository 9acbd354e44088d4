package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// A drawing is an SVG picture in the making. Its colours are classes of a style sheet that follows the reader's preference
// for light or dark.
type drawing struct {
	width, height float64
	body          strings.Builder
}

// drawingStyle has a class for each system; the hues are told apart by colour-blind readers too.
const drawingStyle = `
svg { --back: #ffffff; --ink: #1f2328; --faint: #59636e; --grid: #d1d9e0;
  --haproxy: #0072b2; --nginx: #009e73; --envoy: #cc79a7; --mqttlb: #d55e00; --direct: #59636e }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --ink: #f0f6fc; --faint: #9198a1; --grid: #3d444d;
    --haproxy: #56b4e9; --nginx: #2fc99b; --envoy: #e59cc6; --mqttlb: #ff8c42; --direct: #9198a1 }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink) }
.title { font-size: 16px; font-weight: 600 }
.heading { font-weight: 600 }
.faint { fill: var(--faint); font-size: 11px }
.small { fill: var(--faint); font-size: 9px }
.back { fill: var(--back) }
.grid { stroke: var(--grid); stroke-width: 1 }
.axis { stroke: var(--ink); stroke-width: 1.5 }
.range { stroke: var(--ink); stroke-width: 1; opacity: 0.7 }
.bar-haproxy { fill: var(--haproxy) } .bar-nginx { fill: var(--nginx) } .bar-envoy { fill: var(--envoy) }
.bar-mqttlb { fill: var(--mqttlb) } .bar-direct { fill: var(--direct) }
.line-haproxy { stroke: var(--haproxy) } .line-nginx { stroke: var(--nginx) } .line-envoy { stroke: var(--envoy) }
.line-mqttlb { stroke: var(--mqttlb) } .line-direct { stroke: var(--direct) }
polyline { fill: none; stroke-width: 2 }
`

// The ends of a text's anchor.
const (
	fromStart = "start"
	centred   = "middle"
	toEnd     = "end"
)

func (d *drawing) text(x, y float64, class, anchor, text string) {
	fmt.Fprintf(&d.body, `<text x="%.1f" y="%.1f" class="%s" text-anchor="%s">%s</text>`+"\n", x, y, class, anchor, escapeXML(text))
}

func (d *drawing) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&d.body, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" class="%s"/>`+"\n", x1, y1, x2, y2, class)
}

// bar is a rectangle between two places on the horizontal axis; about is shown to who points at it.
func (d *drawing) bar(x1, x2, y, height float64, class, about string) {
	fmt.Fprintf(&d.body, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"><title>%s</title></rect>`+"\n",
		min(x1, x2), y, max(math.Abs(x2-x1), 1), height, class, escapeXML(about))
}

// path is a line through points with a dot on each.
func (d *drawing) path(points [][2]float64, system string) {
	var list []string
	for _, p := range points {
		list = append(list, fmt.Sprintf("%.1f,%.1f", p[0], p[1]))
	}
	fmt.Fprintf(&d.body, `<polyline points="%s" class="line-%s"/>`+"\n", strings.Join(list, " "), system)
	for _, p := range points {
		fmt.Fprintf(&d.body, `<circle cx="%.1f" cy="%.1f" r="3" class="bar-%s"/>`+"\n", p[0], p[1], system)
	}
}

// legend names the systems in a line.
func (d *drawing) legend(x, y float64, systems []string) {
	const letter, gap = 7, 36
	for _, sys := range systems {
		d.bar(x, x+12, y-10, 12, "bar-"+sys, titles[sys])
		d.text(x+17, y, "", fromStart, titles[sys])
		x += gap + letter*float64(len(titles[sys]))
	}
}

func (d *drawing) write(w io.Writer, title string) {
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" width="%.0f" height="%.0f" role="img" aria-label="%s">`+
		"\n<title>%s</title>\n<style>%s</style>\n", d.width, d.height, d.width, d.height, escapeXML(title), escapeXML(title), drawingStyle)
	fmt.Fprintf(w, `<rect width="%.0f" height="%.0f" class="back"/>`+"\n%s</svg>\n", d.width, d.height, d.body.String())
}

func escapeXML(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a Builder takes everything
	return out.String()
}
