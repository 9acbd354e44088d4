package balancer

import (
	"cmp"
	"maps"
	"math"
	"slices"
)

// Times in this package are nanoseconds on a clock that the caller chooses and keeps to; only
// differences matter. Durations have the same unit.
const second int64 = 1e9

// Ramp is the linear slow start of a backend that began to take clients at since: the factor for its
// weight, from 0.1 to 1 within length (algorithms.md, 4.3).
func Ramp(since, now, length int64) float64 {
	const least = 0.1
	if length <= 0 || now-since >= length {
		return 1
	}
	return max(least, float64(now-since)/float64(length))
}

// A Figure is one reading that somebody else took: a number and the time it is from. The zero Figure,
// as every one from time 0, is no reading.
type Figure struct {
	Value float64
	At    int64
}

// fresh tells whether the figure is usable at now.
func (f Figure) fresh(now, limit int64) bool {
	return f.At != 0 && now-f.At <= limit && !math.IsNaN(f.Value) && !math.IsInf(f.Value, 0)
}

// LoadOptions are the settings of the load controller. The zero value means the defaults of
// algorithms.md, 7, which the field comments name.
type LoadOptions struct {
	// Window is the time over which the brokers' figures are means: 300 s.
	Window int64
	// Stale is the age at which a figure says nothing any more: 60 s.
	Stale int64
	// Blackout is how many figures of a new backend are ignored, because they still show its start: 2.
	Blackout int
	// Gain is K, the steepness of the answer to a load that is off the mean: 3.
	Gain float64
	// Least and Most bound the factor on a backend's weight: 0.25 and 2. The clamp is what keeps one
	// broken exporter from drawing all clients (4.2).
	Least, Most float64
}

func (o LoadOptions) withDefaults() LoadOptions {
	o.Window = cmp.Or(o.Window, 300*second)
	o.Stale = cmp.Or(o.Stale, 60*second)
	o.Blackout = cmp.Or(o.Blackout, 2)
	o.Gain = cmp.Or(o.Gain, 3)
	o.Least = cmp.Or(o.Least, 0.25)
	o.Most = cmp.Or(o.Most, 2)
	return o
}

// Loads turns what brokers report and what this instance carries to them into a Forecast (algorithms.md,
// 4.3). The brokers' figures are honest but old, typically a mean over five minutes; our own traffic is
// exact and instantaneous but blind to what it costs. So the figure is corrected by what we have changed
// since: a Smith predictor, without which every rule that reacts to the figure overshoots (4.2).
//
// A Loads belongs to one caller, who feeds it at every scrape and then asks for a Forecast.
type Loads struct {
	o        LoadOptions
	started  int64
	backends map[string]*loadTrack
}

// loadTrack is what is known about the load of one backend.
type loadTrack struct {
	figure  Figure
	figures int // how many were taken, up to the blackout
	traffic meter
}

// NewLoads returns Loads that know nothing yet. Nothing before now is known to them either.
func NewLoads(o LoadOptions, now int64) *Loads {
	return &Loads{o: o.withDefaults(), started: now, backends: make(map[string]*loadTrack)}
}

// Observe takes in a load figure of a backend: the part of its capacity that is in use, 0…1. Figures
// that are out of order or not numbers are dropped; the clock of a broker that runs ahead is not
// believed, or its figure would never age.
func (l *Loads) Observe(backend string, f Figure, now int64) {
	f.At = min(f.At, now)
	t := l.track(backend)
	if !f.fresh(now, l.o.Stale) || f.Value < 0 || f.At <= t.figure.At {
		return
	}
	t.figure = f
	if t.figures <= l.o.Blackout {
		t.figures++
	}
}

// Traffic takes in what this instance sees: the bytes per second of all connections that it holds to a
// backend at this moment, each at its own rate (see Rate). Whoever measures no bytes passes the number
// of connections.
func (l *Loads) Traffic(backend string, rate float64, now int64) {
	l.track(backend).traffic.observe(rate, now, l.o.Window/meterParts)
}

func (l *Loads) track(backend string) *loadTrack {
	t := l.backends[backend]
	if t == nil {
		t = &loadTrack{}
		l.backends[backend] = t
	}
	return t
}

// A Forecast says how loaded the backends are now, as far as figures and traffic tell. It is immutable.
type Forecast struct {
	// At is when it was made.
	At int64
	// Backends are sorted by name.
	Backends []BackendForecast
	// Traffic is the mean of the backends' traffic.
	Traffic float64
	// Client is the mean traffic of a connection, 0 while nobody has counted them.
	Client float64
	// Cost is the load that one unit of traffic puts on a backend of capacity 1.
	Cost float64
	// Reporting counts the backends that have ever reported a figure, Stale those among them whose last
	// one is too old.
	Reporting, Stale int
}

// A BackendForecast is the part of a Forecast about one backend.
type BackendForecast struct {
	Name string
	// Load is the predicted load in the unit of the figures.
	Load float64
	// Factor scales the weight of the backend: above 1 when it is loaded less than the mean.
	Factor float64
	// Measured is false while the Factor is 1 for want of fresh figures.
	Measured bool
}

// Of is the forecast of one backend. It may be asked of a nil Forecast, which knows nobody.
func (f *Forecast) Of(name string) (BackendForecast, bool) {
	if f == nil {
		return BackendForecast{}, false
	}
	i, ok := slices.BinarySearchFunc(f.Backends, name, func(b BackendForecast, n string) int { return cmp.Compare(b.Name, n) })
	if !ok {
		return BackendForecast{}, false
	}
	return f.Backends[i], true
}

// Forecast computes the forecast for the backends of s and forgets all others.
//
// The correction needs no number of instances. A figure is caused by the traffic of all of them, ours
// by 1/L of it; the price of a unit of our traffic, Σ figures / Σ traffic, is then L times as high as
// that of a unit as such, which is just what extrapolates our own changes to those of all.
func (l *Loads) Forecast(s *Snapshot, now int64) *Forecast {
	maps.DeleteFunc(l.backends, func(name string, _ *loadTrack) bool { return s.member(name) < 0 })
	f := &Forecast{At: now, Backends: make([]BackendForecast, len(s.Backends))}

	var load, traffic float64 // of backends with fresh figures, over the window of the figure
	for i := range s.Backends {
		b := &s.Backends[i]
		f.Backends[i] = BackendForecast{Name: b.Name, Factor: 1}
		if b.Left {
			continue // nobody asks it any more, and nobody is sent there
		}
		t := l.track(b.Name)
		f.Traffic += t.traffic.rate / float64(s.members)
		if t.figures == 0 {
			continue
		}
		f.Reporting++
		if !t.figure.fresh(now, l.o.Stale) {
			f.Stale++
			continue
		}
		f.Backends[i].Measured = t.figures > l.o.Blackout
		if f.Backends[i].Measured {
			load += t.figure.Value * b.capacity()
			traffic += l.past(t)
		}
	}
	f.Cost = 1
	switch {
	case load > 0 && traffic > 0:
		f.Cost = load / traffic
	case load > 0:
		f.Cost = 0 // we carry nothing: the figures are all there is
	}
	l.predict(f, s)
	return f
}

// predict fills in loads and factors.
func (l *Loads) predict(f *Forecast, s *Snapshot) {
	mean, measured := 0.0, 0
	for i := range f.Backends {
		b, t, capacity := &f.Backends[i], l.backends[f.Backends[i].Name], s.Backends[i].capacity()
		if s.Backends[i].Left {
			continue
		}
		if !b.Measured {
			b.Load = t.traffic.rate * f.Cost / capacity // by traffic alone: better than nothing for heavy clients
			continue
		}
		b.Load = max(0, t.figure.Value+(t.traffic.rate-l.past(t))*f.Cost/capacity)
		mean += b.Load
		measured++
	}
	if mean == 0 {
		return
	}
	mean /= float64(measured)
	for i := range f.Backends {
		if b := &f.Backends[i]; b.Measured {
			e := min(max((mean-b.Load)/mean, -1), 1)
			b.Factor = min(max(math.Exp(l.o.Gain*e), l.o.Least), l.o.Most)
		}
	}
}

// past is the mean of our traffic over the window that the figure covers. Before a backend was known
// it had none, as its own mean over the window says too; before these Loads existed nobody looked.
func (l *Loads) past(t *loadTrack) float64 {
	return t.traffic.mean(max(t.figure.At-l.o.Window, l.started), t.figure.At)
}

// meterParts is into how many parts the window of a meter is divided. meterMarks is a half more: the
// window ends with a figure, and that may be some parts old.
const (
	meterParts = 32
	meterMarks = meterParts * 3 / 2
)

// A meter keeps the course of a rate over some minutes in constant space: the area below it, marked
// once per part of the window.
type meter struct {
	mark   // the present
	rate   float64
	marks  [meterMarks]mark // a ring
	marked int              // how many marks were ever made
}

// A mark is the area below the rate until a moment.
type mark struct {
	at   int64
	area float64
}

func (m *meter) observe(rate float64, now, part int64) {
	if now < m.at || !(rate >= 0) || math.IsInf(rate, 0) {
		return
	}
	if m.marked == 0 {
		m.at = now
	}
	m.area, m.at, m.rate = m.areaAt(now), now, rate
	if m.marked == 0 || now-m.marks[(m.marked-1)%meterMarks].at >= part {
		m.marks[m.marked%meterMarks] = m.mark
		m.marked++
	}
}

// mean is the mean rate between two moments.
func (m *meter) mean(from, to int64) float64 {
	if to <= from {
		return m.rate
	}
	return (m.areaAt(to) - m.areaAt(from)) / float64(to-from) * float64(second)
}

// areaAt is the area until t, between two marks by interpolation.
func (m *meter) areaAt(t int64) float64 {
	if t >= m.at {
		return m.area + m.rate*float64(t-m.at)/float64(second)
	}
	later := m.mark
	for i := m.marked - 1; i >= max(0, m.marked-meterMarks); i-- {
		earlier := m.marks[i%meterMarks]
		if t >= earlier.at {
			if later.at == earlier.at {
				return earlier.area
			}
			return earlier.area + (later.area-earlier.area)*float64(t-earlier.at)/float64(later.at-earlier.at)
		}
		later = earlier
	}
	return later.area // before the first mark there was nothing
}
