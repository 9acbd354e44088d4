package main

import (
	"context"
	"time"
)

const (
	// samplePause is the time between two looks at the brokers.
	samplePause = 100 * time.Millisecond

	// calm is how long nobody must have been cut off for a cluster with a full new broker to count as settled.
	calm = 10 * time.Second
)

// balance adds a broker to those that a fleet is connected to, and watches what becomes of it.
func (f *fleet) balance(ctx context.Context) (map[string]float64, error) {
	if err := f.pause(ctx, f.size.quiet); err != nil {
		return nil, err
	}
	return f.watchJoin(ctx, func() error { return f.proxy.addBackend(ctx) })
}

// watchJoin calls add, which has the proxy use the last of the brokers, and watches what becomes of it.
func (f *fleet) watchJoin(ctx context.Context, add func() error) (map[string]float64, error) {
	added := len(f.brokers.brokers) - 1
	began := time.Now()
	if err := add(); err != nil {
		return nil, err
	}
	var series []fleetSample
	for time.Since(began) < f.size.observe {
		series = append(series, fleetSample{at: time.Since(began), counts: f.brokers.counts()})
		if f.settled(series, added) {
			break
		}
		if err := f.pause(ctx, samplePause); err != nil {
			return nil, err
		}
	}
	cuts, twice := countEvents(f.clients.history(), clientCut, began)
	failed, _ := countEvents(f.clients.history(), clientFailed, began)
	counts := series[len(series)-1].counts
	figures := map[string]float64{
		figureShare:   shareOf(counts, added),
		figureMax:     maxOverMean(counts),
		figureCuts:    float64(cuts),
		figureTwice:   float64(twice),
		figureFailed:  float64(failed),
		figureStrayed: strayed(f.brokers.history(), began, added),
	}
	if at, reached := timeToShare(series, added); reached {
		figures[figureFull] = at.Seconds()
	}
	return figures, nil
}

// settled says whether the new broker has its share and nobody is moved any more.
func (f *fleet) settled(series []fleetSample, added int) bool {
	full, reached := timeToShare(series, added)
	now := series[len(series)-1].at
	if !reached || now < full+calm {
		return false
	}
	cuts, _ := countEvents(f.clients.history(), clientCut, time.Now().Add(-calm))
	return cuts == 0
}
