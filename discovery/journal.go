package discovery

import (
	"log/slog"
	"time"
	"unicode/utf8"
)

const (
	// remind is how often a failure that lasts is logged.
	remind = 10 * time.Minute
	// maxComplaints bounds the lines that one refresh may log; the rest is counted.
	maxComplaints = 20
	// maxShown bounds what is logged of a text from outside, in bytes.
	maxShown = 256
	// maxError bounds the same for the failure of a whole source: several mistakes in a file, for example.
	maxError = 2048
)

// A complaint tells about one backend that is left out, or keeps the address that it had.
type complaint struct {
	backend string // its name, as far as it has one
	where   string // position in a file, key of an object, host name; may be empty
	why     error
	// kept tells that the backend is in the set all the same, with the address that it had.
	kept bool
}

// A journal writes about trouble when it begins and when it changes, and not each time that a source is
// refreshed.
type journal struct {
	log      *slog.Logger
	failure  string    // the last one; empty when the last refresh succeeded
	since    time.Time // when the failures began
	reminded time.Time
	known    map[string]bool // complaints of the last refresh
}

// failed notes a failed refresh. backends are those that stay in force.
func (j *journal) failed(source string, err error, backends int) {
	now, text := time.Now(), err.Error()
	if j.failure == "" {
		j.since = now
	}
	news := text != j.failure || now.Sub(j.reminded) >= remind
	j.failure = text
	if !news {
		return
	}
	j.reminded = now
	j.log.Warn("discovery failed; the last known backends stay", slog.String("source", source), slog.Int("backends", backends),
		slog.String("for", now.Sub(j.since).Round(time.Second).String()), slog.String("error", cut(text, maxError)))
}

// succeeded notes that a refresh gave so many backends.
func (j *journal) succeeded(source string, backends int) {
	if j.failure != "" {
		j.log.Info("discovery works again", slog.String("source", source), slog.Int("backends", backends),
			slog.String("after", time.Since(j.since).Round(time.Second).String()))
	}
	j.failure = ""
}

// leftOut notes who is left out, as far as that is news.
func (j *journal) leftOut(source string, list []complaint) {
	known := make(map[string]bool, len(list))
	lines, more := 0, 0
	for _, c := range list {
		id := cut(c.backend, maxShown) + "\x00" + cut(c.where, maxShown) + "\x00" + cut(c.why.Error(), maxShown)
		if known[id] || j.known[id] {
			known[id] = true
			continue
		}
		known[id] = true
		if lines == maxComplaints {
			more++
			continue
		}
		lines++
		c.write(j.log, source)
	}
	if more > 0 {
		j.log.Warn("further backends are left out", slog.String("source", source), slog.Int("count", more))
	}
	j.known = known
}

func (c *complaint) write(log *slog.Logger, source string) {
	attrs := []any{slog.String("source", source), slog.String("backend", cut(c.backend, maxShown))}
	if c.where != "" {
		attrs = append(attrs, slog.String("where", cut(c.where, maxShown)))
	}
	attrs = append(attrs, slog.String("error", cut(c.why.Error(), maxShown)))
	if c.kept {
		log.Warn("a backend keeps its last address", attrs...)
	} else {
		log.Warn("a backend is left out", attrs...)
	}
}

// cut shortens a text to so many bytes, at the boundary of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}
