package main

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// A site is one cluster at work, with what runs for it in the background.
type site struct {
	*cluster.Cluster
	// removed tells that the configuration does not name it any more; it lives on for its last connections. Owned by
	// whoever holds app.reloading, as are the three functions.
	removed                           bool
	stopClock, stopAsking, stopMoving func() // nil while nothing runs; they wait for the end

	mu       sync.Mutex
	watcher  *watcher
	backends []balancer.Backend // as the cluster has taken them over; nil before the first set
}

// newSite makes a cluster as the configuration describes it, with nothing running yet.
func newSite(c *config.Cluster, in *config.Instance, secured *tlsChange, watch *observer, log *slog.Logger) (*site, error) {
	s := &site{watcher: new(watcher)}
	o, err := s.settings(c, in, secured)
	if err != nil {
		return nil, err
	}
	o.Observer, o.Events, o.Log = watch, watch.events.Publish, log
	if s.Cluster, err = cluster.New(o); err != nil {
		return nil, err
	}
	return s, s.watcher.watch(s.Cluster, c, in.Name, o.TLS, log)
}

// settings are the options of a cluster, as far as they are in the configuration.
func (s *site) settings(c *config.Cluster, in *config.Instance, secured *tlsChange) (cluster.Options, error) {
	header, err := newHeader(&c.ProxyProtocol, in)
	if err != nil {
		return cluster.Options{}, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	rules, err := groupRules(c.Placement.Groups)
	if err != nil {
		return cluster.Options{}, fmt.Errorf("cluster %s: %w", c.Name, err)
	}
	lease := int64(c.Placement.SeatLease)
	if lease == 0 {
		lease = -1 // not at all
	}
	o := cluster.Options{
		Name:     c.Name,
		Key:      string(in.HashKey),
		Strategy: c.Placement.Strategy,
		Placement: balancer.Options{
			BoundedLoad: c.Placement.BoundedLoad,
			NodeScope:   c.Placement.SessionScope == "node",
			Anonymous:   c.Placement.Anonymous,
			Seed:        rand.Uint64(),
		},
		Rules:              rules,
		Groups:             balancer.GroupOptions{Hold: lease, Instance: in.Index, Instances: in.Count},
		Attempts:           c.Limits.Attempts,
		Most:               c.Limits.ConnectionsPerBackend,
		Redirect:           c.Placement.Redirect == "server-reference",
		OverloadedConnects: float64(c.Limits.OverloadedConnects),
		Outliers:           outlierRules(&c.Breaker),
		DialTimeout:        c.Limits.DialTimeout,
		FirstByteTimeout:   c.Limits.FirstByteTimeout,
		Header:             header,
		TLS:                secured.backends(c.Name),
		Sources:            proxy.NewSources(sourceAddresses(c.SourceAddresses)),
		Moves:              moveSettings(c),
	}
	watchSettings(&o, c)
	o.Members = s.members
	return o, nil
}

// sourceAddresses are the addresses to dial from; config has checked them.
func sourceAddresses(list []config.IP) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range list {
		if a, err := netip.ParseAddr(string(text)); err == nil {
			addresses = append(addresses, a)
		}
	}
	return addresses
}

// moveSettings are the settings of moves.
func moveSettings(c *config.Cluster) cluster.MoveOptions {
	return cluster.MoveOptions{
		Auto:          c.Rebalance.Auto,
		Rate:          float64(c.Drain.Rate),
		InFlight:      float64(c.Drain.InFlight),
		Imbalance:     float64(c.Rebalance.Imbalance),
		MinAge:        c.Drain.MinAge,
		Absence:       c.Drain.Absence,
		Deadline:      c.Drain.Deadline,
		DrainWill:     willPolicy(c.Drain.Will),
		RebalanceWill: willPolicy(c.Rebalance.Will),
		Notify:        c.Drain.Notify == "disconnect5",
	}
}

// outlierRules are the rules by which clients are kept from a broker.
func outlierRules(b *config.Breaker) health.OutlierRules {
	r := health.OutlierRules{
		Window: int64(b.Window), Failures: b.ConsecutiveFailures, Ratio: b.FailureRatio, Volume: b.MinRequests, Open: int64(b.Open),
	}
	if b.Open == 0 {
		r.Open = -1
	}
	return r
}

func willPolicy(name string) cluster.WillPolicy {
	switch name {
	case "publish":
		return cluster.PublishWill
	case "suppress":
		return cluster.SuppressWill
	}
	return cluster.SkipWill
}

// newHeader makes the PROXY headers of a cluster; nil if it wants none.
func newHeader(p *config.ProxyProtocol, in *config.Instance) (*proxy.Header, error) {
	if p.Version == 0 {
		return nil, nil //nolint:nilnil // no header is no error
	}
	o := proxy.HeaderOptions{
		Version: p.Version, Instance: in.Name, UniqueID: p.UniqueID, Nonce: rand.Uint32(),
		Authority: p.Authority, ALPN: p.ALPN, SSL: p.SSL, CommonName: p.SSLCN, Checksum: p.CRC32C, MaxSize: p.MaxSize,
	}
	for _, tlv := range p.Custom {
		o.Custom = append(o.Custom, proxy.CustomTLV{Type: tlv.Type, Value: tlv.Value})
	}
	return proxy.NewHeader(o)
}

// members passes on which backends there are. It is cluster.Options.Members.
func (s *site) members(backends []balancer.Backend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends = backends
	s.watcher.set(backends)
}

// begin starts what works for the cluster in the background.
func (s *site) begin(a *app) {
	s.stopClock = a.background(s.RunClock)
	s.stopAsking = a.background(s.watcher.run)
	s.move(a)
}

// move begins to move clients.
func (s *site) move(a *app) {
	s.stopMoving = a.background(func(ctx context.Context) { s.RunMoves(ctx, a.proxy) })
}

// stay ends that.
func (s *site) stay() {
	if s.stopMoving != nil {
		s.stopMoving()
		s.stopMoving = nil
	}
}

// replaceWatcher lets another one ask the backends, once change has been called; nil lets nobody do it.
func (s *site) replaceWatcher(a *app, w *watcher, change func()) {
	s.stopAsking() // what the old one still has to say would not fit the new settings
	change()
	had := s.take(w)
	if had.scraper != nil && (w.scraper == nil || had.scraper.ReadsVersions() && !w.scraper.ReadsVersions()) {
		for _, b := range s.named() {
			s.Scraped(scrape.Reading{Backend: b.Name}) // nobody should see old figures, or an old version, for ever
		}
	}
	s.stopAsking = a.background(w.run)
}

// take makes w the watcher and returns the one before.
func (s *site) take(w *watcher) (had *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	had, s.watcher = s.watcher, w
	if s.backends != nil {
		w.set(s.backends)
	}
	return had
}

// named are the backends that discovery names.
func (s *site) named() []balancer.Backend {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backends
}

// background runs f until the returned function is called, or the app ends. The function waits for the end of f.
func (a *app) background(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(a.ctx)
	ended := make(chan struct{})
	a.running.Go(func() {
		defer close(ended)
		f(ctx)
	})
	return func() {
		cancel()
		<-ended
	}
}

// every calls f again and again until ctx is done, for the first time after d.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}

// A roster is the clusters that there are. Anybody may look at any time; only the start and reloads change it.
type roster struct{ sites atomic.Pointer[[]*site] }

// all are the clusters in the order of the configuration; those that it does not name any more come last.
func (r *roster) all() []*site {
	if list := r.sites.Load(); list != nil {
		return *list
	}
	return nil
}

// find returns the cluster with this name, nil if there is none.
func (r *roster) find(name string) *site {
	for _, s := range r.all() {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// set replaces the list, which must not change any more.
func (r *roster) set(list []*site) { r.sites.Store(&list) }
