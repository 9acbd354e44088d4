package scrape

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// Options configure a Scraper. OnReading and Clock must be set, and a Preset or both URL and one of
// Figures, Hot and Version; for the rest zero means the default.
type Options struct {
	// Preset fills in URL, Figures, Hot and Version, each unless it is set; see Presets.
	Preset string
	// URL is where a backend's metrics are, http or https, with the placeholders {host} {port} {name}
	// {label.KEY}, where {port} is the port of MQTT. If its host is {host}, the connection goes to the
	// address that clients use.
	URL string
	// Interval is the time from one scrape of a backend to the next, give or take a twentieth; default 15 s,
	// from 1 s to 1 h.
	Interval time.Duration
	// Timeout bounds one scrape, from the connection to the last byte; default 10 s, at most Interval.
	Timeout time.Duration
	// Window is the time over which Reading.Load is a mean; default 5 min, from Interval to 1000 times that.
	// It must be that of balancer.LoadOptions.
	Window time.Duration
	// Figures say what the load is.
	Figures []FigureOptions
	// Hot is a metric for Reading.Level, written as in FigureOptions.
	Hot string
	// Version says where Reading.Version is; both of it or none.
	Version VersionOptions

	// BearerTokenFile, or Username and PasswordFile, are the credentials to send. The files are read for
	// every scrape and may be replaced at any time.
	BearerTokenFile        string
	Username, PasswordFile string
	// TLS is for https; nil trusts the system's certificate authorities. Without a ServerName, that of the
	// URL must be in the certificate.
	TLS *tls.Config

	// Concurrency bounds the scrapes that run at the same time; default 32. Backends whose last scrape failed
	// get no more than half of it, so that many that hang cannot delay the others.
	Concurrency int
	// MaxBody is the most that a page may hold, uncompressed, in bytes; default 16 MiB.
	MaxBody int64
	// MaxSeries is how many series the metrics of Figures, Hot and Version may have on a page; default 10 000.
	MaxSeries int

	// Clock is a monotonic clock in nanoseconds, that of the load controller. It is never 0, and is read from
	// several goroutines.
	Clock func() int64
	// OnReading hears of every scrape. It is called from the goroutine of Run, and no scrape begins while it
	// runs: it must be quick.
	OnReading func(Reading)
	// Log hears when a backend's scrapes begin to fail and when they work again; nil discards it.
	Log *slog.Logger
}

// FigureOptions describe one part of the load.
type FigureOptions struct {
	// Metric is NAME, NAME{LABEL="VALUE"} or rate(NAME{…}), or several such with / between them. Series of one
	// metric are summed up; a counter needs rate, which is per second. See the package comment.
	Metric string
	// Scale is the value that means fully loaded, above 0; default 1.
	Scale float64
	// Weight is the part that the figure has in the mean of all figures, above 0; default 1.
	Weight float64
}

// The defaults of Options.
const (
	DefaultInterval    = 15 * time.Second
	DefaultTimeout     = 10 * time.Second
	DefaultWindow      = 5 * time.Minute
	DefaultConcurrency = 32
	DefaultMaxBody     = 16 << 20
	DefaultMaxSeries   = 10_000
)

const (
	minInterval, maxInterval = time.Second, time.Hour
	maxScrapes               = 1000 // within a window
	maxFigures               = 32
	leastNumber, mostNumber  = 1e-9, 1e15 // of scales and weights
)

// A FieldError is about one setting. New returns one for every setting that cannot work, joined.
type FieldError struct {
	// Field is the setting as the configuration has it below `load`: "figures[0].metric" for example.
	Field string
	// Msg says what is wrong and what to write instead.
	Msg string
}

func (e *FieldError) Error() string { return e.Field + " " + e.Msg }

func fieldErrorf(field, format string, args ...any) *FieldError {
	return &FieldError{Field: field, Msg: fmt.Sprintf(format, args...)}
}

// A report collects what is wrong with options.
type report []error

func (r *report) add(e *FieldError) {
	if e != nil {
		*r = append(*r, e)
	}
}

func (r *report) at(field string, err error) {
	if err != nil {
		r.add(fieldErrorf(field, "%s", err))
	}
}

// settle puts defaults in and returns what is to be done, or all that is wrong.
func (o *Options) settle() (template, *plan, error) {
	var r report
	preset, unknown := presetOf(o.Preset)
	r.add(unknown)

	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	o.Timeout = cmp.Or(o.Timeout, min(DefaultTimeout, o.Interval))
	o.Window = cmp.Or(o.Window, max(DefaultWindow, o.Interval))
	if r.duration("interval", o.Interval, minInterval, maxInterval) { // the others depend on it
		r.duration("timeout", o.Timeout, time.Millisecond, o.Interval)
		r.duration("window", o.Window, o.Interval, maxScrapes*o.Interval)
	}
	o.Concurrency = cmp.Or(o.Concurrency, DefaultConcurrency)
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.MaxSeries = cmp.Or(o.MaxSeries, DefaultMaxSeries)
	if o.Concurrency < 0 || o.MaxBody < 0 || o.MaxSeries < 0 {
		r = append(r, errors.New("none of Concurrency, MaxBody and MaxSeries may be negative"))
	}
	if o.OnReading == nil || o.Clock == nil {
		r = append(r, errors.New("both OnReading and Clock must be set"))
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}

	t := r.url(cmp.Or(o.URL, preset.url), unknown != nil)
	p := r.plan(o, &preset)
	p.horizon = int64(max(o.Window, 4*o.Interval))
	r.credentials(o)
	return t, p, errors.Join(r...)
}

func (r *report) duration(field string, d, least, most time.Duration) bool {
	ok := d >= least && d <= most
	if !ok {
		r.add(fieldErrorf(field, "must be from %v to %v, got %v", least, most, d))
	}
	return ok
}

func (r *report) url(text string, excused bool) template {
	if text == "" {
		if !excused {
			r.add(fieldErrorf("url", "must be set without a preset; write one like http://{host}:9399/metrics"))
		}
		return nil
	}
	t, err := parseTemplate(text)
	r.at("url", err)
	return t
}

// plan reads figures and the hot metric.
func (r *report) plan(o *Options, preset *preset) *plan {
	p := &plan{hotUnit: 1}
	figures := o.Figures
	if len(figures) == 0 {
		figures = preset.figures
	}
	hot := o.Hot
	if hot == "" && preset.hot != "" {
		hot, p.hotUnit = preset.hot, preset.hotTop/10
	}
	switch {
	case len(figures) > maxFigures:
		r.add(fieldErrorf("figures", "are %d, the most is %d", len(figures), maxFigures))
	case len(figures) == 0 && hot == "" && o.Version == (VersionOptions{}) && o.Preset == "":
		r.add(fieldErrorf("figures", "must be set without a preset; write {metric: NAME, scale: VALUE-THAT-MEANS-FULLY-LOADED}"))
	}
	for i, f := range figures {
		field := fmt.Sprintf("figures[%d].", i)
		e, err := parseExpression(f.Metric)
		r.at(field+"metric", err)
		f.Scale, f.Weight = cmp.Or(f.Scale, 1), cmp.Or(f.Weight, 1)
		r.positive(field+"scale", f.Scale, "it is the value that means fully loaded")
		r.positive(field+"weight", f.Weight, "leave the figure out if it should not count")
		if err == nil {
			p.figures = append(p.figures, figure{expression: e, scale: f.Scale, weight: f.Weight})
			p.add(e)
		}
	}
	if hot != "" {
		e, err := parseExpression(hot)
		r.at("hot.metric", err)
		if err == nil {
			p.hot = e
			p.add(e)
		}
	}
	r.version(p, o, preset)
	return p
}

func (r *report) positive(field string, v float64, hint string) {
	if !(v >= leastNumber && v <= mostNumber) {
		r.add(fieldErrorf(field, "must be from %g to %g, got %g; %s", leastNumber, mostNumber, v, hint))
	}
}

// credentials checks that they can be read now, so that a wrong path is found at once.
func (r *report) credentials(o *Options) {
	switch {
	case o.BearerTokenFile != "" && (o.Username != "" || o.PasswordFile != ""):
		r.add(fieldErrorf("bearer_token_file", "cannot be combined with username and password_file"))
	case (o.Username == "") != (o.PasswordFile == ""):
		r.add(fieldErrorf("password_file", "and username belong together: set both or none"))
	case o.BearerTokenFile != "":
		r.at("bearer_token_file", o.authorize(make(http.Header)))
	case o.Username != "":
		r.at("password_file", o.authorize(make(http.Header)))
	}
}
