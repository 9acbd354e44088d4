package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/mqttlb/mqttlb/proxy"
)

// A handshakeLog tells of TLS handshakes with brokers that have failed: of each broker and reason at once, and as long as
// it goes on, once a minute how often.
type handshakeLog struct {
	queue chan proxy.Handshake
	log   *slog.Logger
	told  map[failedHandshake]*spell // owned by run
}

// A failedHandshake is what is told once.
type failedHandshake struct {
	cluster, backend string
	why              proxy.Refusal
}

// A spell is since when a failure was not told again, and how often it was there.
type spell struct {
	since time.Time
	more  int
}

const (
	// handshakePause is the time between two lines about one broker and reason.
	handshakePause = time.Minute
	// handshakeQueue is how many failures may wait to be written; the next are not told.
	handshakeQueue = 256
)

func newHandshakeLog(log *slog.Logger) *handshakeLog {
	return &handshakeLog{queue: make(chan proxy.Handshake, handshakeQueue), log: log, told: make(map[failedHandshake]*spell)}
}

// failed takes a failure. It never blocks.
func (l *handshakeLog) failed(h proxy.Handshake) {
	select {
	case l.queue <- h:
	default:
	}
}

// run writes lines until ctx is done.
func (l *handshakeLog) run(ctx context.Context) {
	clock := time.NewTicker(handshakePause)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-l.queue:
			l.tell(&h)
		case now := <-clock.C:
			l.forget(now)
		}
	}
}

func (l *handshakeLog) tell(h *proxy.Handshake) {
	key, now := failedHandshake{h.Cluster, h.Backend, h.Refusal}, time.Now()
	was := l.told[key]
	if was != nil && now.Sub(was.since) < handshakePause {
		was.more++
		return
	}
	attrs := []slog.Attr{
		slog.String("cluster", h.Cluster), slog.String("backend", h.Backend),
		slog.String("reason", string(h.Refusal)), slog.Any("error", h.Err),
	}
	if was != nil && was.more > 0 {
		attrs = append(attrs, slog.Int("before", was.more))
	}
	l.told[key] = &spell{since: now}
	l.log.LogAttrs(context.Background(), slog.LevelWarn, "no TLS with a broker; the next one is tried", attrs...)
}

// forget drops what was not there any more.
func (l *handshakeLog) forget(now time.Time) {
	for key, s := range l.told {
		if now.Sub(s.since) > 2*handshakePause {
			delete(l.told, key)
		}
	}
}
