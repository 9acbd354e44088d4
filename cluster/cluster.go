package cluster

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttlb/mqttlb/balancer"
	"github.com/mqttlb/mqttlb/health"
	"github.com/mqttlb/mqttlb/metrics/scrape"
	"github.com/mqttlb/mqttlb/proxy"
)

// Options configure a Cluster.
type Options struct {
	Name string
	// Key is the secret of the placement hash, the same on all instances.
	Key string
	// Strategy is a name that balancer.New knows; Placement are its settings.
	Strategy  string
	Placement balancer.Options
	// Rules say which clients are members of shared-subscription groups; the first that matches counts. Members are
	// placed by their groups, whatever the strategy.
	Rules []GroupRule
	// Groups are the settings of group placement. Ordinals is filled in here: it is on if a rule finds them.
	Groups balancer.GroupOptions
	// Watched tells that somebody checks the backends and calls Checked. Then they have phases: one that fails is
	// down, one that joins settles and ramps up. Otherwise each has the phase that it came with.
	Watched bool
	// Phases are the limits of the phases; zero means balancer.DefaultPhaseRules.
	Phases balancer.PhaseRules
	// Outliers say when what happens to clients alone opens the circuit of a backend and, if the cluster is Watched,
	// takes it out. Failures, unless 0, counts for Phases, too.
	Outliers health.OutlierRules
	// Load are the settings of the load controller.
	Load balancer.LoadOptions
	// Moves say how clients are moved to other backends.
	Moves MoveOptions
	// Events, unless nil, hears what happens, in order. It is never called on the event loops, but it must not call the
	// Cluster.
	Events func(Event)
	// Members, unless nil, hears of every membership that Apply has taken over, in order.
	Members func([]balancer.Backend)
	// Attempts bounds how many backends one client may try; 0 means 3.
	Attempts int
	// Most bounds the connections of each backend; 0 is no bound.
	Most int
	// Redirect sends MQTT 5 clients to the advertised addresses of their backends, see redirect.go.
	Redirect bool
	// OverloadedConnects bounds the clients per second that are taken in without being known, see Brain.Regular, while the
	// state is OVERLOADED; 0 is no bound.
	OverloadedConnects float64
	// DialTimeout bounds connecting, all attempts of a client together; 0 means 3 s.
	DialTimeout time.Duration
	// FirstByteTimeout bounds the broker's silence after CONNECT; 0 means none.
	FirstByteTimeout time.Duration
	// Sources are the local addresses to dial from; nil leaves the choice to the kernel.
	Sources *proxy.Sources
	// Header makes PROXY headers; nil sends none.
	Header *proxy.Header
	// TLS is that with the backends; nil leaves the connections to them plain.
	TLS      *proxy.BackendTLS
	Observer Observer
	Log      *slog.Logger
	// Clock is the time in nanoseconds since any moment; it must never run backwards, nor be 0. nil means the time
	// since New.
	Clock func() int64
}

// An Observer hears about decisions. Its methods are called from any goroutine, those of the event loops among
// them, and must not block.
type Observer interface {
	// Placed is called for every decision.
	Placed(cluster string, why balancer.Reason)
	// DialFailed is called when a chosen backend could not be used.
	DialFailed(cluster, backend string, why proxy.Outcome)
	// Evicted is called for every move that was begun: result is moved, or a proxy.Kept.
	Evicted(cluster string, why balancer.Purpose, result string)
	// Returned is called when a client that was moved has come again, with the time that it was away.
	Returned(cluster string, after time.Duration)
}

// A Cluster places clients on the brokers of one cluster. Its methods may be called from any goroutine.
type Cluster struct {
	options  Options
	log      *slog.Logger
	terms    atomic.Pointer[terms]
	snapshot atomic.Pointer[balancer.Snapshot] // the brain's, for those who only want to look

	applying   sync.Mutex // held by Apply, so that everybody hears of memberships in the same order
	delivering sync.Mutex // held by deliver, so that events stay in order

	mu        sync.Mutex
	brain     *balancer.Brain
	learned   *balancer.Learned // empty unless a rule asks for it
	lessons   uint64            // changes of learned
	sent      redirects
	settled   *memory[settled]    // clients that have got their ids from their brokers
	current   []*backend          // in the order of the snapshot
	backends  map[string]*backend // by name, with those that have left but still carry connections
	applied   time.Time           // when the membership was last confirmed
	since     time.Time           // when the state began
	named     uint64              // placements of clients that have an id
	sticky    uint64              // … of these, those that went where they belong
	opinions  []health.Opinion    // memory of judge
	circuits  []health.Circuit    // memory of followCircuits and showCircuits
	shunned   []string            // memory of shun
	retries   retries
	intake    intake
	predicted int64 // when the last forecast was made, on the brain's clock
	carried   bool  // somebody measures traffic
	standstill

	mover        *balancer.Mover
	carrier      Carrier            // nil while RunMoves does not run
	set          []balancer.Backend // the membership as discovery gave it
	orders       map[string]order   // by backend, which discovery need not name
	leaving      map[leaver]leaving // who is being moved and has not left yet
	wished       bool               // an operator wants the backends to be levelled
	wasLevelling bool
	levelled     int           // clients that were moved since that began
	stirred      chan struct{} // RunMoves is to look whether there is anything to do
	losses       losses
	outbox       outbox
}

// A backend is what there is to know about a backend beside what the brain knows.
type backend struct {
	name     string
	target   *proxy.Backend
	address  string // as discovery wrote it
	listed   bool   // discovery names it
	leaving  bool   // … and says that the orchestrator takes it away
	placed   uint64 // decisions in its favour
	failures map[proxy.Outcome]uint64

	phase balancer.Phase
	since time.Time // when the phase began
	why   string    // it began, for people
	drain *drain    // nil while the phase is another one

	check     health.Report   // the last one; its At is zero before the first
	reading   scrape.Reading  // the last one; its At is 0 before the first
	load      balancer.Figure // the last one there was, as util and level
	util      balancer.Figure
	level     balancer.Figure
	latency   latencies
	opinion   health.Opinion
	circuit   health.CircuitState // when it was last looked at
	lastWrong proxy.Outcome       // the latest of failures
	traffic   float64             // of all connections when it was last measured, in bytes per second
}

// New returns a cluster without backends; Apply brings them.
func New(o Options) (*Cluster, error) {
	o = o.withDefaults()
	found, err := newRules(o.Rules)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", o.Name, err)
	}
	brain, err := balancer.NewBrain(o.brain(found), o.Clock())
	if err != nil {
		return nil, fmt.Errorf("cluster %s: %w", o.Name, err)
	}
	c := &Cluster{
		options: o, log: o.Log.With(slog.String("cluster", o.Name)),
		brain: brain, learned: balancer.NewLearned(learnedClients), backends: make(map[string]*backend), since: time.Now(),
		mover: balancer.NewMover(brain, o.mover(), o.Clock()), orders: make(map[string]order), leaving: make(map[leaver]leaving),
		stirred: make(chan struct{}, 1),
	}
	c.settled, c.sent.clients = newMemory[settled](settledClients), newMemory[sent](sentClients)
	c.terms.Store(&terms{rules: found, attempts: o.Attempts, outliers: health.NewOutliers(o.Outliers)})
	c.snapshot.Store(c.brain.Snapshot())
	return c, nil
}

// Name is the cluster's configured name.
func (c *Cluster) Name() string { return c.options.Name }

// Now is the time of everything here: of the figures in a scrape.Reading, for example.
func (c *Cluster) Now() int64 { return c.options.Clock() }

// now is the same. The mutex is held: what the brain is told must never run backwards.
func (c *Cluster) now() int64 { return c.options.Clock() }

// monotonic is a clock that begins with 1: 0 is no time.
func monotonic() func() int64 {
	start := time.Now()
	return func() int64 { return int64(time.Since(start)) + 1 }
}
