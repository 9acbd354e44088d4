package scrape

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// A plan is what to read from every backend and what to make of it. It never changes.
type plan struct {
	figures []figure
	hot     *expression // nil if there is none
	hotUnit float64     // of the hot metric, for a level of 1
	version *version    // nil if there is none
	names   []string    // of all metrics
	horizon int64       // a counter that was last read longer ago begins anew
}

// A figure is one part of the load.
type figure struct {
	expression    *expression
	scale, weight float64
}

// add completes the names.
func (p *plan) add(e *expression) {
	for _, t := range e.terms {
		if !slices.Contains(p.names, t.name) {
			p.names = append(p.names, t.name)
		}
	}
}

// maxShare is the most that a figure can be, as a multiple of fully loaded. What is above is a wrong
// scale, a percentage read as a fraction for example; believed, it would turn every backend hot.
const maxShare = 10

// errFirst is the error of a rate that was read for the first time. It passes by itself.
var errFirst = errors.New("a rate needs a second scrape")

// A history is what is remembered of a backend from one scrape to the next.
type history struct {
	counters map[*term]*counters
	load     window
	resets   uint64
}

// load is the load of a backend at one moment: the weighted mean of its figures. All of them must be
// there, as a mean of fewer says something else; values gets what each of them is, before its scale.
func (p *plan) load(h *history, pg *page, at int64, values []float64) (float64, error) {
	var sum, weights float64
	var errs []error
	for i, f := range p.figures {
		v, err := p.value(f.expression, h, pg, at)
		values[i] = v
		if err == nil {
			err = f.check(v)
		}
		if err != nil {
			values[i] = math.NaN()
			errs = append(errs, err)
			continue
		}
		sum += f.weight * v / f.scale
		weights += f.weight
	}
	return sum / weights, join(errs)
}

// A problemsError is several errors on one line.
type problemsError []error

func (e problemsError) Error() string {
	texts := make([]string, len(e))
	for i, err := range e {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e problemsError) Unwrap() []error { return e }

// join makes one error of several. What passes by itself hides behind what does not.
func join(errs []error) error {
	if lasting := slices.DeleteFunc(slices.Clone(errs), isFirst); len(lasting) > 0 {
		errs = lasting
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return problemsError(errs)
}

func isFirst(err error) bool { return errors.Is(err, errFirst) }

func (f *figure) check(v float64) error {
	switch {
	case v < 0:
		return fmt.Errorf("%s is %g: a load cannot be negative, many exporters say so that they do not know", f.expression.text, v)
	case v/f.scale > maxShare:
		return fmt.Errorf("%s is %g, that is %.3g times its scale of %g: set scale to the value that means fully loaded",
			f.expression.text, v, v/f.scale, f.scale)
	}
	return nil
}

// level is the hot metric, on the scale on which enter and leave are given.
func (p *plan) level(h *history, pg *page, at int64) (float64, error) {
	v, err := p.value(p.hot, h, pg, at)
	return v / p.hotUnit, err
}

// value is an expression at one moment. It is a number; every counter in it is noted, whatever comes of it.
func (p *plan) value(e *expression, h *history, pg *page, at int64) (float64, error) {
	result := 0.0
	var errs []error
	for i, t := range e.terms {
		v, err := p.term(t, h, pg, at)
		switch {
		case err != nil:
			errs = append(errs, err)
		case i == 0:
			result = v
		case v == 0:
			errs = append(errs, fmt.Errorf("%s: %s is 0 and cannot divide", e.text, t.text))
		default:
			result /= v
		}
	}
	if err := join(errs); err != nil {
		return 0, err
	}
	if math.IsNaN(result) || math.IsInf(result, 0) {
		return 0, fmt.Errorf("%s is %g", e.text, result)
	}
	return result, nil
}

// term is the sum of the series of a term, or of their rates.
func (p *plan) term(t *term, h *history, pg *page, at int64) (float64, error) {
	selected := selectSeries(pg.series[t.name], t)
	if t.rate {
		c := h.counters[t]
		if c == nil {
			c = &counters{}
			h.counters[t] = c
		}
		rate, resets, err := c.observe(selected, at, p.horizon)
		h.resets += resets
		if len(selected) == 0 {
			return 0, missing(t, pg)
		}
		if err != nil && !isFirst(err) {
			err = fmt.Errorf("%s: %w", t.text, err)
		}
		return rate, err
	}
	if len(selected) == 0 {
		return 0, missing(t, pg)
	}
	if pg.cumulative(t.name) {
		return 0, fmt.Errorf("%s is a counter, which only rises; write rate(%s)", t.text, t.text)
	}
	sum := 0.0
	for i := range selected {
		sum += selected[i].value
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return 0, fmt.Errorf("%s is %g", t.text, sum)
	}
	return sum, nil
}

// missing is the error for a term that selects nothing.
func missing(t *term, pg *page) error {
	if len(pg.series[t.name]) > 0 {
		return fmt.Errorf("none of the %d series of %s has the labels of %s", len(pg.series[t.name]), t.name, t.text)
	}
	return fmt.Errorf("the metric %s is not among the %d samples of the page", t.name, pg.lines)
}

func selectSeries(all []series, t *term) []series {
	if len(t.matchers) == 0 {
		return all
	}
	var selected []series
	for i := range all {
		if t.selects(all[i].labels) {
			selected = append(selected, all[i])
		}
	}
	return selected
}

// counters remember the series of one term, to make rates of them.
type counters struct {
	at     int64
	values map[string]float64 // by key of the series
}

// observe takes in the present values and returns the sum of the rates per second since the last ones. A
// counter that has fallen was reset in between and counts from 0; one that was not there the last time
// does not count yet. Without any that counts, or with the last ones older than the horizon, the error is
// errFirst.
func (c *counters) observe(now []series, at, horizon int64) (rate float64, resets uint64, err error) {
	seconds := float64(at-c.at) / 1e9
	usable := at > c.at && at-c.at <= horizon
	values := make(map[string]float64, len(now))
	counted := 0
	for i := range now {
		s := &now[i]
		if !(s.value >= 0) || math.IsInf(s.value, 0) {
			err = fmt.Errorf("a counter is %g", s.value)
			continue
		}
		values[s.key] = s.value
		last, known := c.values[s.key]
		if !known || !usable {
			continue
		}
		counted++
		if s.value < last {
			resets++
			last = 0
		}
		rate += (s.value - last) / seconds
	}
	c.at, c.values = at, values
	if counted == 0 && err == nil {
		err = errFirst
	}
	return rate, resets, err
}
