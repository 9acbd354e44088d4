package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
)

// A supervisor is the service manager that has started mqttlb, and wants to know how it is (sd_notify(3)). nil if there
// is none.
type supervisor struct {
	tell     func(message string) error
	watchdog time.Duration // without a word for so long mqttlb counts as hung; 0 if nobody watches
}

// findSupervisor asks the environment. What it says is not handed on: mqttlb starts no processes.
func findSupervisor() (*supervisor, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil, nil //nolint:nilnil // nobody to tell anything is the usual case
	}
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("the service manager's watchdog: %w", err)
	}
	return &supervisor{watchdog: watchdog, tell: func(message string) error {
		_, err := daemon.SdNotify(false, message)
		return err
	}}, nil
}

// statusInterval is the longest time between two messages about how mqttlb is.
const statusInterval = 10 * time.Second

// interval is the time between two messages: half of what the watchdog waits for one (sd_watchdog_enabled(3)).
func (s *supervisor) interval() time.Duration {
	if s.watchdog > 0 {
		return min(s.watchdog/2, statusInterval)
	}
	return statusInterval
}

// attend tells how mqttlb is until ctx is done. status must ask whatever may hang: while it waits for an answer the
// watchdog hears nothing, and in the end has mqttlb restarted.
func (s *supervisor) attend(ctx context.Context, status func() string, failed func(error)) {
	every(ctx, s.interval(), func() {
		if err := s.tell("STATUS=" + status() + "\n" + daemon.SdNotifyWatchdog); err != nil {
			failed(err)
		}
	})
}

// notify tells the supervisor, if there is one, what mqttlb is doing. That it does not listen is no reason to stop.
func (a *app) notify(lines ...string) {
	if a.supervisor == nil {
		return
	}
	if err := a.supervisor.tell(strings.Join(lines, "\n")); err != nil {
		a.notifyFailed(err)
	}
}

// notifyFailed tells the log.
func (a *app) notifyFailed(err error) {
	a.log.Warn("the service manager cannot be told how mqttlb is", slog.Any("error", err))
}

// notifyReady tells that the start, or a reload, is over, and whether it has failed.
func (a *app) notifyReady(failed error) {
	if a.supervisor == nil {
		return
	}
	status := "STATUS=" + a.statusLine()
	if failed != nil {
		status += "; the last reload has failed"
	}
	a.notify(daemon.SdNotifyReady, status)
}

// notifyReloading tells that a reload begins. The time lets systemd match it with the one that it has asked for.
func (a *app) notifyReloading() {
	a.notify(daemon.SdNotifyReloading, fmt.Sprintf("MONOTONIC_USEC=%d", monotonic().Microseconds()))
}

// notifyStopping tells that mqttlb stops, and how long that may take, however short TimeoutStopSec is.
func (a *app) notifyStopping(within time.Duration) {
	a.notify(daemon.SdNotifyStopping, "STATUS=stopping", fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", within.Microseconds()))
}

// statusLine says in one line how mqttlb is. Every event loop and every cluster has to answer for it.
func (a *app) statusLine() string {
	parts := []string{fmt.Sprintf("%d connections", a.proxy.Stats().Sessions)}
	for _, s := range a.roster.all() {
		parts = append(parts, clusterLine(s.Status()))
	}
	return strings.Join(parts, "; ")
}

func clusterLine(s cluster.Status) string {
	up := 0
	for i := range s.Backends {
		if s.Backends[i].Phase != balancer.Down.String() {
			up++
		}
	}
	return fmt.Sprintf("%s: %s, %d of %d brokers up", harmless(s.Name), s.State, up, len(s.Backends))
}

// monotonic is the clock that systemd compares reloads by.
func monotonic() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0 // every Linux has this clock
	}
	return time.Duration(t.Nano())
}
