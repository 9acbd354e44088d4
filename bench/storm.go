package main

import (
	"context"
	"fmt"
	"os"
	"time"
)

// storm has all clients lose their connections at once, because the brokers cut them, and come back at once.
func (f *fleet) storm(ctx context.Context) (map[string]float64, error) {
	if err := f.pause(ctx, f.size.quiet); err != nil {
		return nil, err
	}
	pids := f.pids()
	for _, pid := range pids {
		resetPeak(pid)
	}
	m := meter{proxy: pids}
	before, err := m.read()
	if err != nil {
		return nil, err
	}
	cut := time.Now()
	f.brokers.cut(f.brokers.all()...)
	back, err := f.awaitBack(ctx, cut)
	if err != nil {
		return nil, err
	}
	after, err := m.read()
	if err != nil {
		return nil, err
	}
	used := after.since(before)
	failed, _ := countEvents(f.clients.history(), clientFailed, cut)
	figures := map[string]float64{
		figureAllBack:   back.Sub(cut).Seconds(),
		figureFailed:    float64(failed),
		figureConnects:  float64(worstSecond(connectTimes(f.brokers.history(), cut, anyBroker))),
		figureOneBroker: f.worstBroker(cut),
	}
	if len(pids) == 0 {
		return figures, nil
	}
	peak, err := sumOver(pids, processPeak)
	if err != nil {
		return nil, err
	}
	figures[figureCPU] = used.CPU.Seconds()
	figures[figurePeak] = float64(peak)
	return figures, nil
}

// awaitBack returns when the last of all clients has got its CONNACK after the given time.
func (f *fleet) awaitBack(ctx context.Context, since time.Time) (time.Time, error) {
	deadline := time.Now().Add(stormTimeout)
	for {
		up, last := upSince(f.clients.history(), since)
		if up == len(f.clients.ids) {
			return last, nil
		}
		if time.Now().After(deadline) {
			return last, fmt.Errorf("%d of %d clients are not back after %v", len(f.clients.ids)-up, len(f.clients.ids), stormTimeout)
		}
		if err := f.pause(ctx, 20*time.Millisecond); err != nil {
			return last, err
		}
	}
}

// stormTimeout bounds how long the clients may take to come back.
const stormTimeout = 60 * time.Second

// upSince is how many clients have got a CONNACK since a time, and when the last of them got its first.
func upSince(events []fleetEvent, since time.Time) (clients int, last time.Time) {
	up := make(map[string]bool)
	for _, e := range events {
		if e.kind == clientUp && !e.at.Before(since) && !up[e.client] {
			up[e.client] = true
			last = e.at
		}
	}
	return len(up), last
}

// anyBroker stands for all of them.
const anyBroker = -1

// connectTimes are when one broker, or all, got their CONNECTs since a time.
func connectTimes(connects []fleetConnect, since time.Time, broker int) []time.Time {
	var times []time.Time
	for _, c := range connects {
		if !c.at.Before(since) && (broker == anyBroker || c.broker == broker) {
			times = append(times, c.at)
		}
	}
	return times
}

// worstBroker is the largest number of CONNECTs that one broker has got within a second.
func (f *fleet) worstBroker(since time.Time) float64 {
	worst := 0
	for _, i := range f.brokers.all() {
		worst = max(worst, worstSecond(connectTimes(f.brokers.history(), since, i)))
	}
	return float64(worst)
}

// resetPeak has the kernel forget a process's peak of resident memory. Where it cannot, the peak counts from the start of
// the process.
func resetPeak(pid int) {
	const resetPeakOnly = "5"
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(resetPeakOnly), 0)
}

// processPeak is the most resident memory that a process has had, in bytes.
func processPeak(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return parseKilobytes(status, "VmHWM")
}
