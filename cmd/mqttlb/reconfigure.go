package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"time"

	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/proxy"
)

// reload reads the configuration anew and takes it over while mqttlb runs: listeners, clusters and all their settings,
// log.level and shutdown. What needs a restart is named in the log. It is all or nothing: an invalid configuration, or
// a listener that cannot be opened, changes nothing, and the error says why. No connection is touched. A reload waits
// for one that is under way.
func (a *app) reload(context.Context) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	if a.load == nil {
		return errors.New("mqttlb was started without a configuration file; there is nothing to reload")
	}
	if a.stopping {
		return errors.New("mqttlb is stopping; nothing is reloaded any more")
	}
	a.notifyReloading()
	next, err := a.load()
	valid := err == nil
	if valid {
		err = a.reconfigure(next)
	}
	a.metrics.Reloaded(err == nil, time.Now()) // before anybody hears of it and looks there
	switch {
	case err == nil:
		a.log.Info("the configuration is reloaded")
	case valid:
		a.log.Error("the configuration cannot be taken over; nothing has changed", slog.Any("error", err))
	default:
		a.log.Error("the configuration is invalid; nothing has changed", slog.Any("error", err))
	}
	a.notifyReady(err)
	return err
}

// reconfigure takes over a valid configuration.
func (a *app) reconfigure(next *config.Config) error {
	later := needRestart(a.config, next)
	keepWhatNeedsRestart(a.config, next)
	secured, err := a.prepareTLS(next)
	if err != nil {
		return err
	}
	changes, err := a.plan(next, secured)
	if err != nil {
		return err
	}
	if changes.listeners, err = a.proxy.Prepare(a.listeners(next, changes.secured)); err != nil {
		a.coming = nil
		return a.blame(next, err)
	}
	// New clusters must know their backends before the first client comes.
	var finders []*finder
	for _, c := range changes.added {
		finders = append(finders, a.find(c.config))
	}
	a.await(finders...)
	if err := changes.listeners.Apply(); err != nil {
		for _, c := range changes.added {
			a.loseFinder(c.config.Name)
			a.metrics.ForgetCluster(c.config.Name)
		}
		a.coming = nil
		return a.blame(next, err)
	}
	a.takeTLS(changes.secured)
	a.take(next, changes)
	a.warnOfSettings(next)
	for _, setting := range later {
		a.log.Warn("a changed setting takes effect only after a restart", slog.String("setting", setting))
	}
	return nil
}

// changes are what a reload does.
type changes struct {
	listeners      *proxy.Change
	secured        *tlsChange
	sites          []*site // that will be there, in the order of the configuration
	added, altered []siteChange
}

// A siteChange is what a reload does to one cluster.
type siteChange struct {
	*site
	config  *config.Cluster
	options cluster.Options
	watcher *watcher // nil if the one that there is goes on
}

// plan finds out what is to be done about the clusters, and makes everything that may fail. Nothing changes.
func (a *app) plan(next *config.Config, secured *tlsChange) (*changes, error) {
	p := &changes{secured: secured}
	for i := range next.Clusters {
		c := &next.Clusters[i]
		s := a.roster.find(c.Name)
		if s == nil {
			var err error
			if s, err = newSite(c, &next.Instance, secured, a.observer, a.log); err != nil {
				return nil, err
			}
			p.added = append(p.added, siteChange{site: s, config: c})
		} else if was := clusterNamed(a.config, c.Name); was == nil || !sameSettings(was, c) {
			change, err := a.alter(s, was, c, next, secured)
			if err != nil {
				return nil, err
			}
			p.altered = append(p.altered, change)
		}
		p.sites = append(p.sites, s)
	}
	for _, c := range p.added {
		a.coming = append(a.coming, c.site)
	}
	return p, nil
}

// alter prepares new settings for a cluster. was is nil if it was removed before and has lived on for its connections.
func (a *app) alter(s *site, was, is *config.Cluster, next *config.Config, secured *tlsChange) (siteChange, error) {
	change := siteChange{site: s, config: is}
	var err error
	if change.options, err = s.settings(is, &next.Instance, secured); err != nil {
		return change, err
	}
	trial := change.options
	trial.Observer, trial.Log = a.observer, a.log
	if _, err := cluster.New(trial); err != nil {
		return change, err // Reconfigure would say the same, later
	}
	if was == nil || !sameQuestions(was, is) {
		w := new(watcher)
		if err := w.watch(s.Cluster, is, next.Instance.Name, change.options.TLS, a.log); err != nil {
			return change, err
		}
		change.watcher = w
	}
	return change, nil
}

// take carries the changes out. The listeners are open already.
func (a *app) take(next *config.Config, p *changes) {
	old := a.config
	for _, c := range p.altered {
		a.alterSite(c)
	}
	list := p.sites
	for _, s := range a.roster.all() {
		if !slices.Contains(list, s) {
			list = append(list, s)
			a.removeSite(s)
		}
	}
	a.coming = nil
	a.show(list)
	for _, c := range p.added {
		a.log.Info("a cluster was added", slog.String("cluster", c.Name()))
		c.begin(a)
	}
	a.config = next
	a.describeListeners()
	a.level.Set(logLevel(next.Log.Level))
	a.logListeners(old, next)
	var finders []*finder
	for i := range next.Clusters {
		c := &next.Clusters[i]
		was := clusterNamed(old, c.Name)
		if a.sources[c.Name] == nil || was != nil && !reflect.DeepEqual(was.Discovery, c.Discovery) {
			finders = append(finders, a.find(c))
		}
	}
	a.await(finders...)
	a.sweep()
}

// alterSite gives a cluster its new settings.
func (a *app) alterSite(c siteChange) {
	change := func() {
		if err := c.Reconfigure(c.options); err != nil {
			a.log.Error("a cluster keeps its settings", slog.Any("error", err)) // cannot be: New took them
		}
	}
	if c.removed {
		c.removed = false
		c.move(a)
		a.log.Info("a cluster that was removed is back", slog.String("cluster", c.Name()))
	} else {
		a.log.Info("a cluster has new settings", slog.String("cluster", c.Name()))
	}
	if c.watcher == nil {
		change()
		return
	}
	c.replaceWatcher(a, c.watcher, change)
}

// removeSite ends what works for a cluster that is not in the configuration any more, but for its clock.
func (a *app) removeSite(s *site) {
	if s.removed {
		return
	}
	s.removed = true
	s.stay()
	a.loseFinder(s.Name())
	s.stopAsking()
	a.log.Info("a cluster was removed; its connections stay until they end", slog.String("cluster", s.Name()),
		slog.Int("connections", s.Status().Connections))
}

// loseFinder ends the discovery of a cluster.
func (a *app) loseFinder(name string) {
	if f := a.sources[name]; f != nil {
		f.stop()
		<-f.ended
		delete(a.sources, name)
	}
}

// show makes these the clusters that exist.
func (a *app) show(list []*site) {
	a.roster.set(list)
	if a.admin != nil {
		a.admin.SetClusters(shown(list))
	}
}

// logListeners tells what has changed about the listeners, and notes those whose names are no longer in use.
func (a *app) logListeners(old, next *config.Config) {
	for i := range next.Listeners {
		l := &next.Listeners[i]
		was := listenerNamed(old, l.Name)
		delete(a.parted, l.Name)
		switch {
		case was == nil || was.Address != l.Address:
			a.logListening(l)
		case !reflect.DeepEqual(was, l):
			a.log.Info("a listener has new settings", slog.String("listener", l.Name), slog.String("cluster", clustersOf(l)))
		}
	}
	open := a.proxy.Connections()
	for i := range old.Listeners {
		name := old.Listeners[i].Name
		if listenerNamed(next, name) == nil {
			a.parted[name] = true
			a.log.Info("a listener was removed; its connections stay until they end",
				slog.String("listener", name), slog.Int("connections", open[name]))
		}
	}
}

// sweepEvery is the time between two looks for what a reload has left behind.
const sweepEvery = time.Second

// sweepUp sweeps until ctx is done.
func (a *app) sweepUp(ctx context.Context) {
	every(ctx, sweepEvery, func() {
		if a.reloading.TryLock() { // a reload sweeps by itself
			a.sweep()
			a.reloading.Unlock()
		}
	})
}

// sweep lets clusters and listeners that were removed vanish when their last connection has ended.
func (a *app) sweep() {
	list := a.roster.all()
	kept := slices.DeleteFunc(slices.Clone(list), func(s *site) bool {
		// First Uses, then the count: who does not ask any more cannot add to it.
		return s.removed && !a.proxy.Uses(s.Cluster) && s.Status().Connections == 0
	})
	if len(kept) < len(list) {
		a.show(kept)
	}
	for _, s := range list {
		if !slices.Contains(kept, s) {
			s.stopClock()
			a.metrics.ForgetCluster(s.Name())
			a.log.Info("a removed cluster has no connections any more", slog.String("cluster", s.Name()))
		}
	}
	if len(a.parted) == 0 {
		return
	}
	open := a.proxy.Connections()
	for name := range a.parted {
		if _, still := open[name]; !still {
			delete(a.parted, name)
			a.metrics.ForgetListener(name)
		}
	}
}

// blame makes an error about a listener one about its place in the configuration, if that is known.
func (a *app) blame(next *config.Config, err error) error {
	e, ok := errors.AsType[*proxy.ListenError](err)
	if !ok || a.locate == nil {
		return err
	}
	i := slices.IndexFunc(next.Listeners, func(l config.Listener) bool { return l.Name == e.Listener })
	path := fmt.Sprintf("listeners[%d].address", i)
	located, ok := errors.AsType[config.Errors](a.locate(path, fmt.Sprintf("is %q, and listener %s cannot listen there: %v", e.Address, e.Listener, e.Err)))
	if !ok || len(located) != 1 || located[0].Path != path {
		return err // somebody has changed the file in the meantime
	}
	return located
}

// located returns a function that says where in the file something is that is wrong although it is valid; nil without
// a file.
func located(file string, e *environment) func(path, msg string) error {
	if file == "" {
		return nil
	}
	return func(path, msg string) error {
		o := e.configOptions()
		o.Check = func(_ *config.Config, wrong func(path, msg string)) { wrong(path, msg) }
		_, err := config.Load(file, o)
		return err
	}
}

// restarts are the settings that a reload cannot change, by name.
func restarts(c *config.Config) []struct {
	name  string
	value any
} {
	return []struct {
		name  string
		value any
	}{
		{"instance.name", &c.Instance.Name},
		{"instance.index", &c.Instance.Index},
		{"instance.count", &c.Instance.Count},
		{"instance.hash_key", &c.Instance.HashKey},
		{"instance.state_file", &c.Instance.StateFile},
		{"log.format", &c.Log.Format},
		{"log.clients", &c.Log.Clients},
		{"log.client_id", &c.Log.ClientID},
		{"admin.address", &c.Admin.Address},
		{"admin.socket", &c.Admin.Socket},
		{"admin.token_file", &c.Admin.TokenFile},
	}
}

// needRestart names the settings that differ between two configurations and that reload cannot change.
func needRestart(old, next *config.Config) []string {
	var changed []string
	was := restarts(old)
	for i, is := range restarts(next) {
		if !reflect.DeepEqual(was[i].value, is.value) {
			changed = append(changed, is.name)
		}
	}
	return changed
}

// keepWhatNeedsRestart makes next what can run: the settings that reload cannot change are those of old.
func keepWhatNeedsRestart(old, next *config.Config) {
	was := restarts(old)
	for i, is := range restarts(next) {
		reflect.ValueOf(is.value).Elem().Set(reflect.ValueOf(was[i].value).Elem())
	}
}

// sameSettings tells whether two clusters differ in their discovery at most.
func sameSettings(a, b *config.Cluster) bool {
	x, y := *a, *b
	x.Discovery, y.Discovery = config.Discovery{}, config.Discovery{}
	return reflect.DeepEqual(x, y)
}

// sameQuestions tells whether a watcher would ask the backends of both the same.
func sameQuestions(a, b *config.Cluster) bool {
	return reflect.DeepEqual(a.Health, b.Health) && reflect.DeepEqual(a.Load, b.Load) &&
		a.ProxyProtocol.Version == b.ProxyProtocol.Version && a.TLS.Enabled == b.TLS.Enabled
}

func clusterNamed(c *config.Config, name string) *config.Cluster {
	if i := slices.IndexFunc(c.Clusters, func(x config.Cluster) bool { return x.Name == name }); i >= 0 {
		return &c.Clusters[i]
	}
	return nil
}

func listenerNamed(c *config.Config, name string) *config.Listener {
	if i := slices.IndexFunc(c.Listeners, func(x config.Listener) bool { return x.Name == name }); i >= 0 {
		return &c.Listeners[i]
	}
	return nil
}
