package scrape

// A window is the time-weighted mean of a figure over a trailing length of time. Each value stands for
// the time since the one before it, which is what a rate says and what a gauge comes near; but no more
// than reach, as nobody knows what was during a gap. All times are nanoseconds.
type window struct {
	length, reach int64
	parts         []part // oldest first
	last          part   // the latest value; may be shorter than a part
	begun         bool
}

// A part is the time for which a value stands.
type part struct {
	from, to int64
	value    float64
}

// maxParts bounds the memory of a window; Options keep a window shorter.
const maxParts = 2048

// add takes in a value. Values that are out of order are ignored.
func (w *window) add(value float64, at int64) {
	switch {
	case !w.begun:
		w.begun, w.last = true, part{from: at, to: at, value: value}
		return
	case at <= w.last.to:
		return
	}
	w.last = part{from: max(w.last.to, at-w.reach), to: at, value: value}
	gone := 0
	for gone < len(w.parts) && (w.parts[gone].to <= at-w.length || len(w.parts)-gone >= maxParts) {
		gone++
	}
	if gone > 0 {
		w.parts = w.parts[:copy(w.parts, w.parts[gone:])]
	}
	w.parts = append(w.parts, w.last)
}

// mean is the mean over the window that ends with the latest value, and the time at which the values in
// it begin. A first value is its own mean.
func (w *window) mean() (mean float64, since int64) {
	start := w.last.to - w.length
	since = w.last.from
	area, time := 0.0, 0.0
	for _, p := range w.parts {
		from := max(p.from, start)
		if p.to <= from {
			continue
		}
		if time == 0 {
			since = from
		}
		area += p.value * float64(p.to-from)
		time += float64(p.to - from)
	}
	if time == 0 {
		return w.last.value, since
	}
	return area / time, since
}
