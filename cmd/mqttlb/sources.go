package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/discovery"
	"github.com/mqttlb/mqttlb/metrics"
)

// firstSetTimeout bounds how long the start waits for discovery. Clients that come before the first
// backends are known would be refused.
const firstSetTimeout = 3 * time.Second

// A finder is the discovery of one cluster at work.
type finder struct {
	cluster string
	stop    context.CancelFunc
	first   chan struct{} // closed when the cluster has its first set from this source
	ended   chan struct{} // closed when neither the source nor who takes its sets is at work any more
}

// answered tells whether the cluster has a set from this source.
func (f *finder) answered() bool {
	select {
	case <-f.first:
		return true
	default:
		return false
	}
}

// find starts the discovery of a cluster, in place of the one that ran before. That one has come to its end
// then: no late answer of the old source may replace one of the new.
func (a *app) find(c *config.Cluster) *finder {
	if before := a.sources[c.Name]; before != nil {
		before.stop()
		<-before.ended
	}
	ctx, stop := context.WithCancel(a.ctx)
	f := &finder{cluster: c.Name, stop: stop, first: make(chan struct{}), ended: make(chan struct{})}
	a.sources[c.Name] = f
	a.metrics.Discovering(c.Name)
	to := a.cluster(c.Name)
	source := newSource(&c.Discovery, refreshes{a.metrics, to}, a.log.With(slog.String("cluster", c.Name)))
	sets := make(chan []balancer.Backend)
	a.running.Go(func() {
		defer close(sets)
		if err := source.Run(ctx, sets); err != nil {
			a.log.Error("discovery has stopped", slog.String("cluster", c.Name), slog.Any("error", err))
		}
	})
	a.running.Go(func() {
		defer close(f.ended)
		once := sync.OnceFunc(func() { close(f.first) })
		for set := range sets {
			to.Apply(set)
			once()
		}
	})
	return f
}

// await waits until all have answered, but no longer than firstSetTimeout.
func (a *app) await(finders ...*finder) {
	patience, cancel := context.WithTimeout(a.ctx, firstSetTimeout)
	defer cancel()
	for _, f := range finders {
		select {
		case <-f.first:
		case <-f.ended: // the log says why
		case <-patience.Done():
			if !f.answered() && a.ctx.Err() == nil {
				a.warnOfNobody(f.cluster)
			}
		}
	}
}

func (a *app) warnOfNobody(cluster string) {
	attr := slog.String("cluster", cluster)
	if a.cluster(cluster).Ready() {
		a.log.Warn("discovery has found no backend yet; the last known ones stay until it does", attr)
	} else {
		a.log.Warn("discovery has found no backend yet; clients are refused until it does", attr)
	}
}

// newSource returns what finds the backends of a cluster. config has made sure that there is exactly one
// source.
func newSource(d *config.Discovery, watch discovery.Observer, log *slog.Logger) discovery.Source {
	switch {
	case d.File != nil:
		return &discovery.File{Path: d.File.Path, Observer: watch, Log: log}
	case d.DNS != nil:
		return &discovery.DNS{
			Name: d.DNS.Name, Type: d.DNS.Type, Port: uint16(d.DNS.Port), Interval: d.DNS.Interval, Server: d.DNS.Server,
			Observer: watch, Log: log,
		}
	case d.S3 != nil:
		s := d.S3
		expiration := s.Expiration
		if expiration == 0 {
			expiration = -1 // never
		}
		return &discovery.S3{
			Bucket: s.Bucket, Prefix: s.Prefix, Endpoint: s.Endpoint, Region: s.Region, Port: uint16(s.Port),
			Interval: s.Interval, Expiration: expiration,
			AccessKeyFile: s.AccessKeyFile, SecretKeyFile: s.SecretKeyFile, SessionTokenFile: s.SessionTokenFile,
			Observer: watch, Log: log,
		}
	}
	return &discovery.Static{Backends: backends(d.Static), Observer: watch, Log: log}
}

func backends(static []config.Backend) []balancer.Backend {
	list := make([]balancer.Backend, 0, len(static))
	for _, b := range static {
		list = append(list, balancer.Backend{Name: b.Name, Address: b.Address, Capacity: b.Capacity, Labels: b.Labels})
	}
	return list
}

// refreshes hears how each refresh of a source ended, and passes it on to the metrics and the cluster.
type refreshes struct {
	metrics *metrics.Metrics
	cluster *cluster.Cluster
}

// Succeeded implements discovery.Observer.
func (r refreshes) Succeeded(backends, skipped int) {
	r.metrics.Discovered(r.cluster.Name(), backends, skipped, time.Now())
	r.cluster.Confirmed()
}

// Failed implements discovery.Observer. The source has a line in the log about it, when it is news.
func (r refreshes) Failed(error) { r.metrics.DiscoveryFailed(r.cluster.Name()) }
