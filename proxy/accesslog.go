package proxy

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"
)

// An AccessLog writes one line when a connection ends. Lines go through a bounded queue, so that a
// slow disk or a blocked pipe never holds up the data path: what does not fit is counted instead.
type AccessLog struct {
	log     *slog.Logger
	ids     IDMode
	queue   chan Record
	contest chan Contest
	dropped atomic.Uint64

	// Lines about refused openings are limited per reason, and those about contests; owned by Run.
	refused map[Refusal]*window
	warned  window
}

// An IDMode says how client ids appear in the log: they can be personal data.
type IDMode uint8

// The modes.
const (
	FullID   IDMode = iota // as sent, cut at 128 bytes
	HashedID               // a 64-bit hash
	NoID                   // left out
)

const (
	accessQueue     = 1024 // records
	contestQueue    = 64
	maxLoggedID     = 128 // bytes
	refusedPerSpell = 10  // lines per reason and second
)

// NewAccessLog returns a log whose lines go to log, at level info. Run writes them.
func NewAccessLog(log *slog.Logger, ids IDMode) *AccessLog {
	return &AccessLog{log: log, ids: ids, queue: make(chan Record, accessQueue), contest: make(chan Contest, contestQueue), refused: make(map[Refusal]*window)}
}

// Ended takes a record. It never blocks.
func (a *AccessLog) Ended(r Record) {
	select {
	case a.queue <- r:
	default:
		a.dropped.Add(1)
	}
}

// Contested takes a contest. It never blocks; those for which there is no room would hardly be written anyway.
func (a *AccessLog) Contested(c Contest) {
	select {
	case a.contest <- c:
	default:
	}
}

// Dropped counts the records for which there was no room.
func (a *AccessLog) Dropped() uint64 { return a.dropped.Load() }

// Run writes lines until ctx is done and the queue is empty.
func (a *AccessLog) Run(ctx context.Context) {
	for {
		select {
		case r := <-a.queue:
			a.write(ctx, &r)
		case c := <-a.contest:
			a.warn(ctx, &c)
		case <-ctx.Done():
			for {
				select {
				case r := <-a.queue:
					a.write(ctx, &r)
				default:
					return
				}
			}
		}
	}
}

func (a *AccessLog) write(ctx context.Context, r *Record) {
	if r.Refusal != "" && r.Target.Backend == nil && !a.admits(r.Refusal) {
		return
	}
	attrs := make([]slog.Attr, 0, 20)
	attrs = append(attrs, slog.String("listener", r.Listener))
	if r.Route != "" {
		attrs = append(attrs, slog.String("route", r.Route))
	}
	if r.SNI != "" {
		attrs = append(attrs, slog.String("sni", r.SNI))
	}
	if b := r.Target.Backend; b != nil {
		attrs = append(attrs, slog.String("cluster", b.Cluster))
	}
	if r.Version != 0 {
		attrs = append(a.appendID(attrs, r.ClientID), slog.Int("version", int(r.Version)))
		if r.Assigned {
			attrs = append(attrs, slog.Bool("assigned", true))
		}
	}
	attrs = append(attrs, slog.String("remote", r.Remote.String()))
	if r.Via.IsValid() {
		attrs = append(attrs, slog.String("via", r.Via.String()))
	}
	if b := r.Target.Backend; b != nil {
		attrs = append(attrs, slog.String("backend", b.Name),
			slog.String("strategy", r.Target.Reason.Strategy), slog.String("reason", r.Target.Reason.String()))
	}
	if r.UniqueID != "" {
		attrs = append(attrs, slog.String("unique_id", r.UniqueID))
	}
	attrs = append(attrs, slog.Int("attempts", r.Attempts))
	if r.Connack >= 0 {
		attrs = append(attrs, slog.Int("connack", r.Connack))
	}
	attrs = append(attrs,
		slog.Float64("seconds", r.Lasted.Round(time.Microsecond).Seconds()),
		slog.Uint64("bytes_up", r.Bytes[Up]), slog.Uint64("bytes_down", r.Bytes[Down]),
		slog.Uint64("packets_up", r.Packets[Up]), slog.Uint64("packets_down", r.Packets[Down]),
		slog.String("end", r.End.String()))
	if r.Moment != MomentNone {
		attrs = append(attrs, slog.String("moment", r.Moment.String()))
	}
	if r.Refusal != "" {
		attrs = append(attrs, slog.String("refused", string(r.Refusal)))
	}
	a.log.LogAttrs(ctx, slog.LevelInfo, "connection ended", attrs...)
}

// appendID adds a client id in the form in which ids appear, if they do.
func (a *AccessLog) appendID(attrs []slog.Attr, id string) []slog.Attr {
	switch a.ids {
	case FullID:
		return append(attrs, slog.String("client", printableID(id)))
	case HashedID:
		return append(attrs, slog.String("client", strconv.FormatUint(xxhash.Sum64String(id), 16)))
	case NoID:
	}
	return attrs
}

// warn writes a line about a client id that two devices share.
func (a *AccessLog) warn(ctx context.Context, c *Contest) {
	if now := time.Now(); now.Sub(a.warned.since) >= time.Second {
		a.warned = window{since: now}
	}
	if !a.warned.takes() {
		return
	}
	attrs := a.appendID([]slog.Attr{slog.String("listener", c.Listener)}, c.ClientID)
	attrs = append(attrs, slog.String("remote", c.Remote.String()))
	a.log.LogAttrs(ctx, slog.LevelWarn, "two devices take one client id from each other; give each its own", attrs...)
}

// printableID cuts an id and quotes it if it is not UTF-8. Whatever else it may hold (line ends, terminal
// controls), the log's handler escapes.
func printableID(id string) string {
	id = id[:min(len(id), maxLoggedID)]
	if !utf8.ValidString(id) {
		return strconv.Quote(id)
	}
	return id
}

// A window counts the lines of one reason in the current second.
type window struct {
	since time.Time
	lines int
	muted int
}

// admits limits the lines about refused openings: an attacker must not fill the disk.
func (a *AccessLog) admits(why Refusal) bool {
	w := a.refused[why]
	if w == nil {
		w = &window{since: time.Now()}
		a.refused[why] = w
	}
	if now := time.Now(); now.Sub(w.since) >= time.Second {
		if w.muted > 0 {
			a.log.LogAttrs(context.Background(), slog.LevelInfo, "refused connections not logged one by one",
				slog.String("refused", string(why)), slog.Int("count", w.muted))
		}
		*w = window{since: now}
	}
	return w.takes()
}

// takes counts a line and tells whether it is to be written.
func (w *window) takes() bool {
	w.lines++
	if w.lines > refusedPerSpell {
		w.muted++
		return false
	}
	return true
}
