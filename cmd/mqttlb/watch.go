package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// A watcher asks the backends of one cluster how they are, and tells the cluster.
type watcher struct {
	checker *health.Checker // nil when nobody checks
	scraper *scrape.Scraper // nil when nobody asks for the load
}

// watchSettings puts into the options of a cluster what the configuration says about health and load.
func watchSettings(o *cluster.Options, c *config.Cluster) {
	o.Watched = c.Health.Enabled()
	o.Phases = balancer.DefaultPhaseRules()
	o.Phases.Settle, o.Phases.Ramp = int64(c.Settle), int64(c.Ramp)
	if c.Health.Enabled() {
		o.Phases.FailedChecks = c.Health.Fall
	}
	if c.Load.Enabled() {
		o.Phases.HotLevel, o.Phases.CoolLevel = c.Load.Hot.Enter, c.Load.Hot.Leave
		o.Phases.Stale = max(o.Phases.Stale, scrapesUntilStale*int64(c.Load.Interval))
		o.Load.Window = int64(c.Load.Window)
	}
}

// scrapesUntilStale is how many readings may be missing before a figure says nothing any more (algorithms.md, 4.3).
const scrapesUntilStale = 4

// watch prepares everything for a cluster that was made with these settings.
func (w *watcher) watch(to *cluster.Cluster, c *config.Cluster, instance string, secured *proxy.BackendTLS, log *slog.Logger) error {
	if c.Health.Enabled() {
		probe, err := newProbe(c, instance, secured)
		if err != nil {
			return fmt.Errorf("cluster %s: health: %w", c.Name, err)
		}
		// It has no log: the cluster tells what follows from the checks.
		if w.checker, err = health.NewChecker(health.Options{
			Prober: probe, Report: to.Checked,
			Interval: c.Health.Interval, Timeout: c.Health.Timeout, Rise: c.Health.Rise, Fall: c.Health.Fall,
		}); err != nil {
			return fmt.Errorf("cluster %s: %w", c.Name, err)
		}
	}
	if c.Load.Enabled() {
		o := scrapeOptions(&c.Load)
		o.Clock, o.OnReading, o.Log = to.Now, to.Scraped, log.With(slog.String("cluster", c.Name))
		var err error
		if w.scraper, err = scrape.New(o); err != nil {
			return fmt.Errorf("cluster %s: load: %w", c.Name, err)
		}
	}
	return nil
}

// newProbe returns the probe of a cluster. Where its brokers expect a PROXY header, the probe sends one as well; an
// HTTP endpoint is not theirs to expect one. A probe of MQTT speaks TLS as clients' connections do.
func newProbe(c *config.Cluster, instance string, secured *proxy.BackendTLS) (health.Prober, error) {
	var dialing health.Dialing
	if secured != nil && c.Health.TCP == nil {
		dialing.TLS = secured.Config
	}
	switch c.ProxyProtocol.Version {
	case 1:
		dialing.Preface = health.ProxyLine
	case 2:
		dialing.Preface = health.ProxyHeader
	}
	switch h := &c.Health; {
	case h.HTTP != nil:
		return health.NewHTTP(health.HTTPOptions{URL: h.HTTP.URL, Instance: instance})
	case h.TCP != nil:
		return &health.TCP{Dialing: dialing}, nil
	case h.MQTT != nil:
		return health.NewMQTT(health.MQTTOptions{
			Dialing: dialing, Instance: instance,
			ClientID: h.MQTT.ClientID, Username: h.MQTT.Username, PasswordFile: h.MQTT.PasswordFile,
		})
	}
	return health.NewMQTT(health.MQTTOptions{Dialing: dialing, Instance: instance})
}

// set says which backends there are.
func (w *watcher) set(backends []balancer.Backend) {
	if w.checker != nil {
		w.checker.Set(backends)
	}
	if w.scraper != nil {
		w.scraper.Set(backends)
	}
}

// run asks until ctx is done.
func (w *watcher) run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	if w.checker != nil {
		running.Go(func() { w.checker.Run(ctx) })
	}
	if w.scraper != nil {
		running.Go(func() { w.scraper.Run(ctx) })
	}
}

// measureEvery is the time between two measurements of the traffic (algorithms.md, 7: scrape).
const measureEvery = 15 * time.Second

// measure tells the clusters what their connections carry, until ctx is done.
func (a *app) measure(ctx context.Context) {
	every(ctx, measureEvery, func() {
		clusters := a.clusters()
		floors := make(map[string]float64, len(clusters))
		for _, c := range clusters {
			floors[c.Name()] = c.HeavyFloor()
		}
		flows := a.proxy.Flows(floors)
		for _, c := range clusters {
			c.Carried(&flows)
		}
	})
}
