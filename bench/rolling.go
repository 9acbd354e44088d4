package main

import (
	"context"
	"fmt"
	"time"
)

// rolling restarts the brokers one after another and looks at where everybody is in the end.
func (f *fleet) rolling(ctx context.Context) (map[string]float64, error) {
	if err := f.pause(ctx, f.size.quiet); err != nil {
		return nil, err
	}
	began := time.Now()
	for _, i := range f.brokers.all() {
		if err := f.restart(ctx, i); err != nil {
			return nil, err
		}
		if err := f.pause(ctx, f.size.apart); err != nil {
			return nil, err
		}
	}
	if err := f.pause(ctx, f.size.settle); err != nil {
		return nil, err
	}
	events := f.clients.history()
	cuts, twice := countEvents(events, clientCut, began)
	failed, _ := countEvents(events, clientFailed, began)
	spread := spreadOf(f.groups())
	clients := float64(len(f.clients.ids))
	return map[string]float64{
		figureSkew:     spread.worstSkew,
		figureTogether: float64(spread.together),
		figureMajority: float64(spread.majority),
		figureMax:      maxOverMean(f.brokers.counts()),
		figureCuts:     float64(cuts) / clients,
		figureTwice:    float64(twice) / clients,
		figureFailed:   float64(failed) / clients,
	}, nil
}

// restart stops one broker and starts it again, with what an operator does before and after if the variant has that.
func (f *fleet) restart(ctx context.Context, broker int) error {
	drains := f.variant == variantDrain || f.variant == variantUpdate
	if drains {
		if err := f.proxy.drain(ctx, broker); err != nil {
			return err
		}
	}
	f.brokers.stop(broker)
	if err := f.pause(ctx, f.size.down); err != nil {
		return err
	}
	if err := f.brokers.start(broker); err != nil {
		return err
	}
	if drains {
		return f.proxy.resume(ctx, broker)
	}
	return nil
}

// groups are the members on each broker, for each group.
func (f *fleet) groups() [][]int {
	where := f.brokers.where()
	groups := make([][]int, f.size.groups)
	for g := range groups {
		groups[g] = make([]int, len(f.brokers.brokers))
		for m := range f.size.members {
			if broker, connected := where[memberID(g, m)]; connected {
				groups[g][broker]++
			}
		}
	}
	return groups
}

// memberID is the client identifier of a member of a group.
func memberID(group, member int) string { return fmt.Sprintf("%sg%d-%d", fleetPrefix, group, member) }
