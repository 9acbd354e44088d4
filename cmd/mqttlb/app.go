package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/mqttlb/mqttlb/admin"
	"github.com/mqttlb/mqttlb/cluster"
	"github.com/mqttlb/mqttlb/config"
	"github.com/mqttlb/mqttlb/metrics"
	"github.com/mqttlb/mqttlb/proxy"
)

// app is one running mqttlb.
type app struct {
	log      *slog.Logger
	level    *slog.LevelVar
	metrics  *metrics.Metrics
	access   *proxy.AccessLog // nil when off
	observer *observer
	roster   roster
	tls      certificates
	proxy    *proxy.Proxy
	admin    *admin.Server // nil when off
	state    *stateFile    // nil when off
	memory   *memoryWatch
	// supervisor is the service manager; nil if there is none. sockets are those that it has opened, by listener.
	supervisor *supervisor
	sockets    map[string]int
	// load reads the configuration anew; nil when mqttlb was started with flags. locate says where in it the value is
	// about which there is something to say; nil if nobody knows.
	load   func() (*config.Config, error)
	locate func(path, msg string) error

	reloading sync.Mutex         // held by start and reload; guards what follows
	config    *config.Config     // what runs
	stopping  bool               // nothing is reloaded any more
	coming    []*site            // clusters that a reload is about to add
	parted    map[string]bool    // listeners that were removed or renamed and may still have connections
	sources   map[string]*finder // by cluster
	stop      context.CancelFunc // of everything in the background
	ctx       context.Context    //nolint:containedctx // the life of the app, to start sources at a reload
	running   sync.WaitGroup
}

// newApp opens everything that mqttlb needs, so that an error comes before the first client does.
func newApp(cfg *config.Config, e *environment, load func() (*config.Config, error)) (*app, error) {
	a := &app{
		config: cfg, load: load, level: new(slog.LevelVar),
		sources: make(map[string]*finder), parted: make(map[string]bool),
		supervisor: e.supervisor, sockets: e.sockets,
	}
	a.log = newLogger(e.err, a.level, cfg)
	if err := checkSockets(a.sockets, cfg); err != nil {
		return nil, err
	}
	a.memory = newMemoryWatch(a.log)
	a.metrics = metrics.New(a.metricSources())
	a.metrics.Reloaded(true, time.Now())
	if cfg.Log.Clients {
		a.access = proxy.NewAccessLog(a.log, idMode(cfg.Log.ClientID))
	}
	a.observer = &observer{metrics: a.metrics, access: a.access, clusters: &a.roster, handshakes: newHandshakeLog(a.log), events: admin.NewHub()}
	a.tls = newCertificates(a.reloadCertificates, a.log)
	secured, err := a.prepareTLS(cfg)
	if err != nil {
		return nil, err
	}
	var sites []*site
	for i := range cfg.Clusters {
		s, err := newSite(&cfg.Clusters[i], &cfg.Instance, secured, a.observer, a.log)
		if err != nil {
			return nil, err
		}
		sites = append(sites, s)
	}
	a.roster.set(sites)
	a.takeTLS(secured)
	a.warnOfSettings(cfg)
	if a.state, err = openState(cfg.Instance.StateFile, a.clusters, a.log); err != nil {
		return nil, err
	}
	if a.proxy, err = proxy.New(proxy.Options{
		Listeners: a.listeners(cfg, secured),
		Loops:     runtime.NumCPU(),
		Observer:  a.observer,
		Log:       a.log,
	}); err != nil {
		return nil, err
	}
	if err := a.openAdmin(cfg); err != nil {
		a.proxy.Close()
		return nil, err
	}
	return a, nil
}

func newLogger(w io.Writer, level *slog.LevelVar, cfg *config.Config) *slog.Logger {
	level.Set(logLevel(cfg.Log.Level))
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if cfg.Log.Format == "json" {
		h = slog.NewJSONHandler(w, o)
	}
	return slog.New(h).With(slog.String("instance", cfg.Instance.Name))
}

func logLevel(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo // cannot happen: config allows only names that slog knows
	}
	return l
}

func idMode(name string) proxy.IDMode {
	switch name {
	case "hash":
		return proxy.HashedID
	case "off":
		return proxy.NoID
	}
	return proxy.FullID
}

// groupRules makes the rules of the configuration ready for use; config has checked them.
func groupRules(list []config.GroupRule) ([]cluster.GroupRule, error) {
	rules := make([]cluster.GroupRule, len(list))
	for i, given := range list {
		rules[i].UserProperty, rules[i].Learn = given.UserProperty, given.Learn
		var err error
		if rules[i].ClientID, err = expression(given.ClientID); err != nil {
			return nil, err
		}
		if rules[i].Username, err = expression(given.Username); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// expression compiles a regular expression; nil if there is none.
func expression(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // an absent key is no expression
	}
	return regexp.Compile(text)
}

// cluster finds a cluster by name, also one that is about to come; config has checked that it exists.
func (a *app) cluster(name string) *cluster.Cluster {
	for _, s := range slices.Concat(a.roster.all(), a.coming) {
		if s.Name() == name {
			return s.Cluster
		}
	}
	return nil
}

// clusters are all that there are.
func (a *app) clusters() []*cluster.Cluster {
	var list []*cluster.Cluster
	for _, s := range a.roster.all() {
		list = append(list, s.Cluster)
	}
	return list
}

func (a *app) metricSources() metrics.Sources {
	b := buildInfo()
	return metrics.Sources{
		Version: b.Version, Commit: b.Commit, GoVersion: b.Go,
		Traffic:  func() metrics.Traffic { return traffic(a.proxy, a.access) },
		Memory:   a.memory.figures,
		Clusters: func() []metrics.Cluster { return clusterStates(a.clusters()) },
	}
}

// start begins to serve.
func (a *app) start() {
	a.reloading.Lock() // the admin API will be there before all is
	defer a.reloading.Unlock()
	a.ctx, a.stop = context.WithCancel(context.Background())
	if a.admin != nil {
		a.running.Go(func() {
			if err := a.admin.Serve(a.ctx); err != nil {
				a.log.Error("the admin API has stopped", slog.Any("error", err))
			}
		})
	}
	if a.access != nil {
		a.running.Go(func() { a.access.Run(a.ctx) })
	}
	finders := make([]*finder, 0, len(a.config.Clusters))
	for i := range a.config.Clusters {
		c := &a.config.Clusters[i] // whatever follows the life of a cluster begins here
		finders = append(finders, a.find(c))
	}
	a.await(finders...)
	for _, s := range a.roster.all() {
		s.begin(a)
	}
	a.running.Go(func() { a.observer.handshakes.run(a.ctx) })
	a.running.Go(func() { a.measure(a.ctx) })
	a.running.Go(func() { a.sweepUp(a.ctx) })
	a.running.Go(func() { a.watchCertificates(a.ctx) })
	a.running.Go(func() { a.watchGarbage(a.ctx) })
	if a.memory.limit > 0 {
		a.running.Go(func() { a.watchMemory(a.ctx) })
	}
	if a.state != nil {
		a.running.Go(func() { every(a.ctx, saveEvery, a.state.save) })
	}
	a.proxy.Start()
	if a.admin != nil {
		a.admin.SetReady()
	}
	a.describeListeners()
	for i := range a.config.Listeners {
		a.logListening(&a.config.Listeners[i])
	}
	a.warnOfElsewhere(a.config)
	if a.supervisor != nil {
		a.running.Go(func() { a.supervisor.attend(a.ctx, a.statusLine, a.notifyFailed) })
		a.notifyReady(nil)
	}
}

// shutdown stops in an orderly way: readiness fails first, then, after the grace, no new client is
// accepted, and the open sessions are ended evenly. When ctx is done, everything stops at once.
func (a *app) shutdown(ctx context.Context) {
	last := a.halt()
	cfg := last.Shutdown
	a.notifyStopping(cfg.Grace + cfg.Drain + stopSlack)
	a.log.Info("stopping", slog.String("grace", cfg.Grace.String()), slog.String("drain", cfg.Drain.String()))
	if a.admin != nil {
		a.admin.SetStopping()
	}
	select {
	case <-time.After(cfg.Grace):
	case <-ctx.Done():
	}
	a.stayPut()
	a.proxy.StopAccepting()
	if open := a.proxy.Stats().Sessions; open > 0 && ctx.Err() == nil {
		over := min(cfg.Drain, time.Duration(open)*drainPace)
		a.log.Info("ending sessions", slog.Int("sessions", open), slog.String("over", over.String()))
		limit, cancel := context.WithTimeout(ctx, max(cfg.Drain, over+drainSlack))
		if err := a.proxy.Drain(limit, farewell(last.Clusters, over)); err != nil {
			a.log.Warn("sessions are cut off", slog.Int("sessions", a.proxy.Stats().Sessions))
		}
		cancel()
	}
	a.close()
	a.log.Info("stopped")
}

// stayPut ends all moves: who is moved now would come back to nobody.
func (a *app) stayPut() {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	for _, s := range a.roster.all() {
		s.stay()
	}
}

// farewell is how sessions are ended over a time, because mqttlb stops. It is one way for all of them: what not all
// clusters want, as they say for their drains, is not done.
func farewell(clusters []config.Cluster, over time.Duration) proxy.DrainOptions {
	o := proxy.DrainOptions{Over: over, Suppress: true, Notify: serverShuttingDown, Text: "shutting down"}
	for i := range clusters {
		o.Suppress = o.Suppress && clusters[i].Drain.Will == "suppress"
		if clusters[i].Drain.Notify == "none" {
			o.Notify, o.Text = 0, ""
		}
	}
	return o
}

// serverShuttingDown is the reason code of a DISCONNECT that tells so.
const serverShuttingDown = 0x8B

const (
	drainPace  = 10 * time.Millisecond // between two sessions that are ended, unless shutdown.drain is shorter
	drainSlack = 6 * time.Second       // for the last sessions to say goodbye
	stopSlack  = 20 * time.Second      // for them and all else, before a service manager loses its patience
)

// halt makes this the last configuration. A reload that is under way may still finish.
func (a *app) halt() *config.Config {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.stopping = true
	return a.config
}

// close ends everything at once.
func (a *app) close() {
	a.halt()
	a.proxy.Close()
	if a.stop != nil {
		a.stop()
	}
	a.running.Wait()
	if a.state != nil {
		a.state.save()
	}
}

// openAdmin opens the admin API's sockets, if any.
func (a *app) openAdmin(cfg *config.Config) error {
	if cfg.Admin.Address == "" && cfg.Admin.Socket == "" {
		return nil
	}
	var token []byte
	if cfg.Admin.TokenFile != "" {
		var err error
		if token, err = os.ReadFile(cfg.Admin.TokenFile); err != nil {
			return fmt.Errorf("admin.token_file: %w", err)
		}
	}
	s, err := admin.New(admin.Options{
		Address: cfg.Admin.Address, Socket: cfg.Admin.Socket, Token: token,
		Version: buildInfo().Version, Instance: cfg.Instance.Name, Started: time.Now(),
		Proxy: a.proxy, Clusters: shown(a.roster.all()), Metrics: a.metrics.Handler(), Reload: a.reload, Events: a.observer.events, Log: a.log,
	})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	a.admin = s
	return nil
}

// shown is the list of clusters for the admin API.
func shown(sites []*site) []admin.Cluster {
	list := make([]admin.Cluster, len(sites))
	for i, s := range sites {
		list[i] = s.Cluster
	}
	return list
}
