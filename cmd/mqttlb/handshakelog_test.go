package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttlb/mqttlb/proxy"
)

// The first failure of each broker and reason is told at once, and those that follow once a minute.
func TestHandshakeLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newHandshakeLog(slog.New(slog.NewTextHandler(&out, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.run(ctx) }()
		fail := func(backend string, why proxy.Refusal) {
			l.failed(proxy.Handshake{Cluster: "c", Backend: backend, Refusal: why, Err: errors.New("it has expired")})
			synctest.Wait()
		}
		for _, test := range []struct {
			backend string
			why     proxy.Refusal
			after   time.Duration
			lines   int // from the start on
			last    string
		}{
			{"a", proxy.RefusedTLSExpired, 0, 1, "cluster=c backend=a reason=tls_expired error=\"it has expired\"\n"},
			{"a", proxy.RefusedTLSExpired, 0, 1, ""},
			{"b", proxy.RefusedTLSExpired, 0, 2, "backend=b reason"},
			{"a", proxy.RefusedTLSLost, 0, 3, "reason=tls_lost"},
			{"a", proxy.RefusedTLSExpired, 59 * time.Second, 3, ""},
			{"a", proxy.RefusedTLSExpired, 2 * time.Second, 4, "backend=a reason=tls_expired error=\"it has expired\" before=2\n"},
			{"a", proxy.RefusedTLSExpired, time.Hour, 5, "error=\"it has expired\"\n"},
		} {
			time.Sleep(test.after)
			fail(test.backend, test.why)
			lines := strings.SplitAfter(out.String(), "\n")
			if got := len(lines) - 1; got != test.lines || !strings.Contains(lines[got-1], test.last) {
				t.Errorf("%+v: got %d lines, the last %s", test, got, lines[got-1])
			}
		}
		if len(l.told) != 1 {
			t.Errorf("got %d spells that are remembered, want the last one alone", len(l.told))
		}
		cancel()
		<-done
	})
}
